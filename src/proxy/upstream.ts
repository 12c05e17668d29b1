import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { type Dispatcher, Pool } from 'undici';
import { Fault } from '#src/errors.ts';
import type { Answer } from './answer.ts';
import type { Route } from './route.ts';

/** What is asked of the KBS. */
export interface Question {
  readonly kind: Exclude<Route['kind'], 'nowhere'>;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** null for a GET. */
  readonly body: Buffer | null;
  /** The guest's: its whole handshake and its fetch go to one replica. */
  readonly address: string;
}

/** The key broker behind the proxy. */
export interface Upstream {
  /** The whole answer. Throws Fault('Unreachable') where none came in time, Fault('LimitExceeded') where it is longer than an answer can be. Never asks twice. */
  readonly ask: (question: Question) => Promise<Answer>;
  readonly close: () => Promise<void>;
}

/** Where the key broker is. */
export interface UpstreamOptions {
  readonly url: string;
  /** Each replica's own address, where they do not share storage and so not sessions; empty: `url` alone. */
  readonly replicas: readonly string[];
  /** PEM; null: the system's. */
  readonly certificateAuthority: string | null;
}

/** Connections to one replica, for keys and for handshakes each. One request each: a key must not wait behind an attestation that calls a vendor. */
const CONNECTIONS = 128;
const CONNECT_TIMEOUT_SECONDS = 5;
/** Between two pieces of an answer. */
const BODY_TIMEOUT_SECONDS = 10;
/** From the question to the last byte, waiting for a connection included. An attestation may call a GPU vendor for each of eight GPUs (60 s each, at once). Seconds. */
const ANSWER_SECONDS = { auth: 10, attest: 120, resource: 30 } as const;
/** A token of an eight-GPU host is long; a KBS takes resources to 2 MiB, a third more in base64. Bytes. */
const ANSWER_BYTES = { auth: 64 * 1024, attest: 1024 * 1024, resource: 4 * 1024 * 1024 } as const;
/** What a guest needs of an answer's headers. */
const PASSED_ON = ['content-type', 'set-cookie', 'allow'] as const;

/** Opens no connection yet. */
export function openUpstream({ url, replicas, certificateAuthority }: UpstreamOptions): Upstream {
  const open = (): readonly Pool[] =>
    (replicas.length === 0 ? [url] : replicas).map(
      (origin) =>
        new Pool(origin, {
          connections: CONNECTIONS,
          pipelining: 1,
          bodyTimeout: BODY_TIMEOUT_SECONDS * 1000,
          connect: { timeout: CONNECT_TIMEOUT_SECONDS * 1000, ...(certificateAuthority === null ? {} : { ca: certificateAuthority }) },
        }),
    );
  const forKeys = open();
  const forHandshakes = open();
  return {
    ask: (question) => dispatch(poolFor(question.kind === 'resource' ? forKeys : forHandshakes, question.address), question),
    close: async () => {
      await Promise.all([...forKeys, ...forHandshakes].map((pool) => pool.destroy()));
    },
  };
}

/** The same replica for the same guest in every proxy, without a word between them. */
function poolFor(pools: readonly Pool[], address: string): Pool {
  const place = pools.length === 1 ? 0 : createHash('sha256').update(address).digest().readUInt32BE(0) % pools.length;
  const pool = pools[place];
  if (pool === undefined) throw new Error('a KBS without an address');
  return pool;
}

/** On undici's own callbacks: a stream for each answer costs as much again as the exchange. */
function dispatch(pool: Pool, question: Question): Promise<Answer> {
  const { kind, path, body } = question;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let status = 0;
    let headers: Answer['headers'] = {};
    let late: Fault | null = null;
    let started: Dispatcher.DispatchController | null = null;
    const timer = setTimeout(() => {
      late = new Fault('Unreachable', `kbs ${kind}: no answer within ${ANSWER_SECONDS[kind]} s`);
      started?.abort(late);
      reject(late);
    }, ANSWER_SECONDS[kind] * 1000);
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart: (controller) => {
        started = controller;
        // Whoever waited for a connection until it was too late asks nothing any more.
        if (late !== null) controller.abort(late);
      },
      onResponseStart: (_, code, received) => {
        status = code;
        headers = passedOn(received);
      },
      onResponseData: (controller, chunk) => {
        size += chunk.length;
        if (size > ANSWER_BYTES[kind]) controller.abort(new Fault('LimitExceeded', `kbs ${kind}: an answer of more than ${ANSWER_BYTES[kind]} bytes`));
        else chunks.push(chunk);
      },
      onResponseEnd: () => {
        clearTimeout(timer);
        resolve({ status, headers, body: chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks) });
      },
      onResponseError: (_, error) => {
        clearTimeout(timer);
        reject(error.name === 'Fault' ? error : new Fault('Unreachable', `kbs ${kind}: ${error.message}`, { cause: error }));
      },
    };
    const options = { path, method: body === null ? ('GET' as const) : ('POST' as const), headers: question.headers, body };
    pool.dispatch({ ...options, headersTimeout: 0 }, handler);
  });
}

function passedOn(received: IncomingHttpHeaders): Answer['headers'] {
  const headers: Record<string, string | readonly string[]> = {};
  for (const name of PASSED_ON) {
    const value = received[name];
    if (value !== undefined) headers[name] = value;
  }
  return headers;
}
