/** Sigstore's trusted root, as far as it can be judged by itself (`sigstore_trustroot.proto`): what a trust document that names it needs. */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { z } from 'zod';
import type { Mistake } from './documents/rules.ts';

/** Sigstore's public root has 7 KiB. */
const TRUSTED_ROOT_MAX_BYTES = 64 * 1024;
/** Of authorities, logs and certificates in a chain: the public root has two of each. */
const LIST_MAX = 16;

const bytes = z.string().regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, 'base64');
const certificate = z.object({ rawBytes: bytes.refine(isCertificate, 'a certificate in DER') });
const authority = z.object({ certChain: z.object({ certificates: z.array(certificate).min(1).max(LIST_MAX) }) });
const log = z.object({ baseUrl: z.string().min(1), publicKey: z.object({ rawBytes: bytes.refine(isPublicKey, 'a public key in DER') }) });
const root = z
  .object({
    mediaType: z
      .string()
      .regex(/^application\/vnd\.dev\.sigstore\.trustedroot(?:\.v0\.[12]\+json|\+json;version=0\.[12])$/, 'a trusted root of version 0.1 or 0.2'),
    certificateAuthorities: z.array(authority).min(1).max(LIST_MAX),
    tlogs: z.array(log).max(LIST_MAX).default([]),
    ctlogs: z.array(log).max(LIST_MAX).default([]),
    timestampAuthorities: z.array(authority).max(LIST_MAX).default([]),
  })
  .refine(
    ({ tlogs, timestampAuthorities }) => tlogs.length + timestampAuthorities.length > 0,
    'a log or a timestamp service, which proves when a certificate was used',
  );

/** What is wrong with a trusted root; null: somebody who holds a certificate of it can be told. Never throws. */
export function trustedRootMistake(file: Uint8Array): Mistake | null {
  if (file.length > TRUSTED_ROOT_MAX_BYTES) return { field: 'the file', expected: `at most ${TRUSTED_ROOT_MAX_BYTES} bytes` };
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(file));
  } catch {
    return { field: 'the file', expected: 'JSON in UTF-8' };
  }
  const [issue] = root.safeParse(json).error?.issues ?? [];
  return issue === undefined ? null : { field: issue.path.join('.') || 'the file', expected: issue.message };
}

function isCertificate(base64: string): boolean {
  try {
    return new X509Certificate(Buffer.from(base64, 'base64')).raw.length > 0;
  } catch {
    return false;
  }
}

/** Keys are SubjectPublicKeyInfo; RSA keys of old logs are PKCS #1. */
function isPublicKey(base64: string): boolean {
  return (['spki', 'pkcs1'] as const).some((type) => {
    try {
      return createPublicKey({ key: Buffer.from(base64, 'base64'), format: 'der', type }).type === 'public';
    } catch {
      return false;
    }
  });
}
