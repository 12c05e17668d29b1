import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { s3Failure } from './s3-failure.ts';

/**
 * AWS Signature Version 4 in the Authorization header, as S3 reads it: paths are encoded once, and `x-amz-content-sha256` is signed and
 * must be the body's. (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html)
 */

/** A signature is good for so long, before and after. Milliseconds. */
const SKEW_MILLISECONDS = 15 * 60 * 1000;
const AUTHORIZATION = /^AWS4-HMAC-SHA256 Credential=([^/,]+)\/(\d{8})\/([^/,]+)\/s3\/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$/;
const SHA256_HEX = /^[0-9a-f]{64}$/;

/** A request, as far as it is signed. */
export interface Signed {
  readonly method: string;
  /** As it came: encoded. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Who may call. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** Throws S3Failure where the request is not signed by these credentials, for now, with everything that it says. */
export function checkSignature({ method, path, query, headers, body }: Signed, { accessKeyId, secretAccessKey }: Credentials, now: number): void {
  const [, keyId, day = '', region = '', names = '', signature = ''] = AUTHORIZATION.exec(headers.authorization ?? '') ?? [];
  if (keyId === undefined) throw s3Failure(403, 'AccessDenied', 'Access Denied');
  if (keyId !== accessKeyId) throw s3Failure(403, 'InvalidAccessKeyId');
  const date = headers['x-amz-date'] ?? '';
  const signedAt = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (!date.startsWith(day) || !(Math.abs(now - signedAt) <= SKEW_MILLISECONDS)) throw s3Failure(403, 'RequestTimeTooSkewed');
  const signed = names.split(';');
  const mustSign = Object.keys(headers).filter((name) => name === 'host' || name.startsWith('x-amz-'));
  if (!mustSign.every((name) => signed.includes(name))) throw s3Failure(403, 'AccessDenied', 'There were headers present in the request which were not signed');
  const content = headers['x-amz-content-sha256'] ?? '';
  if (!SHA256_HEX.test(content)) throw s3Failure(501, 'NotImplemented', 'only bodies whose SHA-256 is signed');
  const encode = (text: string): string => encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
  const parameters = [...query].map(([name, value]) => `${encode(name)}=${encode(value)}`).sort();
  const lines = signed.map((name) => `${name}:${(headers[name] ?? '').trim().replace(/ +/g, ' ')}\n`).join('');
  const canonical = [method, path, parameters.join('&'), lines, names, content].join('\n');
  const text = ['AWS4-HMAC-SHA256', date, `${day}/${region}/s3/aws4_request`, sha256(canonical)].join('\n');
  const key = [day, region, 's3', 'aws4_request'].reduce(hmac, Buffer.from(`AWS4${secretAccessKey}`));
  if (!timingSafeEqual(hmac(key, text), Buffer.from(signature, 'hex'))) throw s3Failure(403, 'SignatureDoesNotMatch');
  if (sha256(body) !== content) throw s3Failure(400, 'XAmzContentSHA256Mismatch');
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function sha256(bytes: string | Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
