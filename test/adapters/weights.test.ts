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
import { artifactStoreSchema } from '#src/adapters/weights/config.ts';
import { asFault } from '#src/adapters/weights/faults.ts';
import { openWeights } from '#src/adapters/weights/index.ts';
import { placeOf, putFile, stampOf } from '#src/adapters/weights/store.ts';
import { keyOf } from '#src/envelope/keyset.ts';
import { associatedDataOf, openFolder } from '#src/envelope/layout.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { isFault } from '#src/errors.ts';
import { writeModel } from '#src/lab/model.ts';
import type { SealOrder } from '#src/world.ts';
import { testFolder } from '#test/envelope/folder.ts';

const MiB = 1024 * 1024;
const PREFIX = 'w-1/r-0123456789abcdef';
const always = async () => true;

async function reasonOf(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
    return 'done';
  } catch (error) {
    if (isFault(error)) return error.reason;
    throw error;
  }
}

/** A model of 3 MiB (one shard, an index, a config), and two stores. */
async function setting() {
  const [source, one, two] = [testFolder(), testFolder(), testFolder()];
  const { manifestDigest } = await writeModel(source, { sizeBytes: 3 * MiB, seed: 1 });
  const weights = openWeights({
    one: { kind: 'file', path: one, guestAddress: 'file:///models' },
    two: { kind: 'file', path: two, guestAddress: 'file:///models-two' },
  });
  const order: SealOrder = {
    source: `file://${source}`,
    plaintextManifest: manifestDigest,
    codec: 'tink-aes256-gcm-hkdf-1mb',
    stores: ['one', 'two'],
    prefix: PREFIX,
  };
  const sealed = (store: 'one' | 'two', path: string) => join(store === 'one' ? one : two, PREFIX, `${path}.sealed`);
  return { source, one, two, weights, order, sealed, shard: 'model-00001-of-00001.safetensors' };
}

describe('sealing', () => {
  it('gives every store the same ciphertext, which opens to the plaintext', async () => {
    const { source, one, weights, order } = await setting();
    using key = weights.newKey(order.codec);
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    await weights.seal(order, key, always);
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
    const { weights, order, sealed, shard } = await setting();
    using key = weights.newKey(order.codec);
    await weights.seal(order, key, always);
    const before = [statSync(sealed('one', shard)), await weights.inspect(order, 'one', key)] as const;
    await weights.seal(order, key, always);
    expect(statSync(sealed('one', shard)).mtimeMs).toBe(before[0].mtimeMs);
    expect(await weights.inspect(order, 'one', key)).toEqual(before[1]);
  });

  it('mends a store from the other one: torn, missing or foreign files, manifest too', async () => {
    const { weights, order, sealed, shard } = await setting();
    using key = weights.newKey(order.codec);
    await weights.seal(order, key, always);
    const whole = await weights.inspect(order, 'two', key);
    truncateSync(sealed('one', shard), MiB);
    rmSync(sealed('one', 'config.json'));
    copyFileSync(sealed('one', 'keyturn.manifest'), sealed('one', 'model.safetensors.index.json'));
    writeFileSync(sealed('one', 'keyturn.manifest'), 'x');
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    await weights.seal(order, key, always);
    expect(await weights.inspect(order, 'one', key)).toEqual(whole);
    expect(await weights.inspect(order, 'two', key)).toEqual(whole);
  });

  it('mends a file that opens, but to something else', async () => {
    const { weights, order, sealed } = await setting();
    using keyset = weights.newKey(order.codec);
    using key = keyOf(keyset);
    await weights.seal(order, keyset, always);
    const workers = openWorkers(1);
    const [from, to] = [join(testFolder(), 'other'), sealed('one', 'config.json')];
    writeFileSync(from, 'another plaintext');
    rmSync(to);
    const associatedData = associatedDataOf(order.plaintextManifest, 'config.json');
    await workers.pass({ from, to, openWith: null, sealWith: key, associatedData, hash: 'neither' });
    await workers.close();
    expect(await weights.inspect(order, 'one', keyset)).toBeNull();
    await weights.seal(order, keyset, always);
    expect(await weights.inspect(order, 'one', keyset)).toEqual(await weights.inspect(order, 'two', keyset));
    expect(await weights.inspect(order, 'one', keyset)).not.toBeNull();
  });

  it('is not whole under another key, or for another manifest', async () => {
    const { weights, order } = await setting();
    using key = weights.newKey(order.codec);
    using other = weights.newKey(order.codec);
    await weights.seal(order, key, always);
    expect(await weights.inspect(order, 'one', other)).toBeNull();
    expect(await weights.inspect({ ...order, plaintextManifest: `sha256:${'0'.repeat(64)}` }, 'one', key)).toBeNull();
  });

  it('writes the manifest last, and nothing after the run was taken over', async () => {
    const { weights, order, sealed, one } = await setting();
    using key = weights.newKey(order.codec);
    await weights.seal(order, key, async () => false);
    expect(existsSync(join(one, PREFIX))).toBe(false);
    let asked = 0;
    await weights.seal(order, key, async () => {
      asked += 1;
      return asked <= 3;
    });
    expect(readdirSync(join(one, PREFIX)).filter((name) => name.endsWith('.sealed'))).toHaveLength(3);
    expect(existsSync(sealed('one', 'keyturn.manifest'))).toBe(false);
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    await weights.seal(order, key, always);
    expect(await weights.inspect(order, 'one', key)).not.toBeNull();
  });

  it('clears away what a process that died left half written', async () => {
    const { weights, order, sealed, one, shard } = await setting();
    using key = weights.newKey(order.codec);
    mkdirSync(join(one, PREFIX), { recursive: true });
    writeFileSync(`${sealed('one', shard)}.0123456789abcdef.part`, 'half');
    await weights.seal(order, key, always);
    expect(readdirSync(join(one, PREFIX)).filter((name) => !name.endsWith('.sealed'))).toEqual([]);
  });

  it('does not replace a file that another process has put there meanwhile, unless it is known to be torn', async () => {
    const { one } = await setting();
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
    const { source, weights, order, sealed, shard } = await setting();
    using key = weights.newKey(order.codec);
    const change = (path: string, at: number) => {
      const file = openSync(join(source, path), 'r+');
      writeSync(file, '!', at);
      closeSync(file);
    };
    change(shard, 2 * MiB);
    await expect(weights.seal(order, key, always)).rejects.toMatchObject({ reason: 'WeightsChanged', message: expect.stringContaining(shard) });
    rmSync(join(source, 'keyturn.manifest'));
    expect(await reasonOf(weights.seal(order, key, always))).toBe('WeightsChanged');
    await writeModel(source, { sizeBytes: 3 * MiB, seed: 1 });
    rmSync(join(source, 'keyturn.manifest'));
    writeFileSync(join(source, 'more'), 'x');
    expect(await reasonOf(weights.seal(order, key, always))).toBe('WeightsChanged');
    rmSync(join(source, 'more'));
    renameSync(join(source, 'config.json'), join(source, 'keyturn.manifest'));
    expect(await reasonOf(weights.seal(order, key, always))).toBe('WeightsChanged');
    expect(existsSync(sealed('one', 'keyturn.manifest'))).toBe(false);
    expect(existsSync(sealed('one', shard))).toBe(false);
  });

  it('is sealed once it is put right, without a manifest beside it', async () => {
    const { source, weights, order } = await setting();
    using key = weights.newKey(order.codec);
    rmSync(join(source, 'keyturn.manifest'));
    await weights.seal(order, key, always);
    expect(await weights.inspect(order, 'two', key)).not.toBeNull();
  });

  it('is refused where a link would lead out of the source or the store', async () => {
    const { source, one, weights, order, shard } = await setting();
    using key = weights.newKey(order.codec);
    const outside = testFolder();
    renameSync(join(source, shard), join(outside, shard));
    symlinkSync(join(outside, shard), join(source, shard));
    expect(await reasonOf(weights.seal(order, key, always))).toBe('InvalidRequest');
    rmSync(join(source, shard));
    renameSync(join(outside, shard), join(source, shard));
    rmSync(join(one, 'w-1'), { recursive: true, force: true });
    symlinkSync(outside, join(one, 'w-1'));
    expect(await reasonOf(weights.seal(order, key, always))).toBe('InvalidRequest');
    expect(readdirSync(outside, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())).toEqual([]);
  });

  it('is refused where the order names what is not configured or not there', async () => {
    const { weights, order, one } = await setting();
    using key = weights.newKey(order.codec);
    const seal = (changes: Partial<SealOrder>) => reasonOf((async () => weights.seal({ ...order, ...changes }, key, always))());
    expect(await seal({ stores: ['three'] })).toBe('NotConfigured');
    expect(await seal({ stores: [] })).toBe('InvalidRequest');
    expect(await seal({ source: 'file:///nonexistent' })).toBe('NotFound');
    expect(await seal({ source: 's3://models/w-1' })).toBe('NotSupportedYet');
    expect(await seal({ codec: 'kserve-jwe' })).toBe('NotSupportedYet');
    expect(await seal({ prefix: '../w-1/r-1' })).toBe('InvalidRequest');
    rmSync(one, { recursive: true });
    expect(await seal({})).toBe('NotFound');
  });
});

describe('the stores', () => {
  it('have the address that guests name them by', async () => {
    const { weights } = await setting();
    expect(weights.guestAddress('two')).toBe('file:///models-two');
    expect(() => weights.guestAddress('three')).toThrow(expect.objectContaining({ reason: 'NotConfigured' }));
  });

  it('are refused, by the field’s name, where their kind is not here yet', () => {
    const s3 = artifactStoreSchema.parse({ kind: 's3', bucket: 'models-eu', region: 'eu-central-1', guestAddress: 's3://models-eu' });
    expect(() => openWeights({ models: s3 })).toThrow(
      expect.objectContaining({ reason: 'NotSupportedYet', message: expect.stringContaining('artifactStores.models.kind') }),
    );
  });

  it('draw a new key each time, and none for a codec that is not here yet', async () => {
    const { weights, order } = await setting();
    using one = weights.newKey(order.codec);
    using other = weights.newKey(order.codec);
    expect(one.reveal().equals(other.reveal())).toBe(false);
    expect(() => weights.newKey('kserve-jwe')).toThrow(
      expect.objectContaining({ reason: 'NotSupportedYet', message: expect.stringContaining('artifact.codec') }),
    );
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
