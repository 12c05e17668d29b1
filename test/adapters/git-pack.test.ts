import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { applyDelta } from '#src/adapters/git/delta.ts';
import { beginWork, nameOf, OBJECT_MAX_BYTES, type Pack, readPack, unpack } from '#src/adapters/git/pack.ts';
import { isFault } from '#src/errors.ts';
import { type PackEntry, packOf, varint, withGit } from './git-parts.ts';

const [BLOB, OFFSET_DELTA, NAME_DELTA] = [3, 6, 7];

/** The whole of a base, taken over so many times. */
function repeating(base: Buffer, times: number): Buffer {
  const copy = Buffer.from([0xf0, base.length & 255, (base.length >> 8) & 255, base.length >> 16]);
  return Buffer.concat([varint(base.length), varint(base.length * times), ...Array.from({ length: times }, () => copy)]);
}

const nameOfBlob = (bytes: Buffer): string => nameOf({ kind: 'blob', bytes });

async function said(pack: Buffer): Promise<string> {
  return readPack(pack).then(
    () => 'good',
    (thrown: unknown) => (isFault(thrown) ? thrown.reason : 'no pack'),
  );
}

/** What a pack holds, by name. */
function contentsOf(pack: Pack): Record<string, string> {
  const work = beginWork();
  const entries = [...pack.byName].map(([name, entry]) => {
    const object = unpack(pack, entry, work);
    return [name, object === null ? 'nothing' : `${object.kind} ${object.bytes.length} ${nameOf(object) === name}`];
  });
  return Object.fromEntries(entries);
}

it('names every object as git does, deltas of both kinds included', () =>
  withGit(async (lab, _, folder) => {
    const text = randomBytes(2000).toString('hex');
    for (let serial = 0; serial < 12; serial += 1) await lab.commit({ [`releases/w/${serial}.yaml`]: `${text}\nline ${serial}\n` }, 'x');
    const git = (words: readonly string[]): Buffer =>
      execFileSync('git', ['--git-dir', join(folder, 'releases.git'), ...words], { input: '', stdio: ['pipe', 'pipe', 'ignore'] });
    const listed = git(['cat-file', '--batch-all-objects', '--batch-check']).toString().trim().split('\n');
    const expected = Object.fromEntries(listed.map((line) => [line.slice(0, 40), `${line.slice(41)} true`]));
    for (const words of [['--delta-base-offset'], []]) {
      const pack = await readPack(git(['pack-objects', '--stdout', '--all', '-q', ...words]));
      expect([...pack.byOffset.values()].filter(({ kind }) => kind === null).length).toBeGreaterThan(5);
      expect(contentsOf(pack)).toEqual(expected);
      expect([pack.nameless, pack.tooLarge.size]).toEqual([0, 0]);
    }
  }));

it('passes over what is too large, names it, and reads what lies behind it', async () => {
  const [large, small] = [Buffer.alloc(OBJECT_MAX_BYTES + 1, 'x'), Buffer.from('small')];
  const pack = await readPack(
    packOf([
      { type: BLOB, content: large },
      { type: BLOB, content: small },
    ]),
  );
  expect([...pack.tooLarge]).toEqual([[nameOfBlob(large), large.length]]);
  expect([...pack.byName.keys()]).toEqual([nameOfBlob(small)]);
});

it('makes nothing too large of a delta, nor what rests on it', async () => {
  const base = Buffer.alloc(60_000, 'x');
  const name = (bytes: Buffer): Buffer => Buffer.from(nameOfBlob(bytes), 'hex');
  const large = Buffer.alloc(base.length * 200, 'x');
  const pack = await readPack(
    packOf([
      { type: BLOB, content: base },
      { type: NAME_DELTA, base: name(base), content: repeating(base, 200) },
      { type: NAME_DELTA, base: name(large), content: Buffer.concat([varint(large.length), varint(1), Buffer.from([1, 97])]) },
      { type: NAME_DELTA, base: name(base), content: repeating(base, 2) },
    ]),
  );
  expect([...pack.byName.keys()]).toEqual([base, Buffer.concat([base, base])].map(nameOfBlob));
  expect(pack.nameless).toBe(2);
});

/** How far back a delta's base lies, as packs write it: seven bits a byte, the largest first, each byte that follows worth one more. */
function backwards(distance: number): Buffer {
  const bytes = [distance & 127];
  for (let rest = Math.floor(distance / 128); rest > 0; rest = Math.floor(rest / 128)) {
    rest -= 1;
    bytes.unshift((rest & 127) | 128);
  }
  return Buffer.from(bytes);
}

it('reads deltas by offset, and none whose base is too large', async () => {
  const base = Buffer.alloc(60_000, 'x');
  const entries: PackEntry[] = [{ type: BLOB, content: base }];
  const offsets = [12];
  const add = (on: number, content: Buffer): void => {
    const offset = packOf(entries).length - 20;
    offsets.push(offset);
    entries.push({ type: OFFSET_DELTA, base: backwards(offset - (offsets[on] ?? 0)), content });
  };
  const first = (length: number): Buffer => Buffer.concat([varint(length), varint(3), Buffer.from([0x90, 3])]);
  add(0, repeating(base, 3));
  add(1, first(base.length * 3));
  add(0, repeating(base, 150));
  add(3, first(base.length * 150));
  const pack = await readPack(packOf(entries));
  expect([...pack.byName.keys()].sort()).toEqual([base, Buffer.concat([base, base, base]), Buffer.from('xxx')].map(nameOfBlob).sort());
  expect(pack.nameless).toBe(2);
});

it('a bomb of deltas costs no more than the work allows, and the small are named before it', async () => {
  const base = Buffer.alloc(60_000, 'x');
  const delta = (content: Buffer) => ({ type: NAME_DELTA, base: Buffer.from(nameOfBlob(base), 'hex'), content });
  const bombs = Array.from({ length: 500 }, (_, index) => delta(Buffer.concat([repeating(base, 100 + (index % 30))])));
  const work = { ...beginWork(), bytesLeft: 40_000_000 };
  const pack = await readPack(packOf([{ type: BLOB, content: base }, ...bombs, delta(repeating(base, 2))]), work);
  expect(pack.byName.has(nameOfBlob(Buffer.concat([base, base])))).toBe(true);
  expect(pack.nameless).toBeGreaterThan(490);
});

it('an object that comes again, made of itself, is read all the same', async () => {
  const [one, two] = [Buffer.from('one'), Buffer.from('two')];
  const name = (bytes: Buffer): Buffer => Buffer.from(nameOfBlob(bytes), 'hex');
  const into = (to: Buffer): Buffer => Buffer.concat([varint(3), varint(3), Buffer.from([3]), to]);
  const pack = await readPack(
    packOf([
      { type: BLOB, content: one },
      { type: NAME_DELTA, base: name(one), content: into(one) },
      { type: NAME_DELTA, base: name(one), content: into(two) },
      { type: NAME_DELTA, base: name(two), content: into(one) },
    ]),
  );
  expect(contentsOf(pack)).toEqual({ [nameOfBlob(one)]: 'blob 3 true', [nameOfBlob(two)]: 'blob 3 true' });
});

it('no pack is: one that is cut off, damaged, longer or shorter than it says', async () => {
  const good = packOf([{ type: BLOB, content: Buffer.from('x') }]);
  const damaged = Buffer.from(good);
  damaged[14] = (damaged[14] ?? 0) ^ 1;
  expect(await said(good)).toBe('good');
  expect(await said(packOf([]))).toBe('good');
  for (const bad of [good.subarray(0, 16), damaged, Buffer.from('PACK'), Buffer.concat([good, good])]) expect(await said(bad)).toBe('no pack');
  for (const size of [0, 4, 6]) expect(await said(packOf([{ type: BLOB, content: Buffer.from('12345'), size }]))).toBe('no pack');
  expect(await said(packOf([{ type: 5, content: Buffer.from('x') }]))).toBe('no pack');
  expect(await said(packOf([{ type: BLOB, content: Buffer.alloc(1_000_000), size: OBJECT_MAX_BYTES + 1 }]))).toBe('no pack');
});

it('a pack that is too large to be walked is refused', async () => {
  expect(await said(packOf([{ type: BLOB, content: Buffer.from('x'), size: 2 ** 40 }]))).toBe('LimitExceeded');
  const many = Buffer.from('PACK\0\0\0\x02\x7f\0\0\0', 'latin1');
  expect(await said(Buffer.concat([many, createHash('sha1').update(many).digest()]))).toBe('LimitExceeded');
});

it.each([
  ['for another base', [4, 1, 1, 97]],
  ['that reaches too far', [3, 9, 0x91, 0, 9]],
  ['that makes less than it says', [3, 2, 1, 97]],
  ['that makes more than it says', [3, 1, 2, 97, 97]],
  ['with an instruction that nobody knows', [3, 1, 0]],
  ['that is cut off', [3, 1, 0x91]],
])('a delta %s makes nothing', (_, bytes) => {
  expect(() => applyDelta(Buffer.from('abc'), Buffer.from(bytes))).toThrow(Error);
});
