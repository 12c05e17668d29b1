import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { asFault } from '#src/adapters/weights/faults.ts';
import { placeOf, putFile, stampOf } from '#src/adapters/weights/store.ts';
import { keyOf } from '#src/envelope/keyset.ts';
import { associatedDataOf, openFolder } from '#src/envelope/layout.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { writeModel } from '#src/lab/model.ts';
import type { SealOrder } from '#src/world.ts';
import { testFolder } from '#test/envelope/folder.ts';
import { MiB, openStand, PREFIX, reasonOf, seal, SHARD as shard } from './weights-stand.ts';

describe('sealing', () => {
  it('gives every store the same ciphertext, which opens to the plaintext', async () => {
    const { source, one, weights, order } = await openStand();
    using key = weights.newKey(order.codec);
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    await seal(weights, order, key);
    const found = await weights.inspect(order, 'one', key);
    expect(found).toMatchObject({ files: 4, digest: expect.stringMatching(/^sha256:/) });
    expect(await weights.inspect(order, 'two', key)).toEqual(found);
    const workers = openWorkers(1);
    const to = join(testFolder(), 'opened');
    await openFolder({ folder: join(one, PREFIX), keyset: key, to, workers });
    await workers.close();
    expect(execFileSync('diff', ['-r', '-x', 'keyturn.manifest', source, to]).toString()).toBe('');
  });

  it('leaves what is whole as it is when it is done again', async () => {
    const { weights, order, sealed } = await openStand();
    using key = weights.newKey(order.codec);
    await seal(weights, order, key);
    const before = [statSync(sealed('one', shard)), await weights.inspect(order, 'one', key)] as const;
    await seal(weights, order, key);
    expect(statSync(sealed('one', shard)).mtimeMs).toBe(before[0].mtimeMs);
    expect(await weights.inspect(order, 'one', key)).toEqual(before[1]);
  });

  it('mends a store from the other one: torn, missing or foreign files, manifest too', async () => {
    const { weights, order, sealed } = await openStand();
    using key = weights.newKey(order.codec);
    await seal(weights, order, key);
    const whole = await weights.inspect(order, 'two', key);
    truncateSync(sealed('one', shard), MiB);
    rmSync(sealed('one', 'config.json'));
    copyFileSync(sealed('one', 'keyturn.manifest'), sealed('one', 'model.safetensors.index.json'));
    writeFileSync(sealed('one', 'keyturn.manifest'), 'x');
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    await seal(weights, order, key);
    expect(await weights.inspect(order, 'one', key)).toEqual(whole);
    expect(await weights.inspect(order, 'two', key)).toEqual(whole);
  });

  it('mends a file that opens, but to something else', async () => {
    const { weights, order, sealed } = await openStand();
    using keyset = weights.newKey(order.codec);
    using key = keyOf(keyset);
    await seal(weights, order, keyset);
    const workers = openWorkers(1);
    const [from, to] = [join(testFolder(), 'other'), sealed('one', 'config.json')];
    writeFileSync(from, 'another plaintext');
    rmSync(to);
    const associatedData = associatedDataOf(order.plaintextManifest, 'config.json');
    await workers.pass({ from, to, openWith: null, sealWith: key, associatedData, hash: 'neither' });
    await workers.close();
    expect(await weights.inspect(order, 'one', keyset)).toBeNull();
    await seal(weights, order, keyset);
    expect(await weights.inspect(order, 'one', keyset)).toEqual(await weights.inspect(order, 'two', keyset));
    expect(await weights.inspect(order, 'one', keyset)).not.toBeNull();
  });

  it('is not whole under another key, or for another manifest', async () => {
    const { weights, order } = await openStand();
    using key = weights.newKey(order.codec);
    using other = weights.newKey(order.codec);
    await seal(weights, order, key);
    expect(await weights.inspect(order, 'one', other)).toBeNull();
    expect(await weights.inspect({ ...order, plaintextManifest: `sha256:${'0'.repeat(64)}` }, 'one', key)).toBeNull();
  });

  it('writes the manifest last, and nothing after the run was taken over', async () => {
    const { weights, order, sealed, one } = await openStand();
    using key = weights.newKey(order.codec);
    await seal(weights, order, key, async () => false);
    expect(existsSync(join(one, PREFIX))).toBe(false);
    let asked = 0;
    await seal(weights, order, key, async () => {
      asked += 1;
      return asked <= 4;
    });
    expect(readdirSync(join(one, PREFIX)).filter((name) => name.endsWith('.sealed'))).toHaveLength(3);
    expect(existsSync(sealed('one', 'keyturn.manifest'))).toBe(false);
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    await seal(weights, order, key);
    expect(await weights.inspect(order, 'one', key)).not.toBeNull();
  });

  it('clears away what a process that died left half written', async () => {
    const { weights, order, sealed, one } = await openStand();
    using key = weights.newKey(order.codec);
    mkdirSync(join(one, PREFIX), { recursive: true });
    writeFileSync(`${sealed('one', shard)}.0123456789abcdef.part`, 'half');
    await seal(weights, order, key);
    expect(readdirSync(join(one, PREFIX)).filter((name) => !name.endsWith('.sealed'))).toEqual([]);
  });

  it('does not replace a file that another process has put there meanwhile, unless it is known to be torn', async () => {
    const { one } = await openStand();
    const place = await placeOf('one', one, PREFIX);
    const path = join(place.folder, 'a.sealed');
    const put = (text: string, torn: string | null, meanwhile: () => unknown = () => undefined) =>
      reasonOf(
        putFile(place, 'a.sealed', torn, async (part) => {
          writeFileSync(part, text);
          await meanwhile();
        }),
      );
    expect(await put('the first', null)).toBe('done');
    expect(await put('the sleeper', null)).toBe('Conflict');
    expect(readFileSync(path, 'utf8')).toBe('the first');
    const torn = await stampOf(path);
    expect(await put('the sleeper', torn, () => put('mended meanwhile', torn)), 'the torn one is gone already').toBe('Conflict');
    expect(readFileSync(path, 'utf8')).toBe('mended meanwhile');
    expect(await put('whole again', await stampOf(path))).toBe('done');
    expect(readFileSync(path, 'utf8')).toBe('whole again');
    expect(readdirSync(place.folder)).toEqual(['a.sealed']);
  });
});

describe('what is not as approved', () => {
  it('is WeightsChanged: a changed file, one more, one fewer; and no manifest is written', async () => {
    const { source, weights, order, sealed } = await openStand();
    using key = weights.newKey(order.codec);
    const change = (path: string, at: number) => {
      const file = openSync(join(source, path), 'r+');
      writeSync(file, '!', at);
      closeSync(file);
    };
    change(shard, 2 * MiB);
    await expect(seal(weights, order, key)).rejects.toMatchObject({ reason: 'WeightsChanged', message: expect.stringContaining(shard) });
    rmSync(join(source, 'keyturn.manifest'));
    expect(await reasonOf(seal(weights, order, key))).toBe('WeightsChanged');
    await writeModel(source, { sizeBytes: 3 * MiB, seed: 1 });
    rmSync(join(source, 'keyturn.manifest'));
    writeFileSync(join(source, 'more'), 'x');
    expect(await reasonOf(seal(weights, order, key))).toBe('WeightsChanged');
    rmSync(join(source, 'more'));
    renameSync(join(source, 'config.json'), join(source, 'keyturn.manifest'));
    expect(await reasonOf(seal(weights, order, key))).toBe('WeightsChanged');
    expect(existsSync(sealed('one', 'keyturn.manifest'))).toBe(false);
    expect(existsSync(sealed('one', shard))).toBe(false);
  });

  it('is sealed once it is put right, without a manifest beside it', async () => {
    const { source, weights, order } = await openStand();
    using key = weights.newKey(order.codec);
    rmSync(join(source, 'keyturn.manifest'));
    await seal(weights, order, key);
    expect(await weights.inspect(order, 'two', key)).not.toBeNull();
  });

  it('is refused where a link would lead out of the source or the store', async () => {
    const { source, one, weights, order } = await openStand();
    using key = weights.newKey(order.codec);
    const outside = testFolder();
    renameSync(join(source, shard), join(outside, shard));
    symlinkSync(join(outside, shard), join(source, shard));
    expect(await reasonOf(seal(weights, order, key))).toBe('InvalidRequest');
    rmSync(join(source, shard));
    renameSync(join(outside, shard), join(source, shard));
    rmSync(join(one, 'w-1'), { recursive: true, force: true });
    symlinkSync(outside, join(one, 'w-1'));
    expect(await reasonOf(seal(weights, order, key))).toBe('InvalidRequest');
    expect(readdirSync(outside, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())).toEqual([]);
  });

  it('is refused where the order names what is not configured or not there', async () => {
    const { weights, order, one } = await openStand();
    using key = weights.newKey(order.codec);
    const sealed = (changes: Partial<SealOrder>) => reasonOf(seal(weights, { ...order, ...changes }, key));
    expect(await sealed({ stores: ['three'] })).toBe('NotConfigured');
    expect(await sealed({ stores: [] })).toBe('InvalidRequest');
    expect(await sealed({ source: { kind: 'plaintext', address: 'file:///nonexistent' } })).toBe('NotFound');
    expect(await sealed({ source: { kind: 'plaintext', address: 's3://models/w-1' } })).toBe('NotSupportedYet');
    // Guests go by the key, and would look for other files.
    expect(await sealed({ codec: 'kserve-jwe' })).toBe('InvalidRequest');
    expect(await sealed({ prefix: '../w-1/r-1' })).toBe('InvalidRequest');
    rmSync(one, { recursive: true });
    expect(await sealed({})).toBe('NotFound');
  });
});

describe('the stores', () => {
  it('have the address that guests name them by', async () => {
    const { weights } = await openStand();
    expect(weights.guestAddress('two')).toBe('file:///models-two');
    expect(() => weights.guestAddress('three')).toThrow(expect.objectContaining({ reason: 'NotConfigured' }));
  });

  it('draw a new key each time', async () => {
    const { weights, order } = await openStand();
    using one = weights.newKey(order.codec);
    using other = weights.newKey(order.codec);
    expect(one.reveal().equals(other.reveal())).toBe(false);
    using jwe = weights.newKey('kserve-jwe');
    expect(jwe.reveal()).toHaveLength(32);
  });

  it('say DiskFull when the disk is full', () => {
    let thrown: unknown = null;
    const full = openSync('/dev/full', 'w');
    try {
      writeSync(full, 'x');
    } catch (error) {
      thrown = error;
    } finally {
      closeSync(full);
    }
    expect(asFault(thrown, 'seal')).toMatchObject({ reason: 'DiskFull' });
  });
});
