import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { isFault } from '#src/errors.ts';
import { writeModel } from '#src/lab/model.ts';
import type { Secret } from '#src/secret.ts';
import type { Mine, SealOrder, Weights } from '#src/world.ts';
import { testFolder } from '#test/envelope/folder.ts';

const MiB = 1024 * 1024;

/** The stores that every implementer is tried with. */
export type StoreName = 'one' | 'two';

/** Two empty artifact stores, and the hands that a test needs beside the port. */
export interface ArtifactStoresUnderTest {
  readonly weights: Weights;
  /** Every file that lies in a store, with its bytes: whole ones, and whatever else can be seen there. */
  readonly files: (store: StoreName) => Promise<ReadonlyMap<string, Buffer>>;
  /** Writes a file's bytes as somebody else would; null deletes it. */
  readonly write: (store: StoreName, path: string, bytes: Buffer | null) => Promise<void>;
  /** Whether something half written lies in a store, seen or not. */
  readonly hasHalves: (store: StoreName) => Promise<boolean>;
  readonly close: () => Promise<void>;
}

/** The ciphertexts of these claims. */
export const [PREFIX, NEXT_PREFIX] = ['w-1/r-0123456789abcdef', 'w-1/r-fedcba9876543210'];
/** The first of a model's two large files: 9 MiB each, longer than one part of any store. */
export const SHARD = 'model-00001-of-00002.safetensors';
/** The second one. */
export const OTHER_SHARD = 'model-00002-of-00002.safetensors';

/** Nobody has taken the run over. */
export const always: Mine = async () => true;

/** The reason of the Fault that an attempt ends in; 'done' where there is none. */
export async function reasonOf(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
    return 'done';
  } catch (error) {
    if (isFault(error)) return error.reason;
    throw error;
  }
}

/** A model on this machine, and the order to seal it. */
export async function makeOrder(
  stores: readonly string[] = ['one', 'two'],
  sizeBytes = 18 * MiB,
): Promise<{ readonly source: string; readonly order: SealOrder }> {
  const source = testFolder();
  const { manifestDigest } = await writeModel(source, { sizeBytes, seed: 1 });
  const order: SealOrder = {
    source: { kind: 'plaintext', address: `file://${source}` },
    plaintextManifest: manifestDigest,
    codec: 'tink-aes256-gcm-hkdf-1mb',
    stores,
    prefix: PREFIX,
  };
  return { source, order };
}

/** Seals from plaintext, with nobody who looks on. */
export function seal(weights: Weights, order: SealOrder, key: Secret, mine: Mine = always): Promise<void> {
  return weights.seal(order, { seal: key, open: null }, mine, async () => {});
}

/** The order to re-encrypt what `order` sealed. */
export function againOf(order: SealOrder, stores: readonly string[] = order.stores): SealOrder {
  return { ...order, source: { kind: 'ciphertext', stores, prefix: order.prefix }, prefix: NEXT_PREFIX };
}

/** A file with one bit changed in its middle. */
export function flipped(bytes: Buffer | undefined): Buffer {
  const changed = Buffer.from(bytes ?? []);
  const at = Math.floor(changed.length / 2);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
}

/** The claims that every kind of artifact store is held to. `open` is called anew for each. */
export function artifactStoreContract(name: string, open: () => Promise<ArtifactStoresUnderTest>): void {
  describe(`${name} keeps the contract of artifact stores`, () => {
    let under: ArtifactStoresUnderTest;
    beforeEach(async () => {
      under = await open();
    });
    afterEach(() => under.close());

    sealing(() => under);
    judging(() => under);
    reencrypting(() => under);
    removing(() => under);
  });
}

/** Every file of one store under a prefix, by its path from there. */
async function below(under: ArtifactStoresUnderTest, store: StoreName, prefix = PREFIX): Promise<ReadonlyMap<string, Buffer>> {
  const files = [...(await under.files(store))].filter(([path]) => path.startsWith(`${prefix}/`));
  return new Map(files.map(([path, bytes]) => [path.slice(prefix.length + 1), bytes]));
}

/** Nine million numbers take long to compare. */
function digestsOf(files: ReadonlyMap<string, Buffer>): ReadonlyMap<string, string> {
  return new Map([...files].map(([path, bytes]) => [path, digestOf(bytes)]));
}

function sealing(current: () => ArtifactStoresUnderTest): void {
  it('sealing gives both stores the same ciphertext, whole, and no more; done again, not a byte is written', async () => {
    const { weights, hasHalves } = current();
    const { order } = await makeOrder();
    using key = weights.newKey(order.codec);
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    expect(await weights.present('one', PREFIX)).toBe(false);
    await seal(weights, order, key);
    const found = await weights.inspect(order, 'one', key);
    expect(found).toMatchObject({ files: 5, digest: expect.stringMatching(/^sha256:/) });
    expect(await weights.inspect(order, 'two', key)).toEqual(found);
    const before = digestsOf(await below(current(), 'one'));
    expect([...before.keys()].sort()).toEqual(
      ['config.json', 'keyturn.manifest', SHARD, OTHER_SHARD, 'model.safetensors.index.json'].map((path) => `${path}.sealed`).sort(),
    );
    expect(await hasHalves('one')).toBe(false);
    await seal(weights, order, key);
    expect(digestsOf(await below(current(), 'one'))).toEqual(before);
    expect(await weights.present('one', PREFIX)).toBe(true);
  });

  it('sealing mends one store from the other: a file cut, gone, or another’s, and the manifest', async () => {
    const { weights, write } = current();
    const { order } = await makeOrder();
    using key = weights.newKey(order.codec);
    await seal(weights, order, key);
    const whole = await below(current(), 'two');
    await write('one', `${PREFIX}/${SHARD}.sealed`, (whole.get(`${SHARD}.sealed`) ?? Buffer.alloc(0)).subarray(0, MiB));
    await write('one', `${PREFIX}/${OTHER_SHARD}.sealed`, null);
    await write('one', `${PREFIX}/config.json.sealed`, whole.get('keyturn.manifest.sealed') ?? null);
    await write('one', `${PREFIX}/keyturn.manifest.sealed`, Buffer.from('x'));
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    await seal(weights, order, key);
    expect(digestsOf(await below(current(), 'one'))).toEqual(digestsOf(whole));
  });

  it('the manifest comes last, and nothing at all after the run was taken over', async () => {
    const { weights } = current();
    const { order } = await makeOrder();
    using key = weights.newKey(order.codec);
    await seal(weights, order, key, async () => false);
    expect((await below(current(), 'one')).size).toBe(0);
    let asked = 0;
    await seal(weights, order, key, async () => {
      asked += 1;
      return asked <= 5;
    });
    const files = await below(current(), 'one');
    expect(files.size).toBe(4);
    expect(files.has('keyturn.manifest.sealed')).toBe(false);
    expect(await weights.inspect(order, 'one', key)).toBeNull();
  });

  it('what is not the approved plaintext is WeightsChanged, and never seen under its name', async () => {
    const { weights, hasHalves } = current();
    const { source, order } = await makeOrder();
    using key = weights.newKey(order.codec);
    writeFileSync(join(source, SHARD), flipped(readFileSync(join(source, SHARD))));
    await expect(seal(weights, order, key)).rejects.toMatchObject({ reason: 'WeightsChanged', message: expect.stringContaining(SHARD) });
    const files = await below(current(), 'one');
    expect(files.has(`${SHARD}.sealed`)).toBe(false);
    expect(files.has('keyturn.manifest.sealed')).toBe(false);
    expect(await hasHalves('one')).toBe(false);
  });

  it('a prefix that leaves its place is InvalidRequest, and a store that nobody has configured NotConfigured', async () => {
    const { weights } = current();
    const { order } = await makeOrder();
    using key = weights.newKey(order.codec);
    for (const prefix of ['..', '../w-1', 'w-1/..', 'w-1', 'w-1/', '/w-1/r-1', 'w-1/r-1/sub', '']) {
      expect(await reasonOf(weights.remove('one', prefix, always))).toBe('InvalidRequest');
      expect(await reasonOf(weights.present('one', prefix))).toBe('InvalidRequest');
    }
    expect(await reasonOf(seal(weights, { ...order, prefix: '../r-1' }, key))).toBe('InvalidRequest');
    expect(await reasonOf(seal(weights, { ...order, stores: ['three'] }, key))).toBe('NotConfigured');
    expect(await reasonOf(weights.present('three', PREFIX))).toBe('NotConfigured');
  });
}

function judging(current: () => ArtifactStoresUnderTest): void {
  it('a ciphertext is not whole that is cut, changed, swapped, or lacks a file; nor under another key, nor for other weights', async () => {
    const { weights, write } = current();
    const { order } = await makeOrder(['one']);
    using key = weights.newKey(order.codec);
    using other = weights.newKey(order.codec);
    await seal(weights, order, key);
    const whole = await below(current(), 'one');
    const [first, second] = [whole.get(`${SHARD}.sealed`), whole.get(`${OTHER_SHARD}.sealed`)];
    const judged = async (changes: Readonly<Record<string, Buffer | null>>): Promise<boolean> => {
      for (const [path, bytes] of Object.entries(changes)) await write('one', `${PREFIX}/${path}.sealed`, bytes);
      const found = await weights.inspect(order, 'one', key);
      for (const [path, bytes] of whole) await write('one', `${PREFIX}/${path}`, bytes);
      return found !== null;
    };
    expect(await judged({ [SHARD]: (first ?? Buffer.alloc(0)).subarray(0, 8 * MiB) })).toBe(false);
    expect(await judged({ [SHARD]: flipped(first) })).toBe(false);
    expect(await judged({ [SHARD]: second ?? null, [OTHER_SHARD]: first ?? null })).toBe(false);
    expect(await judged({ [SHARD]: null })).toBe(false);
    expect(await judged({ [SHARD]: Buffer.alloc(0) })).toBe(false);
    expect(await judged({ 'keyturn.manifest': null })).toBe(false);
    expect(await judged({ 'keyturn.manifest': Buffer.alloc(0) })).toBe(false);
    expect(await judged({}), 'put back').toBe(true);
    expect(await weights.inspect(order, 'one', other)).toBeNull();
    expect(await weights.inspect({ ...order, plaintextManifest: `sha256:${'0'.repeat(64)}` }, 'one', key)).toBeNull();
  });
}

function reencrypting(current: () => ArtifactStoresUnderTest): void {
  it('re-encryption needs no plaintext, leaves the old ciphertext as it is, and gives one that opens under the new key alone', async () => {
    const { weights } = current();
    const { source, order } = await makeOrder();
    using open = weights.newKey(order.codec);
    using key = weights.newKey(order.codec);
    await seal(weights, order, open);
    const before = digestsOf(await below(current(), 'one'));
    rmSync(join(source, SHARD));
    const next = againOf(order);
    const said: number[] = [];
    await weights.seal(next, { seal: key, open }, always, async ({ doneBytes }) => void said.push(doneBytes));
    expect(digestsOf(await below(current(), 'one'))).toEqual(before);
    const found = await weights.inspect(next, 'one', key);
    expect(found).toMatchObject({ files: 5 });
    expect(await weights.inspect(next, 'two', key)).toEqual(found);
    expect(await weights.inspect(next, 'one', open)).toBeNull();
    expect(said.at(-1)).toBeGreaterThan(2 * 18 * MiB);
  });

  it('re-encryption takes the next store where the first lacks a file or has it torn; from none it is CiphertextTorn, and says of which', async () => {
    const { weights, write } = current();
    const { order } = await makeOrder();
    using open = weights.newKey(order.codec);
    using key = weights.newKey(order.codec);
    await seal(weights, order, open);
    const path = `${PREFIX}/${SHARD}.sealed`;
    const whole = (await current().files('one')).get(path);
    const again = (prefix: string) => weights.seal({ ...againOf(order), stores: ['two'], prefix }, { seal: key, open }, always, async () => {});
    const breaks: readonly (Buffer | null)[] = [null, (whole ?? Buffer.alloc(0)).subarray(0, MiB), flipped(whole)];
    for (const [index, broken] of breaks.entries()) {
      await write('one', path, broken);
      await again(`w-1/r-${index}`);
      expect(await weights.inspect({ ...order, prefix: `w-1/r-${index}` }, 'two', key)).not.toBeNull();
    }
    await write('two', path, null);
    await expect(again('w-1/r-none')).rejects.toMatchObject({
      reason: 'CiphertextTorn',
      message: expect.stringMatching(new RegExp(`store one: ${path}.*store two: ${path}`)),
    });
    expect((await current().files('two')).has('w-1/r-none/keyturn.manifest.sealed')).toBe(false);
  });

  it('an old ciphertext of other weights, or under another key, is WeightsChanged', async () => {
    const { weights } = current();
    const { order } = await makeOrder(['one']);
    using open = weights.newKey(order.codec);
    using key = weights.newKey(order.codec);
    await seal(weights, order, open);
    const reseal = (changes: Partial<SealOrder>, from: Secret) =>
      reasonOf(weights.seal({ ...againOf(order), ...changes }, { seal: key, open: from }, always, async () => {}));
    expect(await reseal({ plaintextManifest: `sha256:${'0'.repeat(64)}` }, open)).toBe('WeightsChanged');
    expect(await reseal({}, key)).toBe('WeightsChanged');
    expect(await reseal({ source: { kind: 'ciphertext', stores: ['one'], prefix: 'w-1/r-nothing' } }, open)).toBe('CiphertextTorn');
    expect((await below(current(), 'one', NEXT_PREFIX)).size).toBe(0);
  });
}

function removing(current: () => ArtifactStoresUnderTest): void {
  it('removing leaves nothing of a ciphertext in that store, and all of the others; again, it is done; it asks first', async () => {
    const { weights, write } = current();
    const { order } = await makeOrder();
    using key = weights.newKey(order.codec);
    await seal(weights, order, key);
    await write('one', `${NEXT_PREFIX}/a.sealed`, Buffer.from('another ciphertext'));
    await write('one', `${PREFIX}/notes.txt`, Buffer.from('another’s'));
    await weights.remove('one', PREFIX, async () => false);
    expect((await below(current(), 'one')).size).toBe(6);
    await weights.remove('one', PREFIX, always);
    expect([...(await current().files('one')).keys()].sort()).toEqual([`${NEXT_PREFIX}/a.sealed`, `${PREFIX}/notes.txt`].sort());
    expect(await weights.present('one', PREFIX)).toBe(false);
    expect(await weights.present('one', NEXT_PREFIX)).toBe(true);
    await weights.remove('one', PREFIX, always);
    expect(await weights.inspect(order, 'two', key)).not.toBeNull();
  });
}
