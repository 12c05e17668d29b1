/** Signing with an identity: a key of one use, a certificate for it, and the proof that it was used in time. */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { Fault } from '#src/errors.ts';
import type { Secret } from '#src/secret.ts';
import { post } from './http.ts';

/** Where the services are. At least one of the last two: a certificate's life is proven by a log or a timestamp, or by nobody. */
export interface KeylessServices {
  /** Fulcio's address; its API is under `/api/v2`. */
  readonly fulcioUrl: string;
  /** Rekor's address; its API is under `/api/v1`. null: nothing is logged. */
  readonly rekorUrl: string | null;
  /** The whole address of an RFC 3161 service; null: nothing is stamped. */
  readonly timestampUrl: string | null;
}

const LOOPBACK: readonly string[] = ['127.0.0.1', '[::1]', 'localhost'];

const certificates = z.object({ chain: z.object({ certificates: z.array(z.string()).min(1) }) });
const issued = z.union([z.object({ signedCertificateEmbeddedSct: certificates }), z.object({ signedCertificateDetachedSct: certificates })]);
const count = z.int().min(0);
const hex = z.string().regex(/^(?:[0-9a-f]{2})+$/);
const logged = z.record(
  z.string(),
  z.object({
    body: z.string(),
    integratedTime: count,
    logID: hex,
    logIndex: count,
    verification: z.object({
      signedEntryTimestamp: z.string(),
      inclusionProof: z.object({ checkpoint: z.string(), hashes: z.array(hex), logIndex: count, rootHash: hex, treeSize: count }),
    }),
  }),
);

/**
 * What of a bundle a signature by an identity is made of: signs these bytes with a key that is gone afterwards.
 * The token is shown to Fulcio alone. Throws Fault, in whose words the token never is.
 */
export async function signWithIdentity(
  document: Uint8Array,
  token: Secret,
  services: KeylessServices,
): Promise<{ readonly signature: string; readonly material: object }> {
  const { fulcioUrl, rekorUrl, timestampUrl } = services;
  if (rekorUrl === null && timestampUrl === null)
    throw new Fault('InvalidRequest', 'a log or a timestamp service is needed: else nothing proves that the certificate was used while it lived');
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificate = await certificateFor(token, { privateKey, publicKey }, addressOf('Fulcio', fulcioUrl, '/api/v2/signingCert'));
  const signature = sign('sha256', document, privateKey);
  const digest = createHash('sha256').update(document).digest('hex');
  const entry = rekorUrl === null ? null : await logEntryOf({ certificate, signature, digest }, addressOf('Rekor', rekorUrl, '/api/v1/log/entries'));
  const stamp = timestampUrl === null ? null : await timestampOver(signature, addressOf('the timestamp service', timestampUrl, ''));
  const material = {
    certificate: { rawBytes: certificate.raw.toString('base64') },
    ...(entry === null ? {} : { tlogEntries: [entry] }),
    ...(stamp === null ? {} : { timestampVerificationData: { rfc3161Timestamps: [{ signedTimestamp: stamp.toString('base64') }] } }),
  };
  return { signature: signature.toString('base64'), material };
}

/** Where a service is, for requests and for errors. */
interface Address {
  readonly service: string;
  readonly url: URL;
}

function addressOf(service: string, base: string, path: string): Address {
  const url = URL.parse(`${base.replace(/\/+$/, '')}${path}`);
  if (url === null) throw new Fault('InvalidRequest', `${service}: its address is not a URL`);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && LOOPBACK.includes(url.hostname)))
    throw new Fault('InvalidRequest', `${service} at ${url.origin}: expected https (http on loopback alone)`);
  return { service, url };
}

async function certificateFor(token: Secret, key: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }, at: Address): Promise<X509Certificate> {
  const proof = sign('sha256', Buffer.from(challengeOf(token.reveal())), key.privateKey).toString('base64');
  const content = key.publicKey.export({ format: 'pem', type: 'spki' }).toString();
  const rest = JSON.stringify({ publicKeyRequest: { publicKey: { algorithm: 'ECDSA', content }, proofOfPossession: proof } });
  // The token is never text here: it cannot be wiped from one.
  const body = Buffer.concat([Buffer.from('{"credentials":{"oidcIdentityToken":"'), token.reveal(), Buffer.from(`"},${rest.slice(1)}`)]);
  try {
    const answer = parsed(at, issued, await post({ ...at, type: 'application/json', body }));
    if (!('signedCertificateEmbeddedSct' in answer))
      throw new Fault('UnexpectedAnswer', `${at.service}: the certificate log’s word is not in the certificate: a bundle has no other place for it`);
    const certificate = new X509Certificate(answer.signedCertificateEmbeddedSct.chain.certificates[0] ?? '');
    if (!certificate.publicKey.equals(key.publicKey)) throw new Fault('UnexpectedAnswer', `${at.service}: the certificate is for another key`);
    return certificate;
  } finally {
    body.fill(0);
  }
}

/** What Fulcio has signed to prove that the key is ours: the token's address, else its subject. Only the token's middle is read, which is no secret without its end. */
function challengeOf(token: Buffer): string {
  const parts = token.every((byte) => byte > 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c) ? token.toString('latin1').split('.').slice(0, 2) : [];
  const claims = z.object({ sub: z.string().min(1), email: z.string().min(1).optional() }).safeParse(jsonIn(parts[1] ?? ''));
  if (!claims.success) throw new Fault('InvalidRequest', 'the identity token is not a JSON Web Token with a subject');
  return claims.data.email ?? claims.data.sub;
}

function jsonIn(base64url: string): unknown {
  try {
    return JSON.parse(Buffer.from(base64url, 'base64url').toString('utf8'));
  } catch {
    return null;
  }
}

/** An entry of kind hashedrekord, as a bundle holds it. */
async function logEntryOf(
  { certificate, signature, digest }: { readonly certificate: X509Certificate; readonly signature: Buffer; readonly digest: string },
  at: Address,
): Promise<object> {
  const kind = { kind: 'hashedrekord', apiVersion: '0.0.1' };
  const publicKey = { content: Buffer.from(certificate.toString()).toString('base64') };
  const spec = { data: { hash: { algorithm: 'sha256', value: digest } }, signature: { content: signature.toString('base64'), publicKey } };
  const answer = parsed(at, logged, await post({ ...at, type: 'application/json', body: Buffer.from(JSON.stringify({ ...kind, spec })) }));
  const [entry] = Object.values(answer);
  if (entry === undefined) throw new Fault('UnexpectedAnswer', `${at.service}: no entry`);
  const { signedEntryTimestamp, inclusionProof: proof } = entry.verification;
  return {
    logIndex: String(entry.logIndex),
    logId: { keyId: base64Of(entry.logID) },
    kindVersion: { kind: kind.kind, version: kind.apiVersion },
    integratedTime: String(entry.integratedTime),
    inclusionPromise: { signedEntryTimestamp },
    inclusionProof: {
      ...{ logIndex: String(proof.logIndex), rootHash: base64Of(proof.rootHash), treeSize: String(proof.treeSize) },
      ...{ hashes: proof.hashes.map(base64Of), checkpoint: { envelope: proof.checkpoint } },
    },
    canonicalizedBody: entry.body,
  };
}

function base64Of(text: string): string {
  return Buffer.from(text, 'hex').toString('base64');
}

/** A TimeStampReq of RFC 3161 §2.4.1, whose parts have one length: version 1, SHA-256 and the hash, a nonce, and that the certificate is wanted. */
function timestampRequest(signature: Buffer): Buffer {
  const nonce = randomBytes(8);
  // Positive, and of eight bytes.
  nonce[0] = (nonce.readUInt8(0) & 0x3f) | 0x40;
  const hash = createHash('sha256').update(signature).digest();
  const parts = ['3043020101', '3031300d060960864801650304020105000420', hash.toString('hex'), '0208', nonce.toString('hex'), '0101ff'];
  return Buffer.from(parts.join(''), 'hex');
}

async function timestampOver(signature: Buffer, at: Address): Promise<Buffer> {
  return post({ ...at, type: 'application/timestamp-query', body: timestampRequest(signature) });
}

function parsed<T>({ service, url }: Address, shape: z.ZodType<T>, answer: Buffer): T {
  const read = shape.safeParse(jsonFrom(answer));
  if (!read.success) throw new Fault('UnexpectedAnswer', `${service} at ${url.origin}: ${read.error.issues[0]?.path.join('.') ?? ''}: expected another value`);
  return read.data;
}

function jsonFrom(answer: Buffer): unknown {
  try {
    return JSON.parse(answer.toString('utf8'));
  } catch {
    return null;
  }
}
