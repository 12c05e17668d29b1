import { z } from 'zod';
import type { BundleVerdict } from '#src/domain/signatures.ts';

/** A signature is logged once or twice, and stamped once or twice. */
const PROOFS_MAX = 8;

const base64 = z.string().regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/);
const mediaType = z.enum(['application/vnd.dev.sigstore.bundle.v0.3+json', 'application/vnd.dev.sigstore.bundle+json;version=0.3']);

/** A log entry: what is asked of it beside the verifier's own questions. */
const logEntry = z.looseObject({
  logId: z.object({ keyId: base64.min(4) }),
  kindVersion: z.object({ kind: z.string(), version: z.string() }),
  canonicalizedBody: base64.min(4),
  inclusionPromise: z.looseObject({}).nullish(),
});

/** Of a key's bundle log entries and timestamps are read past, of a certificate's they are all that proves when it was used. */
const keyMaterial = z.object({ publicKey: z.object({ hint: z.string().max(512).default('') }) });
const certificateMaterial = z.object({
  certificate: z.object({ rawBytes: base64.min(4) }),
  tlogEntries: z.array(logEntry).max(PROOFS_MAX).default([]),
  timestampVerificationData: z
    .object({
      rfc3161Timestamps: z
        .array(z.object({ signedTimestamp: base64.min(4) }))
        .max(PROOFS_MAX)
        .default([]),
    })
    .optional(),
});

const messageSignature = z.object({
  messageDigest: z.object({ algorithm: z.enum(['SHA2_256', 'SHA2_384', 'SHA2_512']), digest: base64.min(4) }),
  signature: base64.min(4),
});
/** What a `keyid` says is nobody's concern: it is not signed. */
const dsseEnvelope = z.object({ payloadType: z.string(), payload: base64.min(4), signatures: z.array(z.object({ sig: base64.min(4) })) });

/** Enough of any bundle to tell which kind it is. */
const anyBundle = z.looseObject({
  mediaType: z.unknown().optional(),
  verificationMaterial: z.looseObject({}).optional(),
  messageSignature: z.unknown().optional(),
  dsseEnvelope: z.unknown().optional(),
});

const HASHES = { SHA2_256: 'sha256', SHA2_384: 'sha384', SHA2_512: 'sha512' } as const;

/** A log entry of a bundle. */
export type LogEntry = z.infer<typeof logEntry>;
/** The certificate of a bundle, and what proves when it was used. */
export type CertificateMaterial = z.infer<typeof certificateMaterial>;

/** What a bundle is signed with. */
export type Material = { readonly kind: 'key'; readonly hint: string } | { readonly kind: 'certificate'; readonly material: CertificateMaterial };

/** What a bundle's signature is over: the document's own bytes, or an in-toto statement about them (DSSE). */
export type Content =
  | { readonly kind: 'message'; readonly hash: (typeof HASHES)[keyof typeof HASHES]; readonly digest: string }
  | { readonly kind: 'statement'; readonly envelope: z.infer<typeof dsseEnvelope> };

/** The parts of a bundle that count, `bundle` as the verifier takes them; or what kind of bundle it is instead. */
export type Wire =
  | { readonly kind: 'read'; readonly bundle: object; readonly material: Material; readonly content: Content }
  | Extract<BundleVerdict, { kind: 'bad' }>;

/** Reads a bundle's JSON. Throws for what is not JSON in UTF-8. */
export function readWire(bytes: Uint8Array): Wire {
  const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  const any = anyBundle.safeParse(json);
  const material = any.data?.verificationMaterial ?? {};
  if (!any.success || !mediaType.safeParse(any.data.mediaType).success || 'x509CertificateChain' in material)
    return unsupported('expected a bundle of media type v0.3 with a key or one certificate: sign with --new-bundle-format');
  const isKey = 'publicKey' in material;
  if (isKey && 'certificate' in material) return unsupported('verificationMaterial: expected a publicKey or a certificate, not both');
  const isMessage = any.data.messageSignature !== undefined;
  if (isMessage && any.data.dsseEnvelope !== undefined) return unsupported('expected a messageSignature or a dsseEnvelope, not both');
  const shape = z.object({
    mediaType,
    verificationMaterial: isKey ? keyMaterial : certificateMaterial,
    ...(isMessage ? { messageSignature } : { dsseEnvelope }),
  });
  const read = shape.safeParse(json);
  if (!read.success) return unsupported(`${read.error.issues[0]?.path.join('.') ?? 'bundle'}: expected another value`);
  return { kind: 'read', bundle: read.data, material: materialOf(read.data.verificationMaterial), content: contentOf(read.data) };
}

function materialOf(material: z.infer<typeof keyMaterial> | CertificateMaterial): Material {
  return 'publicKey' in material ? { kind: 'key', hint: material.publicKey.hint } : { kind: 'certificate', material };
}

function contentOf(bundle: { readonly messageSignature?: unknown; readonly dsseEnvelope?: unknown }): Content {
  if (bundle.messageSignature === undefined) return { kind: 'statement', envelope: dsseEnvelope.parse(bundle.dsseEnvelope) };
  const { algorithm, digest } = messageSignature.parse(bundle.messageSignature).messageDigest;
  return { kind: 'message', hash: HASHES[algorithm], digest };
}

function unsupported(about: string): Wire {
  return { kind: 'bad', reason: 'BundleUnsupported', about };
}
