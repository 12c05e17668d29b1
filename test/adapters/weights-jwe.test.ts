import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { JWE_PLAINTEXT_MAX_BYTES, rewrapHead } from '#src/envelope/jwe.ts';
import { rewrapJwe } from '#src/envelope/jwe-pass.ts';
import { manifestOf, openFolder } from '#src/envelope/layout.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import type { SealOrder } from '#src/world.ts';
import { testFolder } from '#test/envelope/folder.ts';
import { always, MiB, NEXT_PREFIX, openStand, PREFIX, reasonOf, SHARD, seal } from './weights-stand.ts';

const JWE = 'kserve-jwe';
const TINK = 'tink-aes256-gcm-hkdf-1mb';

/** A model that is to be sealed as JWE into two stores. */
async function openJweStand() {
  const stand = await openStand();
  const order: SealOrder = { ...stand.order, codec: JWE };
  const jwe = (store: 'one' | 'two', path: string, prefix = PREFIX) => join(stand[store], prefix, `${path}.jwe`);
  return { ...stand, order, jwe };
}

/** The plaintext's manifest, as a guest finds it that opens everything. */
async function openedDigest(folder: string, keyset: Parameters<typeof openFolder>[0]['keyset']): Promise<string> {
  const workers = openWorkers(1);
  try {
    const to = join(testFolder(), 'opened');
    await openFolder({ folder, keyset, to, workers });
    return (await manifestOf(to, workers)).digest;
  } finally {
    await workers.close();
  }
}

describe('weights sealed for KServe', () => {
  it('lie as <path>.jwe and nothing else, the same in every store, and open for a guest by the key alone', async () => {
    const { one, weights, order } = await openJweStand();
    using key = weights.newKey(JWE);
    await seal(weights, order, key);
    expect(readdirSync(join(one, PREFIX)).sort()).toEqual([
      'config.json.jwe',
      'keyturn.manifest.jwe',
      'model-00001-of-00001.safetensors.jwe',
      'model.safetensors.index.json.jwe',
    ]);
    const found = await weights.inspect(order, 'one', key);
    expect(found).toMatchObject({ files: 4, digest: expect.stringMatching(/^sha256:/) });
    expect(await weights.inspect(order, 'two', key)).toEqual(found);
    expect(await openedDigest(join(one, PREFIX), key)).toBe(order.plaintextManifest);
  });

  it('are left as they are when it is done again, and mended from the other store', async () => {
    const { weights, order, jwe } = await openJweStand();
    using key = weights.newKey(JWE);
    await seal(weights, order, key);
    const whole = await weights.inspect(order, 'two', key);
    const before = statSync(jwe('two', SHARD)).mtimeMs;
    truncateSync(jwe('one', SHARD), MiB);
    rmSync(jwe('one', 'config.json'));
    writeFileSync(jwe('one', 'keyturn.manifest'), 'x');
    expect(await weights.inspect(order, 'one', key)).toBeNull();
    await seal(weights, order, key);
    expect(await weights.inspect(order, 'one', key)).toEqual(whole);
    expect(statSync(jwe('two', SHARD)).mtimeMs).toBe(before);
  });

  it('are not whole where two files of one key were exchanged: the manifest shows what a JWE alone does not', async () => {
    const { weights, order, jwe } = await openJweStand();
    using key = weights.newKey(JWE);
    await seal(weights, { ...order, stores: ['one'] }, key);
    const [config, index, aside] = [jwe('one', 'config.json'), jwe('one', 'model.safetensors.index.json'), jwe('one', 'aside')];
    for (const [from, to] of [
      [config, aside],
      [index, config],
      [aside, index],
    ] as const)
      renameSync(from, to);
    expect(await weights.inspect(order, 'one', key)).toBeNull();
  });

  it('are not whole under another key, nor looked for under a key of the other codec', async () => {
    const { weights, order } = await openJweStand();
    using key = weights.newKey(JWE);
    using other = weights.newKey(JWE);
    using tink = weights.newKey(TINK);
    await seal(weights, { ...order, stores: ['one'] }, key);
    expect(await weights.inspect(order, 'one', other)).toBeNull();
    expect(await reasonOf(weights.inspect(order, 'one', tink))).toBe('InvalidRequest');
    expect(await reasonOf(seal(weights, order, tink))).toBe('InvalidRequest');
  });

  it('are removed, parts too, and what is not ours stays', async () => {
    const { one, weights, order, jwe } = await openJweStand();
    using key = weights.newKey(JWE);
    await seal(weights, { ...order, stores: ['one'] }, key);
    writeFileSync(`${jwe('one', SHARD)}.0123456789abcdef.part`, 'half');
    writeFileSync(join(one, PREFIX, 'theirs.txt'), 'x');
    expect(await weights.present('one', PREFIX)).toBe(true);
    await weights.remove('one', PREFIX, always);
    expect(await weights.present('one', PREFIX)).toBe(false);
    expect(readdirSync(join(one, PREFIX))).toEqual(['theirs.txt']);
  });
});

describe('what the codec cannot carry', () => {
  it.each([
    ['an empty file', (source: string) => writeFileSync(join(source, 'empty'), '')],
    ['a file that is called .jwe', (source: string) => writeFileSync(join(source, 'a.JWE'), 'x')],
    [
      'a folder that is called .jwe',
      (source: string) => {
        mkdirSync(join(source, 'a.jwe'));
        writeFileSync(join(source, 'a.jwe', 'b'), 'x');
      },
    ],
  ])('is %s: refused by that reason, the same weights are sealed by Tink', async (_, add) => {
    const { source, one, weights, order } = await openJweStand();
    add(source);
    rmSync(join(source, 'keyturn.manifest'));
    const workers = openWorkers(1);
    const { digest } = await manifestOf(source, workers);
    await workers.close();
    using key = weights.newKey(JWE);
    const changed = { ...order, plaintextManifest: digest, stores: ['one'] };
    expect(await reasonOf(seal(weights, changed, key))).toBe('UnfitForCodec');
    expect(existsSync(join(one, PREFIX, 'keyturn.manifest.jwe'))).toBe(false);
    using tink = weights.newKey(TINK);
    expect(await reasonOf(seal(weights, { ...changed, codec: TINK }, tink))).toBe('done');
    // And on the way from there: the old ciphertext is not called torn for it.
    const next = { ...changed, source: { kind: 'ciphertext', stores: ['one'], prefix: PREFIX }, prefix: NEXT_PREFIX } as const;
    expect(await reasonOf(weights.seal(next, { seal: key, open: tink }, always, async () => {}))).toBe('UnfitForCodec');
  });

  it('is a file of more than 64 GiB: refused before anything is read', async () => {
    const { source, one, weights, order } = await openJweStand();
    truncateSync(join(source, SHARD), JWE_PLAINTEXT_MAX_BYTES + 1);
    using key = weights.newKey(JWE);
    expect(await reasonOf(seal(weights, { ...order, stores: ['one'] }, key))).toBe('UnfitForCodec');
    expect(existsSync(join(one, PREFIX))).toBe(false);
  });
});

describe('re-encryption', () => {
  it.each([
    [TINK, JWE],
    [JWE, TINK],
    [JWE, JWE],
  ] as const)('goes from %s to %s, without plaintext, and leaves the old ciphertext as it is', async (from, to) => {
    const { source, one, weights, order } = await openJweStand();
    using open = weights.newKey(from);
    using key = weights.newKey(to);
    const old = { ...order, codec: from };
    await seal(weights, old, open);
    const before = await weights.inspect(old, 'one', open);
    rmSync(source, { recursive: true });
    const next: SealOrder = { ...order, codec: to, source: { kind: 'ciphertext', stores: ['one', 'two'], prefix: PREFIX }, prefix: NEXT_PREFIX };
    await weights.seal(next, { seal: key, open }, always, async () => {});
    const found = await weights.inspect(next, 'one', key);
    expect(found).not.toBeNull();
    expect(await weights.inspect(next, 'two', key)).toEqual(found);
    expect(await openedDigest(join(one, NEXT_PREFIX), key)).toBe(order.plaintextManifest);
    expect(await weights.inspect(old, 'one', open)).toEqual(before);
  });

  it('takes a file from the store that has it whole, and says CiphertextTorn where none has', async () => {
    const { weights, order, jwe } = await openJweStand();
    using open = weights.newKey(JWE);
    using key = weights.newKey(JWE);
    await seal(weights, order, open);
    const spoilt = readFileSync(jwe('one', SHARD));
    spoilt.write(spoilt[2 * MiB] === 0x41 ? 'B' : 'A', 2 * MiB);
    writeFileSync(jwe('one', SHARD), spoilt);
    const next: SealOrder = { ...order, source: { kind: 'ciphertext', stores: ['one', 'two'], prefix: PREFIX }, prefix: NEXT_PREFIX };
    await weights.seal(next, { seal: key, open }, always, async () => {});
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
    await weights.remove('one', NEXT_PREFIX, always);
    writeFileSync(jwe('two', SHARD), spoilt);
    const torn = weights.seal({ ...next, stores: ['one'] }, { seal: key, open }, always, async () => {});
    expect(await reasonOf(torn)).toBe('CiphertextTorn');
    expect(existsSync(jwe('one', SHARD, NEXT_PREFIX))).toBe(false);
  });

  it('starts a half written file over: no part of a dead process is gone on with', async () => {
    const { weights, order, jwe, one } = await openJweStand();
    using open = weights.newKey(TINK);
    using key = weights.newKey(JWE);
    await seal(weights, { ...order, codec: TINK }, open);
    const next: SealOrder = { ...order, source: { kind: 'ciphertext', stores: ['one'], prefix: PREFIX }, prefix: NEXT_PREFIX, stores: ['one'] };
    await weights.seal(next, { seal: key, open }, always, async () => {});
    const part = `${jwe('one', SHARD, NEXT_PREFIX)}.0123456789abcdef.part`;
    const first = readFileSync(jwe('one', SHARD, NEXT_PREFIX));
    renameSync(jwe('one', SHARD, NEXT_PREFIX), part);
    truncateSync(part, MiB);
    await weights.seal(next, { seal: key, open }, always, async () => {});
    expect(await weights.inspect(next, 'one', key)).not.toBeNull();
    // Another content key and IV: nothing of the first text is in the second.
    expect(
      readFileSync(jwe('one', SHARD, NEXT_PREFIX))
        .subarray(0, MiB)
        .equals(first.subarray(0, MiB)),
    ).toBe(false);
    expect(readdirSync(join(one, NEXT_PREFIX)).filter((name) => name.endsWith('.part'))).toEqual([]);
  });
});

describe('rewrapped weights', () => {
  it('open under the new key alone, and no ciphertext of theirs is another', async () => {
    const { one, weights, order } = await openJweStand();
    using open = weights.newKey(JWE);
    using key = weights.newKey(JWE);
    await seal(weights, { ...order, stores: ['one'] }, open);
    const [from, to] = [join(one, PREFIX), join(one, NEXT_PREFIX)];
    mkdirSync(to, { recursive: true });
    for (const name of readdirSync(from)) rewrapJwe({ from: join(from, name), to: join(to, name), openWith: open.reveal(), sealWith: key.reveal() });
    const found = await weights.inspect({ ...order, prefix: NEXT_PREFIX }, 'one', key);
    expect(found).toMatchObject({ files: 4 });
    expect(found?.digest).not.toBe((await weights.inspect(order, 'one', open))?.digest);
    expect(await weights.inspect({ ...order, prefix: NEXT_PREFIX }, 'one', open)).toBeNull();
    const back = rewrapHead(readFileSync(join(to, `${SHARD}.jwe`)).subarray(0, 116), key.reveal(), open.reveal());
    expect(back.equals(readFileSync(join(from, `${SHARD}.jwe`)).subarray(0, 116))).toBe(true);
  });
});
