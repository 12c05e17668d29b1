import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { artifactStoreSchema } from '#src/adapters/weights/config.ts';
import { openWeights } from '#src/adapters/weights/index.ts';
import { openPartMemory } from '#src/adapters/weights/s3-memory.ts';
import { markerOf } from '#src/adapters/weights/s3-parts.ts';
import { openUpload, partBytesOf } from '#src/adapters/weights/s3-upload.ts';
import { openBucket, type S3Patience } from '#src/adapters/weights/s3-wire.ts';
import { openFolder } from '#src/envelope/layout.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { openObjects } from '#src/lab/guest-objects.ts';
import type { LabS3, S3Trouble } from '#src/lab/s3.ts';
import type { Secret } from '#src/secret.ts';
import type { SealOrder, Weights } from '#src/world.ts';
import { againOf, always, flipped, makeOrder, NEXT_PREFIX, OTHER_SHARD, PREFIX, reasonOf, SHARD, seal } from '#test/contracts/artifact-store.ts';
import { testFolder } from '#test/envelope/folder.ts';
import { openS3Stand } from './weights-s3-stand.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const PART_BYTES = 5 * MiB;

const threads = openWorkers(2);
afterAll(() => threads.close());

type Stand = Awaited<ReturnType<typeof openS3Stand>>;
let stand: Stand;
let lab: LabS3;
let weights: Weights;
const openStand = async (patience: Partial<S3Patience> = {}): Promise<void> => {
  stand = await openS3Stand(threads, patience);
  [lab, weights] = [stand.labs.one, stand.weights];
};
beforeEach(() => openStand());
afterEach(() => stand.close());

const count = (operation: S3Trouble['operation']): number => lab.calls.filter((call) => call.operation === operation).length;
const reencrypt = (order: SealOrder, open: Secret, key: Secret) => weights.seal(order, { seal: key, open }, always, async () => {});

/** A model sealed in the first bucket, about to be sealed anew there. */
async function sealedOrder(sizeBytes?: number) {
  const { order, source } = await makeOrder(['one'], sizeBytes);
  const [open, key] = [weights.newKey(order.codec), weights.newKey(order.codec)];
  await seal(weights, order, open);
  return { source, order, next: againOf(order), open, key };
}

describe('S3 says no', () => {
  it.each([
    ['PutObject', 'refuse', 'PermissionDenied'],
    ['UploadPart', 'refuse', 'PermissionDenied'],
    ['CompleteMultipartUpload', 'refuse', 'PermissionDenied'],
    ['HeadBucket', 'refuse', 'PermissionDenied'],
    ['ListMultipartUploads', 'refuse', 'PermissionDenied'],
    ['UploadPart', 'slow-down', 'Throttled'],
    ['HeadObject', 'slow-down', 'Throttled'],
    ['CreateMultipartUpload', 'server-error', 'ServerError'],
    ['CompleteMultipartUpload', 'conflict', 'Conflict'],
    ['CompleteMultipartUpload', 'precondition', 'Conflict'],
    ['PutObject', 'precondition', 'Conflict'],
    ['UploadPart', 'bad-digest', 'ChecksumMismatch'],
    ['UploadPart', 'wrong-checksum', 'ChecksumMismatch'],
    ['PutObject', 'wrong-checksum', 'ChecksumMismatch'],
    ['CompleteMultipartUpload', 'wrong-checksum', 'ChecksumMismatch'],
  ] as const)('to %s with %s: it is %s, nothing half written is left, and the next attempt seals', async (operation, kind, reason) => {
    const { order } = await makeOrder(['one'], 9 * MiB);
    using key = weights.newKey(order.codec);
    lab.trouble({ kind, operation }, 100);
    expect(await reasonOf(seal(weights, order, key))).toBe(reason);
    expect(lab.store.objects.has(`${PREFIX}/keyturn.manifest.sealed`)).toBe(false);
    expect(lab.store.uploads.size).toBe(0);
    lab.forgive();
    await seal(weights, order, key);
    expect(await weights.inspect(order, 'one', key)).not.toBeNull();
  });

  it('now and then: a call is asked again, and an answer that was lost is found out', async () => {
    const { order } = await makeOrder(['one']);
    using key = weights.newKey(order.codec);
    for (const operation of ['HeadBucket', 'HeadObject', 'PutObject', 'CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload'] as const) {
      lab.trouble({ kind: 'lose-answer', operation });
    }
    for (const operation of ['HeadObject', 'UploadPart'] as const) lab.trouble({ kind: 'slow-down', operation });
    await seal(weights, order, key);
    expect(await weights.inspect(order, 'one', key)).not.toBeNull();
  });

  it('by other credentials, another bucket, and an address where nobody is', async () => {
    const { order } = await makeOrder(['one']);
    using key = weights.newKey(order.codec);
    const { one } = stand.configured;
    const opened = (changes: Partial<typeof one>) =>
      openWeights({ one: { ...one, ...changes } }, threads, { callSeconds: 60, partSeconds: 60, windowSeconds: 60, attempts: 1 });
    expect(await reasonOf(seal(opened({ bucket: 'nobodys' as typeof one.bucket }), order, key))).toBe('NotFound');
    expect(await reasonOf(opened({ bucket: 'nobodys' as typeof one.bucket }).present('one', PREFIX))).toBe('NotFound');
    expect(await reasonOf(opened({ bucket: 'nobodys' as typeof one.bucket }).inspect(order, 'one', key))).toBe('NotFound');
    process.env.AWS_SECRET_ACCESS_KEY = 'another';
    try {
      // A HEAD's answer has no body that could name a code: it is refused, and that is all that can be said.
      expect(await reasonOf(seal(opened({}), order, key))).toBe('PermissionDenied');
    } finally {
      process.env.AWS_SECRET_ACCESS_KEY = 'lab';
    }
    await stand.labs.two.close();
    const nobody = openWeights({ one: { ...one, endpoint: stand.labs.two.url } }, threads, {
      callSeconds: 60,
      partSeconds: 60,
      windowSeconds: 60,
      attempts: 1,
    });
    expect(await reasonOf(nobody.present('one', PREFIX))).toBe('Unreachable');
    stand = { ...stand, close: stand.labs.one.close };
  });
});

describe('reading from S3', () => {
  it('goes on where an answer broke off, as long as something comes; where nothing does it is Unreachable, and not taken for torn', async () => {
    const { order, open } = await sealedOrder(3 * MiB);
    lab.trouble({ kind: 'short-read', operation: 'GetObject' }, 4);
    lab.trouble({ kind: 'cut-read', operation: 'GetObject' });
    expect(await weights.inspect(order, 'one', open)).not.toBeNull();
    lab.trouble({ kind: 'cut-read', operation: 'GetObject' }, 1000);
    expect(await reasonOf(weights.inspect(order, 'one', open))).toBe('Unreachable');
  });

  it('that stalls is TooSlow', async () => {
    await stand.close();
    await openStand({ windowSeconds: 2 });
    const { order, open, next, key } = await sealedOrder(3 * MiB);
    lab.trouble({ kind: 'slow-read', operation: 'GetObject' }, 1000);
    expect(await reasonOf(weights.inspect(order, 'one', open))).toBe('TooSlow');
    expect(await reasonOf(reencrypt(next, open, key))).toBe('TooSlow');
  });

  it('is Conflict where another object takes the place of the one that is read, though it is as long', async () => {
    const { order, open } = await sealedOrder(3 * MiB);
    lab.before('GetObject', async () => {
      if (lab.calls.at(-1)?.key.endsWith('config.json.sealed') === true)
        await lab.store.change(`${PREFIX}/config.json.sealed`, (bytes) => Buffer.from(bytes).fill(1));
    });
    expect(await reasonOf(weights.inspect(order, 'one', open))).toBe('Conflict');
  });

  it('takes the other store where one cannot be read, whatever the reason', async () => {
    const { order } = await makeOrder(['one', 'two'], 3 * MiB);
    using open = weights.newKey(order.codec);
    using key = weights.newKey(order.codec);
    await seal(weights, order, open);
    const next = { ...againOf(order), stores: ['two'] };
    lab.trouble({ kind: 'refuse', operation: 'GetObject' }, 1000);
    await reencrypt(next, open, key);
    expect(await weights.inspect(next, 'two', key)).not.toBeNull();
  });
});

describe('a guest', () => {
  it('opens what lies there with plain GETs, no credentials and the key alone; not what was changed', async () => {
    const { order, open } = await sealedOrder(3 * MiB);
    const folder = openObjects(`s3://models-one/${PREFIX}/`, lab.url);
    const opened = await openFolder({ folder, keyset: open, to: null, workers: threads });
    expect(opened.manifest.digest).toBe(order.plaintextManifest);
    expect(opened.ciphertextDigest).toBe((await weights.inspect(order, 'one', open))?.digest);
    await lab.store.change(`${PREFIX}/config.json.sealed`, flipped);
    await expect(openFolder({ folder, keyset: open, to: null, workers: threads })).rejects.toMatchObject({ kind: 'not-authentic' });
  });
});

describe('nobody’s object is overwritten', () => {
  it('where another process has put the file meanwhile, it is Conflict, and its file stays', async () => {
    const { order } = await makeOrder(['one']);
    using key = weights.newKey(order.codec);
    const put = (path: string) => lab.store.put(`${PREFIX}/${path}.sealed`, Buffer.from('the first'), null, { ifMatch: null, ifNoneMatch: null });
    for (const [path, operation] of [
      [SHARD, 'UploadPart'],
      ['config.json', 'PutObject'],
    ] as const) {
      lab.store.objects.clear();
      // Between our look and our write.
      lab.before(operation, () => put(path));
      expect(await reasonOf(seal(weights, order, key))).toBe('Conflict');
      expect(lab.store.objects.get(`${PREFIX}/${path}.sealed`)?.sizeBytes).toBe('the first'.length);
    }
    expect(lab.store.uploads.size).toBe(0);
  });

  it('a torn one is replaced, unless another took its place since', async () => {
    const { order } = await makeOrder(['one']);
    using key = weights.newKey(order.codec);
    const put = (text: string) => lab.store.put(`${PREFIX}/${SHARD}.sealed`, Buffer.from(text), null, { ifMatch: null, ifNoneMatch: null });
    await put('torn');
    lab.before('UploadPart', () => put('mended meanwhile'));
    expect(await reasonOf(seal(weights, order, key))).toBe('Conflict');
    expect(lab.store.objects.get(`${PREFIX}/${SHARD}.sealed`)?.sizeBytes).toBe('mended meanwhile'.length);
    await seal(weights, order, key);
    expect(await weights.inspect(order, 'one', key)).not.toBeNull();
  });
});

/** Lets a re-encryption die before any file's second part: the first ones stay. */
async function die(order: SealOrder, open: Secret, key: Secret): Promise<void> {
  lab.trouble({ kind: 'server-error', operation: 'UploadPart', part: 2 }, 1000);
  expect(await reasonOf(reencrypt(order, open, key))).toBe('ServerError');
  lab.forgive();
  lab.calls.length = 0;
}

describe('what a dead process has sent', () => {
  it('is not sent again: each part’s checksum is compared with the bytes that come of the source', async () => {
    const { order, next, open, key } = await sealedOrder();
    await die(next, open, key);
    const sent = [...lab.store.uploads.values()].reduce((sum, { parts }) => sum + parts.size, 0);
    expect(sent).toBeGreaterThan(0);
    await reencrypt(next, open, key);
    // Two files of two parts each.
    expect(count('UploadPart')).toBe(4 - sent);
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
    expect(lab.store.uploads.size).toBe(0);
    expect([...lab.store.objects.keys()].filter((path) => path.endsWith('.part'))).toEqual([]);
    expect(await weights.inspect(order, 'one', open)).not.toBeNull();
  });

  it('is told by its MD5 where the store keeps no other checksum', async () => {
    const { next, open, key } = await sealedOrder();
    await die(next, open, key);
    for (const upload of lab.store.uploads.values()) {
      const parts = new Map([...upload.parts].map(([number, part]) => [number, { ...part, checksum: null }]));
      lab.store.uploads.set(upload.id, { ...upload, checksummed: false, parts });
    }
    await reencrypt(next, open, key);
    expect(count('AbortMultipartUpload')).toBe(0);
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
  });

  it('is dropped where it is something else, and the file is begun anew under another header', async () => {
    const { next, open, key } = await sealedOrder();
    await die(next, open, key);
    for (const upload of lab.store.uploads.values()) {
      for (const number of upload.parts.keys()) await lab.store.part(upload, number, Buffer.alloc(PART_BYTES, 1), Buffer.alloc(32, 1).toString('base64'));
    }
    const headers = [...lab.store.uploads.values()].map(({ key: path, id }) => lab.store.objects.get(markerOf(path, id))?.etag);
    await reencrypt(next, open, key);
    expect(count('UploadPart')).toBe(4);
    expect(count('AbortMultipartUpload')).toBe(headers.length);
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
    expect(lab.store.uploads.size).toBe(0);
  });

  it('is ended where nothing tells its header, its file is of no use any more, or the source is plaintext', async () => {
    const { order, next, open, key } = await sealedOrder();
    lab.store.begin(`${NEXT_PREFIX}/${SHARD}.sealed`, true);
    lab.store.begin(`${NEXT_PREFIX}/gone.sealed`, true);
    await lab.store.put(`${NEXT_PREFIX}/a.sealed.0123456789abcdef.part`, Buffer.from('x'), null, { ifMatch: null, ifNoneMatch: null });
    const foreign = lab.store.begin(`${NEXT_PREFIX}/notes.txt`, true);
    await reencrypt(next, open, key);
    expect([...lab.store.uploads.values()]).toEqual([foreign]);
    expect([...lab.store.objects.keys()].filter((path) => path.endsWith('.part'))).toEqual([]);
    const other = { ...order, prefix: 'w-1/r-00' };
    const upload = lab.store.begin(`w-1/r-00/${SHARD}.sealed`, true);
    await lab.store.put(markerOf(upload.key, upload.id), Buffer.concat([Buffer.of(40), Buffer.alloc(39)]), null, { ifMatch: null, ifNoneMatch: null });
    await seal(weights, other, key);
    expect([...lab.store.uploads.values()]).toEqual([foreign]);
    expect(await weights.inspect(other, 'one', key)).not.toBeNull();
  });

  it('counts as present, and goes when the ciphertext is removed', async () => {
    lab.store.begin(`${PREFIX}/${SHARD}.sealed`, true);
    expect(await weights.present('one', PREFIX)).toBe(true);
    await weights.remove('one', PREFIX, always);
    expect(await weights.present('one', PREFIX)).toBe(false);
    expect(lab.store.uploads.size).toBe(0);
  });
});

describe('removing from S3', () => {
  it('begins with the sealed manifest, also where a list does not show it yet', async () => {
    const { order } = await sealedOrder(3 * MiB);
    lab.calls.length = 0;
    lab.hide([`${order.prefix}/keyturn.manifest.sealed`]);
    await weights.remove('one', order.prefix, always);
    expect(lab.calls.filter(({ operation }) => operation === 'DeleteObject')[0]?.key).toBe(`${order.prefix}/keyturn.manifest.sealed`);
    expect([...lab.store.objects.keys()]).toEqual([]);
  });
});

describe('stores of two kinds', () => {
  it('hold the same bytes, each mended from the other', async () => {
    const folder = testFolder();
    const both = openWeights({ one: stand.configured.one, disk: { kind: 'file', path: folder, guestAddress: 'file:///models' } }, threads, {
      callSeconds: 60,
      partSeconds: 60,
      windowSeconds: 60,
      attempts: 3,
    });
    const { order } = await makeOrder(['one', 'disk']);
    using key = both.newKey(order.codec);
    await seal(both, order, key);
    const found = await both.inspect(order, 'disk', key);
    expect(found).not.toBeNull();
    expect(await both.inspect(order, 'one', key)).toEqual(found);
    lab.store.objects.delete(`${PREFIX}/${SHARD}.sealed`);
    await both.remove('disk', PREFIX, always);
    await both.inspect(order, 'one', key);
    await seal(both, { ...order, stores: ['disk', 'one'] }, key);
    expect(await both.inspect(order, 'one', key)).toEqual(await both.inspect(order, 'disk', key));
    expect(join(folder, OTHER_SHARD)).toBeTruthy();
  });
});

describe('limits', () => {
  it('parts grow with the file, up to what memory takes; a longer file is LimitExceeded', () => {
    expect(partBytesOf(1)).toBe(5 * MiB);
    expect(partBytesOf(48 * GiB)).toBe(5 * MiB);
    expect(partBytesOf(49 * GiB)).toBe(10 * MiB);
    expect(partBytesOf(781 * GiB)).toBe(80 * MiB);
    expect(() => partBytesOf(782 * GiB)).toThrow(expect.objectContaining({ reason: 'LimitExceeded' }));
  });

  it('memory for parts is lent to no more than there is, in turn, and to a longer one alone', async () => {
    const memory = openPartMemory(10);
    const [one, two] = [await memory.take(4), await memory.take(4)];
    const order: string[] = [];
    const long = memory.take(20).then((buffer) => {
      order.push('long');
      return buffer;
    });
    const short = memory.take(1).then((buffer) => {
      order.push('short');
      return buffer;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual([]);
    memory.give(one);
    memory.give(two);
    const lent = await long;
    expect([lent.length, order]).toEqual([20, ['long']]);
    memory.give(lent);
    expect((await short).length).toBe(1);
  });

  it('one part of a file is on its way while the next is filled, and no more', async () => {
    const memory = openPartMemory(64 * MiB);
    const bucket = openBucket('one', stand.configured.one, { callSeconds: 60, partSeconds: 60, windowSeconds: 60, attempts: 1 });
    const upload = openUpload({ bucket, memory, key: `${PREFIX}/a.sealed`, torn: null, resumable: false, dead: null });
    let [now, most] = [0, 0];
    lab.before('UploadPart', async () => {
      now += 1;
      most = Math.max(most, now);
      await new Promise((resolve) => setImmediate(resolve));
      now -= 1;
    });
    for (let at = 0; at < 5 * PART_BYTES; at += MiB) await upload.sink.write(Buffer.alloc(MiB), 5 * PART_BYTES);
    expect(lab.store.objects.size).toBe(0);
    await upload.finish();
    await upload.release(false);
    expect([most, lab.store.objects.get(`${PREFIX}/a.sealed`)?.sizeBytes]).toEqual([1, 5 * PART_BYTES]);
  });
});

describe('the configuration of an S3 store', () => {
  it('takes an endpoint over TLS, or on this machine', () => {
    const parsed = (endpoint: string) =>
      artifactStoreSchema.safeParse({ kind: 's3', bucket: 'models-eu', region: 'eu-central-1', endpoint, guestAddress: 's3://models-eu' }).success;
    expect([parsed('https://s3.example.com'), parsed('http://127.0.0.1:9000'), parsed('http://s3.example.com'), parsed('nonsense')]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});
