/** What a signing certificate says, as Fulcio writes it. The verifier asks whether its authority is trusted; all that is here it does not ask. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import type { X509Certificate } from '@sigstore/core';
import type { BundleVerdict } from '#src/domain/signatures.ts';
import { isSupportedKey } from '#src/domain/trust.ts';

const OID = {
  keyUsage: '2.5.29.15',
  names: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  extendedKeyUsage: '2.5.29.37',
  codeSigning: '1.3.6.1.5.5.7.3.3',
  /** Fulcio's issuer, and its older form without a DER string inside. */
  issuer: '1.3.6.1.4.1.57264.1.8',
  olderIssuer: '1.3.6.1.4.1.57264.1.1',
} as const;

/** Critical extensions that are looked at here or by the verifier (RFC 5280 §4.2: any other has to be refused). */
const CRITICAL: readonly string[] = [OID.keyUsage, OID.names, OID.basicConstraints, OID.extendedKeyUsage];

/** DER tags: a string of UTF-8, and two of the names that a certificate may have (RFC 5280 §4.2.1.6). */
const UTF8_STRING = 0x0c;
const EMAIL = 1;
const URI = 6;

/** Whom a certificate names, in its own bytes. */
export type Certified =
  | { readonly kind: 'read'; readonly issuer: Buffer; readonly subject: Buffer; readonly key: KeyObject }
  | Extract<BundleVerdict, { kind: 'bad' }>;

/** Reads a certificate: for signing code, of nobody who issues others, with one name, of one issuer. Throws where it is not in DER. */
export function readCertificate(certificate: X509Certificate): Certified {
  const oids = certificate.extensions.map((extension) => extension.subs[0]?.toOID() ?? '');
  if (certificate.version !== 'v3' || new Set(oids).size !== oids.length) return unfit('expected version 3, and each extension once');
  const unknown = oids.find((oid) => certificate.extension(oid)?.critical === true && !CRITICAL.includes(oid));
  if (unknown !== undefined) return unfit(`the critical extension ${unknown} is not known here`);
  if (certificate.extBasicConstraints?.isCA === true) return unfit('it is an authority’s own');
  if (certificate.extKeyUsage?.digitalSignature === false) return unfit('its key usage has no digitalSignature');
  const purposes = certificate.extension(OID.extendedKeyUsage)?.valueObj.subs[0]?.subs.map((purpose) => purpose.toOID()) ?? [];
  if (!purposes.includes(OID.codeSigning)) return unfit('its extended key usage has no codeSigning');
  const names = certificate.extSubjectAltName === undefined ? [] : (certificate.extension(OID.names)?.valueObj.subs[0]?.subs ?? []);
  const [name, second] = names;
  if (name === undefined || second !== undefined) return unfit(`expected one subject alternative name, found ${names.length}`);
  if (!name.tag.isContextSpecific(EMAIL) && !name.tag.isContextSpecific(URI)) return unfit('expected an address or a URI as its subject alternative name');
  const issuer = issuerOf(certificate);
  if (issuer === null || issuer.length === 0 || name.value.length === 0) return unfit(`expected an issuer (${OID.issuer}) and a subject`);
  const key = createPublicKey({ key: certificate.publicKey, format: 'der', type: 'spki' });
  if (!isSupportedKey(key)) return { kind: 'bad', reason: 'KeyUnsupported', about: 'the certificate’s key is neither P-256 nor P-384' };
  return { kind: 'read', issuer, subject: name.value, key };
}

/** null: there is none, or the two forms name two issuers. */
function issuerOf(certificate: X509Certificate): Buffer | null {
  const older = certificate.extension(OID.olderIssuer)?.value ?? null;
  const extension = certificate.extension(OID.issuer);
  if (extension === undefined) return older;
  const [text, more] = extension.valueObj.subs;
  if (text === undefined || more !== undefined || !text.tag.isUniversal() || text.tag.number !== UTF8_STRING) return null;
  return older === null || older.equals(text.value) ? text.value : null;
}

function unfit(about: string): Certified {
  return { kind: 'bad', reason: 'CertificateUnfit', about: `the certificate: ${about}` };
}
