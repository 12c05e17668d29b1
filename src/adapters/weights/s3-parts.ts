import { createHash } from 'node:crypto';
import { DeleteObjectCommand, GetObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, ListPartsCommand } from '@aws-sdk/client-s3';
import { isSealedName } from '#src/envelope/layout.ts';
import { Fault } from '#src/errors.ts';
import { type Bucket, call, callOrNull } from './s3-wire.ts';

/** What lies beside a multipart upload that may be gone on with: its name is made from the upload's id, so that each has its own. */
const MARKER = /(?<=\.(?:sealed|jwe))\.[0-9a-f]{16}\.part$/;
/** Four times the files of the largest model: beyond it, something else writes there. */
const LISTED_MAX = 80_000;
/** A header has 40 bytes. */
const MARKER_MAX_BYTES = 1024;

/** An upload that a process has left behind, and may be gone on with: the header gives the same bytes again. */
export interface DeadUpload {
  readonly id: string;
  readonly header: Buffer;
}

/** A part that the store has. */
export interface SentPart {
  readonly etag: string;
  readonly sizeBytes: number;
  /** SHA-256 in base64; null where the store tells none. */
  readonly checksum: string | null;
}

/** A multipart upload that was never ended. */
export interface OpenUpload {
  readonly key: string;
  readonly id: string;
}

/** The key of what lies beside an upload. */
export function markerOf(key: string, id: string): string {
  return `${key}.${createHash('sha256').update(id).digest('hex').slice(0, 16)}.part`;
}

/** Whether such an object is one that lies beside an upload. */
export function isMarker(key: string): boolean {
  return MARKER.test(key);
}

/** Our own objects below a prefix: sealed files, and what lies beside uploads. Throws Fault. */
export async function ownObjects(bucket: Bucket, prefix: string): Promise<readonly string[]> {
  const keys: string[] = [];
  let token: string | undefined;
  do {
    const command = new ListObjectsV2Command({ Bucket: bucket.bucket, Prefix: prefix, ...(token === undefined ? {} : { ContinuationToken: token }) });
    const page = await call(bucket, `ListObjectsV2 ${prefix}`, (options) => bucket.client.send(command, options));
    for (const { Key } of page.Contents ?? []) if (Key !== undefined && (isSealedName(Key) || isMarker(Key))) keys.push(Key);
    checkCount(bucket, prefix, keys.length);
    token = nextOf(page.IsTruncated, page.NextContinuationToken, bucket, prefix);
  } while (token !== undefined);
  return keys;
}

/** Our own uploads below a prefix that were never ended. Throws Fault. */
export async function openUploads(bucket: Bucket, prefix: string): Promise<readonly OpenUpload[]> {
  const uploads: OpenUpload[] = [];
  let marker: { readonly KeyMarker?: string; readonly UploadIdMarker?: string } | null = {};
  do {
    const command: ListMultipartUploadsCommand = new ListMultipartUploadsCommand({ Bucket: bucket.bucket, Prefix: prefix, ...marker });
    // Some who speak S3's protocol answer NoSuchUpload where there are none.
    const page = await callOrNull(bucket, `ListMultipartUploads ${prefix}`, (options) => bucket.client.send(command, options));
    if (page === null) break;
    for (const { Key, UploadId } of page.Uploads ?? [])
      if (Key !== undefined && isSealedName(Key) && UploadId !== undefined) uploads.push({ key: Key, id: UploadId });
    checkCount(bucket, prefix, uploads.length);
    const next = nextOf(page.IsTruncated, page.NextKeyMarker, bucket, prefix);
    marker = next === undefined ? null : { KeyMarker: next, ...(page.NextUploadIdMarker === undefined ? {} : { UploadIdMarker: page.NextUploadIdMarker }) };
  } while (marker !== null);
  return uploads;
}

/** What an upload has, by number. Throws Fault: `Conflict` where it was ended meanwhile. */
export async function sentParts(bucket: Bucket, key: string, id: string): Promise<ReadonlyMap<number, SentPart>> {
  const parts = new Map<number, SentPart>();
  let marker: string | undefined;
  do {
    const command = new ListPartsCommand({ Bucket: bucket.bucket, Key: key, UploadId: id, ...(marker === undefined ? {} : { PartNumberMarker: marker }) });
    const page = await call(bucket, `ListParts ${key}`, (options) => bucket.client.send(command, options));
    for (const { PartNumber, ETag, Size, ChecksumSHA256 } of page.Parts ?? []) {
      if (PartNumber !== undefined) parts.set(PartNumber, { etag: ETag ?? '', sizeBytes: Size ?? 0, checksum: ChecksumSHA256 ?? null });
    }
    checkCount(bucket, key, parts.size);
    marker = nextOf(page.IsTruncated, page.NextPartNumberMarker, bucket, key);
  } while (marker !== undefined);
  return parts;
}

/** What lies beside an upload: null where there is nothing, or no header. */
export async function readMarker(bucket: Bucket, { key, id }: OpenUpload): Promise<DeadUpload | null> {
  const marker = markerOf(key, id);
  const command = new GetObjectCommand({ Bucket: bucket.bucket, Key: marker, Range: `bytes=0-${MARKER_MAX_BYTES - 1}` });
  const found = await callOrNull(bucket, `GetObject ${marker}`, (options) => bucket.client.send(command, options));
  const header = Buffer.from((await found?.Body?.transformToByteArray()) ?? []);
  return header.length > 0 && header[0] === header.length ? { id, header } : null;
}

/** Deletes one object; one that is gone is no error. Throws Fault. */
export async function deleteObject(bucket: Bucket, key: string): Promise<void> {
  await call(bucket, `DeleteObject ${key}`, (options) => bucket.client.send(new DeleteObjectCommand({ Bucket: bucket.bucket, Key: key }), options));
}

function checkCount({ title }: Bucket, prefix: string, count: number): void {
  if (count > LISTED_MAX) throw new Fault('LimitExceeded', `${title}: more than ${LISTED_MAX} things of ours below ${prefix}`);
}

/** Where the next page begins. A store that says that there is one, and not where, must not be asked the same for ever. */
function nextOf(isTruncated: boolean | undefined, next: string | undefined, { title }: Bucket, prefix: string): string | undefined {
  if (isTruncated !== true) return undefined;
  if (next === undefined || next === '') throw new Fault('UnexpectedAnswer', `${title}: a list of ${prefix} that goes on, but not where`);
  return next;
}
