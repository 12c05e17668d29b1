/** What the zoo's cages are made of: trees that no Git writes, hosts that no Git runs, and a look at what `keyturn status` shows. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type pg from 'pg';
import { expect } from 'vitest';
import { nameOf, type ObjectKind } from '#src/adapters/git/pack.ts';
import { tell } from '#src/commands/status.ts';
import { type Reason, reasons } from '#src/domain/reasons.ts';
import type { LabGit } from '#src/lab/git.ts';
import { readStatus, type Status } from '#state/status.ts';
import { type PackEntry, packOf } from '../adapters/git-parts.ts';
import { type Files, INIT_DATA } from '../documents/people.ts';
import { release, revocation, START, verdicts } from './intake-parts.ts';

/** What is committed beside every beast: a signed release of one workload, and a signed revocation of another; and what a release of `h` needs, which is left to the beasts. */
export async function goodFiles(): Promise<Files> {
  return { ...START, 'guests/h.toml': INIT_DATA, ...(await release(1, null)), ...(await revocation('r', { kind: 'workload', workload: 'v' })) };
}

/** Neither of them was stopped. */
export async function expectUnharmed(pool: pg.Pool): Promise<void> {
  expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'accepted', 'revocations/r.yaml': 'accepted', 'trust/1.yaml': 'accepted' });
}

/** What `keyturn status` prints, with `--json` and without. */
export interface Shown {
  readonly json: Status;
  readonly text: string;
}

/** Prints it. */
export async function shownOf(pool: pg.Pool): Promise<Shown> {
  const status = await readStatus(pool);
  return { json: JSON.parse(JSON.stringify(status)) as Status, text: tell(status).join('\n') };
}

/** The refusal that is shown for a path, in both forms, with its help. */
export function refusalOf({ json, text }: Shown, path: string): { readonly reason: string; readonly about: string } {
  const entries = [...json.documents, ...json.branches.flatMap(({ unread }) => unread)].filter((one) => one.path === path);
  const found = entries.find(({ reason, help }) => reason !== null && help === reasons[reason as Reason].help);
  if (found?.reason == null) throw new Error(`${JSON.stringify(path)} is not shown; what is: ${entries.length} of ${json.documents.length} documents`);
  const lines = text.split('\n');
  const at = lines.findIndex((line) => line.startsWith(path) && line.includes(`${found.reason}: ${found.about}`));
  expect({ path, told: at >= 0, help: lines[at + 1]?.trim() }).toEqual({ path, told: true, help: found.help });
  return { reason: found.reason, about: found.about ?? '' };
}

// ---------------------------------------------------------------- trees by hand

/** A line of a tree as somebody writes it who does not ask Git. */
export interface OddEntry {
  readonly mode: string;
  readonly name: string | Buffer;
  readonly oid: string;
}

/** A tree's bytes, its entries as they are given. */
export function treeBytes(entries: readonly OddEntry[]): Buffer {
  return Buffer.concat(entries.flatMap(({ mode, name, oid }) => [Buffer.from(`${mode} `), Buffer.from(name), Buffer.from([0]), Buffer.from(oid, 'hex')]));
}

/** Author, committer and message of a commit by hand. */
export const BY_HAND = 'author lab <lab@keyturn.invalid> 1 +0000\ncommitter lab <lab@keyturn.invalid> 1 +0000\n\nby hand\n';

/** Writes an object whatever it says; answers its name. */
export async function writeObject(lab: LabGit, kind: ObjectKind, bytes: string | Buffer): Promise<string> {
  return (await lab.git(['hash-object', '-t', kind, '-w', '--stdin', '--literally'], bytes)).trim();
}

/** Commits, on top of the branch, the same tree with odd entries in the folders that are named (`''`: the root; else with a slash at the end). */
export async function graft(lab: LabGit, odd: Readonly<Record<string, readonly OddEntry[]>>): Promise<string> {
  const rebuilt = async (tree: string, folder: string): Promise<string> => {
    const entries: OddEntry[] = [];
    for (const line of (await lab.git(['ls-tree', '-z', tree])).split('\0')) {
      const [, mode, oid, name] = /^0*(\d+) \w+ (\w+)\t(.*)$/s.exec(line) ?? [];
      if (mode === undefined || oid === undefined || name === undefined) continue;
      const inner = `${folder}${name}/`;
      const isTouched = mode === '40000' && Object.keys(odd).some((one) => one.startsWith(inner));
      entries.push({ mode, name, oid: isTouched ? await rebuilt(oid, inner) : oid });
    }
    return writeObject(lab, 'tree', treeBytes([...entries, ...(odd[folder] ?? [])]));
  };
  const tip = (await lab.git(['rev-parse', 'refs/heads/main'])).trim();
  const tree = await rebuilt((await lab.git(['rev-parse', `${tip}^{tree}`])).trim(), '');
  const commit = await writeObject(lab, 'commit', `tree ${tree}\nparent ${tip}\n${BY_HAND}`);
  await lab.git(['update-ref', 'refs/heads/main', commit]);
  return commit;
}

// ---------------------------------------------------------------- hosts by hand

const TYPES: Readonly<Record<ObjectKind, number>> = { commit: 1, tree: 2, blob: 3, tag: 4 };

/** A pack that is filled by hand. */
export interface OddPack {
  readonly entries: PackEntry[];
  /** Adds an object; answers its name. */
  readonly put: (kind: ObjectKind, bytes: string | Buffer) => string;
  /** Adds files in their folders, and odd entries in those that are named, as `graft` does; answers the root's name. */
  readonly putFiles: (files: Files, odd?: Readonly<Record<string, readonly OddEntry[]>>) => string;
}

/** An empty one. */
export function openPack(): OddPack {
  const entries: PackEntry[] = [];
  const put = (kind: ObjectKind, bytes: string | Buffer): string => {
    const content = Buffer.from(bytes);
    entries.push({ type: TYPES[kind], content });
    return nameOf({ kind, bytes: content });
  };
  const putFiles = (files: Files, odd: Readonly<Record<string, readonly OddEntry[]>> = {}, folder = ''): string => {
    const lines = new Map<string, OddEntry>();
    for (const [path, text] of Object.entries(files).filter(([one]) => one.startsWith(folder))) {
      const [name = '', ...rest] = path.slice(folder.length).split('/');
      if (rest.length === 0) lines.set(name, { mode: '100644', name, oid: put('blob', text) });
      else if (!lines.has(name)) lines.set(name, { mode: '40000', name, oid: putFiles(files, odd, `${folder}${name}/`) });
    }
    return put('tree', treeBytes([...lines.values(), ...(odd[folder] ?? [])]));
  };
  return { entries, put, putFiles };
}

const pkt = (content: string | Buffer): Buffer => {
  const bytes = Buffer.from(content);
  return Buffer.concat([Buffer.from((bytes.length + 4).toString(16).padStart(4, '0')), bytes]);
};
const FLUSH = Buffer.from('0000');

/** A pack as a host sends it: on the first side band. */
export function packAnswer(pack: Buffer): Buffer {
  const parts: Buffer[] = [pkt('packfile\n')];
  for (let at = 0; at < pack.length; at += 65_000) parts.push(pkt(Buffer.concat([Buffer.from([1]), pack.subarray(at, at + 65_000)])));
  return Buffer.concat([...parts, FLUSH]);
}

/** What a host that we wrote answers with. */
export interface OddHost {
  readonly url: string;
  /** The branch's tip, and what a fetch brings. */
  show: (tip: string, pack: readonly PackEntry[]) => void;
  readonly close: () => Promise<void>;
}

/** A host of protocol 2 that sends whatever it is given: what no Git would serve. */
export async function openOddHost(): Promise<OddHost> {
  let tip = '';
  let pack: Buffer = Buffer.alloc(0);
  const { url, close } = await openServer(async (request, response, body) => {
    if (request.method === 'GET') {
      response.writeHead(200, { 'content-type': 'application/x-git-upload-pack-advertisement' });
      response.end(Buffer.concat([pkt('version 2\n'), pkt('ls-refs\n'), pkt('fetch\n'), FLUSH]));
    } else if (body.includes('command=ls-refs')) response.end(Buffer.concat([pkt(`${tip} refs/heads/main\n`), FLUSH]));
    else response.end(packAnswer(pack));
  });
  const show = (to: string, entries: readonly PackEntry[]): void => {
    tip = to;
    pack = packOf(entries);
  };
  return { url, close, show };
}

/** A server on loopback; its URL ends as a repository's does. */
export async function openServer(
  answer: (request: IncomingMessage, response: ServerResponse, body: Buffer<ArrayBuffer>) => Promise<void> | void,
): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    await answer(request, response, Buffer.concat(chunks));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/releases.git`, close };
}
