/**
 * Sigstore bundles, v0.3: what `cosign sign-blob` makes over a document's exact bytes, and `cosign attest-blob`
 * over a statement about them, with a key or an identity. No network, no clock: who is trusted is the trust
 * document's to say.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { bundleFromJSON } from '@sigstore/bundle';
import { type TrustMaterial, toSignedEntity, Verifier } from '@sigstore/verify';
import { digestOf, hexOf } from '#src/digest.ts';
import type { BundleVerdict, TrustedKey, TrustedSigners } from '#src/domain/signatures.ts';
import { isSupportedKey, keyDigestOf, readPublicKey } from '#src/domain/trust.ts';
import { Fault } from '#src/errors.ts';
import type { Secret } from '#src/secret.ts';
import { verifyByIdentity } from './identities.ts';
import { type KeylessServices, signWithIdentity } from './keyless.ts';
import { statementMistake } from './statement.ts';
import { type Content, readWire } from './wire.ts';

/** A key bundle has about 400 bytes; one with a log entry and its proof about 6 KiB. */
export const BUNDLE_MAX_BYTES = 64 * 1024;

/** The newest format: the only one that is read or written. */
export const BUNDLE_MEDIA_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

/**
 * Verifies one bundle over one document: by a key, under every key that is trusted; by a certificate, under
 * the trusted root. The bundle's hint only names the likeliest key. Of a bundle by key log entries and
 * timestamps are dropped first: nobody has to trust those logs, and the verifier checks every entry that is
 * there. Never throws.
 */
export function verifyBundle(bundle: Uint8Array, document: Uint8Array, signers: TrustedSigners): BundleVerdict {
  if (bundle.length > BUNDLE_MAX_BYTES) return { kind: 'bad', reason: 'LimitExceeded', about: `${bundle.length} bytes, expected at most ${BUNDLE_MAX_BYTES}` };
  try {
    const wire = readWire(bundle);
    if (wire.kind === 'bad') return wire;
    const mistake = contentMistake(wire.content, document);
    if (mistake !== null) return mistake;
    if (wire.material.kind === 'certificate') return verifyByIdentity(wire.bundle, wire.material.material, document, signers);
    return verifyByKeys(wire.bundle, wire.material.hint, document, signers.keys);
  } catch (cause) {
    return { kind: 'bad', reason: 'SignatureInvalid', about: cause instanceof Error ? cause.message.slice(0, 200) : 'not a bundle' };
  }
}

/** Whether it says that it is about this document; the verifier reads past a message's digest, and into no statement. */
function contentMistake(content: Content, document: Uint8Array): Extract<BundleVerdict, { kind: 'bad' }> | null {
  if (content.kind === 'statement') {
    const about = statementMistake(content, digestOf(document));
    return about === null ? null : { kind: 'bad', reason: 'StatementUnfit', about };
  }
  if (createHash(content.hash).update(document).digest('base64') === content.digest) return null;
  return { kind: 'bad', reason: 'SignatureInvalid', about: 'the bundle was made over other bytes' };
}

function verifyByKeys(bundle: object, hint: string, document: Uint8Array, keys: readonly TrustedKey[]): BundleVerdict {
  const known = keys.flatMap(({ person, pem }) => {
    const key = readPublicKey(pem);
    return key === null ? [] : [{ person, key, hinted: hintOf(key) === hint }];
  });
  const hinted = known.find((one) => one.hinted);
  if (hinted !== undefined && !isSupportedKey(hinted.key))
    return { kind: 'bad', reason: 'KeyUnsupported', about: `the key of ${hinted.person} is neither P-256 nor P-384` };
  const entity = toSignedEntity(bundleFromJSON(bundle), Buffer.from(document));
  const inOrder = hinted === undefined ? known : [hinted, ...known.filter((one) => one !== hinted)];
  for (const { person, key } of inOrder) {
    if (isSupportedKey(key) && verifies(entity, key)) return { kind: 'signed', person, by: { kind: 'key', digest: keyDigestOf(key) } };
  }
  if (hinted !== undefined) return { kind: 'bad', reason: 'SignatureInvalid', about: `it does not verify under the key of ${hinted.person}` };
  return { kind: 'bad', reason: 'SignerUnknown', about: 'no key of the trust document made it' };
}

/** One key at a time: the verifier asks for a key by its hint, which anybody can write. */
function verifies(entity: ReturnType<typeof toSignedEntity>, publicKey: KeyObject): boolean {
  const material: TrustMaterial = {
    certificateAuthorities: [],
    timestampAuthorities: [],
    tlogs: [],
    ctlogs: [],
    // Asked only for the times of timestamps, and there are none: whether the key is trusted was decided by listing it.
    publicKey: () => ({ publicKey, validFor: () => true }),
  };
  try {
    new Verifier(material, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 }).verify(entity);
    return true;
  } catch {
    return false;
  }
}

/**
 * Signs a document as `cosign sign-blob --key … --new-bundle-format` does: ECDSA, SHA-256 for P-256 and
 * SHA-384 for P-384. The key is plain PKCS#8 or SEC 1 PEM; cosign's own encrypted keys stay with cosign.
 * Throws Fault('KeyUnsupported') for any other key.
 */
export async function signBundle(document: Uint8Array, privateKeyPem: string): Promise<string> {
  const key = readPrivateKey(privateKeyPem);
  const publicKey = createPublicKey(key);
  const large = publicKey.asymmetricKeyDetails?.namedCurve === 'secp384r1';
  const [hash, algorithm] = large ? ['sha384', 'SHA2_384'] : ['sha256', 'SHA2_256'];
  return JSON.stringify({
    mediaType: BUNDLE_MEDIA_TYPE,
    verificationMaterial: { publicKey: { hint: hintOf(publicKey) } },
    messageSignature: {
      messageDigest: { algorithm, digest: createHash(hash).update(document).digest('base64') },
      signature: sign(hash, document, key).toString('base64'),
    },
  });
}

/**
 * Signs a document with an identity: a token of an OpenID Connect issuer, for which Fulcio gives a certificate of
 * minutes to a key that is gone afterwards; a log, a timestamp service, or both prove when it was used. The bundle
 * holds that one certificate and no chain. Throws Fault, in whose words the token never is.
 */
export async function signBundleKeyless(document: Uint8Array, token: Secret, services: KeylessServices): Promise<string> {
  const { signature, material } = await signWithIdentity(document, token, services);
  const messageDigest = { algorithm: 'SHA2_256', digest: createHash('sha256').update(document).digest('base64') };
  return JSON.stringify({ mediaType: BUNDLE_MEDIA_TYPE, verificationMaterial: material, messageSignature: { messageDigest, signature } });
}

function readPrivateKey(pem: string): KeyObject {
  if (pem.includes('ENCRYPTED')) throw new Fault('KeyUnsupported', 'the key is encrypted: sign with cosign, or give a plain PKCS#8 or SEC 1 key');
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw new Fault('KeyUnsupported', 'the key is not a PKCS#8 or SEC 1 private key in PEM');
  }
  if (!isSupportedKey(key)) throw new Fault('KeyUnsupported', 'the key is neither P-256 nor P-384');
  return key;
}

/** As cosign writes it: base64 of SHA-256 of the key's DER. */
function hintOf(key: KeyObject): string {
  return Buffer.from(hexOf(keyDigestOf(key)), 'hex').toString('base64');
}
