import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { Agent, request } from 'undici';
import { openMetrics } from '#src/metrics.ts';
import { type KbsProxy, openProxy, type ProxyOptions } from '#src/proxy/index.ts';
import recorded from '../vectors/proxy/recorded.json' with { type: 'json' };

interface Recorded {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What reached the stand-in, in order. */
export interface Reached {
  readonly line: string;
  readonly headers: IncomingMessage['headers'];
  readonly bodyBytes: number;
}

/** A small stand-in for a KBS that answers as was recorded from one. */
export interface Broker {
  readonly url: string;
  readonly reached: readonly Reached[];
  /** Paths that it releases; for others it says PolicyDeny. */
  readonly released: Set<string>;
  /** Set: every GET waits for it. */
  hold: Promise<void> | null;
  readonly close: () => Promise<void>;
}

/** Starts one on loopback. `forgetful`: `reached` stays empty, for a bench that sends it thousands of long heads. */
export async function openBroker({ forgetful = false } = {}): Promise<Broker> {
  const sessions = new Set<string>();
  const reached: Reached[] = [];
  const broker = { released: new Set<string>(), hold: null as Promise<void> | null };
  const answerTo = async (call: IncomingMessage): Promise<Recorded> => {
    const session = /kbs-session-id=(\w+)/.exec(call.headers.cookie ?? '')?.[1] ?? '';
    if (call.url === '/kbs/v0/auth') {
      const id = randomBytes(16).toString('hex');
      sessions.add(id);
      return { ...recorded.auth, headers: { ...recorded.auth.headers, 'set-cookie': `kbs-session-id=${id}; Expires=Mon, 23 Nov 2026 09:25:17 GMT` } };
    }
    if (call.url === '/kbs/v0/attest') return sessions.has(session) ? recorded.attest : recorded.attestFailed;
    if (broker.hold !== null) await broker.hold;
    const bearer = /^Bearer .+/.test(call.headers.authorization ?? '');
    if (!bearer && !sessions.has(session)) return recorded.tokenNotFound;
    return broker.released.has(call.url ?? '') ? recorded.released : recorded.denied;
  };
  const server = createServer({ maxHeaderSize: 1024 * 1024 }, async (call, response) => {
    let bodyBytes = 0;
    for await (const chunk of call) bodyBytes += (chunk as Buffer).length;
    if (!forgetful) reached.push({ line: `${call.method} ${call.url}`, headers: call.headers, bodyBytes });
    const { status, headers, body } = await answerTo(call);
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) });
    response.end(body);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  };
  return Object.assign(broker, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, reached, close });
}

/** A proxy in front of it. */
export async function openTestProxy(
  pool: pg.Pool,
  broker: Pick<Broker, 'url'>,
  more: Partial<ProxyOptions> = {},
): Promise<KbsProxy & { readonly lines: readonly string[] }> {
  const lines: string[] = [];
  const write = (details: object, message: string): void => void lines.push(`${JSON.stringify(details)} ${message}`);
  const proxy = await openProxy({
    kbs: { name: 'main', url: broker.url, replicas: [], certificateAuthority: null },
    listen: '127.0.0.1:0',
    tls: null,
    proxyProtocolFrom: [],
    denyListStaleSeconds: 300,
    pool,
    id: `proxy-${randomBytes(4).toString('hex')}`,
    log: { debug: write, info: write, warn: write, error: write },
    metrics: openMetrics(),
    ...more,
  });
  return { ...proxy, lines };
}

/** An answer as a guest sees it. */
export interface Told {
  readonly status: number;
  /** Last segment of the error's URL; null: no error of a KBS. */
  readonly type: string | null;
  readonly body: string;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** A guest on loopback, at an address of its own. */
export interface Guest {
  readonly ask: (method: 'GET' | 'POST', path: string, headers?: Readonly<Record<string, string>>, body?: string) => Promise<Told>;
  /** Handshake; gives the session's cookie and the token. */
  readonly attest: () => Promise<{ readonly cookie: string; readonly token: string; readonly told: Told }>;
  readonly close: () => Promise<void>;
}

/** Calls the proxy from this address of 127/8. */
export function openGuest(url: string, address = '127.64.0.1', more: Agent.Options = {}): Guest {
  const agent = new Agent({ localAddress: address, ...more });
  const ask: Guest['ask'] = async (method, path, headers = {}, body) => {
    const answer = await request(`${url}${path}`, { method, dispatcher: agent, headers, ...(body === undefined ? {} : { body }) });
    const text = await answer.body.text();
    const type = /"type":"[^"]*\/(\w+)"/.exec(text)?.[1] ?? null;
    return { status: answer.statusCode, type, body: text, headers: answer.headers };
  };
  const attest: Guest['attest'] = async () => {
    const challenge = await ask('POST', '/kbs/v0/auth', { 'content-type': 'application/json' }, '{"version":"0.4.0","tee":"sample","extra-params":{}}');
    const cookie = String(challenge.headers['set-cookie']).split(';')[0] ?? '';
    const told = await ask('POST', '/kbs/v0/attest', { cookie, 'content-type': 'application/json' }, '{"tee-evidence":{}}');
    return { cookie, token: /"token":"([^"]+)"/.exec(told.body)?.[1] ?? '', told };
  };
  return { ask, attest, close: () => agent.close() };
}

/** Waits until something is so; throws after 8 seconds. */
export async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 8000;
  while (!(await what())) {
    if (performance.now() > end) throw new Error('it did not come to be');
    await sleep(10);
  }
}

/** Sends bytes over a connection of its own, in pieces, and gives all that came back until it was closed. */
export async function speak(url: string, pieces: readonly (string | Buffer)[], from = '127.0.0.1'): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), localAddress: from, noDelay: true });
  const came: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => came.push(chunk));
  socket.on('error', () => undefined);
  const closed = new Promise((done) => socket.once('close', done));
  for (const piece of pieces) {
    socket.write(piece);
    await sleep(15);
  }
  await closed;
  return Buffer.concat(came).toString('utf8');
}

/** A line to the database that can be cut and mended. */
export async function openLine(
  url: string,
): Promise<{ readonly url: string; readonly cut: () => void; readonly mend: () => void; readonly close: () => Promise<void> }> {
  const to = new URL(url);
  const ends = new Set<Socket>();
  let whole = true;
  const server = createTcpServer((near) => {
    const far = connect({ host: to.hostname, port: Number(to.port) });
    for (const end of [near, far]) {
      ends.add(end);
      end.on('error', () => undefined).on('close', () => [near, far].forEach((one) => void one.destroy()));
    }
    if (!whole) near.destroy();
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const through = new URL(url);
  through.port = String((server.address() as AddressInfo).port);
  const cut = (): void => {
    whole = false;
    for (const end of ends) end.destroy();
    ends.clear();
  };
  const mend = (): void => {
    whole = true;
  };
  const close = async (): Promise<void> => {
    cut();
    await new Promise((done) => server.close(done));
  };
  return { url: through.href, cut, mend, close };
}
