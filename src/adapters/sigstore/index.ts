/**
 * Sigstore bundles, v0.3, message signatures by key: what `cosign sign-blob` makes over a document's
 * exact bytes. No network, no time: whether a key is trusted is the trust document's to say.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { bundleFromJSON } from '@sigstore/bundle';
import { type TrustMaterial, toSignedEntity, Verifier } from '@sigstore/verify';
import { hexOf } from '#src/digest.ts';
import type { BundleVerdict, TrustedKey } from '#src/domain/signatures.ts';
import { isSupportedKey, keyDigestOf, readPublicKey } from '#src/domain/trust.ts';
import { Fault } from '#src/errors.ts';
import { readWire } from './wire.ts';

/** A key bundle has about 400 bytes; one with a log entry and its proof about 6 KiB. */
export const BUNDLE_MAX_BYTES = 64 * 1024;

/** The newest format: the only one that is read or written. */
export const BUNDLE_MEDIA_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

/**
 * Verifies one bundle over one document under every key that is trusted; the bundle's hint only names
 * the likeliest. Log entries and timestamps are dropped first: nobody here trusts those logs, and the
 * verifier checks every entry that is there. Never throws.
 */
export function verifyBundle(bundle: Uint8Array, document: Uint8Array, keys: readonly TrustedKey[]): BundleVerdict {
  if (bundle.length > BUNDLE_MAX_BYTES) return { kind: 'bad', reason: 'LimitExceeded', about: `${bundle.length} bytes, expected at most ${BUNDLE_MAX_BYTES}` };
  try {
    const wire = readWire(bundle);
    if (wire.kind === 'bad') return wire;
    const { digest } = wire.bundle.messageSignature.messageDigest;
    if (createHash(wire.hash).update(document).digest('base64') !== digest) {
      return { kind: 'bad', reason: 'SignatureInvalid', about: 'the bundle was made over other bytes' };
    }
    return verifyByKeys(wire.bundle, wire.bundle.verificationMaterial.publicKey.hint, document, keys);
  } catch (cause) {
    return { kind: 'bad', reason: 'SignatureInvalid', about: cause instanceof Error ? cause.message.slice(0, 200) : 'not a bundle' };
  }
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
    if (isSupportedKey(key) && verifies(entity, key)) return { kind: 'signed', person, keyDigest: keyDigestOf(key) };
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
