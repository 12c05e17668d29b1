import { createPublicKey, randomUUID, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { issue, makeAuthority } from './certificates.ts';
import { badParameter, isVaultFailure, type VaultFailure, vaultFailure } from './key-vault-failure.ts';
import { openVaultKeys } from './key-vault-keys.ts';
import { type Body, isBody, privateKeyOf, type VaultCall, vaultOperations } from './key-vault-operations.ts';

/** The real service takes no longer request: 25 KB. */
const REQUEST_MAX_BYTES = 25 * 1024;
/** What the SDK speaks. */
const API_VERSION = '2025-07-01';
const SIGNING_KEY = { kty: 'EC', sizeBits: 2048, keyOps: ['sign', 'verify'], tags: {}, enabled: true } as const;
/** Nobody's directory. */
const AUTHORITY = 'https://login.keyturn.invalid/00000000-0000-0000-0000-000000000000';

/**
 * What goes wrong, once, with the next call (of `operation`, where it is given).
 *
 * - `lose-answer`: the call is carried out, then the connection breaks.
 * - `twice`: it is carried out twice, as when something on the way sends it again; the second answer is given.
 * - `server-error`: not carried out; status 500.
 * - `server-error-after`: carried out, and answered so all the same.
 * - `throttle`: not carried out; 429 with `Retry-After`.
 * - `refuse`: not carried out; 403 as for a missing permission.
 */
export interface VaultTrouble {
  readonly kind: 'lose-answer' | 'twice' | 'server-error' | 'server-error-after' | 'throttle' | 'refuse';
  readonly operation?: keyof typeof vaultOperations;
}

/** How the lab's vault is opened. */
export interface LabKeyVaultOptions {
  /** Where its keys are kept, so that they outlive it; null: in memory alone. */
  readonly folder: string | null;
  /** The one bearer token that it takes. */
  readonly token: string;
  /** Milliseconds since 1970; this machine's clock otherwise. */
  readonly clock?: () => Promise<number>;
  /** How long a new key stays out of lists, on that clock. 0 otherwise. */
  readonly listLagMilliseconds?: number;
  /** How long a key that is deleted or called back is seen nowhere, on that clock. 0 otherwise. */
  readonly moveLagMilliseconds?: number;
  /** How long a disabled key goes on unwrapping, on that clock. 0 otherwise. */
  readonly disableLagMilliseconds?: number;
  /** Lists give at most so many items a page. As many as are asked for otherwise. */
  readonly pageMax?: number;
  /** How long a deleted key can be called back. 90 otherwise, as in a vault where nothing was said. Days. */
  readonly recoverableDays?: number;
}

/** A running vault of the lab. */
export interface LabKeyVault {
  /** https, on 127.0.0.1. */
  readonly url: string;
  /** PEM of the authority that its certificate chains to. */
  readonly certificateAuthorityPem: string;
  /** What its operator does: makes an EC key on P-256 of this name, and tells its id and its public half. */
  readonly makeSigningKey: (name: string) => Promise<{ readonly keyId: string; readonly publicKeyPem: string }>;
  /** Lets the next call go wrong; several wait for one call each. */
  readonly trouble: (trouble: VaultTrouble) => void;
  readonly close: () => Promise<void>;
}

/** Method and path of each operation; `{}` is a key's name, `[]` a version that may be missing. */
const ROUTES = Object.entries({
  createKey: 'POST /keys/{}/create',
  getKeys: 'GET /keys',
  getKeyVersions: 'GET /keys/{}/versions',
  getKey: 'GET /keys/{}[]',
  updateKey: 'PATCH /keys/{}[]',
  deleteKey: 'DELETE /keys/{}',
  wrapKey: 'POST /keys/{}[]/wrapkey',
  unwrapKey: 'POST /keys/{}[]/unwrapkey',
  encrypt: 'POST /keys/{}[]/encrypt',
  decrypt: 'POST /keys/{}[]/decrypt',
  sign: 'POST /keys/{}[]/sign',
  getDeletedKeys: 'GET /deletedkeys',
  getDeletedKey: 'GET /deletedkeys/{}',
  purgeDeletedKey: 'DELETE /deletedkeys/{}',
  recoverDeletedKey: 'POST /deletedkeys/{}/recover',
} as const satisfies Record<keyof typeof vaultOperations, string>).map(([operation, route]) => {
  const pattern = route.replace('{}', '(?<name>[^/]+)').replace('[]', '(?:/(?<version>[^/]*))?');
  return { operation: operation as keyof typeof vaultOperations, pattern: new RegExp(`^${pattern}$`) };
});

/**
 * A vault that speaks Azure Key Vault's REST protocol, api-version 2025-07-01, over TLS on loopback: the bearer challenge, real RSA-OAEP,
 * Key Vault's states and error bodies, soft delete and recovery, a request id on every answer.
 */
export async function openLabKeyVault({ folder, token, clock = async () => Date.now(), ...options }: LabKeyVaultOptions): Promise<LabKeyVault> {
  const { listLagMilliseconds = 0, moveLagMilliseconds = 0, disableLagMilliseconds = 0, pageMax = 25, recoverableDays = 90 } = options;
  const authority = await makeAuthority('Keyturn lab key vault authority');
  const own = await issue(authority, { commonName: 'Keyturn lab key vault', names: ['127.0.0.1', 'localhost'] });
  const keys = await openVaultKeys(folder, { moveLagMilliseconds, disableLagMilliseconds, recoverableDays });
  const troubles: VaultTrouble[] = [];
  const take = (operation: string): VaultTrouble['kind'] | null => {
    const index = troubles.findIndex((trouble) => trouble.operation === undefined || trouble.operation === operation);
    return index < 0 ? null : (troubles.splice(index, 1)[0]?.kind ?? null);
  };
  const carryOut = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (!isOurs(request, token)) return challenge(response);
    const { operation, call } = await callOf(request);
    const trouble = take(operation);
    const refusal = refusalOf(trouble, operation);
    if (refusal !== null) throw refusal;
    const run = async () => {
      const setting = { keys, origin: `https://${request.headers.host}`, now: await clock(), listLagMilliseconds, pageMax, recoverableDays };
      return vaultOperations[operation](call, setting);
    };
    if (trouble === 'twice') await run();
    const body = await run();
    if (trouble === 'lose-answer') return void request.socket.destroy();
    if (trouble === 'server-error-after') throw vaultFailure(500, 'InternalServerError', '');
    send(response, body === null ? 204 : 200, body);
  };
  const server = createServer({ cert: own.certificatePem, key: own.keyPem }, (request, response) => {
    carryOut(request, response).catch((error: unknown) =>
      fail(response, isVaultFailure(error) ? error : vaultFailure(500, 'InternalServerError', String(error))),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    url: `https://127.0.0.1:${port}`,
    certificateAuthorityPem: authority.certificatePem,
    makeSigningKey: async (name) => {
      const [, made] = await keys.create(name, SIGNING_KEY, await clock());
      const publicKeyPem = createPublicKey(privateKeyOf(made)).export({ type: 'spki', format: 'pem' }).toString();
      return { keyId: `https://127.0.0.1:${port}/keys/${name}/${made.version}`, publicKeyPem };
    },
    trouble: (trouble) => void troubles.push(trouble),
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function isOurs({ headers }: IncomingMessage, token: string): boolean {
  const [given, expected] = [Buffer.from(headers.authorization ?? ''), Buffer.from(`Bearer ${token}`)];
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** The SDK's first request has neither token nor body, to be told where tokens come from. */
function challenge(response: ServerResponse): void {
  response.setHeader('www-authenticate', `Bearer authorization="${AUTHORITY}", resource="https://vault.azure.net"`);
  fail(response, vaultFailure(401, 'Unauthorized', 'AKV10000: Request is missing a Bearer or PoP token.'));
}

function refusalOf(trouble: VaultTrouble['kind'] | null, operation: string): VaultFailure | null {
  switch (trouble) {
    case 'server-error':
      return vaultFailure(500, 'InternalServerError', '');
    case 'throttle':
      return vaultFailure(429, 'Throttled', 'Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached');
    case 'refuse':
      return vaultFailure(403, 'Forbidden', `Caller is not authorized to perform action on resource: ${operation}`, 'ForbiddenByRbac');
    case 'lose-answer':
    case 'server-error-after':
    case 'twice':
    case null:
      return null;
  }
}

/** Reads a request as far as the protocol goes. Throws a VaultFailure. */
async function callOf(request: IncomingMessage): Promise<{ readonly operation: keyof typeof vaultOperations; readonly call: VaultCall }> {
  const url = new URL(request.url ?? '/', 'https://vault.invalid');
  const path = `${request.method} ${url.pathname.replace(/\/$/, '')}`;
  const route = ROUTES.find(({ pattern }) => pattern.test(path));
  if (route === undefined) throw vaultFailure(404, 'NotFound', path);
  if (url.searchParams.get('api-version') !== API_VERSION) throw badParameter(`api-version: the lab speaks ${API_VERSION}`);
  const { name = '', version = '' } = route.pattern.exec(path)?.groups ?? {};
  return { operation: route.operation, call: { name, version: version === '' ? null : version, query: url.searchParams, body: await bodyOf(request) } };
}

async function bodyOf(request: IncomingMessage): Promise<Body> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > REQUEST_MAX_BYTES) throw vaultFailure(413, 'BadParameter', 'the request is too long');
    chunks.push(chunk);
  }
  if (bytes === 0) return {};
  if (!request.headers['content-type']?.startsWith('application/json')) throw vaultFailure(415, 'BadParameter', 'content type');
  try {
    const body: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
    if (isBody(body)) return body;
  } catch {
    // Answered below, like every other body that is no object.
  }
  throw badParameter('expected a JSON object');
}

function send(response: ServerResponse, status: number, body: Body | null): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'x-ms-request-id': randomUUID(), 'cache-control': 'no-cache' });
  response.end(body === null ? '' : JSON.stringify(body));
}

function fail(response: ServerResponse, { status, code, inner, message }: VaultFailure): void {
  if (status === 429) response.setHeader('retry-after', '1');
  send(response, status, { error: { code, message, ...(inner === null ? {} : { innererror: { code: inner } }) } });
}
