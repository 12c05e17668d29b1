import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { isKmsFailure, type KmsFailure, kmsFailure } from './kms-failure.ts';
import { openLabKeys } from './kms-keys.ts';
import { type Input, operations, type Setting } from './kms-operations.ts';

/** The real service takes no longer request: 4 KiB of plaintext, a context, a policy of 32 KiB. */
const REQUEST_MAX_BYTES = 128 * 1024;

/**
 * What goes wrong, once, with the next call (of `operation`, where it is given).
 *
 * - `lose-answer`: the call is carried out, then the connection breaks.
 * - `twice`: it is carried out twice, as when something on the way sends it again; the second answer is given.
 * - `server-error`: not carried out; `KMSInternalException`, status 500.
 * - `server-error-after`: carried out, and answered so all the same.
 * - `throttle`, `refuse`: not carried out; `ThrottlingException`, `AccessDeniedException`.
 */
export interface KmsTrouble {
  readonly kind: 'lose-answer' | 'twice' | 'server-error' | 'server-error-after' | 'throttle' | 'refuse';
  readonly operation?: string;
}

/** How the lab's KMS is opened. */
export interface LabKmsOptions {
  /** Where its keys are kept, so that they outlive it; null: in memory alone. */
  readonly folder: string | null;
  /** Milliseconds since 1970; this machine's clock otherwise. */
  readonly clock?: () => Promise<number>;
  /** How long a new key stays out of ListKeys, on that clock. 0 otherwise. */
  readonly listLagMilliseconds?: number;
  /** How long its tags stay unseen though it is listed, on that clock. 0 otherwise. */
  readonly tagLagMilliseconds?: number;
  /** How long a disabled key goes on working, on that clock. 0 otherwise. */
  readonly disableLagMilliseconds?: number;
  /** Lists give at most so many items a page, as the real service may. As many as are asked for otherwise. */
  readonly pageMax?: number;
}

/** A running KMS of the lab. */
export interface LabKms {
  /** On 127.0.0.1. */
  readonly url: string;
  /** Lets the next call go wrong; several wait for one call each. */
  readonly trouble: (trouble: KmsTrouble) => void;
  readonly close: () => Promise<void>;
}

/**
 * A KMS that speaks AWS KMS's JSON 1.1 protocol on loopback: real AES-GCM under the encryption context, AWS's key states and error names,
 * a request id on every answer. It takes any credentials, but wants a signature to be there.
 */
export async function openLabKms({ folder, clock = async () => Date.now(), ...options }: LabKmsOptions): Promise<LabKms> {
  const { listLagMilliseconds = 0, tagLagMilliseconds = 0, disableLagMilliseconds = 0, pageMax = Number.POSITIVE_INFINITY } = options;
  const keys = await openLabKeys(folder);
  const troubles: KmsTrouble[] = [];
  const take = (operation: string): KmsTrouble['kind'] | null => {
    const index = troubles.findIndex((trouble) => trouble.operation === undefined || trouble.operation === operation);
    return index < 0 ? null : (troubles.splice(index, 1)[0]?.kind ?? null);
  };
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const operation = (request.headers['x-amz-target'] ?? '').toString().replace(/^TrentService\./, '');
    const trouble = take(operation);
    try {
      const input = await inputOf(request);
      const refusal = refusalOf(trouble, operation);
      if (refusal !== null) throw refusal;
      const setting = { keys, now: await clock(), listLagMilliseconds, tagLagMilliseconds, disableLagMilliseconds, pageMax };
      if (trouble === 'twice') await carryOut(operation, input, setting);
      const output = await carryOut(operation, input, setting);
      if (trouble === 'lose-answer') {
        request.socket.destroy();
        return;
      }
      if (trouble === 'server-error-after') throw kmsFailure('KMSInternalException', '', 500);
      send(response, 200, output);
    } catch (error) {
      const failure = isKmsFailure(error) ? error : kmsFailure('KMSInternalException', String(error), 500);
      send(response, failure.status, { __type: failure.type, message: failure.message });
    }
  };
  const server = createServer((request, response) => void answer(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    trouble: (trouble) => void troubles.push(trouble),
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function refusalOf(trouble: KmsTrouble['kind'] | null, operation: string): KmsFailure | null {
  switch (trouble) {
    case 'server-error':
      return kmsFailure('KMSInternalException', '', 500);
    case 'throttle':
      return kmsFailure('ThrottlingException', 'Rate exceeded');
    case 'refuse':
      return kmsFailure('AccessDeniedException', `User is not authorized to perform: kms:${operation} because no identity-based policy allows the action`);
    case 'lose-answer':
    case 'server-error-after':
    case 'twice':
    case null:
      return null;
  }
}

async function carryOut(operation: string, input: Input, setting: Setting): Promise<Input | null> {
  const known = Object.hasOwn(operations, operation) ? operations[operation] : undefined;
  if (known === undefined) throw kmsFailure('UnknownOperationException');
  return known(input, setting);
}

/** Reads a request as far as the protocol goes. Throws a KmsFailure. */
async function inputOf(request: IncomingMessage): Promise<Input> {
  if (request.method !== 'POST' || request.url !== '/') throw kmsFailure('UnknownOperationException');
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > REQUEST_MAX_BYTES) throw kmsFailure('ValidationException', 'the request is too long');
    chunks.push(chunk);
  }
  if (!request.headers['content-type']?.startsWith('application/x-amz-json-1.1')) throw kmsFailure('SerializationException', 'content type');
  if (!request.headers.authorization?.startsWith('AWS4-HMAC-SHA256 Credential=')) {
    throw kmsFailure('MissingAuthenticationTokenException', 'Missing Authentication Token');
  }
  try {
    const input: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
    if (typeof input === 'object' && input !== null && !Array.isArray(input)) return input as Input;
  } catch {
    // Answered below, like every other body that is no object.
  }
  throw kmsFailure('SerializationException');
}

/** Success of an operation without output has an empty body. */
function send(response: ServerResponse, status: number, body: Input | null): void {
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1', 'x-amzn-requestid': randomUUID(), 'cache-control': 'no-cache' });
  response.end(body === null ? '' : JSON.stringify(body));
}
