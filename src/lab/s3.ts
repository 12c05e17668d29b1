import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isS3Failure, type S3Failure, s3Failure } from './s3-failure.ts';
import { carryOut, escaped, operationOf, type S3Answer, type S3Operation } from './s3-operations.ts';
import { type Credentials, checkSignature } from './s3-signature.ts';
import { openS3Store, type S3Store } from './s3-store.ts';

/** Parts come whole into memory here; a client of this lab sends no longer ones. */
const BODY_MAX_BYTES = 80 * 1024 * 1024;

/**
 * What goes wrong, once, with the next call of an operation.
 *
 * - `slow-down`, `server-error`, `refuse`, `conflict`, `precondition`, `bad-digest`: not carried out; answered 503 SlowDown, 500
 *   InternalError, 403 AccessDenied, 409 ConditionalRequestConflict, 412 PreconditionFailed, 400 BadDigest.
 * - `lose-answer`: carried out, then the connection breaks.
 * - `wrong-checksum`: carried out, and another checksum is told.
 * - `cut-read`: the answer begins, and the connection breaks before a byte of the body.
 * - `short-read`, `slow-read`: half of the body comes; then the connection breaks, or nothing more comes.
 */
export interface S3Trouble {
  readonly kind:
    | 'slow-down'
    | 'server-error'
    | 'refuse'
    | 'conflict'
    | 'precondition'
    | 'bad-digest'
    | 'lose-answer'
    | 'wrong-checksum'
    | 'cut-read'
    | 'short-read'
    | 'slow-read';
  readonly operation: S3Operation;
  /** Only of this part; of any otherwise. */
  readonly part?: number;
}

const REFUSALS: Readonly<Partial<Record<S3Trouble['kind'], readonly [number, string]>>> = {
  'slow-down': [503, 'SlowDown'],
  'server-error': [500, 'InternalError'],
  refuse: [403, 'AccessDenied'],
  conflict: [409, 'ConditionalRequestConflict'],
  precondition: [412, 'PreconditionFailed'],
  'bad-digest': [400, 'BadDigest'],
};

/** How the lab's S3 is opened. */
export interface LabS3Options {
  /** Where the bytes lie. */
  readonly folder: string;
  /** The one bucket that exists. */
  readonly bucket: string;
  /** Whose signatures count: `lab` and `lab` otherwise. */
  readonly credentials?: Credentials;
  /** Lists give at most so many items a page; as many as S3 otherwise. */
  readonly pageMax?: number;
}

/** A running S3 of the lab. */
export interface LabS3 {
  /** On 127.0.0.1; the bucket is the first part of the path. */
  readonly url: string;
  readonly store: S3Store;
  /** Lets the next call of that operation go wrong, so many times; several wait for one call each. */
  readonly trouble: (trouble: S3Trouble, times?: number) => void;
  /** Does something before each call of that operation is carried out, until `forgive`. */
  readonly before: (operation: S3Operation, work: () => Promise<unknown>) => void;
  /** Nothing goes wrong any more, and nothing is done before calls. */
  readonly forgive: () => void;
  /** Leaves these keys out of lists, though they are there. */
  readonly hide: (keys: readonly string[]) => void;
  /** Every operation that was asked for, with its key. */
  readonly calls: { readonly operation: S3Operation; readonly key: string }[];
  readonly close: () => Promise<void>;
}

interface Server extends LabS3Options {
  readonly store: S3Store;
  readonly troubles: S3Trouble[];
  readonly calls: { readonly operation: S3Operation; readonly key: string }[];
  readonly before: Map<S3Operation, () => Promise<unknown>>;
  hidden: ReadonlySet<string>;
}

/**
 * An S3 on loopback, by path: signatures of version 4 over every header and body, conditional writes, multipart uploads, ranges, checksums
 * of SHA-256, and S3's own errors. Whoever has no signature may read objects, and nothing else: ciphertext is public.
 */
export async function openLabS3(options: LabS3Options): Promise<LabS3> {
  const server: Server = { ...options, store: openS3Store(options.folder), troubles: [], calls: [], before: new Map(), hidden: new Set() };
  const listener = createServer((request, response) => void respond(server, request, response));
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    store: server.store,
    calls: server.calls,
    trouble: (trouble, times = 1) => {
      for (let time = 0; time < times; time += 1) server.troubles.push(trouble);
    },
    before: (operation, work) => void server.before.set(operation, work),
    forgive: () => {
      server.troubles.length = 0;
      server.before.clear();
    },
    hide: (keys) => {
      server.hidden = new Set(keys);
    },
    close: async () => {
      const closed = once(listener, 'close');
      listener.close();
      listener.closeAllConnections();
      await closed;
    },
  };
}

async function respond(server: Server, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const body = await bodyOf(request);
    const { trouble, answer } = await answerTo(server, request, body);
    if (trouble === 'lose-answer') return void request.socket.destroy();
    await send(response, answer, trouble);
  } catch (error) {
    const failure = isS3Failure(error) ? error : s3Failure(500, 'InternalError', String(error));
    if (response.headersSent) return void request.socket.destroy();
    await send(response, failureAnswer(failure, request.method === 'HEAD'), null);
  }
}

async function answerTo(
  server: Server,
  request: IncomingMessage,
  body: Buffer,
): Promise<{ readonly trouble: S3Trouble['kind'] | null; readonly answer: S3Answer }> {
  const [path = '', search = ''] = (request.url ?? '').split('?', 2);
  const [, bucket = '', ...rest] = path.split('/');
  const key = decodeURIComponent(rest.join('/'));
  const method = request.method ?? '';
  const query = new URLSearchParams(search);
  const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]));
  const operation = operationOf(method, key, query);
  if (operation === null) throw s3Failure(501, 'NotImplemented');
  const signed = { method, path, query, headers, body };
  const isGuest = headers.authorization === undefined && (operation === 'GetObject' || operation === 'HeadObject');
  if (!isGuest) checkSignature(signed, server.credentials ?? { accessKeyId: 'lab', secretAccessKey: 'lab' }, Date.now());
  server.calls.push({ operation, key });
  if (bucket !== server.bucket) throw s3Failure(404, 'NoSuchBucket');
  await server.before.get(operation)?.();
  const index = server.troubles.findIndex(
    ({ operation: wanted, part }) => wanted === operation && (part === undefined || String(part) === query.get('partNumber')),
  );
  const trouble = index < 0 ? null : (server.troubles.splice(index, 1)[0]?.kind ?? null);
  const refusal = trouble === null ? undefined : REFUSALS[trouble];
  if (refusal !== undefined) throw s3Failure(...refusal);
  const { store, hidden, pageMax = Number.POSITIVE_INFINITY } = server;
  return { trouble, answer: await carryOut(operation, { ...signed, store, key, pageMax, hidden }) };
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_MAX_BYTES) throw s3Failure(400, 'EntityTooLarge');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function send(response: ServerResponse, { status, headers, body }: S3Answer, trouble: S3Trouble['kind'] | null): Promise<void> {
  const told = trouble === 'wrong-checksum' ? { 'x-amz-checksum-sha256': Buffer.alloc(32, 1).toString('base64') } : {};
  response.writeHead(status, { 'x-amz-request-id': randomUUID(), ...headers, ...told });
  if (typeof body === 'string') return void response.end(trouble === 'wrong-checksum' ? body.replace(/(<ChecksumSHA256>)[^<]*/, '$1AAAA') : body);
  if (trouble === 'cut-read') {
    response.flushHeaders();
    return void response.socket?.end();
  }
  if (trouble !== 'short-read' && trouble !== 'slow-read') return pipeline(Readable.from(body), response).catch(() => {}); // whoever asked has gone
  const half = Number(headers['content-length']) / 2;
  let sent = 0;
  for await (const chunk of body) {
    if (response.destroyed) return;
    if (sent + chunk.length > half) {
      const part = chunk.subarray(0, Math.max(1, Math.floor(half - sent)));
      // The client has an answer that began, before it breaks.
      await new Promise((resolve) => response.write(part, resolve));
      if (trouble === 'short-read') response.destroy();
      return;
    }
    sent += chunk.length;
    response.write(chunk);
  }
}

function failureAnswer({ status, code, message }: S3Failure, headOnly: boolean): S3Answer {
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${escaped(message)}</Message></Error>`;
  return { status, headers: { 'content-type': 'application/xml' }, body: headOnly ? '' : body };
}
