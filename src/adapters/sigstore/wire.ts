import { z } from 'zod';
import type { BundleVerdict } from '#src/domain/signatures.ts';

const base64 = z.string().regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/);

/** What a message-signature bundle by key must hold. Log entries, timestamps and anything newer are read past. */
const keyBundle = z.object({
  mediaType: z.enum(['application/vnd.dev.sigstore.bundle.v0.3+json', 'application/vnd.dev.sigstore.bundle+json;version=0.3']),
  verificationMaterial: z.object({ publicKey: z.object({ hint: z.string().max(512).default('') }) }),
  messageSignature: z.object({
    messageDigest: z.object({ algorithm: z.enum(['SHA2_256', 'SHA2_384', 'SHA2_512']), digest: base64.min(4) }),
    signature: base64.min(4),
  }),
});

/** Enough of any bundle to tell which kind it is. */
const anyBundle = z.looseObject({
  mediaType: z.unknown().optional(),
  verificationMaterial: z.looseObject({}).optional(),
  dsseEnvelope: z.unknown().optional(),
});

const HASHES = { SHA2_256: 'sha256', SHA2_384: 'sha384', SHA2_512: 'sha512' } as const;

/** The parts of a bundle that count, and the hash that it was made with; or what kind of bundle it is instead. */
export type Wire =
  | { readonly kind: 'read'; readonly bundle: z.infer<typeof keyBundle>; readonly hash: (typeof HASHES)[keyof typeof HASHES] }
  | Extract<BundleVerdict, { kind: 'bad' }>;

/** Reads a bundle's JSON. Throws for what is not JSON in UTF-8. */
export function readWire(bytes: Uint8Array): Wire {
  const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  const read = keyBundle.safeParse(json);
  if (read.success) return { kind: 'read', bundle: read.data, hash: HASHES[read.data.messageSignature.messageDigest.algorithm] };
  const any = anyBundle.safeParse(json);
  const material = any.success ? (any.data.verificationMaterial ?? {}) : {};
  if (!any.success || !isNewest(any.data.mediaType) || 'x509CertificateChain' in material) {
    return { kind: 'bad', reason: 'BundleUnsupported', about: 'expected a bundle of media type v0.3: sign with --new-bundle-format' };
  }
  if (any.data.dsseEnvelope !== undefined) return { kind: 'bad', reason: 'NotSupportedYet', about: 'dsseEnvelope: expected messageSignature' };
  if ('certificate' in material) return { kind: 'bad', reason: 'NotSupportedYet', about: 'verificationMaterial.certificate: expected publicKey' };
  return { kind: 'bad', reason: 'BundleUnsupported', about: `${read.error.issues[0]?.path.join('.') ?? 'bundle'}: expected another value` };
}

function isNewest(mediaType: unknown): boolean {
  return keyBundle.shape.mediaType.safeParse(mediaType).success;
}
