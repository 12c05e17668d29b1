import { createPublicKey } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Agent, fetch } from 'undici';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type LabKeyVault, type LabKeyVaultOptions, openLabKeyVault } from '#src/lab/key-vault.ts';
import { testFolder } from '#test/envelope/folder.ts';

const NOW = 1_795_000_000_000;
const TOKEN = 'lab';

interface Reply {
  readonly status: number;
  readonly headers: { readonly get: (name: string) => string | null };
  readonly body: Readonly<Record<string, unknown>>;
}

async function open(options: Partial<LabKeyVaultOptions> = {}): Promise<LabKeyVault> {
  const vault = await openLabKeyVault({ folder: null, token: TOKEN, clock: async () => NOW, ...options });
  onTestFinished(vault.close);
  return vault;
}

/** One call as the SDK writes it; `authorization` null: its very first. */
async function call(
  vault: LabKeyVault,
  method: string,
  path: string,
  body: object | null = null,
  authorization: string | null = `Bearer ${TOKEN}`,
): Promise<Reply> {
  const dispatcher = new Agent({ connect: { ca: vault.certificateAuthorityPem } });
  const url = path.startsWith('https:') ? path : `${vault.url}${path}${path.includes('?') ? '&' : '?'}api-version=2025-07-01`;
  try {
    const response = await fetch(url, {
      ...{ method, dispatcher, headers: { 'content-type': 'application/json', ...(authorization === null ? {} : { authorization }) } },
      ...(body === null ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === '' ? {} : (JSON.parse(text) as Reply['body']) };
  } finally {
    await dispatcher.close();
  }
}

/** The status, and the innermost code of an error. */
function said({ status, body }: Reply): string {
  const { error } = body as { readonly error?: { readonly code: string; readonly innererror?: { readonly code: string } } };
  return [status, error?.innererror?.code ?? error?.code].filter((word) => word !== undefined).join(' ');
}

async function makeKey(vault: LabKeyVault, name = 'k'): Promise<string> {
  const { body } = await call(vault, 'POST', `/keys/${name}/create`, { kty: 'RSA' });
  return new URL((body as { readonly key: { readonly kid: string } }).key.kid).pathname;
}

const value = Buffer.from('a wrapping key').toString('base64url');
const alg = 'RSA-OAEP-256';

/** What each operation says of a key in one state; those that would change it come last, and alone. */
async function answers(vault: LabKeyVault, path: string, wrapped: unknown): Promise<Readonly<Record<string, string>>> {
  const ask = async (method: string, at: string, body: object | null = null) => said(await call(vault, method, at, body));
  return {
    getKey: await ask('GET', path),
    getKeyVersions: await ask('GET', '/keys/k/versions'),
    wrapKey: await ask('POST', `${path}/wrapkey`, { alg, value }),
    encrypt: await ask('POST', `${path}/encrypt`, { alg, value }),
    unwrapKey: await ask('POST', `${path}/unwrapkey`, { alg, value: wrapped }),
    decrypt: await ask('POST', `${path}/decrypt`, { alg, value: wrapped }),
    updateKey: await ask('PATCH', path, {}),
    getDeletedKey: await ask('GET', '/deletedkeys/k'),
  };
}

describe('the lab’s key vault answers as was seen of Azure’s', () => {
  it('for each state: a disabled key still wraps and encrypts, and unwraps and decrypts nothing', async () => {
    let now = NOW;
    const vault = await open({ clock: async () => now, moveLagMilliseconds: 1000 });
    const path = await makeKey(vault);
    const wrapped = (await call(vault, 'POST', `${path}/wrapkey`, { alg, value })).body.value;
    const all = (word: string) => ({ getKey: word, getKeyVersions: word, wrapKey: word, encrypt: word, unwrapKey: word, decrypt: word, updateKey: word });
    const enabled = { ...all('200'), getDeletedKey: '404 KeyNotFound' };
    expect(await answers(vault, path, wrapped)).toEqual(enabled);
    const disabled = { ...enabled, unwrapKey: '403 KeyDisabled', decrypt: '403 KeyDisabled' };
    await call(vault, 'PATCH', path, { attributes: { enabled: false } });
    expect(await answers(vault, path, wrapped)).toEqual(disabled);
    expect(said(await call(vault, 'DELETE', '/keys/k'))).toBe('200');
    expect(await answers(vault, path, wrapped)).toEqual({ ...all('404 KeyNotFound'), getDeletedKey: '404 KeyNotFound' });
    expect(said(await call(vault, 'POST', '/keys/k/create', { kty: 'RSA' }))).toBe('409 ObjectIsBeingDeleted');
    now += 1000;
    expect(await answers(vault, path, wrapped)).toEqual({ ...all('404 KeyNotFound'), getDeletedKey: '200' });
    expect(said(await call(vault, 'POST', '/keys/k/create', { kty: 'RSA' }))).toBe('409 ObjectIsDeletedButRecoverable');
    expect(said(await call(vault, 'POST', '/deletedkeys/k/recover'))).toBe('200');
    now += 1000;
    expect(await answers(vault, path, wrapped)).toEqual(disabled);
    await call(vault, 'PATCH', path, { attributes: { enabled: true } });
    expect(await answers(vault, path, wrapped)).toEqual(enabled);
  });

  it('tells who has no token where to get one, and carries nothing out for him', async () => {
    const vault = await open();
    for (const authorization of [null, '', 'Bearer other', TOKEN]) {
      const reply = await call(vault, 'POST', '/keys/k/create', { kty: 'RSA' }, authorization);
      expect(said(reply)).toBe('401 Unauthorized');
      expect(reply.headers.get('www-authenticate')).toMatch(/^Bearer authorization="https:[^"]+", resource="https:\/\/vault\.azure\.net"$/);
    }
    expect((await call(vault, 'GET', '/keys')).body.value).toEqual([]);
  });

  it('with a request id of its own on every answer', async () => {
    const vault = await open();
    const replies = [await call(vault, 'GET', '/keys'), await call(vault, 'GET', '/keys/k'), await call(vault, 'GET', '/nothing')];
    const ids = replies.map(({ headers }) => headers.get('x-ms-request-id'));
    expect(ids).not.toContain(null);
    expect(new Set(ids).size).toBe(3);
  });

  it('with one version more for a name that stands, each with a key of its own', async () => {
    const vault = await open();
    const [first, second] = [await makeKey(vault), await makeKey(vault)];
    const modulus = async (path: string) => ((await call(vault, 'GET', path)).body as { readonly key: { readonly n: string } }).key.n;
    expect(await modulus(first)).not.toBe(await modulus(second));
    expect(await modulus('/keys/k')).toBe(await modulus(second));
    expect(await modulus('/keys/k/')).toBe(await modulus(second));
    await call(vault, 'PATCH', first, { attributes: { enabled: false } });
    expect((await call(vault, 'GET', second)).body).toMatchObject({ attributes: { enabled: true } });
    // All of them are deleted together.
    expect((await call(vault, 'DELETE', '/keys/k')).body).toMatchObject({ recoveryId: `${vault.url}/deletedkeys/k` });
    expect([said(await call(vault, 'GET', first)), said(await call(vault, 'GET', second))]).toEqual(['404 KeyNotFound', '404 KeyNotFound']);
  });

  it('with a public key that is the private one’s', async () => {
    const vault = await open();
    const path = await makeKey(vault);
    const { key } = (await call(vault, 'GET', path)).body as { readonly key: { readonly n: string; readonly e: string } };
    const publicKey = createPublicKey({ key: { kty: 'RSA', n: key.n, e: key.e }, format: 'jwk' });
    expect(publicKey.asymmetricKeyDetails).toMatchObject({ modulusLength: 2048 });
  });

  it('within its limits', async () => {
    const vault = await open();
    const path = await makeKey(vault);
    const { body } = await call(vault, 'POST', '/keys/w/create', { kty: 'RSA', key_ops: ['wrapKey'] });
    const wrapOnly = new URL((body as { readonly key: { readonly kid: string } }).key.kid).pathname;
    const refused = [
      await call(vault, 'POST', '/keys/a_b/create', { kty: 'RSA' }),
      await call(vault, 'POST', '/keys/a/create', { kty: 'oct' }),
      await call(vault, 'POST', '/keys/a/create', { kty: 'RSA', key_size: 1024 }),
      await call(vault, 'POST', '/keys/a/create', { kty: 'RSA', tags: Object.fromEntries(Array.from({ length: 16 }, (_, at) => [`t${at}`, ''])) }),
      await call(vault, 'POST', `${path}/wrapkey`, { alg, value: Buffer.alloc(200).toString('base64url') }),
      await call(vault, 'POST', `${path}/wrapkey`, { alg: 'A256KW', value }),
      await call(vault, 'POST', `${path}/unwrapkey`, { alg, value }),
      await call(vault, 'GET', '/keys?maxresults=26'),
      await call(vault, 'GET', `${vault.url}/keys?api-version=7.4`),
      await call(vault, 'POST', `${wrapOnly}/unwrapkey`, { alg, value }),
    ];
    expect(refused.map(said)).toEqual([...Array(9).fill('400 BadParameter'), '403 KeyOperationForbidden']);
  });
});

describe('the lab’s key vault', () => {
  it('has the same keys after it was started again, in a file that only we can read', async () => {
    const folder = testFolder();
    const first = await openLabKeyVault({ folder, token: TOKEN });
    const path = await makeKey(first);
    const wrapped = (await call(first, 'POST', `${path}/wrapkey`, { alg, value })).body.value;
    await first.close();
    const second = await open({ folder });
    expect((await call(second, 'POST', `${path}/unwrapkey`, { alg, value: wrapped })).body.value).toBe(value);
    expect(statSync(join(folder, 'key-vault.json')).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(join(folder, 'key-vault.json'), 'utf8'))).toMatchObject([{ name: 'k' }]);
  });

  it('lists a key only when the listing has caught up, and shows it at once', async () => {
    let now = NOW;
    const vault = await open({ clock: async () => now, listLagMilliseconds: 1000 });
    const path = await makeKey(vault);
    expect((await call(vault, 'GET', '/keys')).body.value).toEqual([]);
    expect((await call(vault, 'GET', path)).status).toBe(200);
    now += 1000;
    expect((await call(vault, 'GET', '/keys')).body.value).toHaveLength(1);
  });

  it('gives a long list page by page, each key once', async () => {
    const vault = await open({ pageMax: 2 });
    for (const name of ['a', 'b', 'c', 'd', 'e']) await makeKey(vault, name);
    const listed: string[] = [];
    for (let next: unknown = '/keys'; typeof next === 'string'; ) {
      const { body } = await call(vault, 'GET', next);
      listed.push(...(body.value as readonly { readonly kid: string }[]).map(({ kid }) => kid));
      next = body.nextLink;
    }
    expect(listed).toEqual(['a', 'b', 'c', 'd', 'e'].map((name) => `${vault.url}/keys/${name}`));
  });

  it('purges a deleted key for good when its days are over, or when it is told to', async () => {
    let now = NOW;
    const vault = await open({ clock: async () => now, recoverableDays: 7 });
    for (const name of ['a', 'b']) {
      await makeKey(vault, name);
      await call(vault, 'DELETE', `/keys/${name}`);
    }
    expect((await call(vault, 'DELETE', '/deletedkeys/b')).status).toBe(204);
    expect(said(await call(vault, 'GET', '/deletedkeys/b'))).toBe('404 KeyNotFound');
    now += 7 * 86_400_000 - 1;
    expect((await call(vault, 'GET', '/deletedkeys/a')).status).toBe(200);
    now += 1;
    expect(said(await call(vault, 'GET', '/deletedkeys/a'))).toBe('404 KeyNotFound');
    expect((await call(vault, 'GET', '/deletedkeys')).body.value).toEqual([]);
  });

  it('carries out a disabling late where it is told to lag, and shows it at once', async () => {
    let now = NOW;
    const vault = await open({ clock: async () => now, disableLagMilliseconds: 1000 });
    const path = await makeKey(vault);
    const wrapped = (await call(vault, 'POST', `${path}/wrapkey`, { alg, value })).body.value;
    await call(vault, 'PATCH', path, { attributes: { enabled: false } });
    expect((await call(vault, 'GET', path)).body).toMatchObject({ attributes: { enabled: false } });
    expect((await call(vault, 'POST', `${path}/unwrapkey`, { alg, value: wrapped })).body.value).toBe(value);
    now += 1000;
    expect(said(await call(vault, 'POST', `${path}/unwrapkey`, { alg, value: wrapped }))).toBe('403 KeyDisabled');
  });

  it('loses an answer after the effect, carries out twice, and lets each trouble befall one call', async () => {
    const vault = await open();
    vault.trouble({ kind: 'lose-answer', operation: 'createKey' });
    await expect(makeKey(vault)).rejects.toThrow();
    vault.trouble({ kind: 'twice', operation: 'createKey' });
    await makeKey(vault);
    expect((await call(vault, 'GET', '/keys/k/versions')).body.value).toHaveLength(3);
    vault.trouble({ kind: 'throttle' });
    const throttled = await call(vault, 'POST', '/keys/k/create', { kty: 'RSA' });
    expect([said(throttled), throttled.headers.get('retry-after')]).toEqual(['429 Throttled', '1']);
    expect((await call(vault, 'GET', '/keys/k/versions')).body.value).toHaveLength(3);
  });
});
