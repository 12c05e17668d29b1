import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { s3Failure } from './s3-failure.ts';

/** S3's own: every part but the last. Bytes. */
const PART_MIN_BYTES = 5 * 1024 * 1024;

/** An object: its bytes lie in a file, a multipart one's in several. */
export interface StoredObject {
  readonly etag: string;
  /** As `x-amz-checksum-sha256` has it; null where it was not sent. */
  readonly checksum: string | null;
  readonly sizeBytes: number;
  readonly pieces: readonly Piece[];
}

/** A run of bytes on the disk. */
interface Piece {
  readonly file: string;
  readonly sizeBytes: number;
}

/** One part of an upload. */
export interface StoredPart extends Piece {
  readonly etag: string;
  readonly checksum: string | null;
}

/** A multipart upload under way. */
export interface StoredUpload {
  readonly id: string;
  readonly key: string;
  readonly checksummed: boolean;
  readonly parts: Map<number, StoredPart>;
}

/** What a client says of a part when it completes an upload. */
export interface ClaimedPart {
  readonly number: number;
  readonly etag: string;
  readonly checksum: string | null;
}

/** What a write demands of what is there. */
export interface Condition {
  readonly ifMatch: string | null;
  readonly ifNoneMatch: string | null;
}

/** One bucket's objects and uploads. */
export interface S3Store {
  readonly objects: Map<string, StoredObject>;
  readonly uploads: Map<string, StoredUpload>;
  readonly put: (key: string, body: Buffer, checksum: string | null, condition: Condition) => Promise<StoredObject>;
  readonly begin: (key: string, checksummed: boolean) => StoredUpload;
  readonly part: (upload: StoredUpload, number: number, body: Buffer, checksum: string | null) => Promise<StoredPart>;
  readonly complete: (upload: StoredUpload, parts: readonly ClaimedPart[], sizeBytes: number | null, condition: Condition) => StoredObject;
  readonly abort: (upload: StoredUpload) => void;
  /** Bytes of an object, from one to another, the last one included. */
  readonly read: (object: StoredObject, from: number, to: number) => AsyncGenerator<Buffer>;
  /** Writes another object's bytes, as nobody can through the protocol: `change` gets all of them. */
  readonly change: (key: string, change: (bytes: Buffer) => Buffer) => Promise<void>;
}

/** Opens an empty bucket whose bytes lie under `folder`. */
export function openS3Store(folder: string): S3Store {
  const objects = new Map<string, StoredObject>();
  const uploads = new Map<string, StoredUpload>();
  const save = async (body: Buffer): Promise<Piece> => {
    await mkdir(folder, { recursive: true });
    const file = join(folder, randomBytes(8).toString('hex'));
    await writeFile(file, body);
    return { file, sizeBytes: body.length };
  };
  return {
    objects,
    uploads,
    put: async (key, body, checksum, condition) => {
      checkCondition(objects.get(key), condition);
      const piece = await save(body);
      // Another may have come while this one was written.
      checkCondition(objects.get(key), condition);
      const object = { etag: quoted(md5(body).toString('hex')), checksum, sizeBytes: body.length, pieces: [piece] };
      objects.set(key, object);
      return object;
    },
    begin: (key, checksummed) => {
      const upload: StoredUpload = { id: randomBytes(16).toString('hex'), key, checksummed, parts: new Map() };
      uploads.set(upload.id, upload);
      return upload;
    },
    part: async (upload, number, body, checksum) => {
      const part = { ...(await save(body)), etag: quoted(md5(body).toString('hex')), checksum };
      upload.parts.set(number, part);
      return part;
    },
    complete: (upload, claimed, sizeBytes, condition) => {
      const parts = claimedParts(upload, claimed);
      const total = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
      if (sizeBytes !== null && sizeBytes !== total) throw s3Failure(400, 'InvalidRequest', 'the object has another size');
      checkCondition(objects.get(upload.key), condition);
      const etag = quoted(`${md5(Buffer.concat(parts.map((part) => Buffer.from(part.etag.slice(1, -1), 'hex')))).toString('hex')}-${parts.length}`);
      const digests = Buffer.concat(parts.map((part) => Buffer.from(part.checksum ?? '', 'base64')));
      const checksum = upload.checksummed ? `${createHash('sha256').update(digests).digest('base64')}-${parts.length}` : null;
      const object = { etag, checksum, sizeBytes: total, pieces: parts };
      objects.set(upload.key, object);
      uploads.delete(upload.id);
      return object;
    },
    abort: (upload) => {
      uploads.delete(upload.id);
      for (const { file } of upload.parts.values()) void rm(file, { force: true });
    },
    read: ({ pieces }, from, to) => readPieces(pieces, from, to),
    change: async (key, change) => {
      const object = objects.get(key);
      if (object === undefined) throw new Error(`there is no ${key}`);
      const bytes = change(Buffer.concat(await Promise.all(object.pieces.map(({ file }) => readFile(file)))));
      objects.set(key, { etag: quoted(md5(bytes).toString('hex')), checksum: null, sizeBytes: bytes.length, pieces: [await save(bytes)] });
    },
  };
}

function claimedParts({ parts, checksummed }: StoredUpload, claimed: readonly ClaimedPart[]): readonly StoredPart[] {
  if (claimed.length === 0) throw s3Failure(400, 'MalformedXML');
  if (claimed.some(({ number }, index) => index > 0 && number <= (claimed[index - 1]?.number ?? 0))) throw s3Failure(400, 'InvalidPartOrder');
  return claimed.map(({ number, etag, checksum }, index) => {
    const part = parts.get(number);
    if (part === undefined || quoted(etag.replaceAll('"', '')) !== part.etag) throw s3Failure(400, 'InvalidPart');
    if (checksummed && checksum !== part.checksum) throw s3Failure(400, 'InvalidPart', 'the checksum of a part is missing, or another');
    if (index < claimed.length - 1 && part.sizeBytes < PART_MIN_BYTES) throw s3Failure(400, 'EntityTooSmall');
    return part;
  });
}

function checkCondition(found: StoredObject | undefined, { ifMatch, ifNoneMatch }: Condition): void {
  if (ifNoneMatch !== null && ifNoneMatch !== '*') throw s3Failure(501, 'NotImplemented', 'If-None-Match takes * alone');
  if (ifNoneMatch !== null && found !== undefined) throw s3Failure(412, 'PreconditionFailed');
  if (ifMatch === null) return;
  if (found === undefined) throw s3Failure(404, 'NoSuchKey');
  if (ifMatch !== found.etag) throw s3Failure(412, 'PreconditionFailed');
}

async function* readPieces(pieces: readonly Piece[], from: number, to: number): AsyncGenerator<Buffer> {
  const chunk = 256 * 1024;
  let start = 0;
  for (const { file, sizeBytes } of pieces) {
    const handle = await open(file, 'r');
    try {
      const [first, end] = [Math.max(0, from - start), Math.min(sizeBytes, to + 1 - start)];
      for (let at = first; at < end; at += chunk) {
        const bytes = Buffer.alloc(Math.min(chunk, end - at));
        await handle.read(bytes, 0, bytes.length, at);
        yield bytes;
      }
    } finally {
      await handle.close();
    }
    start += sizeBytes;
  }
}

function md5(bytes: Buffer): Buffer {
  return createHash('md5').update(bytes).digest();
}

function quoted(text: string): string {
  return `"${text}"`;
}
