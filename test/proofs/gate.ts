/** Gates that stand between the product and a far side, and let it go wrong. */
import { once } from 'node:events';
import { request as askHttp, createServer as createHttp, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { request as askHttps, createServer as createHttps } from 'node:https';
import { type AddressInfo, connect, createServer as createTcp, type Socket } from 'node:net';
import { issue, type KeyedCertificate, makeAuthority } from '#src/lab/certificates.ts';

/**
 * - `open`: everything passes.
 * - `failing`: status 500, and nothing of it arrives.
 * - `silent`: the connection stands, and no answer ever comes.
 * - `gone`: connections are refused.
 */
export type GateMode = 'open' | 'failing' | 'silent' | 'gone';

/** A request that was answered behind a gate, whose answer the gate keeps. */
export interface HeldAnswer {
  readonly release: () => void;
}

/** A request that changes something, as it came through a gate. */
export interface PassedWrite {
  /** Method, path and `x-amz-target`. */
  readonly what: string;
  readonly body: string;
  /** When it came, in milliseconds since 1970. */
  readonly at: number;
  /** null: no answer came back. */
  status: number | null;
}

/** A gate on 127.0.0.1. */
export interface Gate {
  readonly url: string;
  /** Ends every connection that stands, and treats those that come as it says. */
  readonly set: (mode: GateMode) => Promise<void>;
  /**
   * Breaks down in the middle of the next request whose method, path and `x-amz-target` match: it is carried out, the answer is lost with
   * the connection, and from then on the gate is `failing`. Resolves then.
   */
  readonly breakAt: (request: RegExp) => Promise<void>;
  /** Keeps the answer to the next request that matches, and resolves when it is there. Another call takes the place of one that waits. */
  readonly holdAt: (request: RegExp | null) => Promise<HeldAnswer>;
  /** Every request but GET, in order. */
  readonly writes: readonly PassedWrite[];
  readonly close: () => Promise<void>;
}

/** How a gate answers in TLS, and whom it trusts behind it. */
interface GateTls {
  readonly certificate: KeyedCertificate;
  readonly upstreamAuthorityPem: string;
}

async function listen(server: Server | ReturnType<typeof createTcp>, port: number): Promise<number> {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A document or a manifest is far smaller; weights pass no gate. */
const BODY_MAX_CHARACTERS = 1024 * 1024;

function wordsOf({ method, url, headers }: IncomingMessage): string {
  return `${method} ${url} ${String(headers['x-amz-target'] ?? '')}`;
}

/** What a gate notes, and the one answer that it keeps. */
function openEar() {
  let holding: { readonly at: RegExp; readonly held: (answer: HeldAnswer) => void } | null = null;
  const writes: PassedWrite[] = [];
  const hear = (request: IncomingMessage): PassedWrite => {
    const write: PassedWrite & { body: string } = { what: wordsOf(request), body: '', at: Date.now(), status: null };
    if (request.method !== 'GET') writes.push(write);
    request.on('data', (chunk: Buffer) => {
      if (request.method !== 'GET' && write.body.length < BODY_MAX_CHARACTERS) write.body += chunk.toString('latin1');
    });
    return write;
  };
  const holdsAt = (request: IncomingMessage): ((answer: HeldAnswer) => void) | null => {
    if (holding === null || !holding.at.test(wordsOf(request))) return null;
    const { held } = holding;
    holding = null;
    return held;
  };
  const holdAt: Gate['holdAt'] = (at) =>
    new Promise((held) => {
      holding = at === null ? null : { at, held };
    });
  return { hear, holdsAt, holdAt, writes };
}

/** Opens a gate in front of an HTTP server, with a certificate of its own where that one speaks TLS. */
async function openGate(upstream: string, tls: GateTls | null): Promise<Gate> {
  const behind = new URL(upstream);
  let mode: GateMode = 'open';
  let breaking: { readonly at: RegExp; readonly broken: () => void } | null = null;
  const ear = openEar();
  const breaksAt = (request: IncomingMessage): (() => void) | null => {
    if (breaking === null || !breaking.at.test(wordsOf(request))) return null;
    const { broken } = breaking;
    breaking = null;
    mode = 'failing';
    return broken;
  };
  const pass = (request: IncomingMessage, response: ServerResponse): void => {
    const lose = breaksAt(request);
    const hold = ear.holdsAt(request);
    const write = ear.hear(request);
    const { method = 'GET', url = '/', headers } = request;
    const options = { host: behind.hostname, port: behind.port, method, path: url, headers };
    const asked = tls === null ? askHttp(options) : askHttps({ ...options, ca: tls.upstreamAuthorityPem });
    asked.on('response', (answer) => {
      if (lose !== null) {
        answer.resume().on('end', () => {
          response.destroy();
          lose();
        });
        return;
      }
      write.status = answer.statusCode ?? null;
      const giveBack = (): void => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      };
      if (hold === null) giveBack();
      else hold({ release: giveBack });
    });
    asked.on('error', () => response.destroy());
    response.on('close', () => asked.destroy());
    request.pipe(asked);
  };
  const handle: RequestListener = (request, response) => {
    response.on('error', () => undefined);
    if (mode === 'open') pass(request, response);
    else if (mode === 'failing') request.resume().on('end', () => response.writeHead(500, { 'content-type': 'text/plain' }).end('out of order\n'));
  };
  const server = tls === null ? createHttp(handle) : createHttps({ cert: tls.certificate.certificatePem, key: tls.certificate.keyPem }, handle);
  const port = await listen(server, 0);
  const shut = async (): Promise<void> => {
    if (!server.listening) return;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  };
  return {
    url: `${behind.protocol}//127.0.0.1:${port}${behind.pathname === '/' ? '' : behind.pathname}`,
    set: async (next) => {
      mode = next;
      server.closeAllConnections();
      if (next === 'gone') await shut();
      else if (!server.listening) await listen(server, port);
    },
    breakAt: (at) =>
      new Promise((broken) => {
        breaking = { at, broken };
      }),
    holdAt: ear.holdAt,
    writes: ear.writes,
    close: shut,
  };
}

/** Opens a gate in front of an HTTP server. */
export function openHttpGate(upstream: string): Promise<Gate> {
  return openGate(upstream, null);
}

/** Opens a gate in front of a Kubernetes API, and gives the kubeconfig that leads to it. */
export async function openKubernetesGate(access: { readonly server: string; readonly certificateAuthorityPem: string }, kubeconfig: string) {
  const authority = await makeAuthority('gate');
  const certificate = await issue(authority, { commonName: 'gate', names: ['127.0.0.1'] });
  const gate = await openGate(access.server, { certificate, upstreamAuthorityPem: access.certificateAuthorityPem });
  const encoded = (pem: string): string => Buffer.from(pem).toString('base64');
  const text = kubeconfig.replace(access.server, gate.url).replace(encoded(access.certificateAuthorityPem), encoded(authority.certificatePem));
  return { gate, kubeconfig: text };
}

/** A gate in front of a PostgreSQL that may come back at another port. */
export interface DatabaseGate {
  readonly url: string;
  /** `silent`: what stands stands still, in both directions. `gone`: what stands is ended, and what comes as well. */
  readonly set: (mode: 'open' | 'silent' | 'gone', url?: string) => void;
  /** Where the database was last. */
  readonly behind: () => string;
  readonly close: () => Promise<void>;
}

/** Opens a gate in front of a database. */
export async function openDatabaseGate(url: string): Promise<DatabaseGate> {
  let behind = Number(new URL(url).port);
  let mode: 'open' | 'silent' | 'gone' = 'open';
  const sockets = new Set<Socket>();
  const keep = (socket: Socket, other: () => Socket): void => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      sockets.delete(socket);
      other().destroy();
    });
    socket.on('data', (bytes) => void other().write(bytes));
    if (mode === 'silent') socket.pause();
  };
  const server = createTcp((socket) => {
    if (mode === 'gone') return socket.destroy();
    const further = connect(behind, '127.0.0.1');
    keep(socket, () => further);
    keep(further, () => socket);
    return socket;
  });
  const port = await listen(server, 0);
  const endAll = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const gated = new URL(url);
  gated.port = String(port);
  return {
    url: gated.href,
    behind: () => Object.assign(new URL(url), { port: String(behind) }).href,
    set: (next, at) => {
      mode = next;
      if (at !== undefined) behind = Number(new URL(at).port);
      if (next === 'gone') endAll();
      for (const socket of sockets)
        if (next === 'silent') socket.pause();
        else socket.resume();
    },
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      endAll();
      await closed;
    },
  };
}
