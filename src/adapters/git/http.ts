import type { GitHttpRequest, GitHttpResponse, HttpClient } from 'isomorphic-git';
import { Agent, request } from 'undici';
import type { Reason } from '#src/domain/reasons.ts';
import { Fault, isFault } from '#src/errors.ts';
import { readReference } from '#src/reference.ts';
import type { GitConfig } from './config.ts';

/** A large host prepares a pack in silence; isomorphic-git's own client gives up after 5 s. */
const SILENCE_SECONDS = 30;
/** `info/refs` may move within its host (a renamed repository); more hops are a loop. */
const REDIRECTS_MAX = 3;
/** A repository of releases, their bundles and init-data: 64 MiB hold some hundred thousand. The whole pack is in memory while it is indexed. */
export const RESPONSE_MAX_BYTES = 64 * 1024 * 1024;

/** A client whose calls share one deadline and one allowance of bytes: made anew for every poll. */
export interface Session {
  readonly client: HttpClient;
}

/** Connections of one repository. */
export interface Wire {
  /** Starts a poll: whatever it takes ends after `seconds`. */
  readonly session: (seconds: number) => Session;
  readonly close: () => Promise<void>;
}

/**
 * HTTP for isomorphic-git, over undici: a deadline, an allowance of bytes, redirects to the same origin
 * only (another host would be shown our credentials, or tell us another repository), credentials read
 * anew for every call. Throws Fault.
 */
export function openWire(config: Pick<GitConfig, 'url' | 'credentials'>): Wire {
  const agent = new Agent({ headersTimeout: SILENCE_SECONDS * 1000, bodyTimeout: SILENCE_SECONDS * 1000, connections: 4 });
  const origin = new URL(config.url).origin;
  const session = (seconds: number): Session => {
    const signal = AbortSignal.timeout(Math.ceil(seconds * 1000));
    const allowance = { bytes: RESPONSE_MAX_BYTES };
    return {
      client: {
        request: async (asked) => {
          const headers = { ...asked.headers, ...(await authorization(config)) };
          const answer = await ask({ ...asked, headers }, origin, agent, signal);
          if (answer.statusCode !== 200) throw await refusal(answer, asked.url);
          return { ...answer, body: limited(answer.body, allowance, asked.url) };
        },
      },
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

type Answer = Required<Pick<GitHttpResponse, 'url' | 'method' | 'headers' | 'statusCode' | 'statusMessage'>> & { readonly body: AsyncIterable<Uint8Array> };

async function ask(asked: GitHttpRequest, origin: string, agent: Agent, signal: AbortSignal): Promise<Answer> {
  const method = asked.method === 'POST' ? 'POST' : 'GET';
  const body = asked.body === undefined ? null : await collected(asked.body);
  let url = asked.url;
  for (let hop = 0; hop <= REDIRECTS_MAX; hop += 1) {
    const answer = await request(url, { method, headers: asked.headers ?? {}, body, dispatcher: agent, signal }).catch((cause: unknown) => {
      throw new Fault('Unreachable', `git ${method} ${shown(url)}: ${cause instanceof Error ? cause.message : 'no answer'}`, { cause });
    });
    const { location } = answer.headers;
    if (answer.statusCode < 300 || answer.statusCode > 399 || typeof location !== 'string') {
      const headers = Object.fromEntries(Object.entries(answer.headers).map(([name, value]) => [name, String(value)]));
      return { url, method, headers, statusCode: answer.statusCode, statusMessage: answer.statusText, body: answer.body };
    }
    await answer.body.dump();
    const next = new URL(location, url);
    if (next.origin !== origin || method !== 'GET')
      throw new Fault('UnexpectedAnswer', `git ${method} ${shown(url)}: redirected to ${next.origin}; expected ${origin}`);
    url = next.href;
  }
  throw new Fault('UnexpectedAnswer', `git ${method} ${shown(asked.url)}: more than ${REDIRECTS_MAX} redirects`);
}

async function collected(body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* limited(body: AsyncIterable<Uint8Array>, allowance: { bytes: number }, url: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body) {
      allowance.bytes -= chunk.length;
      if (allowance.bytes < 0) throw new Fault('LimitExceeded', `git ${shown(url)}: more than ${RESPONSE_MAX_BYTES} bytes in one poll`);
      yield chunk;
    }
  } catch (cause) {
    if (isFault(cause)) throw cause;
    throw new Fault('Unreachable', `git ${shown(url)}: ${cause instanceof Error ? cause.message : 'the answer broke off'}`, { cause });
  }
}

async function refusal(answer: Answer, url: string): Promise<Fault> {
  for await (const _chunk of answer.body) break;
  return new Fault(reasonOf(answer.statusCode), `git ${answer.method} ${shown(url)}: ${answer.statusCode}`);
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
