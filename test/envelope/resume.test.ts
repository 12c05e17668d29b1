import { randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, linkSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { type Pass, type Passed, pass } from '#src/envelope/tink.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { testFolder } from './folder.ts';

const MiB = 1024 * 1024;
/** What a segment carries; the first has 40 bytes of header too. */
const ROOM = MiB - 16;
const plaintext = randomBytes(4 * MiB + 321);
const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
const associatedData = 'keyturn/v1\nx';

/** How many bytes of plaintext so many segments carry. */
const carried = (segments: number): number => (segments === 0 ? 0 : Math.min(segments * ROOM - 40, plaintext.length));

/** A sealed file, and the same re-encrypted: a part is made from that by cutting it. */
function setting() {
  const folder = testFolder();
  const at = (name: string) => join(folder, name);
  writeFileSync(at('plain'), plaintext);
  pass({ from: at('plain'), to: at('old'), openWith: null, sealWith: oldKey, associatedData, hash: 'neither' });
  const order: Pass = { from: at('old'), to: at('part'), openWith: oldKey, sealWith: newKey, associatedData, hash: 'both', resume: true };
  const whole = pass({ ...order, resume: false });
  const bytes = readFileSync(at('part'));
  const opened = (path: string) => pass({ from: path, to: null, openWith: newKey, sealWith: null, associatedData, hash: 'both' }).plaintextDigest;
  return { at, order, whole, bytes, opened };
}

function outcome(order: Pass): string {
  try {
    pass(order);
    return 'done';
  } catch (error) {
    if (isEnvelopeError(error)) return error.kind;
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

describe('re-encryption goes on behind the last whole segment', () => {
  it.each([
    [0, 0],
    [10, 0],
    [40, 0],
    [MiB - 1, 0],
    [MiB, 1],
    [MiB + 1, 1],
    [3 * MiB - 1, 2],
    [3 * MiB, 3],
    [4 * MiB + 100, 4],
    [Number.POSITIVE_INFINITY, 5],
  ])('of a part of %d bytes: %d segments are kept', (length, kept) => {
    const { at, order, whole, bytes, opened } = setting();
    writeFileSync(at('part'), bytes.subarray(0, Math.min(length, bytes.length)));
    const passed = pass(order);
    expect(passed.keptBytes).toBe(carried(kept));
    expect(passed.plaintextDigest).toBe(digestOf(plaintext));
    expect(passed.ciphertextDigest).toBe(digestOf(readFileSync(at('part'))));
    expect(opened(at('part'))).toBe(digestOf(plaintext));
    expect(passed.ciphertextDigest === whole.ciphertextDigest, 'the header is the part’s own, or a fresh one').toBe(kept > 0);
  });

  it('trusts no byte of it: what was changed is sealed again, and what hangs over is cut off', () => {
    const { at, order, bytes, opened } = setting();
    const changed = Buffer.from(bytes);
    changed[2 * MiB + 5] = (changed[2 * MiB + 5] ?? 0) ^ 1;
    writeFileSync(at('part'), Buffer.concat([changed, randomBytes(3 * MiB)]));
    expect(pass(order)).toMatchObject({ keptBytes: carried(2), plaintextDigest: digestOf(plaintext) });
    expect(readFileSync(at('part')).equals(bytes)).toBe(true);
    expect(opened(at('part'))).toBe(digestOf(plaintext));
  });

  it('keeps no segment of another place, nor of another part', () => {
    const { at, order, bytes, opened } = setting();
    const swapped = Buffer.from(bytes);
    bytes.copy(swapped, MiB, 2 * MiB, 3 * MiB);
    writeFileSync(at('part'), swapped);
    expect(pass(order).keptBytes).toBe(carried(1));
    pass({ ...order, to: at('another'), resume: false });
    writeFileSync(at('part'), Buffer.concat([bytes.subarray(0, 2 * MiB), readFileSync(at('another')).subarray(2 * MiB)]));
    expect(pass(order).keptBytes).toBe(carried(2));
    expect(opened(at('part'))).toBe(digestOf(plaintext));
  });

  it('counts what it kept in the digest: a part of another plaintext, under the right key, shows', () => {
    const { at, order } = setting();
    const other = Buffer.from(plaintext);
    other[7] = (other[7] ?? 0) ^ 1;
    writeFileSync(at('other'), other);
    pass({ from: at('other'), to: at('foreign'), openWith: null, sealWith: newKey, associatedData, hash: 'neither' });
    truncateSync(at('foreign'), 2 * MiB);
    const passed = pass({ ...order, to: at('foreign') });
    expect(passed.keptBytes).toBe(carried(2));
    expect(passed.plaintextDigest).not.toBe(digestOf(plaintext));
  });
});

describe('a part that is not ours', () => {
  it('is replaced by another file, never written to: under another key, or for another place', () => {
    const { at, order, opened } = setting();
    const others: readonly Partial<Pass>[] = [{ sealWith: randomBytes(32) }, { associatedData: 'keyturn/v1\ny', openWith: null, from: at('plain') }];
    for (const [index, other] of others.entries()) {
      const [part, second] = [at(`part-${index}`), at(`second-name-${index}`)];
      pass({ ...order, to: part, resume: false, ...other });
      linkSync(part, second);
      const before = readFileSync(second);
      expect(pass({ ...order, to: part }).keptBytes).toBe(0);
      expect(opened(part)).toBe(digestOf(plaintext));
      expect(readFileSync(second).equals(before)).toBe(true);
    }
  });

  it('is not followed where it is a link', () => {
    const { at, order, bytes } = setting();
    writeFileSync(at('elsewhere'), bytes.subarray(0, MiB));
    symlinkSync(at('elsewhere'), at('link'));
    expect(outcome({ ...order, to: at('link') })).toBe('ELOOP');
    expect(statSync(at('elsewhere')).size).toBe(MiB);
  });
});

describe('what stops on its way', () => {
  it('leaves its part, and the next one goes on, also from another copy', () => {
    const { at, order, bytes } = setting();
    writeFileSync(at('part'), bytes.subarray(0, MiB));
    copyFileSync(at('old'), at('torn'));
    const torn = readFileSync(at('torn'));
    torn[3 * MiB + 9] = (torn[3 * MiB + 9] ?? 0) ^ 1;
    writeFileSync(at('torn'), torn);
    expect(outcome({ ...order, from: at('torn') })).toBe('not-authentic');
    expect(statSync(at('part')).size).toBe(3 * MiB);
    expect(pass(order)).toMatchObject({ keptBytes: carried(3), plaintextDigest: digestOf(plaintext) });
    expect(readFileSync(at('part')).equals(bytes)).toBe(true);
  });

  it('never touches what it reads', () => {
    const { at, order } = setting();
    const before = [readFileSync(at('old')), statSync(at('old')).mtimeMs] as const;
    pass({ ...order, to: at('again') });
    expect(readFileSync(at('old')).equals(before[0])).toBe(true);
    expect(statSync(at('old')).mtimeMs).toBe(before[1]);
  });

  it('is the re-encrypting alone: a plaintext could have become another one', () => {
    const { at, order } = setting();
    expect(() => pass({ ...order, from: at('plain'), openWith: null, to: at('x') })).toThrow(TypeError);
    expect(existsSync(at('x'))).toBe(false);
  });
});

describe('how far a pass is', () => {
  it('is told after each segment, kept ones too', () => {
    const { at, order, bytes } = setting();
    writeFileSync(at('part'), bytes.subarray(0, 2 * MiB));
    const told: number[] = [];
    const passed: Passed = pass(order, (plaintextBytes) => told.push(plaintextBytes));
    expect(told).toEqual([1, 2, 3, 4, 5].map(carried));
    expect(told.at(-1)).toBe(passed.plaintextBytes);
  });

  it('comes out of the thread while the pass runs', async () => {
    const from = join(testFolder(), 'sparse');
    writeFileSync(from, '');
    // Longer than any machine hashes before this test ends; it takes no room.
    truncateSync(from, 2 ** 42);
    const workers = openWorkers(1);
    const first = Promise.withResolvers<number>();
    const ended = workers.pass({ from, to: null, openWith: null, sealWith: null, associatedData: '', hash: 'both' }, first.resolve).catch(() => 'ended');
    expect(await first.promise).toBeGreaterThan(0);
    expect(await Promise.race([ended, 'runs'])).toBe('runs');
    await workers.close();
    expect(await ended).toBe('ended');
  });
});

it('an error of the file system says which file it is about', async () => {
  const folder = testFolder();
  writeFileSync(join(folder, 'plain'), 'x');
  const workers = openWorkers(1);
  const order = { from: join(folder, 'plain'), openWith: null, sealWith: null, associatedData: '', hash: 'both' } as const;
  await expect(workers.pass({ ...order, to: join(folder, 'none', 'x') })).rejects.toMatchObject({ code: 'ENOENT', path: join(folder, 'none', 'x') });
  await expect(workers.pass({ ...order, from: '/proc/self/attr/none', to: null })).rejects.toMatchObject({ code: 'ENOENT', path: '/proc/self/attr/none' });
  await workers.close();
});
