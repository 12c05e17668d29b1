import { randomBytes } from 'node:crypto';
import { closeSync, constants, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { openReader, openWriter } from '#src/envelope/blocks.ts';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { pass } from '#src/envelope/tink.ts';
import { testFolder } from './folder.ts';

const MiB = 1024 * 1024;
/** So much plaintext fills eight segments, and with them two windows, to the last byte. */
const EIGHT_SEGMENTS = 8 * MiB - 8 * 16 - 40;
const associatedData = 'keyturn/v1\nx';

/** Where the disk is, and where a file system in memory is, if there is one: they differ in what they take past the cache. */
const grounds: readonly (() => string)[] = [testFolder, ...(existsSync('/dev/shm') ? [memoryFolder] : [])];

function memoryFolder(): string {
  const folder = mkdtempSync('/dev/shm/keyturn-test-');
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** How many descriptors of this process lead to a file. */
function descriptorsOf(path: string): number {
  const target = (descriptor: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${descriptor}`);
    } catch {
      return ''; // closed meanwhile
    }
  };
  return readdirSync('/proc/self/fd').filter((descriptor) => target(descriptor) === path).length;
}

function takesDirect(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_DIRECT));
    return true;
  } catch {
    return false;
  }
}

describe.each(grounds.map((ground) => [ground.name, ground] as const))('in a %s', (_, ground) => {
  it.each([0, 1, 4 * MiB - 1, 4 * MiB, 4 * MiB + 1, EIGHT_SEGMENTS - 1, EIGHT_SEGMENTS, EIGHT_SEGMENTS + 1, 9 * MiB + 4095])(
    '%d bytes come back as they were, sealed, re-encrypted and opened',
    (length) => {
      const folder = ground();
      const at = (name: string) => join(folder, name);
      const [oldKey, newKey, plaintext] = [randomBytes(32), randomBytes(32), randomBytes(length)];
      writeFileSync(at('plain'), plaintext);
      const sealed = pass({ from: at('plain'), to: at('old'), openWith: null, sealWith: oldKey, associatedData, hash: 'both' });
      const again = pass({ from: at('old'), to: at('new'), openWith: oldKey, sealWith: newKey, associatedData, hash: 'both' });
      pass({ from: at('new'), to: at('opened'), openWith: newKey, sealWith: null, associatedData, hash: 'neither' });
      expect(readFileSync(at('opened')).equals(plaintext)).toBe(true);
      expect(again.plaintextDigest).toBe(sealed.plaintextDigest);
      expect([sealed, again].map(({ ciphertextDigest }) => ciphertextDigest)).toEqual([at('old'), at('new')].map((path) => digestOf(readFileSync(path))));
      expect([sealed, again].map(({ ciphertextBytes }) => ciphertextBytes)).toEqual([at('old'), at('new')].map((path) => readFileSync(path).length));
    },
  );

  it('a long file has a second descriptor past the page cache where there is such a way, and none is left open', () => {
    const path = join(ground(), 'long');
    writeFileSync(path, randomBytes(9 * MiB));
    const file = { path, descriptor: openSync(path, 'r+') };
    const ways = takesDirect(path) ? 2 : 1;
    for (const open of [() => openReader(file, 9 * MiB), () => openWriter(file, 0, 9 * MiB)]) {
      const opened = open();
      expect(descriptorsOf(path)).toBe(ways);
      opened.close();
      expect(descriptorsOf(path)).toBe(1);
    }
    closeSync(file.descriptor);
  });

  it('a file that is cut while it is read is cut short, wherever its end lies now', () => {
    for (const length of [MiB, 5 * MiB, 5 * MiB + 17]) {
      const path = join(ground(), 'cut');
      const bytes = randomBytes(12 * MiB);
      writeFileSync(path, bytes);
      const file = { path, descriptor: openSync(path, 'r') };
      const reader = openReader(file, bytes.length);
      expect(reader.take(0, MiB).equals(bytes.subarray(0, MiB))).toBe(true);
      truncateSync(path, length);
      let kind: string | null = null;
      try {
        for (let at = MiB; at < bytes.length; at += MiB) reader.take(at, MiB);
      } catch (error) {
        kind = isEnvelopeError(error) ? error.kind : String(error);
      }
      expect(kind).toBe('truncated');
      reader.close();
      closeSync(file.descriptor);
    }
  });

  it('pieces of any length are read as they lie, forwards, and after a jump', () => {
    const path = join(ground(), 'pieces');
    const bytes = randomBytes(13 * MiB + 333);
    writeFileSync(path, bytes);
    const file = { path, descriptor: openSync(path, 'r') };
    const reader = openReader(file, bytes.length);
    const lengths = [1, 39, 4096, MiB, MiB - 16, MiB - 56];
    for (const from of [0, 6 * MiB + 1, 3]) {
      for (let at = from, turn = 0; at < bytes.length; turn += 1) {
        const length = Math.min(lengths[turn % lengths.length] ?? 1, bytes.length - at);
        expect(reader.take(at, length).equals(bytes.subarray(at, at + length))).toBe(true);
        at += length;
      }
    }
    reader.close();
    closeSync(file.descriptor);
  });
});
