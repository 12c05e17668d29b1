import { existsSync, type FSWatcher, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, watch, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { testFolder } from '#test/envelope/folder.ts';
import { always, NEXT_PREFIX, openStand, PREFIX, reasonOf, SHARD, seal } from './weights-stand.ts';

/** A ciphertext in both stores. */
async function sealedStand() {
  const stand = await openStand();
  using key = stand.weights.newKey(stand.order.codec);
  await seal(stand.weights, stand.order, key);
  return stand;
}

function write(path: string, text = 'x'): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

describe('removing a ciphertext', () => {
  it('leaves nothing of it in that store, and all of it in the other; again, it is done', async () => {
    const { one, two, weights } = await sealedStand();
    write(join(one, PREFIX, 'sub/folder/a.sealed'));
    write(join(one, PREFIX, `${SHARD}.sealed.0123456789abcdef.part`));
    expect(await weights.present('one', PREFIX)).toBe(true);
    await weights.remove('one', PREFIX, always);
    expect(await weights.present('one', PREFIX)).toBe(false);
    expect(readdirSync(one)).toEqual([]);
    expect(readdirSync(join(two, PREFIX))).toHaveLength(4);
    await weights.remove('one', PREFIX, always);
    expect(await weights.present('one', PREFIX)).toBe(false);
  });

  it('leaves the workload’s other ciphertexts', async () => {
    const { one, weights, order } = await sealedStand();
    using key = weights.newKey(order.codec);
    await seal(weights, { ...order, prefix: NEXT_PREFIX }, key);
    await weights.remove('one', PREFIX, always);
    expect(existsSync(join(one, PREFIX))).toBe(false);
    expect(await weights.inspect({ ...order, prefix: NEXT_PREFIX }, 'one', key)).not.toBeNull();
  });

  it('asks first whether the run is still ours', async () => {
    const { one, weights } = await sealedStand();
    await weights.remove('one', PREFIX, async () => false);
    expect(readdirSync(join(one, PREFIX))).toHaveLength(4);
  });

  it('begins with the sealed manifest', async () => {
    const { one, weights } = await sealedStand();
    const gone: string[] = [];
    const all = Promise.withResolvers<void>();
    // The kernel tells in the order in which the names went.
    const watcher: FSWatcher = watch(join(one, PREFIX), (_, name) => {
      if (name?.endsWith('.sealed') === true && gone.push(name) === 4) all.resolve();
    });
    await weights.remove('one', PREFIX, always);
    await all.promise;
    watcher.close();
    expect(gone[0]).toBe('keyturn.manifest.sealed');
    expect(gone).toHaveLength(4);
  });

  it('finishes what was begun: parts and empty folders alone', async () => {
    const { one, weights } = await openStand();
    write(join(one, PREFIX, 'sub/a.sealed.0123456789abcdef.part'));
    expect(await weights.present('one', PREFIX)).toBe(true);
    rmSync(join(one, PREFIX, 'sub/a.sealed.0123456789abcdef.part'));
    expect(await weights.present('one', PREFIX)).toBe(false);
    await weights.remove('one', PREFIX, always);
    expect(readdirSync(one)).toEqual([]);
  });
});

describe('what is not ours', () => {
  it('stays: other files, links and what they lead to, folders with our names', async () => {
    const { one, weights } = await sealedStand();
    const outside = testFolder();
    write(join(outside, 'b.sealed'));
    write(join(outside, 'keyturn.manifest.sealed'));
    const foreign = ['notes.txt', 'a.sealed.part', 'a.0123456789abcdef.part', 'sealed', 'folder.sealed/notes.txt'];
    for (const name of foreign) write(join(one, PREFIX, name));
    symlinkSync(join(outside, 'b.sealed'), join(one, PREFIX, 'link.sealed'));
    symlinkSync(outside, join(one, PREFIX, 'linked'));
    await weights.remove('one', PREFIX, always);
    expect(await weights.present('one', PREFIX)).toBe(false);
    expect(readdirSync(join(one, PREFIX)).sort()).toEqual([...foreign.slice(0, 4), 'folder.sealed', 'link.sealed', 'linked'].sort());
    expect(existsSync(join(one, PREFIX, 'folder.sealed/notes.txt'))).toBe(true);
    expect(readdirSync(outside).sort()).toEqual(['b.sealed', 'keyturn.manifest.sealed']);
  });

  it.each(['..', '../w-1', 'w-1/..', 'w-1', 'w-1/', '/w-1/r-1', 'w-1/r-1/sub', 'w-1/../../x', '.', ''])('is not reached by the prefix %j', async (prefix) => {
    const { weights } = await openStand();
    expect(await reasonOf(weights.remove('one', prefix, always))).toBe('InvalidRequest');
    expect(await reasonOf(weights.present('one', prefix))).toBe('InvalidRequest');
  });

  it('is not reached through a link: out of the store, or to another workload of it', async () => {
    const { one, weights } = await sealedStand();
    const outside = testFolder();
    renameSync(join(one, 'w-1'), join(outside, 'w-1'));
    for (const [to, prefix] of [
      [join(outside, 'w-1'), PREFIX],
      [join(outside, PREFIX), 'w-2/r-1'],
    ] as const) {
      const link = prefix === PREFIX ? join(one, 'w-1') : join(one, prefix);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(to, link);
      expect(await reasonOf(weights.remove('one', prefix, always))).toBe('InvalidRequest');
      expect(await reasonOf(weights.present('one', prefix))).toBe('InvalidRequest');
    }
    expect(readdirSync(join(outside, PREFIX))).toHaveLength(4);
    rmSync(join(one, 'w-1'));
    renameSync(join(outside, 'w-1'), join(one, 'w-1'));
    symlinkSync(join(one, PREFIX), join(one, 'w-2/r-2'));
    expect(await reasonOf(weights.remove('one', 'w-2/r-2', always))).toBe('InvalidRequest');
    expect(readFileSync(join(one, PREFIX, `${SHARD}.sealed`)).length).toBeGreaterThan(0);
  });

  it('is not taken for gone where the store itself is not there', async () => {
    const { one, weights } = await sealedStand();
    rmSync(one, { recursive: true });
    expect(await reasonOf(weights.present('one', PREFIX))).toBe('NotFound');
    expect(await reasonOf(weights.remove('one', PREFIX, always))).toBe('NotFound');
    expect(await reasonOf(weights.present('three', PREFIX))).toBe('NotConfigured');
  });
});
