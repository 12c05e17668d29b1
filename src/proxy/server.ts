import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { Fault } from '#src/errors.ts';
import { type Reference, readReference } from '#src/reference.ts';
import { networksOf, plainAddress, takeProxyHeader } from './proxy-protocol.ts';

/** Where guests connect. */
export interface ServerOptions {
  /** `host:port`; port 0: any. IPv6 in brackets. */
  readonly listen: string;
  /** PEM; null: plain HTTP, for the lab. Read again every minute, since mounted certificates are replaced. */
  readonly tls: { readonly certificate: Reference; readonly key: Reference } | null;
  /** Forwarders (CIDR) that begin every connection with a PROXY v2 header. Nobody else's is read. */
  readonly proxyProtocolFrom: readonly string[];
  /** Hears of a certificate that could not be read; the one before stays. */
  readonly onError: (thrown: unknown) => void;
}

/** A server that listens. */
export interface Listening {
  readonly url: string;
  /** Takes no new connection, lets open exchanges end for 10 seconds, then closes all. */
  readonly close: () => Promise<void>;
}

/** Tokens of eight-GPU guests travel in a header. Bytes. */
const HEAD_MAX_BYTES = 256 * 1024;
/** A head that takes longer was not sent by a guest at work. Seconds. */
const HEAD_TIMEOUT_SECONDS = 20;
/** A body of evidence over a slow line. Seconds. */
const REQUEST_TIMEOUT_SECONDS = 60;
/** Longer than any exchange: an attestation may take 120. Seconds. */
const IDLE_TIMEOUT_SECONDS = 180;
/** Guests keep a connection for one handshake. Seconds. */
const KEEP_ALIVE_SECONDS = 65;
/** Guests of a large fleet that all start at once. */
const CONNECTIONS_MAX = 8192;
const CLOSE_SECONDS = 10;
const CERTIFICATE_READ_SECONDS = 60;

/** Answers one request; `address` is the guest's: its own, or what its forwarder said. */
export type Handler = (request: IncomingMessage, response: ServerResponse, address: string) => void;

/** Listens. Throws Fault('Conflict') for an address in use, and Error naming a certificate's file that cannot be read. */
export async function openServer(options: ServerOptions, handler: Handler): Promise<Listening> {
  const limits = {
    maxHeaderSize: HEAD_MAX_BYTES,
    headersTimeout: HEAD_TIMEOUT_SECONDS * 1000,
    requestTimeout: REQUEST_TIMEOUT_SECONDS * 1000,
    keepAliveTimeout: KEEP_ALIVE_SECONDS * 1000,
  };
  const { tls } = options;
  let told: ReadonlyMap<string, string> = new Map();
  const addressed = (request: IncomingMessage, response: ServerResponse): void =>
    handler(request, response, told.get(peerOf(request.socket)) ?? plainAddress(request.socket.remoteAddress ?? ''));
  const server = tls === null ? createServer(limits, addressed) : createTlsServer({ ...limits, ...(await readCertificate(tls)) }, addressed);
  server.maxConnections = CONNECTIONS_MAX;
  server.timeout = IDLE_TIMEOUT_SECONDS * 1000;
  if (options.proxyProtocolFrom.length > 0) told = readForwarders(server, networksOf(options.proxyProtocolFrom));
  await listening(server, options.listen);
  const renewal = tls === null ? null : setInterval(() => void renew(server, tls).catch(options.onError), CERTIFICATE_READ_SECONDS * 1000);
  const { address, port, family } = server.address() as AddressInfo;
  return {
    url: `${tls === null ? 'http' : 'https'}://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    close: async () => {
      if (renewal !== null) clearInterval(renewal);
      await closing(server);
    },
  };
}

async function readCertificate({ certificate, key }: NonNullable<ServerOptions['tls']>): Promise<{ readonly cert: string; readonly key: string }> {
  using certificatePem = await readReference(certificate);
  using keyPem = await readReference(key);
  return { cert: certificatePem.reveal().toString('utf8'), key: keyPem.reveal().toString('utf8') };
}

async function renew(server: Server, tls: NonNullable<ServerOptions['tls']>): Promise<void> {
  const read = await readCertificate(tls);
  if ('setSecureContext' in server && typeof server.setSecureContext === 'function') server.setSecureContext(read);
}

function listening(server: Server, listen: string): Promise<void> {
  const colon = listen.lastIndexOf(':');
  const host = listen.slice(0, colon).replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException): void =>
      reject(new Fault(cause.code === 'EADDRINUSE' ? 'Conflict' : 'Unreachable', `listen on ${listen}: ${cause.code ?? cause.message}`, { cause }));
    server.once('error', onError);
    server.listen({ host, port: Number(listen.slice(colon + 1)) }, () => {
      server.off('error', onError);
      resolve();
    });
  });
}

async function closing(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), CLOSE_SECONDS * 1000);
  await closed;
  clearTimeout(timer);
}

/** The two ends of a connection, the same for a socket and for the TLS that is laid over it. */
function peerOf(socket: Pick<Socket, 'remoteAddress' | 'remotePort' | 'localAddress' | 'localPort'>): string {
  return [socket.remoteAddress, socket.remotePort, socket.localAddress, socket.localPort].join('|');
}

/**
 * Puts a reader of PROXY headers in front of whatever the server does with a connection (TLS or HTTP),
 * for connections from these networks alone. Gives what they said, by connection.
 */
function readForwarders(server: Server, isForwarder: (address: string) => boolean): ReadonlyMap<string, string> {
  const told = new Map<string, string>();
  const [next, ...others] = server.listeners('connection');
  if (next === undefined || others.length > 0) throw new Error('a server whose connections are not its own');
  const hand = (socket: Socket): unknown => next.call(server, socket);
  const take = async (socket: Socket): Promise<void> => {
    const header = await takeProxyHeader(socket);
    if (header === null) return;
    const peer = peerOf(socket);
    if (header.address !== null) told.set(peer, plainAddress(header.address));
    socket.once('close', () => told.delete(peer));
    hand(socket);
    socket.resume();
  };
  server.removeAllListeners('connection');
  server.on('connection', (socket) => {
    if (isForwarder(plainAddress(socket.remoteAddress ?? ''))) void take(socket);
    else hand(socket);
  });
  return told;
}
