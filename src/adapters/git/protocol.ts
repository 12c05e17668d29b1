/**
 * What is asked of a Git host over smart HTTP (gitprotocol-http): the tip of one branch, and a pack of what
 * is new. Protocol 2 where the host speaks it, since there nothing but that branch is listed; protocol 0 else.
 */
import { Fault } from '#src/errors.ts';
import type { Answer, Session } from './http.ts';
import { DELIMITER, FLUSH, line, linesOf, textOf } from './lines.ts';

const SERVICE = 'git-upload-pack';
/** What a host says while it works, and what it says before it gives up. */
const [DATA, PROGRESS, FATAL] = [1, 2, 3];
/** A host's own words may be long. */
const WORDS_MAX = 300;

/** What a host said of itself. */
export interface Host {
  /** Where it is: after a redirect, another place of the same origin. */
  readonly url: string;
  readonly version: 0 | 2;
  /** By name; the empty text where there is no value. */
  readonly capabilities: ReadonlyMap<string, string>;
  /** Of protocol 0: every ref, and what it points at. */
  readonly refs: ReadonlyMap<string, string>;
}

/** Asks a host what it speaks. Throws Fault. */
export async function discover(session: Session, url: string): Promise<Host> {
  const answer = await session.get(`${url}/info/refs?service=${SERVICE}`, { 'git-protocol': 'version=2' });
  const what = `git GET ${url}`;
  if (answer.contentType !== `application/x-${SERVICE}-advertisement`) {
    throw new Fault('UnexpectedAnswer', `${what}: expected a Git host that speaks smart HTTP, found ${answer.contentType.slice(0, 100) || 'no content type'}`);
  }
  const said: Buffer[] = [];
  for (const one of linesOf(answer.body, what)) {
    if (typeof one === 'string') continue;
    refuseError(one, what);
    if (!one.toString('latin1').startsWith('# service=')) said.push(one);
  }
  const host = said[0] !== undefined && textOf(said[0]) === 'version 2' ? hostOf2(said.slice(1)) : hostOf0(said, what);
  const format = host.capabilities.get('object-format') ?? 'sha1';
  if (format !== 'sha1') throw new Fault('UnexpectedAnswer', `${what}: expected a repository of SHA-1 names, found ${format.slice(0, 40)}`);
  return { ...host, url: placeOf(answer, url) };
}

/** A renamed repository answers from its new place, and only there. */
function placeOf({ url: from }: Answer, url: string): string {
  const { origin, pathname } = new URL(from);
  return pathname.endsWith('/info/refs') ? `${origin}${pathname.slice(0, -'/info/refs'.length)}` : url;
}

function hostOf2(said: readonly Buffer[]): Pick<Host, 'version' | 'capabilities' | 'refs'> {
  return { version: 2, capabilities: new Map(said.map((one) => pairOf(textOf(one), '='))), refs: new Map() };
}

/** The first ref carries what the host can do, behind a NUL. */
function hostOf0(said: readonly Buffer[], what: string): Pick<Host, 'version' | 'capabilities' | 'refs'> {
  const refs = new Map<string, string>();
  let capabilities = new Map<string, string>();
  for (const one of said) {
    const [ref = '', able] = textOf(one).split('\0');
    if (ref === 'version 1' || ref.startsWith('shallow ')) continue;
    if (able !== undefined) capabilities = new Map(able.split(' ').map((word) => pairOf(word, '=')));
    const [oid, name] = pairOf(ref, ' ');
    if (!/^[0-9a-f]{40}$/.test(oid)) throw new Fault('UnexpectedAnswer', `${what}: expected refs with SHA-1 names`);
    refs.set(name, oid);
  }
  return { version: 0, capabilities, refs };
}

function pairOf(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

/** The commit, or whatever it is, that a ref (its full name) points at; null: there is no such ref. Throws Fault. */
export async function tipOf(session: Session, host: Host, ref: string): Promise<string | null> {
  if (host.version === 0) return host.refs.get(ref) ?? null;
  const answer = await command(session, host, 'ls-refs', [`ref-prefix ${ref}\n`]);
  const what = `git ls-refs ${host.url}`;
  let tip: string | null = null;
  let isWhole = false;
  for (const one of linesOf(answer.body, what)) {
    isWhole = one === 'flush';
    if (typeof one === 'string') continue;
    refuseError(one, what);
    const [oid, rest] = pairOf(textOf(one), ' ');
    // The prefix also lists `main-2`; attributes would stand behind the name.
    if (pairOf(rest, ' ')[0] === ref) tip = oid;
  }
  if (!isWhole) throw new Fault('UnexpectedAnswer', `${what}: the answer is cut off`);
  if (tip !== null && !/^[0-9a-f]{40}$/.test(tip)) throw new Fault('UnexpectedAnswer', `${what}: the tip of ${ref} is not a SHA-1 name`);
  return tip;
}

/** What to fetch. */
export interface Wanted {
  readonly tip: string;
  /** Commits that are there, with all that they need. */
  readonly haves: readonly string[];
  /** The host is asked to leave out larger files; not every host can. */
  readonly fileMaxBytes: number;
}

/** A pack as it came. */
export interface Fetched {
  readonly pack: Buffer;
  /** Whether the host was asked, and able, to leave out what is too large. */
  readonly filtered: boolean;
}

/** Fetches whole history, never a part: who descends from whom is asked of it. No thin pack: it must be readable by itself. Throws Fault. */
export async function fetchPack(session: Session, host: Host, { tip, haves, fileMaxBytes }: Wanted): Promise<Fetched> {
  const what = `git fetch ${host.url}`;
  const able = (name: string): boolean => (host.version === 2 ? (host.capabilities.get('fetch') ?? '').split(' ').includes(name) : host.capabilities.has(name));
  const filtered = able('filter');
  const filter = filtered ? [`filter blob:limit=${fileMaxBytes + 1}\n`] : [];
  const had = haves.map((oid) => `have ${oid}\n`);
  if (host.version === 2) {
    const answer = await command(session, host, 'fetch', ['ofs-delta\n', 'no-progress\n', ...filter, `want ${tip}\n`, ...had, 'done\n']);
    return { pack: packIn(answer.body, what), filtered };
  }
  if (!able('side-band-64k')) throw new Fault('UnexpectedAnswer', `${what}: the host has no side-band-64k`);
  const words = ['side-band-64k', 'ofs-delta', 'no-progress', 'filter'].filter(able);
  const asked = [line(`want ${tip} ${words.join(' ')}\n`), ...filter.map(line), FLUSH, ...had.map(line), line('done\n')];
  const answer = await post(session, host, asked.join(''), {});
  return { pack: packIn(answer.body, what), filtered };
}

function command(session: Session, host: Host, name: string, words: readonly string[]): Promise<Answer> {
  const format = host.capabilities.has('object-format') ? [line('object-format=sha1\n')] : [];
  const body = [line(`command=${name}\n`), ...format, DELIMITER, ...words.map(line), FLUSH].join('');
  return post(session, host, body, { 'git-protocol': 'version=2' });
}

function post(session: Session, host: Host, body: string, headers: Record<string, string>): Promise<Answer> {
  return session.post(
    `${host.url}/${SERVICE}`,
    { 'content-type': `application/x-${SERVICE}-request`, accept: `application/x-${SERVICE}-result`, ...headers },
    body,
  );
}

/** The pack inside an answer: in protocol 2 behind the line `packfile`, in protocol 0 behind what was agreed on; on the first side band in both. */
function packIn(body: Buffer, what: string): Buffer {
  const parts: Buffer[] = [];
  for (const one of linesOf(body, what)) {
    if (typeof one === 'string') continue;
    const band = one[0];
    if (band === FATAL) throw new Fault('ServerError', `${what}: the host gave up: ${wordsOf(one.subarray(1))}`);
    if (band === DATA) parts.push(one.subarray(1));
    else if (band !== PROGRESS) refuseError(one, what);
  }
  return Buffer.concat(parts);
}

function refuseError(content: Buffer, what: string): void {
  if (content.toString('latin1', 0, 4) === 'ERR ') throw new Fault('ServerError', `${what}: the host says: ${wordsOf(content.subarray(4))}`);
}

function wordsOf(content: Buffer): string {
  return content.toString('utf8').trim().slice(0, WORDS_MAX);
}
