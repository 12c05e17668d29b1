import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { ByteSink, ByteSource } from '#src/envelope/distant.ts';
import { newHeader } from '#src/envelope/tink.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { Secret } from '#src/secret.ts';
import { testFolder } from './folder.ts';

const MiB = 1024 * 1024;
const workers = openWorkers(2);
afterAll(() => workers.close());

/** A distant file that lies in memory; it counts how much was asked of it before it was closed. */
function source(bytes: Buffer, read: (at: number, into: Buffer) => Promise<void> = async (at, into) => void bytes.copy(into, 0, at)) {
  const counted = { closed: 0, asked: 0 };
  const end: ByteSource = {
    name: 'far/a',
    sizeBytes: bytes.length,
    read: async (at, into) => {
      counted.asked += into.length;
      await read(at, into);
    },
    close: () => {
      counted.closed += 1;
    },
  };
  return { end, counted };
}

/** Takes what comes, each piece after a turn of the event loop. */
function sink() {
  const pieces: Buffer[] = [];
  const lengths = new Set<number>();
  const end: ByteSink = {
    name: 'far/b',
    write: async (bytes, fileBytes) => {
      await new Promise((resolve) => setImmediate(resolve));
      pieces.push(Buffer.from(Uint8Array.from(bytes)));
      lengths.add(fileBytes);
    },
  };
  return { end, lengths, bytes: () => Buffer.concat(pieces) };
}

const key = () => new Secret(Buffer.alloc(32, 7));
const base = { associatedData: 'keyturn/v1\na\nb', hash: 'both' } as const;

describe('a file that somebody else fetches and carries off', () => {
  it.each([0, 1, 1_048_520, 1_048_521, 2 * MiB, 3 * MiB - 72, 5 * MiB + 17])('of %i bytes seals to what opens again, there and here', async (bytes) => {
    const folder = testFolder();
    const plain = randomBytes(bytes);
    const from = join(folder, 'plain');
    writeFileSync(from, plain);
    using sealWith = key();
    const far = sink();
    const sealed = await workers.pass({ ...base, from, to: far.end, openWith: null, sealWith });
    expect(far.bytes().length).toBe(sealed.ciphertextBytes);
    expect([...far.lengths]).toEqual([sealed.ciphertextBytes]);
    const again = source(far.bytes());
    const to = join(folder, 'opened');
    const opened = await workers.pass({ ...base, from: again.end, to, openWith: sealWith, sealWith: null });
    expect(readFileSync(to).equals(plain)).toBe(true);
    expect(opened).toMatchObject({ plaintextDigest: sealed.plaintextDigest, ciphertextDigest: sealed.ciphertextDigest });
    expect(again.counted).toEqual({ closed: 1, asked: far.bytes().length });
  });

  it('is the same bytes again under the same header, and others under another one', async () => {
    const plain = randomBytes(2 * MiB);
    using sealWith = key();
    const sealedWith = async (header: Buffer) => {
      const far = sink();
      const near = source(plain);
      await workers.pass({ ...base, from: near.end, to: far.end, openWith: null, sealWith, header });
      return far.bytes();
    };
    const header = newHeader();
    const [one, two, three] = [await sealedWith(header), await sealedWith(header), await sealedWith(newHeader())];
    expect(one.equals(two)).toBe(true);
    expect(one.subarray(0, header.length).equals(header)).toBe(true);
    expect(one.equals(three)).toBe(false);
  });

  it('ends with what its end has thrown, whichever it is, and the thread goes on with the next one', async () => {
    using sealWith = key();
    const bytes = randomBytes(4 * MiB);
    const broken = new Error('the line is down');
    const failing = source(bytes, async (at) => {
      if (at > MiB) throw broken;
    });
    await expect(workers.pass({ ...base, from: failing.end, to: sink().end, openWith: null, sealWith })).rejects.toBe(broken);
    expect(failing.counted.closed).toBe(1);
    const full: ByteSink = { name: 'far/full', write: () => Promise.reject(broken) };
    await expect(workers.pass({ ...base, from: source(bytes).end, to: full, openWith: null, sealWith })).rejects.toBe(broken);
    const far = sink();
    await workers.pass({ ...base, from: source(bytes).end, to: far.end, openWith: null, sealWith });
    expect(far.bytes().length).toBeGreaterThan(bytes.length);
  });

  it('is as little trusted as one that lies here: cut, changed, or swapped bytes do not open', async () => {
    using sealWith = key();
    const far = sink();
    await workers.pass({ ...base, from: source(randomBytes(3 * MiB)).end, to: far.end, openWith: null, sealWith });
    const open = (bytes: Buffer, associatedData: string = base.associatedData) =>
      workers.pass({ ...base, associatedData, from: source(bytes).end, to: null, openWith: sealWith, sealWith: null });
    const flipped = far.bytes();
    flipped[2 * MiB] = (flipped[2 * MiB] ?? 0) ^ 1;
    await expect(open(flipped)).rejects.toMatchObject({ kind: 'not-authentic' });
    await expect(open(far.bytes().subarray(0, 2 * MiB))).rejects.toMatchObject({ kind: 'not-authentic' });
    await expect(open(far.bytes().subarray(0, 20))).rejects.toMatchObject({ kind: 'truncated' });
    await expect(open(far.bytes(), 'keyturn/v1\na\nc')).rejects.toMatchObject({ kind: 'not-authentic' });
    await open(far.bytes());
  });

  it('never has more under way than its window, however slow its end is', async () => {
    using sealWith = key();
    let most = 0;
    let given = 0;
    let taken = 0;
    const near = source(Buffer.alloc(16 * MiB), async (_at, into) => {
      given += into.length;
      most = Math.max(most, given - taken);
    });
    const slow: ByteSink = {
      name: 'far/slow',
      write: async (bytes) => {
        for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
        taken += bytes.length;
      },
    };
    await workers.pass({ ...base, hash: 'neither', from: near.end, to: slow, openWith: null, sealWith });
    expect(most).toBeLessThanOrEqual(6 * MiB);
  });

  it('does not keep a thread that waits for it from being closed', async () => {
    using sealWith = key();
    const own = openWorkers(1);
    const asked = Promise.withResolvers<void>();
    const never = source(Buffer.alloc(MiB), () => {
      asked.resolve();
      return new Promise(() => {});
    });
    const pass = own.pass({ ...base, from: never.end, to: null, openWith: null, sealWith });
    const ended = expect(pass).rejects.toThrow();
    await asked.promise;
    await own.close();
    await ended;
  });
});
