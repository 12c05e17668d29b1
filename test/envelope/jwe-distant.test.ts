import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';
import type { ByteSource } from '#src/envelope/distant.ts';
import { openJwe, sealJwe } from '#src/envelope/jwe.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { Secret } from '#src/secret.ts';
import { testFolder } from './folder.ts';

const MiB = 1024 * 1024;
const workers = openWorkers(1);
afterAll(() => workers.close());

function sourceOf(bytes: Buffer): ByteSource {
  return { name: 'distant', sizeBytes: bytes.length, read: async (at, into) => void bytes.copy(into, 0, at), close: () => {} };
}

it('a pass from one distant JWE to another keeps every byte, and says before how many there will be', async () => {
  using openWith = new Secret(randomBytes(32));
  using sealWith = new Secret(randomBytes(32));
  for (const length of [1, MiB + 1, 3 * MiB]) {
    const plaintext = randomBytes(length);
    const written: Buffer[] = [];
    const said = new Set<number>();
    const write = async (bytes: Buffer, fileBytes: number): Promise<void> => {
      written.push(Buffer.from(bytes));
      said.add(fileBytes);
    };
    const order = { openWith, openAs: 'kserve-jwe', sealWith, sealAs: 'kserve-jwe', associatedData: '', hash: 'neither' } as const;
    await workers.pass({ ...order, from: sourceOf(sealJwe(plaintext, openWith.reveal())), to: { name: 'distant', write } });
    const text = Buffer.concat(written);
    expect([...said]).toEqual([text.length]);
    expect(openJwe(text, sealWith.reveal()).equals(plaintext)).toBe(true);
  }
});

it('a pass that fails is over only when its last window was carried off: the memory that it came in is another’s then', async () => {
  using openWith = new Secret(randomBytes(32));
  using sealWith = new Secret(randomBytes(32));
  const [plain, sealed] = [join(testFolder(), 'plain'), join(testFolder(), 'sealed')];
  writeFileSync(plain, randomBytes(4 * MiB));
  await workers.pass({ from: plain, to: sealed, openWith: null, sealWith: openWith, associatedData: '', hash: 'neither' });
  const bytes = readFileSync(sealed);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  writeFileSync(sealed, bytes);
  let [over, under, early] = [false, 0, false];
  const write = async (): Promise<void> => {
    under += 1;
    // A network that is slower than whatever fails meanwhile.
    for (const until = performance.now() + 200; !over && performance.now() < until; ) await setImmediate();
    early ||= over;
    under -= 1;
  };
  const passed = workers.pass({ from: sealed, to: { name: 'distant', write }, openWith, sealWith, sealAs: 'kserve-jwe', associatedData: '', hash: 'neither' });
  await expect(passed).rejects.toMatchObject({ kind: 'not-authentic' });
  over = true;
  expect([under, early]).toEqual([0, false]);
});
