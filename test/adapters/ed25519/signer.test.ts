import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ed25519SignerConfig } from '#src/adapters/ed25519/config.ts';
import { openEd25519Signer } from '#src/adapters/ed25519/index.ts';
import { readPublicKey, verifySignature } from '#src/domain/receipts.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-ed25519-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function written(name: string, text: string): Promise<{ readonly kind: 'ed25519'; readonly key: { readonly file: string } }> {
  await writeFile(join(folder, name), text);
  return { kind: 'ed25519', key: { file: join(folder, name) } };
}

interface Pair {
  readonly privateKey: string;
  readonly publicKey: string;
}

function pems({ privateKey, publicKey }: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }): Pair {
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

test('what it signs verifies with the public key that it tells, and nothing else does', async () => {
  const { privateKey, publicKey } = pems(generateKeyPairSync('ed25519'));
  const signer = await openEd25519Signer(await written('good.pem', privateKey));
  expect(signer.publicKeyPem).toBe(publicKey);
  const signature = await signer.sign(Buffer.from('head'));
  expect(signer.verify(Buffer.from('head'), signature)).toBe(true);
  expect(verifySignature(readPublicKey(publicKey), Buffer.from('head'), signature)).toBe(true);
  expect(signer.verify(Buffer.from('hear'), signature)).toBe(false);
  expect(signer.verify(Buffer.from('head'), `${signature} `)).toBe(false);
  expect(signer.verify(Buffer.from('head'), '')).toBe(false);
});

// RFC 8032 §7.1, test 2: the key's 32 bytes behind the prefix of RFC 8410 §10.3.
test('signatures are those of RFC 8032', async () => {
  const seed = '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb';
  const der = Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex').toString('base64');
  const signer = await openEd25519Signer(await written('rfc8032.pem', `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`));
  expect(Buffer.from(await signer.sign(Buffer.of(0x72)), 'base64').toString('hex')).toBe(
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  );
});

test('a missing key, another kind of key and what is no key are refused, and never quoted', async () => {
  const ec = pems(generateKeyPairSync('ec', { namedCurve: 'P-256' }));
  const broken = '-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHZlcnktc2VjcmV0\n-----END PRIVATE KEY-----\n';
  await expect(openEd25519Signer({ kind: 'ed25519', key: { file: join(folder, 'none.pem') } })).rejects.toMatchObject({ name: 'Fault', reason: 'NotFound' });
  await expect(openEd25519Signer(await written('ec.pem', ec.privateKey))).rejects.toMatchObject({ name: 'Fault', reason: 'KeyUnsupported' });
  const thrown = await openEd25519Signer(await written('broken.pem', broken)).catch((error: unknown) => error);
  expect(thrown).toMatchObject({ name: 'Fault', reason: 'KeyUnsupported' });
  expect(inspect(thrown)).not.toContain('MC4CAQ');
});

test('its configuration names a key and never holds one', () => {
  expect(ed25519SignerConfig.safeParse({ kind: 'ed25519', key: { env: 'RECEIPTS_KEY' } }).success).toBe(true);
  expect(ed25519SignerConfig.safeParse({ kind: 'ed25519', key: 'MC4CAQ' }).success).toBe(false);
});
