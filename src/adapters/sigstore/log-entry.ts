import { z } from 'zod';
import type { LogEntry } from './wire.ts';

const verifier = z.object({ x509Certificate: z.object({ rawBytes: z.string() }) });

/** Where an entry's body names the certificate, for each kind of entry: Rekor v1 as PEM, v2 as DER, both in base64. */
const CERTIFICATE_IN: Readonly<Record<string, (body: unknown) => Buffer | null>> = {
  'hashedrekord 0.0.1': (body) => {
    const read = z.object({ spec: z.object({ signature: z.object({ publicKey: z.object({ content: z.string() }) }) }) }).safeParse(body);
    return pemIn(read.data?.spec.signature.publicKey.content);
  },
  'dsse 0.0.1': (body) => {
    const read = z.object({ spec: z.object({ signatures: z.tuple([z.object({ verifier: z.string() })]) }) }).safeParse(body);
    return pemIn(read.data?.spec.signatures[0].verifier);
  },
  'hashedrekord 0.0.2': (body) => {
    const read = z.object({ spec: z.object({ hashedRekordV002: z.object({ signature: z.object({ verifier }) }) }) }).safeParse(body);
    return bytesIn(read.data?.spec.hashedRekordV002.signature.verifier.x509Certificate.rawBytes);
  },
  'dsse 0.0.2': (body) => {
    const read = z.object({ spec: z.object({ dsseV002: z.object({ signatures: z.tuple([z.object({ verifier })]) }) }) }).safeParse(body);
    return bytesIn(read.data?.spec.dsseV002.signatures[0].verifier.x509Certificate.rawBytes);
  },
};

/**
 * Whether an entry was made for this certificate. The verifier compares signature and digest alone, and another
 * key can be made under which the same signature verifies: an entry of somebody else's would prove a time.
 * Throws where the body is not JSON.
 */
export function isEntryOf({ kindVersion: { kind, version }, canonicalizedBody }: LogEntry, certificate: Buffer): boolean {
  const body: unknown = JSON.parse(Buffer.from(canonicalizedBody, 'base64').toString('utf8'));
  return CERTIFICATE_IN[`${kind} ${version}`]?.(body)?.equals(certificate) === true;
}

function pemIn(base64: string | undefined): Buffer | null {
  const pem = /^-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*$/.exec(bytesIn(base64)?.toString('latin1') ?? '');
  return bytesIn(pem?.[1]);
}

function bytesIn(base64: string | undefined): Buffer | null {
  return base64 === undefined ? null : Buffer.from(base64, 'base64');
}
