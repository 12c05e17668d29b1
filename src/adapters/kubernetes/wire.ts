/**
 * The way to an API server: the official client reads the kubeconfig and makes the credentials
 * (tokens, certificates, exec plugins, in-cluster accounts); requests are our own, with deadlines
 * and limits, sent once and never repeated.
 */
import { createHash } from 'node:crypto';
import type { RequestOptions } from 'node:https';
import { KubeConfig } from '@kubernetes/client-node';
import { Agent, request } from 'undici';
import { Fault, isCertificateError, isFault, wireCode } from '#src/errors.ts';
import { readReference } from '#src/reference.ts';
import type { KubernetesConfig } from './config.ts';
import type { Reply } from './faults.ts';

/** An API server answers within its own 60 s limit for requests that are no watches; slower than half of it is down for us. */
const REQUEST_TIMEOUT_SECONDS = 30;

/** A page of pods whose annotations are as large as the API lets them be (256 KiB each), and then some. */
const BODY_MAX_BYTES = 64 * 1024 * 1024;

/** A single frame of a watch: etcd refuses objects above 1.5 MiB. */
const FRAME_MAX_BYTES = 4 * 1024 * 1024;

/** Bookmarks come about once a minute: a watch silent for longer than that and half again is dead. */
const SILENCE_MAX_SECONDS = 90;

/** A plugin that asks a person to log in, or a token service that hangs, is a plugin that does not work. Seconds. */
const CREDENTIALS_TIMEOUT_SECONDS = 30;

/** How long a kubeconfig is used before its file is looked at again. client-go rereads token files as often. */
const REREAD_AFTER_SECONDS = 60;

/** One request. */
export interface Call {
  readonly method: 'GET' | 'PATCH' | 'POST';
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly body?: { readonly type: string; readonly text: string };
  readonly accept?: string;
}

/** Credentials, made: what is sent through it leaves at once. */
export interface Session {
  /** Sends once and reads the answer whole, whatever its status. Throws Fault('Unreachable'), Fault('LimitExceeded'). */
  readonly send: (call: Call) => Promise<Reply>;
  /** Sends once and gives each line as it comes, until the stream ends; for an error status the whole answer. Throws as `send` does. */
  readonly lines: (call: Call, signal: AbortSignal, line: (text: string) => void) => Promise<Reply>;
}

/** An API server. */
export interface Wire {
  readonly session: () => Promise<Session>;
  readonly close: () => Promise<void>;
}

/** What the kubeconfig said when it was last read. */
interface Loaded {
  readonly digest: string;
  readonly readAt: number;
  readonly config: KubeConfig;
}

/** Opens the way to the cluster of this name. Nothing is read or sent before the first session. */
export function openWire(name: string, settings: KubernetesConfig): Wire {
  let loaded: Loaded | null = null;
  let agent: { readonly digest: string; readonly agent: Agent } | null = null;

  async function session(): Promise<Session> {
    loaded = await current(name, settings, loaded);
    const server = serverOf(name, loaded.config);
    const options = await credentials(name, loaded.config);
    const tls = { ca: options.ca, cert: options.cert, key: options.key, servername: options.servername };
    const digest = createHash('sha256').update(JSON.stringify(tls)).digest('hex');
    if (agent?.digest !== digest) {
      // Calls under way on the old one end by themselves: its sockets close as they do.
      agent?.agent.close().catch(() => undefined);
      agent = { digest, agent: new Agent({ connect: { ...given(tls), rejectUnauthorized: true, timeout: REQUEST_TIMEOUT_SECONDS * 1000 } }) };
    }
    const refused = (): void => {
      // A plugin's token is kept until it expires: one that was revoked before is not asked with again.
      loaded = null;
    };
    return sessionOf(name, server, agent.agent, headersOf(options), refused);
  }

  return { session, close: async () => void (await agent?.agent.destroy()) };
}

/** The kubeconfig, read again when it is a minute old. Its tokens' caches are kept while its text stays the same. */
async function current(name: string, settings: KubernetesConfig, loaded: Loaded | null): Promise<Loaded> {
  const now = performance.now();
  if (loaded !== null && now - loaded.readAt < REREAD_AFTER_SECONDS * 1000) return loaded;
  try {
    if (settings.kubeconfig === undefined) {
      if (loaded !== null) return { ...loaded, readAt: now };
      const config = new KubeConfig();
      config.loadFromCluster();
      return { digest: '', readAt: now, config };
    }
    using text = await readReference(settings.kubeconfig);
    const digest = createHash('sha256').update(text.reveal()).digest('hex');
    if (loaded?.digest === digest) return { ...loaded, readAt: now };
    const config = new KubeConfig();
    config.loadFromString(text.reveal().toString('utf8'));
    if (settings.context !== undefined) config.setCurrentContext(settings.context);
    return { digest, readAt: now, config };
  } catch {
    // No cause: what a YAML parser says of a broken file quotes the lines around it, tokens and keys too.
    throw new Fault('Unauthenticated', `kubernetes ${name}: the kubeconfig is not there, or cannot be read`);
  }
}

async function credentials(name: string, config: KubeConfig): Promise<RequestOptions> {
  const options: RequestOptions = {};
  const none = (why: string): Fault => new Fault('Unauthenticated', `kubernetes ${name}: no credentials could be made from the kubeconfig${why}`);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(none(` within ${CREDENTIALS_TIMEOUT_SECONDS} s`)), CREDENTIALS_TIMEOUT_SECONDS * 1000);
  });
  try {
    await Promise.race([config.applyToHTTPSOptions(options), late]);
  } catch (error) {
    // No cause: an exec plugin's output is in it, and that is where its token would be.
    throw isFault(error) ? error : none('');
  } finally {
    clearTimeout(timer);
  }
  return options;
}

/** The server's address; refuses what would carry our token to somebody unknown. */
function serverOf(name: string, config: KubeConfig): URL {
  const cluster = config.getCurrentCluster();
  if (cluster === null || cluster === undefined) throw new Fault('NotConfigured', `kubernetes ${name}: the kubeconfig's context names no cluster`);
  if (cluster.skipTLSVerify) throw new Fault('NotSupportedYet', `kubernetes ${name}: insecure-skip-tls-verify is refused`);
  if (cluster.proxyUrl !== undefined && cluster.proxyUrl !== '') throw new Fault('NotSupportedYet', `kubernetes ${name}: proxy-url`);
  const server = URL.parse(cluster.server);
  if (server?.protocol !== 'https:') throw new Fault('NotConfigured', `kubernetes ${name}: the server's address must be https`);
  return server;
}

function headersOf(options: RequestOptions): Record<string, string> {
  const headers: Record<string, string> = { 'user-agent': 'keyturn' };
  for (const [key, value] of Object.entries(options.headers ?? {})) if (typeof value === 'string') headers[key.toLowerCase()] = value;
  if (typeof options.auth === 'string') headers.authorization = `Basic ${Buffer.from(options.auth).toString('base64')}`;
  return headers;
}

function sessionOf(name: string, server: URL, agent: Agent, headers: Readonly<Record<string, string>>, refused: () => void): Session {
  const prefix = server.pathname.replace(/\/$/, '');
  const open = (call: Call, timing: { readonly signal: AbortSignal; readonly bodyTimeout: number }) =>
    request(`${server.origin}${prefix}${call.path}?${new URLSearchParams(call.query)}`, {
      dispatcher: agent,
      method: call.method,
      headers: { ...headers, accept: call.accept ?? 'application/json', ...(call.body ? { 'content-type': call.body.type } : {}) },
      body: call.body?.text ?? null,
      headersTimeout: REQUEST_TIMEOUT_SECONDS * 1000,
      ...timing,
    });
  const guarded = async <T>(call: Call, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      if (isFault(error)) throw error;
      throw new Fault(isCertificateError(error) ? 'CertificateRejected' : 'Unreachable', `kubernetes ${name} ${call.method} ${call.path}: ${wireCode(error)}`, {
        cause: error,
      });
    }
  };
  return {
    send: (call) =>
      guarded(call, async () => {
        const limit = AbortSignal.timeout(REQUEST_TIMEOUT_SECONDS * 1000);
        const { statusCode, body } = await open(call, { signal: limit, bodyTimeout: REQUEST_TIMEOUT_SECONDS * 1000 });
        if (statusCode === 401) refused();
        return { status: statusCode, text: await textOf(body, `kubernetes ${name} ${call.method} ${call.path}`) };
      }),
    lines: (call, signal, line) =>
      guarded(call, async () => {
        const { statusCode, body } = await open(call, { signal, bodyTimeout: SILENCE_MAX_SECONDS * 1000 });
        const what = `kubernetes ${name} WATCH ${call.path}`;
        if (statusCode !== 200) return { status: statusCode, text: await textOf(body, what) };
        await linesOf(body, what, line);
        return { status: statusCode, text: '' };
      }),
  };
}

async function textOf(body: AsyncIterable<Uint8Array>, what: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > BODY_MAX_BYTES) throw new Fault('LimitExceeded', `${what}: the answer is longer than ${BODY_MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function linesOf(body: AsyncIterable<Uint8Array>, what: string, line: (text: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > FRAME_MAX_BYTES) throw new Fault('LimitExceeded', `${what}: a frame is longer than ${FRAME_MAX_BYTES} bytes`);
    for (const text of lines) if (text !== '') line(text);
  }
}

/** Without the members that are not there: TLS takes an undefined one for a setting. */
function given<T extends object>(members: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined && value !== null)) as { [K in keyof T]?: NonNullable<T[K]> };
}
