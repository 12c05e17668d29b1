import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { openWeights } from '#src/adapters/weights/index.ts';
import { openTally } from '#src/adapters/weights/tally.ts';
import { digestOf } from '#src/digest.ts';
import { keyOf } from '#src/envelope/keyset.ts';
import { associatedDataOf, manifestOf, openFolder } from '#src/envelope/layout.ts';
import type { Passed } from '#src/envelope/tink.ts';
import { type EnvelopeWorkers, openWorkers, type PassOrder } from '#src/envelope/workers.ts';
import type { SealOrder, SealProgress } from '#src/world.ts';
import { testFolder } from '#test/envelope/folder.ts';
import { always, MiB, NEXT_PREFIX, openStand, PREFIX, reasonOf, SHARD, seal } from './weights-stand.ts';

/** Every file below a folder, with its digest: equal where no byte is another. */
function contents(folder: string): Readonly<Record<string, string>> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    entries.map(({ parentPath, name }) => [join(parentPath, name).slice(folder.length), digestOf(readFileSync(join(parentPath, name)))]),
  );
}

/** A disk that fails as it is told to, over real threads; it notes what passed. */
function openDisk() {
  const real = openWorkers(2);
  const passed: { readonly order: PassOrder; readonly passed: Passed }[] = [];
  let failing: (files: { readonly from: string; readonly to: string | null }) => { readonly code: string; readonly path: string } | null = () => null;
  const nameOf = (end: string | { readonly name: string }): string => (typeof end === 'string' ? end : end.name);
  const workers: EnvelopeWorkers = {
    ...real,
    pass: async (order, told) => {
      const error = failing({ from: nameOf(order.from), to: order.to === null ? null : nameOf(order.to) });
      if (error !== null) throw Object.assign(new Error(error.code), error);
      told?.(1);
      const result = await real.pass(order, told);
      passed.push({ order, passed: result });
      return result;
    },
  };
  const fail = (next: typeof failing): void => {
    failing = next;
  };
  return { workers, passed, fail };
}

/** A model sealed in both stores, about to be sealed anew from there, with the keys of both. */
async function sealedStand(workers?: EnvelopeWorkers) {
  const stand = await openStand(workers);
  const { weights, order } = stand;
  const open = weights.newKey(order.codec);
  const key = weights.newKey(order.codec);
  await seal(weights, order, open);
  const next: SealOrder = { ...order, source: { kind: 'ciphertext', stores: ['one', 'two'], prefix: PREFIX }, prefix: NEXT_PREFIX };
  const said: SealProgress[] = [];
  const reseal = (changes: Partial<SealOrder> = {}, mine = always) =>
    weights.seal({ ...next, ...changes }, { seal: key, open }, mine, async (progress) => void said.push(progress));
  const old = (store: 'one' | 'two', path: string) => stand.sealed(store, path);
  const anew = (store: 'one' | 'two', path: string) => stand.sealed(store, path, NEXT_PREFIX);
  return { ...stand, open, key, next, reseal, said, old, anew };
}

/** A file of the old ciphertext, changed in its middle. */
function spoil(path: string): void {
  const bytes = readFileSync(path);
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

function folderInPlaceOf(path: string): void {
  rmSync(path);
  mkdirSync(path);
}

function linkOutInPlaceOf(path: string): void {
  const outside = join(testFolder(), 'moved');
  renameSync(path, outside);
  symlinkSync(outside, path);
}

describe('re-encryption', () => {
  it('gives every store the same new ciphertext, which opens under the new key alone, and leaves the old one as it is', async () => {
    const { source, one, two, weights, open, key, next, reseal } = await sealedStand();
    const before = [contents(join(one, PREFIX)), contents(join(two, PREFIX))];
    rmSync(join(source, SHARD));
    await reseal();
    expect([contents(join(one, PREFIX)), contents(join(two, PREFIX))]).toEqual(before);
    const found = await weights.inspect(next, 'one', key);
    expect(found).toMatchObject({ files: 4 });
    expect(await weights.inspect(next, 'two', key)).toEqual(found);
    expect(await weights.inspect(next, 'one', open)).toBeNull();
    const workers = openWorkers(1);
    const to = join(testFolder(), 'opened');
    await openFolder({ folder: join(one, NEXT_PREFIX), keyset: key, to, workers });
    expect((await manifestOf(to, workers)).digest).toBe(next.plaintextManifest);
    await workers.close();
  });

  it('needs a key and another place than its own', async () => {
    const { weights, key, open, next, reseal, one } = await sealedStand();
    const before = contents(one);
    expect(await reasonOf(weights.seal(next, { seal: key, open: null }, always, async () => {}))).toBe('InvalidRequest');
    expect(await reasonOf(reseal({ prefix: PREFIX }))).toBe('InvalidRequest');
    expect(await reasonOf(reseal({ source: { kind: 'ciphertext', stores: ['one'], prefix: '../r-1' } }))).toBe('InvalidRequest');
    expect(await reasonOf(reseal({ source: { kind: 'ciphertext', stores: [], prefix: PREFIX } }))).toBe('InvalidRequest');
    expect(await reasonOf(reseal({ source: { kind: 'ciphertext', stores: ['three'], prefix: PREFIX } }))).toBe('NotConfigured');
    expect(contents(one)).toEqual(before);
    open[Symbol.dispose]();
  });

  it('touches nothing where the run was taken over before', async () => {
    const { one, reseal } = await sealedStand();
    mkdirSync(join(one, NEXT_PREFIX), { recursive: true });
    writeFileSync(join(one, NEXT_PREFIX, 'a.sealed.0123456789abcdef.part'), 'another’s');
    const before = contents(one);
    await reseal({}, async () => false);
    expect(contents(one)).toEqual(before);
  });
});

describe('an old ciphertext that is not as approved', () => {
  it('is WeightsChanged where its manifest is another one, or does not open', async () => {
    const { weights, key, next, reseal, old, anew } = await sealedStand();
    using other = weights.newKey(next.codec);
    expect(await reasonOf(reseal({ plaintextManifest: `sha256:${'0'.repeat(64)}` }))).toBe('WeightsChanged');
    expect(await reasonOf(weights.seal(next, { seal: key, open: other }, always, async () => {}))).toBe('WeightsChanged');
    for (const store of ['one', 'two'] as const) spoil(old(store, 'keyturn.manifest'));
    expect(await reasonOf(reseal())).toBe('WeightsChanged');
    for (const store of ['one', 'two'] as const) rmSync(old(store, 'keyturn.manifest'));
    expect(await reasonOf(reseal())).toBe('CiphertextTorn');
    expect(existsSync(anew('one', SHARD))).toBe(false);
  });

  it('does not pass where it was forged under a stolen old key, and the other store’s is taken', async () => {
    const { open, next, reseal, weights, key, old, anew } = await sealedStand();
    using stolen = keyOf(open);
    const workers = openWorkers(1);
    const plain = join(testFolder(), 'forged');
    writeFileSync(plain, randomBytes(3 * MiB));
    const forge = async (store: 'one' | 'two') => {
      rmSync(old(store, SHARD));
      const associatedData = associatedDataOf(next.plaintextManifest, SHARD);
      await workers.pass({ from: plain, to: old(store, SHARD), openWith: null, sealWith: stolen, associatedData, hash: 'neither' });
    };
    await forge('one');
    await reseal({ stores: ['one'] });
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
    rmSync(anew('one', SHARD));
    rmSync(anew('one', 'keyturn.manifest'));
    await forge('two');
    await expect(reseal({ stores: ['one'] })).rejects.toMatchObject({ reason: 'WeightsChanged', message: expect.stringContaining(SHARD) });
    expect(existsSync(anew('one', 'keyturn.manifest'))).toBe(false);
    expect(readdirSync(join(anew('one', SHARD), '..')).filter((name) => name.startsWith(SHARD))).toEqual([]);
    await workers.close();
  });

  it.each([
    ['lacks a file', (path: string) => rmSync(path)],
    ['has one that is cut', (path: string) => truncateSync(path, MiB)],
    ['has one that was changed', spoil],
    ['has a folder in its place', folderInPlaceOf],
    ['has a link that leads out', linkOutInPlaceOf],
  ])('is taken from the next store where the first %s; from none, it says which file of which store', async (_, break_) => {
    const { weights, key, next, reseal, old } = await sealedStand();
    break_(old('one', SHARD));
    await reseal({ stores: ['two'] });
    expect(await weights.inspect(next, 'two', key)).not.toBeNull();
    break_(old('two', SHARD));
    const failed = await reseal({ prefix: 'w-1/r-again' }).catch((error: unknown) => error);
    expect(failed).toMatchObject({
      reason: 'CiphertextTorn',
      message: expect.stringMatching(new RegExp(`store one: ${PREFIX}/${SHARD}.sealed.*store two: ${PREFIX}/${SHARD}.sealed`)),
    });
  });

  it('is taken from the other store where one is not mounted, or not configured any more', async () => {
    const { one, two, configured, key, open, next, weights } = await sealedStand();
    rmSync(one, { recursive: true });
    const again = (from: typeof weights) => from.seal({ ...next, stores: ['two'] }, { seal: key, open }, always, async () => {});
    await again(weights);
    expect(await weights.inspect(next, 'two', key)).not.toBeNull();
    rmSync(join(two, NEXT_PREFIX), { recursive: true });
    await again(openWeights({ two: configured.two }));
    expect(await weights.inspect(next, 'two', key)).not.toBeNull();
    rmSync(join(two, PREFIX), { recursive: true });
    rmSync(join(two, NEXT_PREFIX), { recursive: true });
    expect(await reasonOf(again(weights))).toBe('NotFound');
  });
});

/** Leaves of a whole re-encrypted file what a process leaves that is killed on its way. */
function asPart(path: string, bytes: number): string {
  const part = `${path}.0123456789abcdef.part`;
  renameSync(path, part);
  truncateSync(part, bytes);
  return part;
}

describe('what a dead process left half written', () => {
  it('is verified and gone on with', async () => {
    const disk = openDisk();
    const { weights, key, next, reseal, anew } = await sealedStand(disk.workers);
    await reseal({ stores: ['one'] });
    const bytes = readFileSync(anew('one', SHARD));
    rmSync(anew('one', 'keyturn.manifest'));
    asPart(anew('one', SHARD), 2 * MiB + 5);
    await reseal({ stores: ['one'] });
    expect(disk.passed.filter(({ passed }) => passed.keptBytes > 0).map(({ passed }) => passed.keptBytes)).toEqual([2 * MiB - 72]);
    expect(readFileSync(anew('one', SHARD)).equals(bytes)).toBe(true);
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
    expect(readdirSync(join(anew('one', SHARD), '..')).filter((name) => !name.endsWith('.sealed'))).toEqual([]);
  });

  it('is not gone on with where it was begun from a forged source, in the same attempt', async () => {
    const disk = openDisk();
    const { weights, key: keyset, next, reseal, anew } = await sealedStand(disk.workers);
    using key = keyOf(keyset);
    const plain = join(testFolder(), 'forged');
    writeFileSync(plain, randomBytes(3 * MiB));
    mkdirSync(join(anew('one', SHARD), '..'), { recursive: true });
    const to = `${anew('one', SHARD)}.0123456789abcdef.part`;
    await disk.workers.pass({
      from: plain,
      to,
      openWith: null,
      sealWith: key,
      associatedData: associatedDataOf(next.plaintextManifest, SHARD),
      hash: 'neither',
    });
    truncateSync(to, 2 * MiB);
    await reseal({ stores: ['one'], source: { kind: 'ciphertext', stores: ['one'], prefix: PREFIX } });
    expect(disk.passed.some(({ passed }) => passed.keptBytes === 2 * MiB - 72)).toBe(true);
    expect(await weights.inspect(next, 'one', keyset)).not.toBeNull();
  });

  it('is deleted where its file is whole already, or is not of this model', async () => {
    const { reseal, anew } = await sealedStand();
    await reseal({ stores: ['one'] });
    copyFileSync(anew('one', SHARD), `${anew('one', SHARD)}.0123456789abcdef.part`);
    writeFileSync(`${anew('one', 'other')}.0123456789abcdef.part`, 'x');
    await reseal({ stores: ['one'] });
    expect(readdirSync(join(anew('one', SHARD), '..')).filter((name) => !name.endsWith('.sealed'))).toEqual([]);
  });

  it('is never written to where it has its final name already: a ciphertext whose digest is in a receipt', async () => {
    const { reseal, anew } = await sealedStand();
    await reseal({ stores: ['one'] });
    const part = `${anew('one', SHARD)}.0123456789abcdef.part`;
    const held = join(testFolder(), 'held');
    linkSync(anew('one', SHARD), part);
    spoil(anew('one', SHARD));
    linkSync(part, held);
    const before = readFileSync(held);
    await reseal({ stores: ['one'] });
    expect(readFileSync(held).equals(before)).toBe(true);
    expect(statSync(anew('one', SHARD)).ino).not.toBe(statSync(held).ino);
    expect(existsSync(part)).toBe(false);
  });

  it('is sealed from its beginning where the source is plaintext, which may have changed since', async () => {
    const disk = openDisk();
    const { weights, order, sealed } = await openStand(disk.workers);
    using key = weights.newKey(order.codec);
    await seal(weights, { ...order, stores: ['one'] }, key);
    const header = readFileSync(sealed('one', SHARD)).subarray(0, 40);
    asPart(sealed('one', SHARD), 2 * MiB);
    await seal(weights, { ...order, stores: ['one'] }, key);
    expect(readFileSync(sealed('one', SHARD)).subarray(0, 40).equals(header)).toBe(false);
    expect(disk.passed.every(({ passed }) => passed.keptBytes === 0)).toBe(true);
  });
});

describe('a disk', () => {
  it('that is full is DiskFull, names the file, asks no other source, and what was written is used again', async () => {
    const disk = openDisk();
    const { weights, key, next, reseal, anew } = await sealedStand(disk.workers);
    await reseal({ stores: ['one'] });
    rmSync(anew('one', 'keyturn.manifest'));
    asPart(anew('one', SHARD), 2 * MiB);
    let asked = 0;
    disk.fail(({ from, to }) => {
      if (to === null || !from.endsWith(`${SHARD}.sealed`)) return null;
      asked += 1;
      return { code: 'ENOSPC', path: to };
    });
    await expect(reseal({ stores: ['one'] })).rejects.toMatchObject({
      reason: 'DiskFull',
      message: expect.stringContaining(`store one: ${NEXT_PREFIX}/${SHARD}.sealed`),
    });
    expect(asked).toBe(1);
    expect(existsSync(anew('one', 'keyturn.manifest'))).toBe(false);
    disk.fail(() => null);
    await reseal({ stores: ['one'] });
    const again = disk.passed.findLast(({ order: { from, to } }) => to !== null && typeof from === 'string' && from.endsWith(`${SHARD}.sealed`));
    expect(again?.passed.keptBytes).toBe(2 * MiB - 72);
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
  });

  it('that cannot be read is DiskFailing and names file and store, unless another store has the file', async () => {
    const disk = openDisk();
    const { weights, key, next, reseal, one } = await sealedStand(disk.workers);
    const failing = (stores: readonly string[]) =>
      disk.fail(({ from }) => (stores.some((store) => from.startsWith(`${store}/${PREFIX}`)) ? { code: 'EIO', path: from } : null));
    failing([one]);
    await expect(reseal({ stores: ['two'], source: { kind: 'ciphertext', stores: ['one'], prefix: PREFIX } })).rejects.toMatchObject({
      reason: 'DiskFailing',
      message: expect.stringContaining(`store one: ${PREFIX}/`),
    });
    await reseal({ stores: ['two'] });
    expect(await weights.inspect(next, 'two', key)).not.toBeNull();
  });

  it('of the plaintext that cannot be read is DiskFailing too, by the file’s name', async () => {
    const disk = openDisk();
    const { weights, order, source } = await openStand(disk.workers);
    using key = weights.newKey(order.codec);
    disk.fail(({ from }) => (from === join(source, SHARD) ? { code: 'EIO', path: from } : null));
    await expect(seal(weights, order, key)).rejects.toMatchObject({ reason: 'DiskFailing', message: expect.stringContaining(SHARD) });
  });
});

describe('progress', () => {
  it('ends at the whole, over all stores, also where there was nothing to do', async () => {
    const { source, reseal, said } = await sealedStand();
    const totalBytes = 2 * Object.keys(contents(source)).reduce((sum, path) => sum + (path === '/keyturn.manifest' ? 0 : statSync(source + path).size), 0);
    await reseal();
    expect(said.at(-1)).toEqual({ doneBytes: totalBytes, totalBytes });
    await reseal();
    expect(said.at(-1)).toEqual({ doneBytes: totalBytes, totalBytes });
  });

  it('is told of what is done when it fails, and stops nothing when it is not heard', async () => {
    const { weights, key, open, next, reseal, said, old } = await sealedStand();
    await weights.seal(next, { seal: key, open }, always, () => Promise.reject(new Error('nobody listens')));
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
    for (const store of ['one', 'two'] as const) truncateSync(old(store, SHARD), MiB);
    await reseal({ prefix: 'w-1/r-again' }).catch(() => {});
    const { doneBytes = 0, totalBytes = 0 } = said.at(-1) ?? {};
    expect(doneBytes).toBeLessThan(totalBytes);
  });

  it('goes back where what was verified turns out to be torn', async () => {
    const disk = openDisk();
    const { source, reseal, said, anew } = await sealedStand(disk.workers);
    await reseal({ stores: ['one'] });
    spoil(anew('one', SHARD));
    disk.fail(({ to }) => (to === null ? null : { code: 'ENOSPC', path: to }));
    expect(await reasonOf(reseal({ stores: ['one'] }))).toBe('DiskFull');
    const { doneBytes = 0, totalBytes = 0 } = said.at(-1) ?? {};
    expect(totalBytes - doneBytes).toBe(statSync(join(source, SHARD)).size);
  });

  it('is told about once a second, one call at a time, from inside a file', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      const said: number[] = [];
      let heard = Promise.withResolvers<void>();
      const tally = openTally(1000, async ({ doneBytes }) => {
        said.push(doneBytes);
        await heard.promise;
      });
      for (let bytes = 1; bytes <= 40; bytes += 1) {
        vi.advanceTimersByTime(100);
        tally.at('one a', bytes);
      }
      expect(said, 'the first call has not come back').toEqual([10]);
      heard.resolve();
      heard = Promise.withResolvers<void>();
      await new Promise((resolve) => setImmediate(resolve));
      tally.at('one a', 41);
      tally.at('one b', 9);
      expect(said).toEqual([10, 41]);
      tally.at('one a', 0);
      heard.resolve();
      await tally.end();
      expect(said).toEqual([10, 41, 9]);
    } finally {
      vi.useRealTimers();
    }
  });
});
