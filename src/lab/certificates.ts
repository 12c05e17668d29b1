import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { isIPv4 } from 'node:net';

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

// DER (X.690) tags, and the object identifiers of RFC 5280 and RFC 5758 as their encoded bytes.
const SEQUENCE = 0x30;
const OCTETS = 0x04;
const ECDSA_WITH_SHA256 = der(SEQUENCE, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')));
const COMMON_NAME = der(0x06, Buffer.from('550403', 'hex'));
const SERVER_AUTHENTICATION = der(0x06, Buffer.from('2b06010505070301', 'hex'));
const CLIENT_AUTHENTICATION = der(0x06, Buffer.from('2b06010505070302', 'hex'));
const EXTENSION = { subjectKey: 0x0e, keyUsage: 0x0f, names: 0x11, basicConstraints: 0x13, authorityKey: 0x23, extendedKeyUsage: 0x25 } as const;
const TRUE = Buffer.from('0101ff', 'hex');

/**
 * The life of every lab certificate. Fixed, since it is judged by the machine's clock while a story moves the lab's:
 * a private key that dies with its process needs no expiry. 2049 is the last year that UTCTime can write.
 */
const VALIDITY = der(SEQUENCE, der(0x17, '200101000000Z'), der(0x17, '491231235959Z'));

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
      extension(EXTENSION.keyUsage, der(0x03, Buffer.from([0x01, 0x06])), true),
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
      // digitalSignature: bit 0, seven unused bits.
      extension(EXTENSION.keyUsage, der(0x03, Buffer.from([0x07, 0x80])), true),
      extension(EXTENSION.extendedKeyUsage, der(SEQUENCE, purpose)),
      extension(EXTENSION.subjectKey, der(OCTETS, keyIdentifier(publicKey))),
      extension(EXTENSION.authorityKey, der(SEQUENCE, der(0x80, keyIdentifier(createPublicKey(authority.keyPem))))),
      ...(names.length > 0 ? [extension(EXTENSION.names, der(SEQUENCE, ...names))] : []),
    ],
  });
}

interface Draft {
  readonly issuer: string;
  readonly issuerKey: KeyObject;
  readonly subject: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly extensions: readonly Buffer[];
}

/** TBSCertificate and Certificate of RFC 5280 §4.1. */
function certificate(draft: Draft): KeyedCertificate {
  const serial = randomBytes(16);
  // Positive, and never with a leading zero byte.
  serial[0] = (serial.readUInt8(0) & 0x3f) | 0x40;
  const signed = der(
    SEQUENCE,
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    ECDSA_WITH_SHA256,
    distinguishedName(draft.issuer),
    VALIDITY,
    distinguishedName(draft.subject),
    draft.publicKey.export({ format: 'der', type: 'spki' }),
    der(0xa3, der(SEQUENCE, ...draft.extensions)),
  );
  const signature = sign('sha256', signed, draft.issuerKey);
  const bytes = der(SEQUENCE, signed, ECDSA_WITH_SHA256, der(0x03, Buffer.from([0]), signature));
  return {
    certificatePem: new X509Certificate(bytes).toString(),
    keyPem: draft.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
  };
}

function distinguishedName(commonName: string): Buffer {
  if (!COMMON_NAME_FORM.test(commonName)) throw new RangeError(`not a plain common name: ${commonName}`);
  return der(SEQUENCE, der(0x31, der(SEQUENCE, COMMON_NAME, der(0x0c, commonName))));
}

/** GeneralName of RFC 5280 §4.2.1.6: iPAddress or dNSName. */
function generalName(name: string): Buffer {
  if (isIPv4(name)) return der(0x87, Buffer.from(name.split('.').map(Number)));
  if (!/^[A-Za-z0-9*.-]{1,253}$/.test(name)) throw new RangeError(`neither a DNS name nor an IPv4 address: ${name}`);
  return der(0x82, name);
}

/** SHA-1 over the public point: the key identifier of RFC 5280 §4.2.1.2, method 1. A name, not a protection. */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ format: 'der', type: 'spki' }).subarray(-POINT_SIZE_BYTES))
    .digest();
}

function extension(number: number, value: Buffer, critical = false): Buffer {
  return der(SEQUENCE, der(0x06, Buffer.from([0x55, 0x1d, number])), ...(critical ? [TRUE] : []), der(OCTETS, value));
}

/** One DER element around these contents. */
function der(tag: number, ...contents: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(contents.map((content) => (typeof content === 'string' ? Buffer.from(content) : content)));
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = Buffer.from(body.length.toString(16).padStart(body.length < 0x100 ? 2 : 4, '0'), 'hex');
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, body]);
}
