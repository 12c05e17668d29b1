import { createHash, type Hash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { ByteSink } from '#src/envelope/distant.ts';
import { newHeader } from '#src/envelope/tink.ts';
import { Fault, isFault } from '#src/errors.ts';
import type { PartMemory } from './s3-memory.ts';
import { type DeadUpload, markerOf, type SentPart, sentParts } from './s3-parts.ts';
import { type Bucket, call, callOrNull } from './s3-wire.ts';

/** The least that S3 takes: whole segments, and a file loses two of them where its process dies. */
const PART_BYTES = 5 * 1024 * 1024;
/** S3 takes no more. */
const PARTS_MAX = 10_000;
/** Memory is limited, and with it the file: 10,000 parts of this are 781 GiB. */
const PART_MAX_BYTES = 80 * 1024 * 1024;

/** What an upload needs. */
export interface UploadOrder {
  readonly bucket: Bucket;
  readonly memory: PartMemory;
  readonly key: string;
  /** The ETag of the one object that may be replaced; null: there must be none. */
  readonly torn: string | null;
  /** Whether another process may go on with it where this one dies. */
  readonly resumable: boolean;
  /** The one that is gone on with; null: a new one. */
  readonly dead: DeadUpload | null;
}

/** One object that is being put together. Nothing of it is seen under its key before `finish`, and all of it afterwards. */
export interface Upload {
  readonly sink: ByteSink;
  /** What its sealed file begins with. */
  readonly header: Buffer;
  /** Thrown by `sink` and `finish` where the dead upload has other bytes than these: it is not to be gone on with. */
  readonly stale: Error;
  /** Throws Fault: `Conflict` where another object has the key meanwhile. */
  readonly finish: () => Promise<void>;
  /** What another upload of the same needs to go on with it; null where nothing was begun. */
  readonly sent: () => DeadUpload | null;
  /** Gives its memory back, and ends the upload unless another process may go on with it. Never throws: what is left is found by the next. */
  readonly release: (keep: boolean) => Promise<void>;
}

interface Running extends UploadOrder {
  readonly header: Buffer<ArrayBuffer>;
  readonly stale: Error;
  readonly parts: CompletedPart[];
  readonly checksums: Buffer[];
  sent: ReadonlyMap<number, SentPart>;
  id: string | null;
  /** Being filled, and how far it is. */
  room: Buffer<ArrayBuffer> | null;
  filled: number;
  /** Of what is filled: made as it comes, a window at a time, so that the event loop never stands still for a whole part. */
  hash: Hash;
  givenBytes: number;
  fileBytes: number;
  /** The part on its way: one at a time, while the next one is filled. */
  sending: Promise<void>;
}

/** Opens an upload; nothing is sent before the first part is full. */
export function openUpload(order: UploadOrder): Upload {
  const running: Running = {
    ...order,
    header: Buffer.from(order.dead?.header ?? newHeader()),
    stale: new Error('what was uploaded is not what this is'),
    parts: [],
    checksums: [],
    sent: new Map(),
    id: order.dead?.id ?? null,
    room: null,
    filled: 0,
    hash: createHash('sha256'),
    givenBytes: 0,
    fileBytes: 0,
    sending: Promise.resolve(),
  };
  return {
    header: running.header,
    stale: running.stale,
    sink: { name: `${order.bucket.bucket}/${order.key}`, write: (bytes, fileBytes) => write(running, bytes, fileBytes) },
    finish: () => finish(running),
    sent: () => (running.id === null ? null : { id: running.id, header: running.header }),
    release: (keep) => release(running, keep),
  };
}

/** How long a part of such a file is. Throws Fault `LimitExceeded`. */
export function partBytesOf(fileBytes: number): number {
  let bytes = PART_BYTES;
  while (bytes * PARTS_MAX < fileBytes) bytes *= 2;
  if (bytes > PART_MAX_BYTES) throw new Fault('LimitExceeded', `a file in S3 has at most ${PART_MAX_BYTES * PARTS_MAX} bytes here, not ${fileBytes}: cut it`);
  return bytes;
}

async function write(running: Running, bytes: Buffer, fileBytes: number): Promise<void> {
  const partBytes = partBytesOf(fileBytes);
  running.fileBytes = fileBytes;
  for (let taken = 0; taken < bytes.length; ) {
    running.room ??= await running.memory.take(Math.min(partBytes, fileBytes - running.givenBytes));
    const count = bytes.copy(running.room, running.filled, taken);
    running.hash.update(running.room.subarray(running.filled, running.filled + count));
    running.filled += count;
    running.givenBytes += count;
    taken += count;
    if (running.filled === running.room.length && fileBytes > partBytes) await sendRoom(running, running.room);
  }
}

/** Sends what is full as soon as the part before it was: the next one is filled meanwhile. */
async function sendRoom(running: Running, room: Buffer<ArrayBuffer>): Promise<void> {
  await running.sending;
  if (running.id === null) await begin(running, running.header);
  else if (running.parts.length === 0 && running.dead !== null) running.sent = await sentParts(running.bucket, running.key, running.id);
  const checksum = running.hash.digest();
  [running.room, running.filled, running.hash] = [null, 0, createHash('sha256')];
  running.checksums.push(checksum);
  running.sending = sendPart(running, running.parts.push({}), room, checksum.toString('base64')).finally(() => running.memory.give(room));
  // Whoever waits for it hears of it; until then nobody may.
  running.sending.catch(() => {});
}

/** Begins a multipart upload, and leaves beside it what another process needs to go on with it. */
async function begin(running: Running, header: Buffer<ArrayBuffer>): Promise<void> {
  const { bucket, key, resumable } = running;
  const command = new CreateMultipartUploadCommand({ Bucket: bucket.bucket, Key: key, ChecksumAlgorithm: 'SHA256' });
  const { UploadId } = await call(bucket, `CreateMultipartUpload ${key}`, (options) => bucket.client.send(command, options));
  if (UploadId === undefined) throw new Fault('UnexpectedAnswer', `${bucket.title} CreateMultipartUpload ${key}: no upload id`);
  running.id = UploadId;
  if (!resumable) return;
  const marker = markerOf(key, UploadId);
  const put = new PutObjectCommand({ Bucket: bucket.bucket, Key: marker, Body: header, ChecksumSHA256: createHash('sha256').update(header).digest('base64') });
  await call(bucket, `PutObject ${marker}`, (options) => bucket.client.send(put, options));
}

async function sendPart({ bucket, key, id, parts, sent, stale }: Running, number: number, room: Buffer<ArrayBuffer>, checksum: string): Promise<void> {
  const known = sent.get(number);
  if (known !== undefined) {
    // Never sent a second time with other bytes: one header, one text.
    if (!isSame(known, checksum, room)) throw stale;
    parts[number - 1] = { PartNumber: number, ETag: known.etag, ChecksumSHA256: checksum };
    return;
  }
  const order = { Bucket: bucket.bucket, Key: key, UploadId: id ?? '', PartNumber: number, Body: room, ChecksumSHA256: checksum };
  const doing = `UploadPart ${number} of ${key}`;
  const answer = await call(bucket, doing, (options) => bucket.client.send(new UploadPartCommand(order), options), bucket.patience.partSeconds);
  checkChecksum(bucket, doing, answer.ChecksumSHA256, checksum);
  parts[number - 1] = { PartNumber: number, ETag: answer.ETag, ChecksumSHA256: checksum };
}

/**
 * Whether a part that lies there is this one. A store that keeps no SHA-256 has the MD5 for an ETag, which no attacker need respect; but what is
 * kept wrongly does not open, and whoever looks whether the ciphertext is whole opens it.
 */
function isSame({ checksum, etag, sizeBytes }: SentPart, expected: string, room: Buffer): boolean {
  if (sizeBytes !== room.length) return false;
  return checksum === null ? etag.replaceAll('"', '') === createHash('md5').update(room).digest('hex') : checksum === expected;
}

async function finish(running: Running): Promise<void> {
  await running.sending;
  if (running.givenBytes !== running.fileBytes || running.fileBytes === 0) throw new TypeError('an upload is finished when all was written');
  if (running.id === null) {
    if (running.room === null) throw new TypeError('a file of one part is in memory');
    await putObject(running, running.room);
    return;
  }
  // The last part is shorter than the others, and was sent when it was full.
  await complete(running, running.id);
  const { bucket, key, resumable, id } = running;
  running.id = null;
  if (!resumable) return;
  await call(bucket, `DeleteObject ${key}`, (options) =>
    bucket.client.send(new DeleteObjectCommand({ Bucket: bucket.bucket, Key: markerOf(key, id ?? '') }), options),
  );
}

/** A file of one part. */
async function putObject(running: Running, bytes: Buffer<ArrayBuffer>): Promise<void> {
  const { bucket, key, torn } = running;
  const checksum = running.hash.digest('base64');
  const command = new PutObjectCommand({ Bucket: bucket.bucket, Key: key, Body: bytes, ChecksumSHA256: checksum, ...conditionOf(torn) });
  await unlessOurs(running, checksum, async () => {
    const answer = await call(bucket, `PutObject ${key}`, (options) => bucket.client.send(command, options), bucket.patience.partSeconds);
    checkChecksum(bucket, `PutObject ${key}`, answer.ChecksumSHA256, checksum);
  });
}

async function complete(running: Running, id: string): Promise<void> {
  const { bucket, key, parts, checksums, torn, fileBytes } = running;
  // S3's checksum of checksums.
  const checksum = `${createHash('sha256').update(Buffer.concat(checksums)).digest('base64')}-${parts.length}`;
  const order = { Bucket: bucket.bucket, Key: key, UploadId: id, MultipartUpload: { Parts: parts }, MpuObjectSize: fileBytes, ...conditionOf(torn) };
  await unlessOurs(running, checksum, async () => {
    const send = () => bucket.client.send(new CompleteMultipartUploadCommand(order), { abortSignal: AbortSignal.timeout(bucket.patience.partSeconds * 1000) });
    const answer = await call(bucket, `CompleteMultipartUpload ${key}`, send);
    checkChecksum(bucket, `CompleteMultipartUpload ${key}`, answer.ChecksumSHA256, checksum);
  });
}

function conditionOf(torn: string | null): { readonly IfMatch: string } | { readonly IfNoneMatch: string } {
  return torn === null ? { IfNoneMatch: '*' } : { IfMatch: torn };
}

/** A call whose answer was lost was carried out all the same, and is refused when it is asked again: what lies there is then what we sent. */
async function unlessOurs({ bucket, key, fileBytes }: Running, checksum: string, send: () => Promise<void>): Promise<void> {
  try {
    await send();
  } catch (error) {
    if (!isFault(error) || error.reason !== 'Conflict') throw error;
    const command = new HeadObjectCommand({ Bucket: bucket.bucket, Key: key, ChecksumMode: 'ENABLED' });
    const found = await callOrNull(bucket, `HeadObject ${key}`, (options) => bucket.client.send(command, options));
    if (found?.ChecksumSHA256 !== checksum || found.ContentLength !== fileBytes) throw error;
  }
}

async function release(running: Running, keep: boolean): Promise<void> {
  await running.sending.catch(() => {});
  if (running.room !== null) running.memory.give(running.room);
  running.room = null;
  const { bucket, key, id } = running;
  if (keep || id === null) return;
  running.id = null;
  await endUpload(bucket, key, id).catch(() => {});
}

/** Ends a multipart upload: its parts are deleted, and what lies beside it. One that is gone is no error. Throws Fault. */
export async function endUpload(bucket: Bucket, key: string, id: string): Promise<void> {
  const abort = new AbortMultipartUploadCommand({ Bucket: bucket.bucket, Key: key, UploadId: id });
  await callOrNull(bucket, `AbortMultipartUpload ${key}`, (options) => bucket.client.send(abort, options));
  const remove = new DeleteObjectCommand({ Bucket: bucket.bucket, Key: markerOf(key, id) });
  await call(bucket, `DeleteObject ${key}`, (options) => bucket.client.send(remove, options));
}

/** The store says what it has; one that says nothing is read back by whoever looks whether the ciphertext is whole. */
function checkChecksum({ title }: Bucket, doing: string, said: string | undefined, checksum: string): void {
  if (said !== undefined && said !== checksum) throw new Fault('ChecksumMismatch', `${title} ${doing}: it has ${said}, and was sent ${checksum}`);
}
