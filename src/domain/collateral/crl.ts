import { constants, createHash, type KeyObject, verify } from 'node:crypto';
import type { ASN1Obj } from '@sigstore/core';
import { type Instant, instantOf } from '../../instant.ts';
import { type Certificate, childrenOf, type Extension, elementOf, extensionsOf, issuerKeyIdOf, serialOf } from './certificate.ts';

/** A certificate revocation list (RFC 5280 §5), read and not verified. */
export interface Crl {
  /** SHA-256 of its DER. */
  readonly fingerprint: string;
  /** The issuer's name, DER in hexadecimal. */
  readonly issuer: string;
  readonly issuerName: string;
  readonly issuerKeyId: string | null;
  readonly from: Instant;
  readonly until: Instant;
  /** Serial numbers, upper-case hexadecimal without leading zeros. */
  readonly revoked: ReadonlySet<string>;
  readonly signed: Buffer;
  readonly algorithm: SignatureAlgorithm | null;
  readonly signature: Buffer;
}

/** What the vendors sign lists with. */
type SignatureAlgorithm = { readonly kind: 'ecdsa'; readonly hash: string } | { readonly kind: 'pss'; readonly hash: string; readonly saltBytes: number };

/** Intel's largest list has 57 entries. A list of a million would be one against us. */
const REVOKED_MAX = 100_000;

const ECDSA: Readonly<Record<string, string>> = { '1.2.840.10045.4.3.2': 'sha256', '1.2.840.10045.4.3.3': 'sha384' };
const RSASSA_PSS = '1.2.840.113549.1.1.10';
const MGF1 = '1.2.840.113549.1.1.8';
const HASHES: Readonly<Record<string, { readonly name: string; readonly bytes: number }>> = {
  '2.16.840.1.101.3.4.2.1': { name: 'sha256', bytes: 32 },
  '2.16.840.1.101.3.4.2.2': { name: 'sha384', bytes: 48 },
  '2.16.840.1.101.3.4.2.3': { name: 'sha512', bytes: 64 },
};
const COMMON_NAME = '2.5.4.3';

/** Reads a list in DER. Throws Error for what is none, for one without `nextUpdate`, and for one that does not stand for all of its issuer's certificates. */
export function crlOf(der: Uint8Array): Crl {
  const bytes = Buffer.from(der);
  const [body, outer, signature] = childrenOf(elementOf(bytes));
  // A signature has whole bytes: none of its last one's bits are unused.
  if (body === undefined || outer === undefined || signature?.tag.isBitString() !== true || signature.value[0] !== 0) throw new Error('not a revocation list');
  const fields = childrenOf(body);
  const [inner, issuer, from, until, ...rest] = fields.slice(fields[0]?.tag.isInteger() === true ? 1 : 0);
  if (inner === undefined || issuer === undefined || from === undefined || until === undefined) throw new Error('not a revocation list');
  if (!isTime(from) || !isTime(until)) throw new Error('a revocation list without nextUpdate');
  if (!inner.toDER().equals(outer.toDER())) throw new Error('two signature algorithms');
  const extensions = extensionsOf(rest.find((field) => field.tag.isContextSpecific(0))?.subs[0]);
  refuseCritical(extensions);
  const entries = rest.find((field) => !field.tag.isContextSpecific(0));
  const names = childrenOf(issuer).flatMap((set) => childrenOf(set));
  return {
    fingerprint: createHash('sha256').update(bytes).digest('hex'),
    issuer: issuer.toDER().toString('hex'),
    issuerName: childrenOf(names.findLast((part) => childrenOf(part)[0]?.toOID() === COMMON_NAME))[1]?.value.toString('utf8') ?? '',
    issuerKeyId: issuerKeyIdOf(extensions),
    from: instantOf(from.toDate().getTime()),
    until: instantOf(until.toDate().getTime()),
    revoked: serialsIn(entries),
    signed: firstElement(bytes, body),
    algorithm: algorithmOf(outer),
    signature: signature.value.subarray(1),
  };
}

function isTime(element: ASN1Obj): boolean {
  return element.tag.isUTCTime() || element.tag.isGeneralizedTime();
}

/** A delta or an indirect list says so in a critical extension: it does not stand for all that its issuer signed. */
function refuseCritical(extensions: ReadonlyMap<string, Extension>): void {
  for (const [oid, { critical }] of extensions) if (critical) throw new Error(`a revocation list with the critical extension ${oid}`);
}

function serialsIn(entries: ASN1Obj | undefined): ReadonlySet<string> {
  const list = childrenOf(entries);
  if (list.length > REVOKED_MAX) throw new Error(`a revocation list of ${list.length} entries`);
  return new Set(
    list.map((entry) => {
      const [serial, , extensions] = childrenOf(entry);
      if (serial === undefined || !serial.tag.isInteger()) throw new Error('an entry without a serial number');
      refuseCritical(extensionsOf(extensions));
      return serialOf(serial.value);
    }),
  );
}

/** The bytes of the first element inside `whole`, exactly as they stand there: what was signed. */
function firstElement(whole: Buffer, element: ASN1Obj): Buffer {
  const outer = headerBytes(whole);
  const inner = headerBytes(whole.subarray(outer));
  return whole.subarray(outer, outer + inner + element.value.length);
}

/** Tag and length of X.690 §8.1, for tags below 31. */
function headerBytes(bytes: Buffer): number {
  const length = bytes[1] ?? 0;
  return 2 + (length < 0x80 ? 0 : length & 0x7f);
}

function algorithmOf(element: ASN1Obj): SignatureAlgorithm | null {
  const [id, parameters] = childrenOf(element);
  const oid = id?.toOID() ?? '';
  const hash = ECDSA[oid];
  if (hash !== undefined) return { kind: 'ecdsa', hash };
  if (oid !== RSASSA_PSS) return null;
  // RFC 4055 §3.1. The defaults are SHA-1: an absent field is a no.
  const part = (number: number): ASN1Obj | undefined => childrenOf(parameters).find((one) => one.tag.isContextSpecific(number))?.subs[0];
  const own = HASHES[childrenOf(part(0))[0]?.toOID() ?? ''];
  const [mask, maskHash] = childrenOf(part(1));
  const salt = part(2)?.toInteger();
  if (own === undefined || mask?.toOID() !== MGF1 || HASHES[childrenOf(maskHash)[0]?.toOID() ?? ''] !== own || salt !== BigInt(own.bytes)) return null;
  return { kind: 'pss', hash: own.name, saltBytes: own.bytes };
}

/** Whether this key signed the list. A list whose algorithm is none of the vendors' was signed by nobody. */
export function isSignedBy(crl: Crl, key: KeyObject): boolean {
  if (crl.algorithm === null) return false;
  if (crl.algorithm.kind === 'ecdsa') return key.asymmetricKeyType === 'ec' && verify(crl.algorithm.hash, crl.signed, key, crl.signature);
  if (key.asymmetricKeyType !== 'rsa' && key.asymmetricKeyType !== 'rsa-pss') return false;
  return verify(crl.algorithm.hash, crl.signed, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: crl.algorithm.saltBytes }, crl.signature);
}

/** Whether a list speaks of this certificate's issuer and names the certificate. Who signed the list is asked elsewhere. */
export function names(crl: Crl, certificate: Certificate): boolean {
  return crl.issuer === certificate.issuer && crl.revoked.has(certificate.serial);
}
