import { type KeyObject, X509Certificate } from 'node:crypto';
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
  readonly key: KeyObject;
  /** Key identifiers (RFC 5280 §4.2.1.1 and .2), in hexadecimal; null where they are not told. */
  readonly keyId: string | null;
  readonly issuerKeyId: string | null;
  /** Whether it may sign others, and revocation lists: basicConstraints, and keyUsage where there is one. */
  readonly signsCertificates: boolean;
  readonly signsLists: boolean;
  /** pathLenConstraint: how many CAs may stand below it; null: any number. */
  readonly pathLength: number | null;
  /** A critical extension that nobody here understands, by its object identifier; null: there is none. */
  readonly strange: string | null;
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

/** Reads one certificate in DER. Throws Error for what is none, for one that is larger than any vendor's, and for one whose key or extensions cannot be read: nothing is left that could throw where it is judged. */
export function certificateOf(der: Uint8Array): Certificate {
  if (der.length > CERTIFICATE_MAX_BYTES) throw new Error(`a certificate of ${der.length} bytes`);
  const x509 = new X509Certificate(der);
  const fields = childrenOf(childrenOf(elementOf(x509.raw))[0]);
  const rest = fields.slice(fields[0]?.tag.isContextSpecific(0) === true ? 1 : 0);
  const [serial, , issuer, , subject] = rest;
  if (serial === undefined || issuer === undefined || subject === undefined || x509.raw.length !== der.length) throw new Error('not a certificate');
  const extensions = extensionsOf(rest.find((field) => field.tag.isContextSpecific(3))?.subs[0]);
  const usage = usageOf(extensions);
  return {
    x509,
    fingerprint: x509.fingerprint256,
    subject: subject.toDER().toString('hex'),
    issuer: issuer.toDER().toString('hex'),
    commonName: commonNameOf(subject),
    serial: serialOf(serial.value),
    from: instantOf(x509.validFromDate.getTime()),
    until: instantOf(x509.validToDate.getTime()),
    key: x509.publicKey,
    keyId: ownKeyIdOf(extensions),
    issuerKeyId: issuerKeyIdOf(extensions),
    signsCertificates: x509.ca && (usage & KEY_CERT_SIGN) !== 0,
    signsLists: x509.ca && (usage & CRL_SIGN) !== 0,
    pathLength: pathLengthOf(extensions),
    strange: [...extensions].find(([oid, { critical }]) => critical && !UNDERSTOOD.includes(oid))?.[0] ?? null,
    extensions,
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

/** The key identifier of who signed (RFC 5280 §4.2.1.1), in hexadecimal; null where it is not told. */
export function issuerKeyIdOf(extensions: ReadonlyMap<string, Extension>): string | null {
  const issuer = extensions.get(OID.authorityKey);
  const authority = issuer === undefined ? undefined : childrenOf(elementOf(issuer.value)).find((part) => part.tag.isContextSpecific(0));
  return authority?.value.toString('hex') ?? null;
}

function ownKeyIdOf(extensions: ReadonlyMap<string, Extension>): string | null {
  const own = extensions.get(OID.subjectKey);
  return own === undefined ? null : elementOf(own.value).value.toString('hex');
}

/** keyUsage of RFC 5280 §4.2.1.3, its first byte; everything is allowed where there is none. */
function usageOf(extensions: ReadonlyMap<string, Extension>): number {
  const usage = extensions.get(OID.keyUsage);
  // BIT STRING: a byte that counts unused bits, then the bits from the highest.
  return usage === undefined ? 0xff : (elementOf(usage.value).value[1] ?? 0);
}

function pathLengthOf(extensions: ReadonlyMap<string, Extension>): number | null {
  const constraints = extensions.get(OID.basicConstraints);
  const length = constraints === undefined ? undefined : childrenOf(elementOf(constraints.value)).find((part) => part.tag.isInteger());
  return length === undefined ? null : Number(length.toInteger());
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

/** Certificates in a text, in its order. Throws Error where one cannot be read. */
export function certificatesIn(pem: string): readonly Certificate[] {
  return [...pem.matchAll(PEM_CERTIFICATE)].map((match) => certificateOf(Buffer.from(match[1] ?? '', 'base64')));
}
