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

/** Opens a gate in front of an HTTP server, with a certificate of its own where that one speaks TLS. */
async function openGate(upstream: string, tls: GateTls | null): Promise<Gate> {
  const behind = new URL(upstream);
  let mode: GateMode = 'open';
  let breaking: { readonly at: RegExp; readonly broken: () => void } | null = null;
  const breaksAt = ({ method, url, headers }: IncomingMessage): (() => void) | null => {
    if (breaking === null || !breaking.at.test(`${method} ${url} ${String(headers['x-amz-target'] ?? '')}`)) return null;
    const { broken } = breaking;
    breaking = null;
    mode = 'failing';
    return broken;
  };
  const pass = (request: IncomingMessage, response: ServerResponse): void => {
    const lose = breaksAt(request);
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
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
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
