import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { BITS, der, ECDSA_WITH_SHA256, INTEGER, OCTETS, oid, SEQUENCE, TRUE, UTF8, utcTime } from './der.ts';

/** A certificate and its private key, both PEM (the key as PKCS #8). */
export interface KeyedCertificate {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** Whom a certificate is for. */
export interface Subject {
  readonly commonName: string;
  /** DNS names and IPv4 addresses; none at all for a certificate that signs tokens and serves nothing. */
  readonly names: readonly string[];
  /** For a TLS client, not for a server. */
  readonly client?: boolean;
}

const COMMON_NAME = oid('2.5.4.3');
const SERVER_AUTHENTICATION = oid('1.3.6.1.5.5.7.3.1');
const CLIENT_AUTHENTICATION = oid('1.3.6.1.5.5.7.3.2');
/** Extensions of RFC 5280 §4.2.1. */
export const EXTENSION = {
  subjectKey: '2.5.29.14',
  keyUsage: '2.5.29.15',
  names: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKey: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
} as const;
/** Key usage digitalSignature: bit 0, seven unused bits. */
export const DIGITAL_SIGNATURE = der(BITS, Buffer.from([0x07, 0x80]));

/**
 * The life of every lab certificate but those of signers. Fixed, since it is judged by the machine's clock while a story moves the lab's:
 * a private key that dies with its process needs no expiry. 2049 is the last year that UTCTime can write.
 */
const VALIDITY = { notBefore: Date.UTC(2020, 0, 1), notAfter: Date.UTC(2049, 11, 31, 23, 59, 59) } as const;

/** Common names are written unescaped. */
const COMMON_NAME_FORM = /^[A-Za-z0-9 ._-]{1,64}$/;

/** An uncompressed point on P-256, as it ends every public key's SPKI. Bytes. */
const POINT_SIZE_BYTES = 65;

/** Makes a certificate authority of the lab's own: EC P-256, self-signed. Throws RangeError for a name that is not plain. */
export async function makeAuthority(name: string): Promise<KeyedCertificate> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return certificate({
    issuer: name,
    issuerKey: privateKey,
    subject: name,
    privateKey,
    publicKey,
    extensions: [
      extension(EXTENSION.basicConstraints, der(SEQUENCE, TRUE), true),
      // keyCertSign and cRLSign: bits 5 and 6, one unused bit.
      extension(EXTENSION.keyUsage, der(BITS, Buffer.from([0x01, 0x06])), true),
      extension(EXTENSION.subjectKey, der(OCTETS, keyIdentifier(publicKey))),
    ],
  });
}

/** Issues a certificate under a lab authority: EC P-256, for a TLS server, a TLS client or a token signer. Throws RangeError for a name that is not plain. */
export async function issue(authority: KeyedCertificate, subject: Subject): Promise<KeyedCertificate> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuer = new X509Certificate(authority.certificatePem);
  const purpose = subject.client === true ? CLIENT_AUTHENTICATION : SERVER_AUTHENTICATION;
  const names = subject.names.map((name) => generalName(name));
  return certificate({
    issuer: issuer.subject.slice('CN='.length),
    issuerKey: createPrivateKey(authority.keyPem),
    subject: subject.commonName,
    privateKey,
    publicKey,
    extensions: [
      extension(EXTENSION.basicConstraints, der(SEQUENCE), true),
      extension(EXTENSION.keyUsage, DIGITAL_SIGNATURE, true),
      extension(EXTENSION.extendedKeyUsage, der(SEQUENCE, purpose)),
      extension(EXTENSION.subjectKey, der(OCTETS, keyIdentifier(publicKey))),
      extension(EXTENSION.authorityKey, der(SEQUENCE, der(0x80, keyIdentifier(createPublicKey(authority.keyPem))))),
      ...(names.length > 0 ? [extension(EXTENSION.names, der(SEQUENCE, ...names))] : []),
    ],
  });
}

/** A certificate before it is signed. */
export interface Draft {
  /** The authority's common name. */
  readonly issuer: string;
  readonly issuerKey: KeyObject;
  /** A common name; the empty text: none, as where the name is an extension. */
  readonly subject: string;
  readonly publicKey: KeyObject;
  readonly extensions: readonly Buffer[];
  /** Milliseconds since 1970. Almost for ever otherwise. */
  readonly validity?: { readonly notBefore: number; readonly notAfter: number };
  /** What a certificate log says of it, as one more extension: of the certificate without that (RFC 6962 §3.2). */
  readonly logged?: (certificate: Buffer) => Buffer;
}

/** Certificate of RFC 5280 §4.1, in DER. Throws RangeError for a name that is not plain. */
export function signedCertificate(draft: Draft): Buffer {
  const serial = randomBytes(16);
  // Positive, and never with a leading zero byte.
  serial[0] = (serial.readUInt8(0) & 0x3f) | 0x40;
  const bare = toBeSigned(draft, serial, draft.extensions);
  const signed = draft.logged === undefined ? bare : toBeSigned(draft, serial, [...draft.extensions, draft.logged(bare)]);
  return der(SEQUENCE, signed, ECDSA_WITH_SHA256, der(BITS, Buffer.from([0]), sign('sha256', signed, draft.issuerKey)));
}

function certificate({ privateKey, ...draft }: Draft & { readonly privateKey: KeyObject }): KeyedCertificate {
  return {
    certificatePem: new X509Certificate(signedCertificate(draft)).toString(),
    keyPem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
  };
}

/** TBSCertificate. */
function toBeSigned({ issuer, subject, publicKey, validity = VALIDITY }: Draft, serial: Buffer, extensions: readonly Buffer[]): Buffer {
  return der(
    SEQUENCE,
    der(0xa0, der(INTEGER, Buffer.from([2]))),
    der(INTEGER, serial),
    ECDSA_WITH_SHA256,
    distinguishedName(issuer),
    der(SEQUENCE, utcTime(validity.notBefore), utcTime(validity.notAfter)),
    subject === '' ? der(SEQUENCE) : distinguishedName(subject),
    publicKey.export({ format: 'der', type: 'spki' }),
    der(0xa3, der(SEQUENCE, ...extensions)),
  );
}

/** Name of RFC 5280 §4.1.2.4: a common name alone. */
export function distinguishedName(commonName: string): Buffer {
  if (!COMMON_NAME_FORM.test(commonName)) throw new RangeError(`not a plain common name: ${commonName}`);
  return der(SEQUENCE, der(0x31, der(SEQUENCE, COMMON_NAME, der(UTF8, commonName))));
}

/** GeneralName of RFC 5280 §4.2.1.6: iPAddress or dNSName. */
function generalName(name: string): Buffer {
  if (isIPv4(name)) return der(0x87, Buffer.from(name.split('.').map(Number)));
  if (!/^[A-Za-z0-9*.-]{1,253}$/.test(name)) throw new RangeError(`neither a DNS name nor an IPv4 address: ${name}`);
  return der(0x82, name);
}

/** SHA-1 over the public point: the key identifier of RFC 5280 §4.2.1.2, method 1. A name, not a protection. */
export function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ format: 'der', type: 'spki' }).subarray(-POINT_SIZE_BYTES))
    .digest();
}

/** One extension of a certificate, around its value. */
export function extension(number: string, value: Buffer, critical = false): Buffer {
  return der(SEQUENCE, oid(number), ...(critical ? [TRUE] : []), der(OCTETS, value));
}
