import { HeadBucketCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { CODECS } from '#src/envelope/codec.ts';
import { envelopeError } from '#src/envelope/envelope-error.ts';
import { eachAtMost, MANIFEST_NAME, SEALED_MANIFEST_MAX_BYTES, sealedManifestName } from '#src/envelope/layout.ts';
import { isFault } from '#src/errors.ts';
import { asFault } from './faults.ts';
import { checkPrefix, type Goal, type Place } from './place.ts';
import type { PartMemory } from './s3-memory.ts';
import { type DeadUpload, deleteObject, isMarker, markerOf, openUploads, ownObjects, readMarker } from './s3-parts.ts';
import { openSource } from './s3-source.ts';
import { endUpload, openUpload, type Upload } from './s3-upload.ts';
import { type Bucket, call, callOrNull, type Found, foundOf } from './s3-wire.ts';

/** Calls that delete, at once. */
const DELETES_AT_ONCE = 8;

/** A place in a bucket, and what was taken over there. */
interface Opened {
  readonly bucket: Bucket;
  readonly memory: PartMemory;
  readonly store: string;
  readonly prefix: string;
  /** Uploads that dead processes left, by path. */
  readonly dead: Map<string, DeadUpload>;
}

/** A place in a store of kind `s3`. Throws Fault `NotFound` where the bucket is not there, and `InvalidRequest` for a prefix that leaves its place. */
export async function openS3Place(store: string, bucket: Bucket, memory: PartMemory, prefix: string): Promise<Place> {
  checkPrefix(store, prefix);
  // Asked for itself: the answer that an object is not there does not tell whether its bucket is.
  await call(bucket, 'HeadBucket', (options) => bucket.client.send(new HeadBucketCommand({ Bucket: bucket.bucket }), options));
  const opened: Opened = { bucket, memory, store, prefix, dead: new Map() };
  const keyOf = (path: string): string => `${prefix}/${path}`;
  return {
    store,
    prefix,
    isDistant: true,
    stampOf: async (path) => (await find(bucket, keyOf(path)))?.etag ?? null,
    sizeOf: async (path) => (await find(bucket, keyOf(path)))?.sizeBytes ?? 0,
    open: async (path) => {
      const found = await find(bucket, keyOf(path));
      return found === null ? null : openSource(bucket, keyOf(path), found);
    },
    manifest: (codec) => readManifest(bucket, keyOf(sealedManifestName(codec))),
    takeParts: (wanted) => takeParts(opened, wanted),
    dropPart: async (path) => {
      const dead = opened.dead.get(path);
      if (dead !== undefined) await endUpload(bucket, keyOf(path), dead.id);
    },
    put: (path, torn, resumable, write) => put(opened, path, torn, resumable, write),
    putBytes: (path, torn, bytes) => put(opened, path, torn, false, ({ order }) => writeBytes(order, bytes)),
    // An object that S3 has acknowledged is as safe as it will ever be.
    settle: async () => {},
    remove: () => remove(bucket, prefix),
    isPresent: async () => (await ownObjects(bucket, `${prefix}/`)).length > 0 || (await openUploads(bucket, `${prefix}/`)).length > 0,
  };
}

async function find(bucket: Bucket, key: string): Promise<Found | null> {
  const found = await callOrNull(bucket, `HeadObject ${key}`, (options) =>
    bucket.client.send(new HeadObjectCommand({ Bucket: bucket.bucket, Key: key }), options),
  );
  return found === null ? null : foundOf(found);
}

async function readManifest(bucket: Bucket, key: string): Promise<Buffer | null> {
  const found = await find(bucket, key);
  if (found === null) return null;
  if (found.sizeBytes > SEALED_MANIFEST_MAX_BYTES) throw envelopeError('too-large', 'the sealed manifest is too long', MANIFEST_NAME);
  if (found.sizeBytes === 0) return Buffer.alloc(0);
  const { from } = openSource(bucket, key, found);
  const bytes = Buffer.alloc(found.sizeBytes);
  try {
    await from.read(0, bytes);
  } finally {
    from.close();
  }
  return bytes;
}

/** Uploads with what it takes to go on with them; the others are ended, and what lies beside uploads that are gone is deleted. */
async function takeParts({ bucket, prefix, dead }: Opened, wanted: (path: string) => boolean): Promise<void> {
  const uploads = await openUploads(bucket, `${prefix}/`);
  for (const upload of uploads) {
    const path = upload.key.slice(prefix.length + 1);
    const marker = wanted(path) && !dead.has(path) ? await readMarker(bucket, upload) : null;
    if (marker === null) await endUpload(bucket, upload.key, upload.id);
    else dead.set(path, marker);
  }
  const standing = new Set(uploads.map(({ key, id }) => markerOf(key, id)));
  const orphans = (await ownObjects(bucket, `${prefix}/`)).filter((key) => isMarker(key) && !standing.has(key));
  await eachAtMost(DELETES_AT_ONCE, orphans, (key) => deleteObject(bucket, key));
}

async function put<T>(
  { bucket, memory, store, prefix, dead }: Opened,
  path: string,
  torn: string | null,
  resumable: boolean,
  write: (goal: Goal) => Promise<T>,
): Promise<T> {
  const begin = (from: DeadUpload | null): Upload => openUpload({ bucket, memory, key: `${prefix}/${path}`, torn, resumable, dead: from });
  let upload = begin(resumable ? (dead.get(path) ?? null) : null);
  const goal = (): Goal => ({ order: { to: upload.sink, header: upload.header }, rewound, again });
  const rewound = async (): Promise<Goal> => {
    await upload.release(true);
    upload = begin(upload.sent());
    return goal();
  };
  const again = async (): Promise<Goal> => {
    await upload.release(false);
    upload = begin(null);
    return goal();
  };
  const once = async (): Promise<T> => {
    const written = await write(goal());
    await upload.finish();
    return written;
  };
  let keep = resumable;
  try {
    const written = await once().catch(async (error: unknown) => {
      if (error !== upload.stale) throw error;
      await again();
      return once();
    });
    keep = false;
    return written;
  } catch (error) {
    // Somebody was faster: nobody needs this one.
    if (isFault(error) && error.reason === 'Conflict') keep = false;
    throw asFault(error, `store ${store}: ${prefix}/${path}`);
  } finally {
    dead.delete(path);
    await upload.release(keep);
  }
}

async function writeBytes({ to }: Goal['order'], bytes: Buffer): Promise<void> {
  if (typeof to !== 'string') await to.write(bytes, bytes.length);
}

async function remove(bucket: Bucket, prefix: string): Promise<void> {
  const keys = await ownObjects(bucket, `${prefix}/`);
  for (const name of CODECS.map(sealedManifestName)) await deleteObject(bucket, `${prefix}/${name}`);
  for (const { key, id } of await openUploads(bucket, `${prefix}/`)) await endUpload(bucket, key, id);
  await eachAtMost(DELETES_AT_ONCE, keys, (key) => deleteObject(bucket, key));
}
