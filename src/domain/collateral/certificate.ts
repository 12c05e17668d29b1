import { X509Certificate } from 'node:crypto';
import { ASN1Obj } from '@sigstore/core';
import { type Instant, instantOf } from '../../instant.ts';

/** An X.509 certificate (RFC 5280 §4) as far as collateral needs it. */
export interface Certificate {
  readonly x509: X509Certificate;
  /** SHA-256 of its DER, as Node writes it. */
  readonly fingerprint: string;
  /** The names' DER in hexadecimal: what is compared. */
  readonly subject: string;
  readonly issuer: string;
  /** The last common name; empty where there is none. */
  readonly commonName: string;
  readonly serial: string;
  readonly from: Instant;
  readonly until: Instant;
  /** By object identifier. */
  readonly extensions: ReadonlyMap<string, Extension>;
}

/** An extension: what stands in its octet string. */
export interface Extension {
  readonly critical: boolean;
  readonly value: Buffer;
}

/** A certificate of a vendor has at most some 2 KiB; an NVIDIA RIM signer's 1 KiB. */
const CERTIFICATE_MAX_BYTES = 16 * 1024;

const OID = {
  commonName: '2.5.4.3',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  authorityKey: '2.5.29.35',
  subjectKey: '2.5.29.14',
  extendedKeyUsage: '2.5.29.37',
} as const;

/** RFC 5280 §4.2: a critical extension that is not understood makes a certificate unusable. These are looked at, or say nothing about who may sign. */
const UNDERSTOOD: readonly string[] = [OID.keyUsage, OID.basicConstraints, OID.extendedKeyUsage];

/** keyCertSign and cRLSign of RFC 5280 §4.2.1.3, as bits of the first byte. */
const KEY_CERT_SIGN = 0x04;
const CRL_SIGN = 0x02;

/** Reads one certificate in DER. Throws Error for what is none, and for one that is larger than any vendor's. */
export function certificateOf(der: Uint8Array): Certificate {
  if (der.length > CERTIFICATE_MAX_BYTES) throw new Error(`a certificate of ${der.length} bytes`);
  const x509 = new X509Certificate(der);
  const fields = childrenOf(childrenOf(elementOf(x509.raw))[0]);
  const rest = fields.slice(fields[0]?.tag.isContextSpecific(0) === true ? 1 : 0);
  const [serial, , issuer, , subject] = rest;
  if (serial === undefined || issuer === undefined || subject === undefined || x509.raw.length !== der.length) throw new Error('not a certificate');
  const list = rest.find((field) => field.tag.isContextSpecific(3));
  return {
    x509,
    fingerprint: x509.fingerprint256,
    subject: subject.toDER().toString('hex'),
    issuer: issuer.toDER().toString('hex'),
    commonName: commonNameOf(subject),
    serial: serialOf(serial.value),
    from: instantOf(x509.validFromDate.getTime()),
    until: instantOf(x509.validToDate.getTime()),
    extensions: extensionsOf(list?.subs[0]),
  };
}

/** One DER element (X.690). Throws Error for what is none, and for bytes behind it. */
export function elementOf(bytes: Uint8Array): ASN1Obj {
  return ASN1Obj.parseBuffer(Buffer.from(bytes));
}

/** The children of a constructed element; none of one that is missing. */
export function childrenOf(element: ASN1Obj | undefined): readonly ASN1Obj[] {
  return element?.subs ?? [];
}

/** `Extensions` of RFC 5280 §4.1. Throws Error for a list that names one twice. */
export function extensionsOf(list: ASN1Obj | undefined): ReadonlyMap<string, Extension> {
  const found = new Map<string, Extension>();
  for (const entry of childrenOf(list)) {
    const [id, ...rest] = childrenOf(entry);
    const value = rest.at(-1);
    if (id === undefined || value === undefined || !value.tag.isOctetString()) throw new Error('an extension that is none');
    const oid = id.toOID();
    if (found.has(oid)) throw new Error(`the extension ${oid} twice`);
    found.set(oid, { critical: rest.length > 1 && rest[0]?.toBoolean() === true, value: value.value });
  }
  return found;
}

function commonNameOf(name: ASN1Obj): string {
  const parts = childrenOf(name).flatMap((set) => childrenOf(set));
  const last = parts.findLast((part) => childrenOf(part)[0]?.toOID() === OID.commonName);
  return childrenOf(last)[1]?.value.toString('utf8') ?? '';
}

/** A serial number as it is compared: upper-case hexadecimal without leading zeros. */
export function serialOf(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('hex')
    .toUpperCase()
    .replace(/^0+(?=.)/, '');
}

/** Key identifiers (RFC 5280 §4.2.1.1 and .2), in hexadecimal; null where the certificate has none. */
export function keyIdsOf(extensions: ReadonlyMap<string, Extension>): { readonly own: string | null; readonly issuer: string | null } {
  const own = extensions.get(OID.subjectKey);
  const issuer = extensions.get(OID.authorityKey);
  const authority = issuer === undefined ? undefined : childrenOf(elementOf(issuer.value)).find((part) => part.tag.isContextSpecific(0));
  return {
    own: own === undefined ? null : elementOf(own.value).value.toString('hex'),
    issuer: authority?.value.toString('hex') ?? null,
  };
}

/** A certificate's own key identifier; null: it has none. */
export function keyIdOf({ extensions }: Certificate): string | null {
  return keyIdsOf(extensions).own;
}

/** Whether a critical extension is one that nobody here understands. Its object identifier; null: there is none. */
export function strangeExtension({ extensions }: Certificate): string | null {
  for (const [oid, { critical }] of extensions) if (critical && !UNDERSTOOD.includes(oid)) return oid;
  return null;
}

/** Whether a certificate may sign others, or revocation lists: basicConstraints and, where there is one, keyUsage. */
export function maySign({ x509, extensions }: Certificate, what: 'certificates' | 'lists'): boolean {
  if (!x509.ca) return false;
  const usage = extensions.get(OID.keyUsage);
  if (usage === undefined) return true;
  // BIT STRING: a byte that counts unused bits, then the bits from the highest.
  const bits = elementOf(usage.value).value[1] ?? 0;
  return (bits & (what === 'certificates' ? KEY_CERT_SIGN : CRL_SIGN)) !== 0;
}

/** pathLenConstraint: how many CAs may stand below this one; null: any number. */
export function pathLength({ extensions }: Certificate): number | null {
  const constraints = extensions.get(OID.basicConstraints);
  if (constraints === undefined) return null;
  const length = childrenOf(elementOf(constraints.value)).find((part) => part.tag.isInteger());
  return length === undefined ? null : Number(length.toInteger());
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

/** Certificates in a text, in its order. Throws Error where one cannot be read. */
export function certificatesIn(pem: string): readonly Certificate[] {
  return [...pem.matchAll(PEM_CERTIFICATE)].map((match) => certificateOf(Buffer.from(match[1] ?? '', 'base64')));
}
