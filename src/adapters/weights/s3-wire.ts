import { type HeadObjectCommandOutput, S3Client } from '@aws-sdk/client-s3';
import type { StoreConfig } from './config.ts';
import { asS3Fault, errorNameOf } from './s3-faults.ts';

/** How long a store is waited for, and how often it is asked. */
export interface S3Patience {
  /** For one call that moves no weights, asked again or not. Seconds. */
  readonly callSeconds: number;
  /** For one part of up to 80 MiB, or for the store to put a file's parts together: of 10,000 it takes minutes. Seconds. */
  readonly partSeconds: number;
  /** For one MiB to arrive. Seconds. */
  readonly windowSeconds: number;
  /** Of one call, with pauses between that grow; after it the run waits, and asks again. */
  readonly attempts: number;
}

/** A store answers within milliseconds; a call that takes longer than this has failed, and is asked again soon. */
export const S3_PATIENCE: S3Patience = { callSeconds: 30, partSeconds: 300, windowSeconds: 30, attempts: 4 };
/** A host that is there accepts a connection at once. Seconds. */
const CONNECT_SECONDS = 5;

/** One bucket, as all calls need it. */
export interface Bucket {
  /** `weights store <name>`: begins every message. */
  readonly title: string;
  readonly bucket: string;
  readonly client: S3Client;
  readonly patience: S3Patience;
}

/** The options of one call of the SDK. */
interface CallOptions {
  readonly abortSignal: AbortSignal;
}

/**
 * Opens the client. Credentials come from the SDK's own chain. Checksums are ours (SHA-256, made as the bytes come), and say at once what
 * the signature covers: otherwise the SDK would hash every part a second time, on the event loop.
 */
export function openBucket(name: string, config: StoreConfig & { readonly kind: 's3' }, patience: S3Patience): Bucket {
  const client = new S3Client({
    region: config.region,
    ...(config.endpoint === undefined ? {} : { endpoint: config.endpoint, forcePathStyle: true }),
    maxAttempts: patience.attempts,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: { connectionTimeout: CONNECT_SECONDS * 1000 },
  });
  client.middlewareStack.add(
    (next) => (args) => {
      signChecksum(args.request);
      return next(args);
    },
    { step: 'build', priority: 'low', name: 'signChecksum' },
  );
  return { title: `weights store ${name}`, bucket: config.bucket, client, patience };
}

/** Where a body's SHA-256 is in a header, the signature covers that. */
function signChecksum(request: unknown): void {
  if (typeof request !== 'object' || request === null || !('headers' in request)) return;
  const headers = request.headers as Record<string, string>;
  const checksum = headers['x-amz-checksum-sha256'];
  if (checksum !== undefined) headers['x-amz-content-sha256'] = Buffer.from(checksum, 'base64').toString('hex');
}

/** One call, by its name for messages. Throws Fault. */
export async function call<O>(bucket: Bucket, doing: string, send: (options: CallOptions) => Promise<O>, seconds = bucket.patience.callSeconds): Promise<O> {
  try {
    return await send({ abortSignal: AbortSignal.timeout(seconds * 1000) });
  } catch (error) {
    throw asS3Fault(error, `${bucket.title} ${doing}`);
  }
}

/** The same; null where the store says that there is no such thing. */
export async function callOrNull<O>(bucket: Bucket, doing: string, send: (options: CallOptions) => Promise<O>): Promise<O | null> {
  try {
    return await send({ abortSignal: AbortSignal.timeout(bucket.patience.callSeconds * 1000) });
  } catch (error) {
    if (['NotFound', 'NoSuchKey', 'NoSuchUpload'].includes(errorNameOf(error))) return null;
    throw asS3Fault(error, `${bucket.title} ${doing}`);
  }
}

/** An object that is there. */
export interface Found {
  /** Another one for other bytes: conditions are set on it. */
  readonly etag: string;
  readonly sizeBytes: number;
}

/** As much of an answer as tells an object from others. */
export function foundOf({ ETag, ContentLength }: Pick<HeadObjectCommandOutput, 'ETag' | 'ContentLength'>): Found {
  return { etag: ETag ?? '', sizeBytes: ContentLength ?? 0 };
}
