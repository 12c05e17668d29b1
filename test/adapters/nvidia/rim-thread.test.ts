import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { openRimThread, type RimThread } from '#src/adapters/nvidia/index.ts';

const RIM = resolve(import.meta.dirname, '../../vectors/collateral/nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml');

let thread: RimThread | null = null;
afterEach(async () => {
  await thread?.close();
  thread = null;
});

it('reads one document after the other in one thread, and tells the same as the reader itself', async () => {
  thread = openRimThread();
  const bytes = await readFile(RIM);
  const [first, bad, third] = await Promise.all([thread.read(bytes), thread.read(Buffer.from('<!DOCTYPE a><a/>')), thread.read(bytes)]);
  expect(first).toMatchObject({ product: 'GH100', version: '550.144.03', holds: true });
  expect(bad).toMatchObject({ verdict: 'malformed', reason: 'CollateralMalformed' });
  expect(third).toEqual(first);
});

it('a document that takes too long costs the thread, and the next one gets another', async () => {
  thread = openRimThread(0);
  expect(await thread.read(await readFile(RIM))).toMatchObject({ verdict: 'malformed', reason: 'LimitExceeded' });
  await thread.close();
  thread = openRimThread();
  expect(await thread.read(await readFile(join(RIM)))).toMatchObject({ holds: true });
});
