import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';
import { Agent, fetch } from 'undici';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { awsKmsSchema } from '#src/adapters/aws-kms/config.ts';
import { openAwsKmsSigner } from '#src/adapters/aws-kms/signer.ts';
import { azureKeyVaultSchema } from '#src/adapters/azure-key-vault/config.ts';
import { openAzureKeyVaultSigner } from '#src/adapters/azure-key-vault/signer.ts';
import { readPublicKey, verifySignature } from '#src/domain/receipts.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { openLabKeyVault } from '#src/lab/key-vault.ts';
import { openLabKms } from '#src/lab/kms.ts';
import type { Signer } from '#src/world.ts';
import { reasonOf } from '#test/contracts/key-store.ts';
import { testFolder } from '#test/envelope/folder.ts';

/** A key store with a key that signs and one that encrypts, and what an operator does to the first. */
interface SignerUnderTest {
  readonly signingKey: string;
  readonly otherKey: string;
  readonly open: (keyId: string) => Promise<Signer>;
  readonly disable: () => Promise<void>;
  readonly refuseNextSignature: () => void;
}

async function onAws(): Promise<SignerUnderTest> {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAEXAMPLEEXAMPLE00');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'not-a-secret');
  const kms = await openLabKms({ folder: null });
  onTestFinished(kms.close);
  const call = async (operation: string, input: object): Promise<{ readonly KeyMetadata: { readonly Arn: string } }> => {
    const headers = {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': `TrentService.${operation}`,
      authorization: 'AWS4-HMAC-SHA256 Credential=x',
    };
    const text = await (await fetch(kms.url, { method: 'POST', headers, body: JSON.stringify(input) })).text();
    return JSON.parse(text === '' ? '{}' : text) as { readonly KeyMetadata: { readonly Arn: string } };
  };
  const signingKey = (await call('CreateKey', { KeySpec: 'ECC_NIST_P256', KeyUsage: 'SIGN_VERIFY' })).KeyMetadata.Arn;
  const otherKey = (await call('CreateKey', {})).KeyMetadata.Arn;
  const config = awsKmsSchema.parse({ kind: 'aws-kms', region: 'eu-central-1', endpoint: kms.url });
  return {
    ...{ signingKey, otherKey },
    open: (keyId) => openAwsKmsSigner('store', config, keyId),
    disable: async () => void (await call('DisableKey', { KeyId: signingKey })),
    refuseNextSignature: () => kms.trouble({ kind: 'refuse', operation: 'Sign' }),
  };
}

async function onAzure(): Promise<SignerUnderTest> {
  const vault = await openLabKeyVault({ folder: null, token: 'lab' });
  onTestFinished(vault.close);
  const files = { token: join(testFolder(), 'token'), authority: join(testFolder(), 'authority.pem') };
  await writeFile(files.token, 'lab');
  await writeFile(files.authority, vault.certificateAuthorityPem);
  const dispatcher = new Agent({ connect: { ca: vault.certificateAuthorityPem } });
  onTestFinished(() => dispatcher.close());
  const call = async (method: string, path: string, body: object): Promise<string> => {
    const headers = { authorization: 'Bearer lab', 'content-type': 'application/json' };
    const response = await fetch(new URL(`${path}?api-version=2025-07-01`, vault.url), { method, dispatcher, headers, body: JSON.stringify(body) });
    return ((await response.json()) as { readonly key: { readonly kid: string } }).key.kid;
  };
  const signingKey = await call('POST', '/keys/receipts/create', { kty: 'EC', crv: 'P-256' });
  const otherKey = await call('POST', '/keys/other/create', { kty: 'RSA' });
  const config = azureKeyVaultSchema.parse({
    ...{ kind: 'azure-key-vault', url: vault.url, credential: { file: files.token }, certificateAuthority: { file: files.authority } },
  });
  return {
    ...{ signingKey, otherKey },
    open: (keyId) => openAzureKeyVaultSigner('store', config, keyId),
    disable: async () => void (await call('PATCH', new URL(signingKey).pathname, { attributes: { enabled: false } })),
    refuseNextSignature: () => vault.trouble({ kind: 'refuse', operation: 'sign' }),
  };
}

describe.each([
  ['aws-kms', onAws],
  ['azure-key-vault', onAzure],
])('a signer whose key is in %s', (_, on) => {
  let under: SignerUnderTest;
  beforeEach(async () => {
    under = await on();
  });
  afterEach(() => void vi.unstubAllEnvs());

  it('signs what verifies offline with the public key that it tells, as every export is verified', async () => {
    const signer = await under.open(under.signingKey);
    for (let count = 0; count < 20; count += 1) {
      const bytes = Buffer.from(`head ${count} ${'x'.repeat(count === 0 ? 10_000 : 0)}`);
      const signature = await signer.sign(bytes);
      expect(signer.verify(bytes, signature)).toBe(true);
      expect(verifySignature(readPublicKey(signer.publicKeyPem), bytes, signature)).toBe(true);
      expect(verify('sha256', bytes, signer.publicKeyPem, Buffer.from(signature, 'base64'))).toBe(true);
      expect(signer.verify(Buffer.from(`hear ${count}`), signature)).toBe(false);
    }
  });

  it('tells the same public key at every start', async () => {
    expect((await under.open(under.signingKey)).publicKeyPem).toBe((await under.open(under.signingKey)).publicKeyPem);
  });

  it('signs nothing with a disabled key or without permission, and still verifies', async () => {
    const signer = await under.open(under.signingKey);
    const signature = await signer.sign(Buffer.from('head'));
    under.refuseNextSignature();
    expect(await reasonOf(signer.sign(Buffer.from('head')))).toBe('PermissionDenied');
    await under.disable();
    expect(await reasonOf(signer.sign(Buffer.from('head')))).toBe('KeyDisabled');
    expect(signer.verify(Buffer.from('head'), signature)).toBe(true);
  });

  it('is no key of another kind, and none that is not there', async () => {
    expect(['KeyUnsupported', 'InvalidRequest']).toContain(await reasonOf(under.open(under.otherKey)));
    const absent = under.signingKey.replace(/[0-9a-f]{4}$/, (end) => (end === '0000' ? '0001' : '0000'));
    expect(await reasonOf(under.open(absent))).toBe('NotFound');
  });
});

describe('a signature that is not the key’s', () => {
  afterEach(() => void vi.unstubAllEnvs());

  it('is not taken from AWS KMS', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAEXAMPLEEXAMPLE00');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'not-a-secret');
    const [own, other] = [generateKeyPairSync('ec', { namedCurve: 'P-256' }), generateKeyPairSync('ec', { namedCurve: 'P-256' })];
    const PublicKey = own.publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
    const told = { KeyId: 'k', PublicKey, KeySpec: 'ECC_NIST_P256', KeyUsage: 'SIGN_VERIFY' };
    const signed = (key: typeof own, KeyId = 'k') => ({ KeyId, Signature: sign('sha256', Buffer.from('head'), key.privateKey).toString('base64') });
    const answers: object[] = [told, signed(own), signed(other), signed(own, 'other'), { KeyId: 'k' }, { KeyId: 'k', Signature: '' }];
    const server = createServer((request, response) => {
      request.resume().on('end', () => response.writeHead(200, { 'content-type': 'application/x-amz-json-1.1' }).end(JSON.stringify(answers.shift())));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const address = server.address();
    const endpoint = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
    const signer = await openAwsKmsSigner('store', awsKmsSchema.parse({ kind: 'aws-kms', region: 'eu-central-1', endpoint }), 'k');
    const outcomes = [];
    while (answers.length > 0) outcomes.push(await reasonOf(signer.sign(Buffer.from('head'))));
    expect(outcomes).toEqual(['done', ...Array(4).fill('UnexpectedAnswer')]);
  });

  it('is not taken from Key Vault', async () => {
    const authority = await makeAuthority('a stub');
    const certificate = await issue(authority, { commonName: 'a stub', names: ['127.0.0.1'] });
    const [own, other] = [generateKeyPairSync('ec', { namedCurve: 'P-256' }), generateKeyPairSync('ec', { namedCurve: 'P-256' })];
    const signatures: ((kid: string) => object)[] = [];
    const server = createTlsServer({ cert: certificate.certificatePem, key: certificate.keyPem }, (request, response) => {
      const kid = `https://${request.headers.host}/keys/k/v1`;
      const challenge = 'Bearer authorization="https://login.keyturn.invalid/t", resource="https://vault.azure.net"';
      const bundle = { key: { ...own.publicKey.export({ format: 'jwk' }), kid }, attributes: { enabled: true } };
      request.resume().on('end', () => {
        if (request.headers.authorization === undefined) response.writeHead(401, { 'www-authenticate': challenge }).end();
        else response.setHeader('content-type', 'application/json').end(JSON.stringify(request.method === 'GET' ? bundle : signatures.shift()?.(kid)));
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const address = server.address();
    const url = `https://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
    const files = { token: join(testFolder(), 'token'), authority: join(testFolder(), 'authority.pem') };
    await writeFile(files.token, 'lab');
    await writeFile(files.authority, authority.certificatePem);
    const settings = { kind: 'azure-key-vault', url, credential: { file: files.token }, certificateAuthority: { file: files.authority } };
    const signer = await openAzureKeyVaultSigner('store', azureKeyVaultSchema.parse(settings), `${url}/keys/k/v1`);
    const signed = (key: typeof own) => sign('sha256', Buffer.from('head'), { key: key.privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url');
    // One in 512 begins with a zero that DER must not have: drawn until there is one.
    const short = () => {
      for (;;) {
        const value = signed(own);
        const raw = Buffer.from(value, 'base64url');
        if (raw.readUInt8(0) === 0 && raw.readUInt8(1) < 0x80) return value;
      }
    };
    signatures.push(
      (kid) => ({ kid, value: signed(own) }),
      (kid) => ({ kid, value: short() }),
      (kid) => ({ kid, value: signed(other) }),
      (kid) => ({ kid: `${kid}x`, value: signed(own) }),
      (kid) => ({ kid, value: '' }),
      (kid) => ({ kid }),
    );
    const outcomes = [];
    while (signatures.length > 0) outcomes.push(await reasonOf(signer.sign(Buffer.from('head'))));
    expect(outcomes).toEqual(['done', 'done', ...Array(4).fill('UnexpectedAnswer')]);
  });
});
