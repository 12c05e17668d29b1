import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto';
import { ASN1Obj } from '@sigstore/core';
import { DIGITAL_SIGNATURE, distinguishedName, EXTENSION, extension, keyIdentifier, makeAuthority, signedCertificate } from './certificates.ts';
import { der, ECDSA_WITH_SHA256, generalizedTime, INTEGER, OCTETS, oid, SEQUENCE, SET, SHA256 } from './der.ts';
import { NOT_FOUND, openService, type Service } from './sigstore-http.ts';

/** A running timestamp service. */
export interface LabTimestamps extends Service {
  /** Its certificate, and that of its authority, in DER. */
  readonly chain: readonly [Buffer, Buffer];
}

const AUTHORITY = 'LAB timestamps';
const TIME_STAMPING = oid('1.3.6.1.5.5.7.3.8');
/** A policy that says nothing: of the lab's own, under the arc for examples. */
const POLICY = oid('2.999.1');
// CMS and its attributes (RFC 5652 §5, §11; RFC 3161 §2.4.2; RFC 5816 §2.2.1).
const SIGNED_DATA = oid('1.2.840.113549.1.7.2');
const TIMESTAMP_INFO = oid('1.2.840.113549.1.9.16.1.4');
const CONTENT_TYPE = oid('1.2.840.113549.1.9.3');
const MESSAGE_DIGEST = oid('1.2.840.113549.1.9.4');
const SIGNING_CERTIFICATE = oid('1.2.840.113549.1.9.16.2.47');

/** Who stamps. */
interface Stamper {
  readonly certificate: Buffer;
  readonly keyPem: string;
}

/** A timestamp service of RFC 3161 over HTTP (§3.4): `POST /api/v1/timestamp`. */
export async function openLabTimestamps(clock: () => Promise<number>): Promise<LabTimestamps> {
  const authority = await makeAuthority(AUTHORITY);
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuerKey = createPrivateKey(authority.keyPem);
  const root = new X509Certificate(authority.certificatePem);
  const certificate = signedCertificate({
    ...{ issuer: AUTHORITY, issuerKey, subject: 'LAB timestamp service', publicKey },
    extensions: [
      extension(EXTENSION.keyUsage, DIGITAL_SIGNATURE, true),
      extension(EXTENSION.extendedKeyUsage, der(SEQUENCE, TIME_STAMPING), true),
      extension(EXTENSION.subjectKey, der(OCTETS, keyIdentifier(publicKey))),
      extension(EXTENSION.authorityKey, der(SEQUENCE, der(0x80, keyIdentifier(root.publicKey)))),
    ],
  });
  const stamper = { certificate, keyPem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString() };
  const service = await openService(async ({ route, body }) => {
    if (route !== 'POST /api/v1/timestamp') return NOT_FOUND;
    return { status: 201, type: 'application/timestamp-reply', body: stamp(body, await clock(), stamper) };
  });
  return { ...service, chain: [certificate, root.raw] };
}

/** TimeStampResp to a TimeStampReq (RFC 3161 §2.4). Throws where it is none. */
function stamp(request: Buffer, now: number, stamper: Stamper): Buffer {
  const [, imprint, ...rest] = ASN1Obj.parseBuffer(Buffer.from(request)).subs;
  if (imprint === undefined) throw new Error('not a TimeStampReq');
  const nonce = rest.find((one) => one.tag.isUniversal() && one.tag.number === INTEGER);
  const serial = der(INTEGER, Buffer.concat([Buffer.from([1]), randomBytes(8)]));
  const one = der(INTEGER, Buffer.from([1]));
  const info = der(SEQUENCE, one, POLICY, imprint.toDER(), serial, generalizedTime(now), ...(nonce === undefined ? [] : [nonce.toDER()]));
  const content = der(SEQUENCE, TIMESTAMP_INFO, der(0xa0, der(OCTETS, info)));
  const three = der(INTEGER, Buffer.from([3]));
  const signed = der(SEQUENCE, three, der(SET, SHA256), content, der(0xa0, stamper.certificate), der(SET, signerInfo(info, stamper)));
  const granted = der(SEQUENCE, der(INTEGER, Buffer.from([0])));
  return der(SEQUENCE, granted, der(SEQUENCE, SIGNED_DATA, der(0xa0, signed)));
}

function signerInfo(info: Buffer, { certificate, keyPem }: Stamper): Buffer {
  const attributes = [
    attribute(CONTENT_TYPE, TIMESTAMP_INFO),
    attribute(MESSAGE_DIGEST, der(OCTETS, sha256(info))),
    attribute(SIGNING_CERTIFICATE, der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, der(OCTETS, sha256(certificate)))))),
  ].sort(Buffer.compare);
  // Signed as a SET, and written as [0] (RFC 5652 §5.4).
  const signature = sign('sha256', der(SET, ...attributes), keyPem);
  const serial = ASN1Obj.parseBuffer(Buffer.from(certificate)).subs[0]?.subs[1]?.toDER() ?? Buffer.alloc(0);
  const signer = der(SEQUENCE, distinguishedName(AUTHORITY), serial);
  return der(SEQUENCE, der(INTEGER, Buffer.from([1])), signer, SHA256, der(0xa0, ...attributes), ECDSA_WITH_SHA256, der(OCTETS, signature));
}

function attribute(type: Buffer, value: Buffer): Buffer {
  return der(SEQUENCE, type, der(SET, value));
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}
