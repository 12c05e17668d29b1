import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer as createPlainServer } from 'node:http';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { Agent, fetch } from 'undici';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { azureKeyVaultSchema } from '#src/adapters/azure-key-vault/config.ts';
import { openAzureKeyVault } from '#src/adapters/azure-key-vault/index.ts';
import { instantOf } from '#src/instant.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { type LabKeyVault, type LabKeyVaultOptions, openLabKeyVault } from '#src/lab/key-vault.ts';
import { Secret } from '#src/secret.ts';
import { fenced, keyStoreContract, makeKey, permit, reasonOf } from '#test/contracts/key-store.ts';
import { testFolder } from '#test/envelope/folder.ts';

const ROTATION = 'r-0123456789abcdef';
const START = 1_795_000_000_000;
const TOKEN = 'a-token-of-the-lab';
const WINDOW_DAYS = 7;
const REQUEST_ID = expect.stringMatching(/^[0-9a-f-]{36}$/);

/** What the adapter is configured with for a vault of the lab. */
function settings(url: string, files: { readonly token: string; readonly authority: string }, more: object = {}) {
  return azureKeyVaultSchema.parse({
    ...{ kind: 'azure-key-vault', url, credential: { file: files.token }, certificateAuthority: { file: files.authority } },
    ...{ protection: 'software', keySizeBits: 2048 },
    ...more,
  });
}

/** A lab vault on a clock that the test moves, and two installations' adapters on it. */
async function openStores(lab: Omit<LabKeyVaultOptions, 'folder' | 'clock' | 'token'> = {}) {
  let now = START;
  const folder = testFolder();
  const vault = await openLabKeyVault({ recoverableDays: WINDOW_DAYS, ...lab, folder: null, token: TOKEN, clock: async () => now });
  const files = { token: join(folder, 'token'), authority: join(folder, 'authority.pem') };
  await writeFile(files.token, `${TOKEN}\n`);
  await writeFile(files.authority, vault.certificateAuthorityPem);
  const open = (installation: string, more: object = {}) =>
    openAzureKeyVault('provider-vault', settings(vault.url, files, more), { installation, clock: async () => instantOf(now) });
  return {
    vault,
    files,
    open,
    store: await open('test'),
    elsewhere: await open('other'),
    pass: (seconds: number) => {
      now += seconds * 1000;
    },
    settle: async () => {
      now += Math.max(lab.listLagMilliseconds ?? 0, lab.moveLagMilliseconds ?? 0, lab.disableLagMilliseconds ?? 0);
    },
    loseNextAnswer: () => vault.trouble({ kind: 'lose-answer' }),
    passDays: async (days: number) => {
      now += days * 86_400_000;
    },
    destructionWindowDays: WINDOW_DAYS,
    callBack: async (keyId: string) => {
      await call(vault, 'POST', `/deletedkeys/${nameOf(keyId)}/recover`);
      now += lab.moveLagMilliseconds ?? 0;
    },
    close: vault.close,
  };
}

keyStoreContract('azure-key-vault', () => openStores());
keyStoreContract('azure-key-vault that lags', () =>
  openStores({ listLagMilliseconds: 60_000, moveLagMilliseconds: 30_000, disableLagMilliseconds: 45_000, pageMax: 1 }),
);

function nameOf(keyId: string): string {
  return new URL(keyId).pathname.split('/')[2] ?? '';
}

/** One call straight to the lab, for what the port does not offer. */
async function call(vault: LabKeyVault, method: string, path: string, body: object | null = null): Promise<Record<string, unknown>> {
  const dispatcher = new Agent({ connect: { ca: vault.certificateAuthorityPem } });
  const response = await fetch(`${vault.url}${path}?api-version=2025-07-01`, {
    ...{ method, dispatcher, headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' } },
    ...(body === null ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  await dispatcher.close();
  expect(response.ok).toBe(true);
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
}

describe('azure-key-vault', () => {
  let under: Awaited<ReturnType<typeof openStores>>;
  beforeEach(async () => {
    under = await openStores();
  });
  afterEach(() => under.close());
  const reopen = async (lab: Parameters<typeof openStores>[0]) => {
    await under.close();
    under = await openStores(lab);
  };
  const sealedUnder = async (keyId: string): Promise<Buffer> => {
    using plaintext = new Secret(randomBytes(32));
    return under.store.encrypt(keyId, plaintext, { path: 'x' });
  };

  it('sends a creation once whatever the vault answers, and reports the answer', async () => {
    for (const [kind, type, reason] of [
      ['server-error', 'InternalServerError', 'ServerError'],
      ['throttle', 'Throttled', 'Throttled'],
      ['refuse', 'ForbiddenByRbac', 'PermissionDenied'],
    ] as const) {
      under.vault.trouble({ kind, operation: 'createKey' });
      const { read, answers } = permit(ROTATION);
      expect(await reasonOf(under.store.create(read))).toBe(reason);
      expect(answers).toMatchObject([{ type, detail: { requestId: REQUEST_ID } }]);
      expect(await under.store.find(ROTATION)).toEqual([]);
    }
  });

  it('makes one key where the vault made it and answered with an error', async () => {
    under.vault.trouble({ kind: 'server-error-after', operation: 'createKey' });
    expect(await reasonOf(under.store.create(permit(ROTATION).read))).toBe('ServerError');
    expect(await under.store.find(ROTATION)).toHaveLength(1);
  });

  it('finds both versions where a creation arrived twice, and can disable one of them alone', async () => {
    under.vault.trouble({ kind: 'twice', operation: 'createKey' });
    const keyId = await makeKey(under);
    const twin = (await under.store.find(ROTATION)).map((key) => key.keyId).find((other) => other !== keyId) ?? '';
    expect(nameOf(twin)).toBe(nameOf(keyId));
    await under.store.disable(permit(ROTATION, twin).read);
    expect(await under.store.describe(twin)).toMatchObject({ state: 'deactivated' });
    expect(await under.store.describe(keyId)).toMatchObject({ state: 'active' });
  });

  it('gives every creation a name of its own, so that none is a version of another', async () => {
    expect(nameOf(await makeKey(under))).not.toBe(nameOf(await makeKey(under)));
    expect(await under.store.find(ROTATION)).toHaveLength(2);
  });

  it('deletes nothing while another version of the key is enabled, whoever made it', async () => {
    const keyId = await makeKey(under);
    await call(under.vault, 'POST', `/keys/${nameOf(keyId)}/create`, { kty: 'RSA' });
    await under.store.disable(permit(ROTATION, keyId).read);
    const { read, answers } = permit(ROTATION, keyId);
    expect(await reasonOf(under.store.scheduleDestruction(read))).toBe('KeyInUse');
    expect(answers).toEqual([{ status: 0, type: 'KeyInUse', detail: { keyId } }]);
    // The list shows the stranger's tags, which are none: the name tells.
    expect(await under.store.find(ROTATION)).toEqual([{ keyId, state: 'deactivated', destruction: null }]);
  });

  it('never calls a denied permission, a broken vault, a lost answer or a full one a refusal', async () => {
    const keyId = await makeKey(under);
    const canary = await sealedUnder(keyId);
    await under.store.disable(permit(ROTATION, keyId).read);
    for (const [kind, reason] of [
      ['refuse', 'PermissionDenied'],
      ['server-error', 'ServerError'],
      ['throttle', 'Throttled'],
      ['lose-answer', 'Unreachable'],
    ] as const) {
      // A lost refusal is still lost: the lab breaks the connection only where it would have answered well.
      if (kind === 'lose-answer') await under.store.enable(permit(ROTATION, keyId).read);
      under.vault.trouble({ kind, operation: 'unwrapKey' });
      expect(await reasonOf(under.store.decrypt(keyId, canary, { path: 'x' }))).toBe(reason);
    }
  });

  it('is refused the key itself and goes on to ask for the unwrapping, as a role without reading may', async () => {
    const keyId = await makeKey(under);
    const canary = await sealedUnder(keyId);
    await under.store.disable(permit(ROTATION, keyId).read);
    under.vault.trouble({ kind: 'refuse', operation: 'getKey' });
    expect(await under.store.decrypt(keyId, canary, { path: 'x' })).toMatchObject({ kind: 'refused', answer: { type: 'KeyDisabled' } });
  });

  it('records with a refusal its innermost code, its request id, the key and the time', async () => {
    const keyId = await makeKey(under);
    const canary = await sealedUnder(keyId);
    await under.store.disable(permit(ROTATION, keyId).read);
    const refused = await under.store.decrypt(keyId, canary, { path: 'x' });
    const detail = { keyId, at: instantOf(START), requestId: REQUEST_ID };
    expect(refused).toEqual({ kind: 'refused', answer: { status: 403, type: 'KeyDisabled', detail } });
  });

  it('goes by what the vault does and not by what it shows: a key that is shown as disabled and still unwraps is not refused', async () => {
    await reopen({ disableLagMilliseconds: 60_000 });
    const keyId = await makeKey(under);
    const canary = await sealedUnder(keyId);
    await under.store.disable(permit(ROTATION, keyId).read);
    expect(await under.store.describe(keyId)).toMatchObject({ state: 'deactivated' });
    expect((await under.store.decrypt(keyId, canary, { path: 'x' })).kind).toBe('opened');
    under.pass(60);
    expect((await under.store.decrypt(keyId, canary, { path: 'x' })).kind).toBe('refused');
  });

  it('does not take a key for destroyed that is on its way into the deleted ones, or back', async () => {
    await reopen({ moveLagMilliseconds: 30_000 });
    const keyId = await makeKey(under);
    const canary = await sealedUnder(keyId);
    await under.store.disable(permit(ROTATION, keyId).read);
    await under.store.scheduleDestruction(permit(ROTATION, keyId).read);
    expect(await under.store.describe(keyId)).toEqual({ keyId, state: 'deactivated', destruction: { at: null } });
    expect(await reasonOf(under.store.decrypt(keyId, canary, { path: 'x' }))).toBe('NotFound');
    under.pass(30);
    // Thirty seconds passed until the key was listed.
    const at = instantOf(START + 30_000 + WINDOW_DAYS * 86_400_000);
    expect(await under.store.describe(keyId)).toEqual({ keyId, state: 'deactivated', destruction: { at } });
    expect(await under.store.decrypt(keyId, canary, { path: 'x' })).toMatchObject({ kind: 'refused', answer: { status: 404, type: 'KeyNotFound' } });
    await call(under.vault, 'POST', `/deletedkeys/${nameOf(keyId)}/recover`);
    expect(await under.store.describe(keyId)).toEqual({ keyId, state: 'deactivated', destruction: { at } });
    under.pass(30);
    expect(await under.store.describe(keyId)).toEqual({ keyId, state: 'deactivated', destruction: null });
  });

  it('takes a key for destroyed that an operator purged, once it was seen nowhere for ten minutes', async () => {
    const keyId = await makeKey(under);
    await call(under.vault, 'DELETE', `/keys/${nameOf(keyId)}`);
    expect(await under.store.describe(keyId)).toMatchObject({ destruction: { at: expect.any(String) } });
    await call(under.vault, 'DELETE', `/deletedkeys/${nameOf(keyId)}`);
    expect(await under.store.describe(keyId)).toMatchObject({ state: 'deactivated' });
    under.pass(599);
    expect(await under.store.describe(keyId)).toMatchObject({ state: 'deactivated' });
    under.pass(1);
    expect(await under.store.describe(keyId)).toBeNull();
  });

  it('finds a key that somebody deleted, so that no other is made in its place unseen', async () => {
    const keyId = await makeKey(under);
    await call(under.vault, 'DELETE', `/keys/${nameOf(keyId)}`);
    expect(await under.store.find(ROTATION)).toMatchObject([{ keyId, state: 'deactivated', destruction: { at: expect.any(String) } }]);
    expect(await under.elsewhere.find(ROTATION)).toEqual([]);
  });

  it('finds its keys on every page of a listing', async () => {
    await reopen({ pageMax: 2 });
    const made = [];
    for (let count = 0; count < 3; count += 1) {
      await call(under.vault, 'POST', `/keys/somebody-elses-${count}/create`, { kty: 'RSA' });
      made.push({ keyId: await makeKey(under), state: 'active', destruction: null });
    }
    expect(await under.store.find(ROTATION)).toEqual(made.sort((a, b) => (a.keyId < b.keyId ? -1 : 1)));
  });

  it('opens nothing that was changed, and nothing that was not sealed here', async () => {
    const keyId = await makeKey(under);
    const sealed = await sealedUnder(keyId);
    for (let at = 0; at < sealed.length; at += 7) {
      const changed = Buffer.from(sealed);
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
      expect(await reasonOf(under.store.decrypt(keyId, changed, { path: 'x' }))).toBe('InvalidRequest');
    }
    for (const short of [Buffer.alloc(0), sealed.subarray(0, 2), sealed.subarray(0, 280), sealed.subarray(0, -1)])
      expect(await reasonOf(under.store.decrypt(keyId, short, { path: 'x' }))).toBe('InvalidRequest');
  });

  it('asks for leave only once it has a token, and reads it anew', async () => {
    await writeFile(under.files.token, '');
    let asked = 0;
    const read = async () => {
      asked += 1;
      return fenced();
    };
    expect(await reasonOf(under.store.create(read))).toBe('Unauthenticated');
    expect(asked).toBe(0);
    await writeFile(under.files.token, 'one-that-is-not-taken');
    const { read: leave, answers } = permit(ROTATION);
    expect(await reasonOf(under.store.create(leave))).toBe('Unauthenticated');
    expect(answers).toMatchObject([{ status: 401, type: 'Unauthorized' }]);
    await writeFile(under.files.token, TOKEN);
    expect(await reasonOf(under.store.create(permit(ROTATION).read))).toBe('done');
  });

  it('asks for leave only once the platform gives it a token', async () => {
    for (const name of ['AZURE_CLIENT_ID', 'AZURE_TENANT_ID', 'AZURE_CLIENT_SECRET', 'AZURE_FEDERATED_TOKEN_FILE']) vi.stubEnv(name, '');
    // Where a virtual machine's identity would be, somebody says no at once.
    const metadata = createPlainServer((_, response) => response.writeHead(400, { 'content-type': 'application/json' }).end('{"error":"invalid_request"}'));
    vi.stubEnv('AZURE_POD_IDENTITY_AUTHORITY_HOST', await listening(metadata, 'http'));
    onTestFinished(() => void vi.unstubAllEnvs());
    const store = await under.open('test', { credential: undefined });
    expect(await reasonOf(store.create(fenced))).toBe('Unauthenticated');
  });

  it('says Unreachable where nobody listens, and CertificateRejected where a stranger does', async () => {
    const certificateAuthority = { file: join(testFolder(), 'other.pem') };
    await writeFile(certificateAuthority.file, (await makeAuthority('another authority')).certificatePem);
    expect(await reasonOf((await under.open('test', { certificateAuthority })).find(ROTATION))).toBe('CertificateRejected');
    await under.close();
    const { read, answers } = permit(ROTATION);
    expect(await reasonOf(under.store.create(read))).toBe('Unreachable');
    expect(answers).toEqual([]);
    under = await openStores();
  });

  it('takes a vault’s address alone, over TLS only', () => {
    const accepted = [
      'https://provider.vault.azure.net',
      'https://provider.vault.azure.net/',
      'http://127.0.0.1:4',
      'https://provider.vault.azure.net/keys/k',
      'https://a@provider.vault.azure.net',
      'https://provider.vault.azure.net/?x',
    ].map((url) => azureKeyVaultSchema.safeParse({ kind: 'azure-key-vault', url }).success);
    expect(accepted).toEqual([true, true, false, false, false, false]);
  });
});

async function listening(server: ReturnType<typeof createPlainServer> | ReturnType<typeof createServer>, scheme: 'http' | 'https'): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const address = server.address();
  return `${scheme}://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
}

/** The adapter in front of something that is no key vault: the same status and text for every call that has a token. */
async function stub(status: number, textOf: (keyId: string) => string) {
  const authority = await makeAuthority('a stub');
  const own = await issue(authority, { commonName: 'a stub', names: ['127.0.0.1'] });
  const server = createServer({ cert: own.certificatePem, key: own.keyPem }, (request, response) => {
    request.resume();
    const challenge = 'Bearer authorization="https://login.keyturn.invalid/t", resource="https://vault.azure.net"';
    if (request.headers.authorization === undefined) response.writeHead(401, { 'www-authenticate': challenge }).end();
    else response.writeHead(status, { 'content-type': 'application/json', location: 'https://127.0.0.1:1/' }).end(textOf(keyId));
  });
  const url = await listening(server, 'https');
  const keyId = `${url}/keys/k/${'0'.repeat(32)}`;
  const files = { token: join(testFolder(), 'token'), authority: join(testFolder(), 'authority.pem') };
  await writeFile(files.token, TOKEN);
  await writeFile(files.authority, authority.certificatePem);
  const store = await openAzureKeyVault('stub', settings(url, files), { installation: 'test', clock: async () => instantOf(START) });
  return { store, keyId };
}

describe('something that is no key vault', () => {
  /** Well formed: form 1, a wrapped key of one byte, an IV, a tag, a byte. */
  const ciphertext = Buffer.concat([Buffer.from([1, 0, 1]), Buffer.alloc(1 + 12 + 16 + 1)]);
  const bundle = (keyId: string, more: object) =>
    JSON.stringify({ key: { kid: keyId, kty: 'RSA', n: 'AAAA', e: 'AQAB' }, attributes: { enabled: true }, ...more });

  it.each([
    [418, 'teapot', 'UnexpectedAnswer'],
    [404, '<html>not found</html>', 'UnexpectedAnswer'],
    [404, '', 'UnexpectedAnswer'],
    [404, '{"error":{"code":"VaultNotFound"}}', 'UnexpectedAnswer'],
    [404, 'null', 'UnexpectedAnswer'],
    [307, '', 'UnexpectedAnswer'],
    [503, '<html>busy</html>', 'ServerError'],
    [500, '', 'ServerError'],
    [429, '', 'Throttled'],
    [403, '', 'PermissionDenied'],
    [409, '{"error":{"code":"Conflict","innererror":{"code":"ObjectIsBeingDeleted"}}}', 'Conflict'],
    [200, '', 'UnexpectedAnswer'],
    [200, '{"key":', 'UnexpectedAnswer'],
    [200, 'null', 'UnexpectedAnswer'],
    [200, '{}', 'UnexpectedAnswer'],
    [200, '{"key":{"kid":"https://elsewhere.invalid/keys/k/0"},"attributes":{"enabled":true}}', 'UnexpectedAnswer'],
  ])('that answers %i %s has not said that a key is gone: %s', async (status, text, reason) => {
    const { store, keyId } = await stub(status, () => text);
    expect(await reasonOf(store.describe(keyId))).toBe(reason);
  });

  it('says nothing of a key’s state with an answer that names none', async () => {
    const { store, keyId } = await stub(200, (id) => bundle(id, { attributes: {} }));
    expect(await reasonOf(store.describe(keyId))).toBe('UnexpectedAnswer');
  });

  it.each([{ exp: START / 1000 - 1 }, { nbf: START / 1000 + 1 }])('and a key out of its time (%o) is not one to use', async (times) => {
    const { store, keyId } = await stub(200, (id) => bundle(id, { attributes: { enabled: true, ...times } }));
    expect(await store.describe(keyId)).toMatchObject({ state: 'suspended' });
  });

  it.each(['"value":"AAAA"', '"value":5', '"value":"@@"', '"x":1'])('unwraps nothing with %s', async (value) => {
    const { store, keyId } = await stub(200, (id) => bundle(id, {}).replace(/\}$/, `,"kid":"${id}",${value}}`));
    expect(['UnexpectedAnswer', 'InvalidRequest']).toContain(await reasonOf(store.decrypt(keyId, ciphertext, {})));
  });

  it('unwraps nothing with another key’s answer', async () => {
    const { store, keyId } = await stub(200, (id) => bundle(id, { kid: `${id}1`, value: Buffer.alloc(32).toString('base64url') }));
    expect(await reasonOf(store.decrypt(keyId, ciphertext, {}))).toBe('UnexpectedAnswer');
  });
});
