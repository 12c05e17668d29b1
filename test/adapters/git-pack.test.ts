import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { checkPack, OBJECT_MAX_BYTES } from '#src/adapters/git/pack.ts';
import { isFault } from '#src/errors.ts';
import { reasonOf, withGit } from './git-parts.ts';

/** A number of seven bits a byte, smallest first, as deltas write it. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** A pack of one entry, whose header says `size`. */
function packOf(type: number, size: number, name: Buffer, content: Buffer): Buffer {
  const header = Buffer.from('PACK\0\0\0\x02\0\0\0\x01', 'latin1');
  const first = Buffer.from([(type << 4) | (size % 16) | (size >= 16 ? 128 : 0)]);
  const more = size >= 16 ? varint(Math.floor(size / 16)) : Buffer.alloc(0);
  return Buffer.concat([header, first, more, name, deflateSync(content), Buffer.alloc(20)]);
}

function said(pack: Buffer): string {
  try {
    checkPack(pack);
    return 'good';
  } catch (thrown) {
    return isFault(thrown) ? thrown.reason : 'no pack';
  }
}

it('a file that is small on the wire and large unpacked is refused before it is unpacked', () =>
  withGit(async (lab, git) => {
    await lab.commit({ 'trust/1.yaml': 'x', 'zeros.bin': Buffer.alloc(OBJECT_MAX_BYTES + 1) }, 'a bomb');
    expect(await reasonOf(git.poll(null))).toBe('LimitExceeded');
  }));

it('a delta counts with what it makes, and a header that says less than is there is no pack', () => {
  const delta = (size: number): Buffer => Buffer.concat([varint(100), varint(size), Buffer.from([0x80])]);
  const name = Buffer.alloc(20);
  expect(said(packOf(7, delta(1000).length, name, delta(1000)))).toBe('good');
  expect(said(packOf(7, delta(2 ** 40).length, name, delta(2 ** 40)))).toBe('LimitExceeded');
  expect(said(packOf(3, 2 ** 40, Buffer.alloc(0), Buffer.from('x')))).toBe('LimitExceeded');
  expect(said(packOf(3, 5, Buffer.alloc(0), Buffer.alloc(1_000_000)))).toBe('no pack');
  expect(said(packOf(3, 5, Buffer.alloc(0), Buffer.alloc(5)).subarray(0, 16))).toBe('no pack');
});

it('what git packs, deltas of both kinds included, passes', () =>
  withGit(async (lab, _, folder) => {
    for (let serial = 0; serial < 12; serial += 1) await lab.commit({ [`releases/w/${serial}.yaml`]: 'a line of text\n'.repeat(300) + serial }, 'x');
    const packed = (...words: readonly string[]): Buffer =>
      execFileSync('git', ['--git-dir', join(folder, 'releases.git'), 'pack-objects', '--stdout', '--all', '-q', ...words], {
        input: '',
        stdio: ['pipe', 'pipe', 'ignore'],
      });
    for (const pack of [packed(), packed('--delta-base-offset')]) expect(said(pack)).toBe('good');
  }));
