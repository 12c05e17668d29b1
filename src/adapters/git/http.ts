import { Agent, type Dispatcher, request } from 'undici';
import type { Reason } from '#src/domain/reasons.ts';
import { Fault, isCertificateError, isFault } from '#src/errors.ts';
import { readReference } from '#src/reference.ts';
import type { GitConfig } from './config.ts';

/** A large host prepares a pack in silence. */
const SILENCE_SECONDS = 30;
/** `info/refs` may move within its host (a renamed repository); more hops are a loop. */
const REDIRECTS_MAX = 3;
/** A repository of releases, their bundles and init-data: 64 MiB hold some hundred thousand. An answer is in memory while it is read. */
export const RESPONSE_MAX_BYTES = 64 * 1024 * 1024;
/** Some hosts answer a program of another name with a page for people. */
const USER_AGENT = 'git/keyturn';

/** An answer of 200, whole. */
export interface Answer {
  /** Where it came from, after redirects. */
  readonly url: string;
  /** Without parameters; the empty text where none was named. */
  readonly contentType: string;
  readonly body: Buffer;
}

/** Calls that share one deadline and one allowance of bytes: made anew for every poll. Each throws Fault. */
export interface Session {
  readonly get: (url: string, headers: Record<string, string>) => Promise<Answer>;
  readonly post: (url: string, headers: Record<string, string>, body: string) => Promise<Answer>;
}

/** Connections of one repository. */
export interface Wire {
  /** Starts a poll: whatever it takes ends after `seconds`. */
  readonly session: (seconds: number) => Session;
  readonly close: () => Promise<void>;
}

/** What the calls of a poll share. */
interface Poll {
  readonly config: Pick<GitConfig, 'url' | 'credentials'>;
  readonly agent: Agent;
  readonly seconds: number;
  readonly signal: AbortSignal;
  bytesLeft: number;
}

/**
 * HTTP over undici: a deadline, an allowance of bytes, redirects to the same origin only (another host
 * would be shown our credentials, or tell us another repository), credentials read anew for every call.
 */
export function openWire(config: Pick<GitConfig, 'url' | 'credentials'>): Wire {
  const agent = new Agent({ headersTimeout: SILENCE_SECONDS * 1000, bodyTimeout: SILENCE_SECONDS * 1000, connections: 4 });
  const session = (seconds: number): Session => {
    const signal = AbortSignal.timeout(Math.ceil(seconds * 1000));
    const poll: Poll = { config, agent, seconds, signal, bytesLeft: RESPONSE_MAX_BYTES };
    return {
      get: (url, headers) => ask(poll, 'GET', url, headers, null),
      post: (url, headers, body) => ask(poll, 'POST', url, headers, body),
    };
  };
  return { session, close: () => agent.destroy() };
}

async function authorization({ credentials }: Pick<GitConfig, 'credentials'>): Promise<Record<string, string>> {
  if (credentials === undefined) return {};
  try {
    using password = await readReference(credentials.password);
    // A header is text: it lives until the call ends.
    const pair = Buffer.concat([Buffer.from(`${credentials.username}:`), Buffer.from(password.reveal().toString().trimEnd())]);
    const authorization = `Basic ${pair.toString('base64')}`;
    pair.fill(0);
    return { authorization };
  } catch (cause) {
    throw new Fault('Unauthenticated', `git credentials: ${cause instanceof Error ? cause.message : 'cannot be read'}`, { cause });
  }
}

async function ask(poll: Poll, method: 'GET' | 'POST', first: string, asked: Record<string, string>, body: string | null): Promise<Answer> {
  const headers = { 'user-agent': USER_AGENT, ...asked, ...(await authorization(poll.config)) };
  const origin = new URL(poll.config.url).origin;
  let url = first;
  for (let hop = 0; hop <= REDIRECTS_MAX; hop += 1) {
    const what = `git ${method} ${shown(url)}`;
    const answer = await request(url, { method, headers, body, dispatcher: poll.agent, signal: poll.signal }).catch((cause: unknown) => {
      throw new Fault(isCertificateError(cause) ? 'CertificateRejected' : 'Unreachable', `${what}: ${messageOf(cause)}`, { cause });
    });
    const { location } = answer.headers;
    if (answer.statusCode < 300 || answer.statusCode > 399 || typeof location !== 'string') return whole(poll, answer, url, what);
    drop(answer);
    const next = URL.parse(location, url);
    if (next?.origin !== origin || method !== 'GET') {
      throw new Fault('RedirectRefused', `${what}: redirected to ${next?.origin ?? 'what is no URL'}; only a GET is followed, and only within ${origin}`);
    }
    url = next.href;
  }
  throw new Fault('RedirectRefused', `git ${method} ${shown(first)}: more than ${REDIRECTS_MAX} redirects`);
}

/** Reads an answer to its end, as far as the poll's allowance and deadline go. */
async function whole(poll: Poll, answer: Dispatcher.ResponseData, url: string, what: string): Promise<Answer> {
  if (answer.statusCode !== 200) {
    drop(answer);
    throw new Fault(reasonOf(answer.statusCode), `${what}: ${answer.statusCode}`);
  }
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      poll.bytesLeft -= chunk.length;
      if (poll.bytesLeft < 0) throw new Fault('LimitExceeded', `${what}: more than ${RESPONSE_MAX_BYTES} bytes in one poll`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (isFault(cause)) throw cause;
    if (poll.signal.aborted) throw new Fault('TooSlow', `${what}: the answer had not ended after ${poll.seconds} s`, { cause });
    throw new Fault('Unreachable', `${what}: the answer broke off: ${messageOf(cause)}`, { cause });
  }
  const type = answer.headers['content-type'];
  return { url, contentType: typeof type === 'string' ? (type.split(';')[0] ?? '').trim() : '', body: Buffer.concat(chunks) };
}

/** Ends an answer that nobody reads: it may never end by itself. */
function drop({ body }: Dispatcher.ResponseData): void {
  body.on('error', () => undefined).destroy();
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : 'no answer';
}

function reasonOf(status: number): Reason {
  if (status === 401) return 'Unauthenticated';
  if (status === 403) return 'PermissionDenied';
  if (status === 404) return 'NotFound';
  if (status === 429) return 'Throttled';
  return status >= 500 ? 'ServerError' : 'UnexpectedAnswer';
}

/** Without the query: nothing there helps, and some hosts put tokens in it. */
function shown(url: string): string {
  const parsed = URL.parse(url);
  return parsed === null ? 'URL' : `${parsed.origin}${parsed.pathname}`;
}
