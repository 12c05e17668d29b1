import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { signBundle, verifyBundle } from '#src/adapters/sigstore/index.ts';
import type { TrustedKey, TrustedSigners } from '#src/domain/signatures.ts';
import { isFault } from '#src/errors.ts';
import { makePerson } from '../documents/people.ts';

const vector = (name: string): Buffer => readFileSync(join(import.meta.dirname, '../vectors/cosign', name));
const cosign = ['a', 'b', 'c'].map((name): TrustedKey => ({ person: name, pem: vector(`approver-${name}.pub`).toString() }));
const document = vector('release.yaml');

type Json = Record<string, unknown>;
const parsed = (name: string): Json => JSON.parse(vector(name).toString()) as Json;

const byKeys = (keys: readonly TrustedKey[]): TrustedSigners => ({ keys, identities: [], trustedRoot: null });

function reasonOf(bundle: Uint8Array | string, over: Uint8Array = document, keys: readonly TrustedKey[] = cosign): string {
  const verdict = verifyBundle(Buffer.from(bundle), over, byKeys(keys));
  return verdict.kind === 'signed' ? verdict.person : verdict.reason;
}

describe('what cosign made', () => {
  it.each([
    ['release.a.sigstore.json', 'a'],
    ['release.b.sigstore.json', 'b'],
    ['release.c.cosign3.sigstore.json', 'c'],
  ])('%s is the signature of %s', (name, person) => {
    expect(reasonOf(vector(name))).toBe(person);
  });

  it('a bundle over other bytes is none', () => {
    expect(reasonOf(vector('release.a.sigstore.json'), Buffer.concat([document, Buffer.from('\n')]))).toBe('SignatureInvalid');
  });

  it('a bundle by nobody whom the document trusts is told from a broken one', () => {
    expect(reasonOf(vector('release.a.sigstore.json'), document, cosign.slice(1))).toBe('SignerUnknown');
    const broken = parsed('release.a.sigstore.json') as { messageSignature: Json };
    broken.messageSignature.signature = (parsed('release.b.sigstore.json') as { messageSignature: Json }).messageSignature.signature;
    expect(reasonOf(JSON.stringify(broken))).not.toBe('a');
  });

  it('the old format, statements of another kind and certificates without a root are refused, each by its own reason', () => {
    expect(reasonOf(vector('release.a.legacy.json'))).toBe('BundleUnsupported');
    expect(reasonOf(vector('release.a.dsse.sigstore.json'))).toBe('StatementUnfit');
    const keyless = { ...parsed('release.a.sigstore.json'), verificationMaterial: { certificate: { rawBytes: 'AAAA' } } };
    expect(reasonOf(JSON.stringify(keyless))).toBe('TrustedRootMissing');
    const chain = { ...parsed('release.a.sigstore.json'), verificationMaterial: { x509CertificateChain: { certificates: [{ rawBytes: 'AAAA' }] } } };
    expect(reasonOf(JSON.stringify(chain))).toBe('BundleUnsupported');
    const older = { ...parsed('release.a.sigstore.json'), mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.2' };
    expect(reasonOf(JSON.stringify(older))).toBe('BundleUnsupported');
  });

  it('log entries and timestamps beside the signature neither help nor hurt', () => {
    const one = parsed('release.a.sigstore.json');
    const logged = {
      ...one,
      verificationMaterial: {
        ...(one.verificationMaterial as Json),
        tlogEntries: [{ logIndex: '1', integratedTime: '1', canonicalizedBody: 'AAAA' }],
        timestampVerificationData: { rfc3161Timestamps: [{ signedTimestamp: 'AAAA' }] },
      },
    };
    expect(reasonOf(JSON.stringify(logged))).toBe('a');
    expect(reasonOf(JSON.stringify(logged), document, cosign.slice(1))).toBe('SignerUnknown');
  });

  it('the hint is only a hint', () => {
    const one = parsed('release.a.sigstore.json');
    const hint = ((parsed('release.b.sigstore.json') as { verificationMaterial: { publicKey: Json } }).verificationMaterial.publicKey as { hint: string }).hint;
    for (const other of [hint, '', 'nonsense']) expect(reasonOf(JSON.stringify({ ...one, verificationMaterial: { publicKey: { hint: other } } }))).toBe('a');
    // A hint that names a trusted key makes nobody's signature that person's.
    expect(reasonOf(JSON.stringify({ ...one, verificationMaterial: { publicKey: { hint } } }), document, cosign.slice(1))).toBe('SignatureInvalid');
  });
});

describe('what we make', () => {
  it.each(['P-256', 'P-384'])('on %s verifies, and is shaped as cosign shapes it', async (curve) => {
    const person = makePerson('ann', curve);
    const bundle = await signBundle(document, person.privatePem);
    expect(reasonOf(bundle, document, [...cosign, { person: 'ann', pem: person.publicPem }])).toBe('ann');
    const shape = (value: unknown): unknown =>
      typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, shape(inner)])) : typeof value;
    expect(shape(JSON.parse(bundle))).toEqual(shape(parsed('release.a.sigstore.json')));
    if (curve === 'P-256')
      expect(JSON.parse(bundle)).toMatchObject({
        mediaType: parsed('release.a.sigstore.json').mediaType,
        messageSignature: { messageDigest: { algorithm: 'SHA2_256' } },
      });
  });

  it('hints and digests are those that cosign writes for the same key and document', async () => {
    const { hint } = (parsed('release.a.sigstore.json') as { verificationMaterial: { publicKey: { hint: string } } }).verificationMaterial.publicKey;
    const verdict = verifyBundle(vector('release.a.sigstore.json'), document, byKeys(cosign));
    expect(verdict).toMatchObject({ by: { kind: 'key', digest: `sha256:${Buffer.from(hint, 'base64').toString('hex')}` } });
    const ours = JSON.parse(await signBundle(document, makePerson('ann').privatePem)) as { messageSignature: { messageDigest: unknown } };
    expect(ours.messageSignature.messageDigest).toEqual(
      (parsed('release.a.sigstore.json') as { messageSignature: { messageDigest: unknown } }).messageSignature.messageDigest,
    );
  });

  it.each([
    ['Ed25519', () => generateKeyPairSync('ed25519')],
    ['RSA', () => generateKeyPairSync('rsa', { modulusLength: 2048 })],
    ['secp256k1', () => generateKeyPairSync('ec', { namedCurve: 'secp256k1' })],
  ])('%s is refused, for signing and for trusting', async (_name, make) => {
    const { publicKey, privateKey } = make();
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const reason = await signBundle(document, pem).then(
      () => 'none',
      (thrown: unknown) => (isFault(thrown) ? thrown.reason : 'a bug'),
    );
    expect(reason).toBe('KeyUnsupported');
    const key = { person: 'ed', pem: publicKey.export({ type: 'spki', format: 'pem' }).toString() };
    const { createHash } = await import('node:crypto');
    const hint = createHash('sha256')
      .update(publicKey.export({ type: 'spki', format: 'der' }))
      .digest('base64');
    const bundle = { ...parsed('release.a.sigstore.json'), verificationMaterial: { publicKey: { hint } } };
    expect(reasonOf(JSON.stringify(bundle), document, [key])).toBe('KeyUnsupported');
  });

  it('an encrypted key and no key at all are refused', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const encrypted = privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }).toString();
    for (const pem of [encrypted, '-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n', 'hello', '']) {
      await expect(signBundle(document, pem)).rejects.toMatchObject({ reason: 'KeyUnsupported' });
    }
  });
});

describe('anything else is a refusal, never a throw', () => {
  it.each([
    ['nothing', ''],
    ['text', 'hello'],
    ['null', 'null'],
    ['a list', '[]'],
    ['bytes', Buffer.from([0xff, 0xfe])],
    ['an empty object', '{}'],
    [
      'a signature that is no base64',
      JSON.stringify({ ...parsed('release.a.sigstore.json'), messageSignature: { messageDigest: { algorithm: 'SHA2_256', digest: '*' }, signature: '*' } }),
    ],
    ['SHA-1', JSON.stringify(parsed('release.a.sigstore.json')).replace('SHA2_256', 'SHA1')],
    ['more than 64 KiB', JSON.stringify({ ...parsed('release.a.sigstore.json'), more: 'x'.repeat(64 * 1024) })],
  ])('%s', (_name, bundle) => {
    expect(['SignatureInvalid', 'BundleUnsupported', 'LimitExceeded']).toContain(reasonOf(bundle));
  });

  it('every bit of a signature counts', () => {
    const bundle = vector('release.b.sigstore.json').toString();
    const { signature } = (JSON.parse(bundle) as { messageSignature: { signature: string } }).messageSignature;
    const bytes = Buffer.from(signature, 'base64');
    for (let at = 0; at < bytes.length; at += 1) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      expect(reasonOf(bundle.replace(signature, flipped.toString('base64')))).toBe('SignatureInvalid');
    }
  });
});
