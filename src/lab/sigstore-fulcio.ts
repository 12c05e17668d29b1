import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify, X509Certificate } from 'node:crypto';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { DIGITAL_SIGNATURE, EXTENSION, extension, keyIdentifier, makeAuthority, signedCertificate } from './certificates.ts';
import { der, OCTETS, oid, SEQUENCE, UTF8 } from './der.ts';
import { NOT_FOUND, openService, type Service } from './sigstore-http.ts';
import { AUDIENCE } from './sigstore-issuer.ts';

/** What goes wrong with the next certificate: it was valid an hour ago, is for no code signing, has a second name, or no log’s word in it. */
export type FulcioTrouble = 'expired' | 'no-code-signing' | 'two-names' | 'unlogged';

/** A running certificate authority. */
export interface LabFulcio extends Service {
  /** Its certificate, in DER. */
  readonly root: Buffer;
  /** The key of its certificate log. */
  readonly logKey: KeyObject;
  readonly trouble: (trouble: FulcioTrouble) => void;
}

const AUTHORITY = 'LAB sigstore';
/** Fulcio's own: nobody has to revoke what lives ten minutes. */
const CERTIFICATE_MILLISECONDS = 600_000;
const HOUR_MILLISECONDS = 3_600_000;

const CODE_SIGNING = oid('1.3.6.1.5.5.7.3.3');
/** The issuer of the identity, in the two forms that Fulcio writes. */
const ISSUER = '1.3.6.1.4.1.57264.1.8';
const OLDER_ISSUER = '1.3.6.1.4.1.57264.1.1';
const CERTIFICATE_TIMESTAMPS = '1.3.6.1.4.1.11129.2.4.2';

interface Applicant {
  readonly issuer: string;
  readonly subject: string;
  readonly publicKey: KeyObject;
}

/** A Fulcio: a certificate for whoever `issuerUrl` vouches for and who holds the key (`POST /api/v2/signingCert`), with a log's word for it. */
export async function openLabFulcio(issuerUrl: string, clock: () => Promise<number>): Promise<LabFulcio> {
  const authority = await makeAuthority(AUTHORITY);
  const rootPem = authority.certificatePem;
  const log = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const keys = createRemoteJWKSet(new URL('/keys', issuerUrl));
  const troubles: FulcioTrouble[] = [];
  const service = await openService(async ({ route, body }) => {
    if (route !== 'POST /api/v2/signingCert') return NOT_FOUND;
    const now = await clock();
    const { credentials, publicKeyRequest } = JSON.parse(body.toString()) as SigningRequest;
    const options = { issuer: issuerUrl, audience: AUDIENCE, currentDate: new Date(now) };
    const token = await jwtVerify(credentials.oidcIdentityToken, keys, options).catch(() => null);
    if (token === null) return { status: 401, body: { code: 16, message: 'There was an error processing the identity token' } };
    const subject = typeof token.payload.email === 'string' ? token.payload.email : (token.payload.sub ?? '');
    const publicKey = createPublicKey(publicKeyRequest.publicKey.content);
    if (!verify('sha256', Buffer.from(subject), publicKey, Buffer.from(publicKeyRequest.proofOfPossession, 'base64')))
      throw new Error('the signature supplied in the request could not be verified');
    const made = certificateFor({ issuer: issuerUrl, subject, publicKey }, createPrivateKey(authority.keyPem), log, now, troubles.shift() ?? null);
    const chain = { certificates: [new X509Certificate(made).toString(), rootPem] };
    return { status: 200, body: { signedCertificateEmbeddedSct: { chain } } };
  });
  return { ...service, root: new X509Certificate(rootPem).raw, logKey: log.publicKey, trouble: (trouble) => void troubles.push(trouble) };
}

interface SigningRequest {
  readonly credentials: { readonly oidcIdentityToken: string };
  readonly publicKeyRequest: { readonly publicKey: { readonly content: string }; readonly proofOfPossession: string };
}

function certificateFor(
  { issuer, subject, publicKey }: Applicant,
  issuerKey: KeyObject,
  log: { readonly privateKey: KeyObject; readonly publicKey: KeyObject },
  now: number,
  trouble: FulcioTrouble | null,
): Buffer {
  const authority = createPublicKey(issuerKey);
  // rfc822Name or uniformResourceIdentifier (RFC 5280 §4.2.1.6).
  const name = der(subject.includes('@') ? 0x81 : 0x86, subject);
  const names = trouble === 'two-names' ? [name, der(0x86, 'https://another.example/')] : [name];
  const notBefore = trouble === 'expired' ? now - HOUR_MILLISECONDS : now;
  return signedCertificate({
    ...{ issuer: AUTHORITY, issuerKey, subject: '', publicKey },
    validity: { notBefore, notAfter: notBefore + CERTIFICATE_MILLISECONDS },
    extensions: [
      extension(EXTENSION.keyUsage, DIGITAL_SIGNATURE, true),
      ...(trouble === 'no-code-signing' ? [] : [extension(EXTENSION.extendedKeyUsage, der(SEQUENCE, CODE_SIGNING))]),
      extension(EXTENSION.subjectKey, der(OCTETS, keyIdentifier(publicKey))),
      extension(EXTENSION.authorityKey, der(SEQUENCE, der(0x80, keyIdentifier(authority)))),
      extension(EXTENSION.names, der(SEQUENCE, ...names), true),
      extension(OLDER_ISSUER, Buffer.from(issuer)),
      extension(ISSUER, der(UTF8, issuer)),
    ],
    ...(trouble === 'unlogged'
      ? {}
      : { logged: (certificate) => extension(CERTIFICATE_TIMESTAMPS, der(OCTETS, timestampsOf(certificate, authority, log, now))) }),
  });
}

/** SignedCertificateTimestampList with one entry (RFC 6962 §3.2, §3.3). */
function timestampsOf(certificate: Buffer, authority: KeyObject, log: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }, now: number): Buffer {
  const at = Buffer.alloc(8);
  at.writeBigUInt64BE(BigInt(now));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(certificate.length);
  const issuerKey = sha256(authority.export({ format: 'der', type: 'spki' }));
  // version, certificate_timestamp; the time; precert_entry; no extensions.
  const signed = Buffer.concat([Buffer.from([0, 0]), at, Buffer.from([0, 1]), issuerKey, length.subarray(1), certificate, Buffer.from([0, 0])]);
  const signature = sign('sha256', signed, log.privateKey);
  const logId = sha256(log.publicKey.export({ format: 'der', type: 'spki' }));
  // SHA-256 and ECDSA, as TLS 1.2 names them.
  const timestamp = Buffer.concat([Buffer.from([0]), logId, at, Buffer.from([0, 0, 4, 3]), sized(signature)]);
  return sized(sized(timestamp));
}

/** With its length in two bytes before it. */
function sized(bytes: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}
