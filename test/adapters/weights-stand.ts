import { join } from 'node:path';
import { afterAll } from 'vitest';
import { openWeights } from '#src/adapters/weights/index.ts';
import { type EnvelopeWorkers, openWorkers } from '#src/envelope/workers.ts';
import { isFault } from '#src/errors.ts';
import { writeModel } from '#src/lab/model.ts';
import type { Secret } from '#src/secret.ts';
import type { Mine, SealOrder, Weights } from '#src/world.ts';
import { testFolder } from '#test/envelope/folder.ts';

export const MiB = 1024 * 1024;
/** Where the models of these tests are sealed, and sealed anew. */
export const PREFIX = 'w-1/r-0123456789abcdef';
export const NEXT_PREFIX = 'w-1/r-fedcba9876543210';
/** The one large file of a model of 3 MiB. */
export const SHARD = 'model-00001-of-00001.safetensors';

/** Threads for all tests of a file: each would need half a second to start its own. */
const threads = openWorkers(2);
afterAll(() => threads.close());

export const always = async (): Promise<boolean> => true;

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

/** A model of 3 MiB (one shard, an index, a config), and two stores. */
export async function openStand(workers: EnvelopeWorkers = threads) {
  const [source, one, two] = [testFolder(), testFolder(), testFolder()];
  const { manifestDigest } = await writeModel(source, { sizeBytes: 3 * MiB, seed: 1 });
  const configured = {
    one: { kind: 'file', path: one, guestAddress: 'file:///models' },
    two: { kind: 'file', path: two, guestAddress: 'file:///models-two' },
  } as const;
  const weights = openWeights(configured, workers);
  const order: SealOrder = {
    source: { kind: 'plaintext', address: `file://${source}` },
    plaintextManifest: manifestDigest,
    codec: 'tink-aes256-gcm-hkdf-1mb',
    stores: ['one', 'two'],
    prefix: PREFIX,
  };
  const sealed = (store: 'one' | 'two', path: string, prefix = PREFIX) => join(store === 'one' ? one : two, prefix, `${path}.sealed`);
  return { source, one, two, configured, weights, order, sealed };
}

/** Seals from plaintext, with nobody who looks on. */
export function seal(weights: Weights, order: SealOrder, key: Secret, mine: Mine = always): Promise<void> {
  return weights.seal(order, { seal: key, open: null }, mine, async () => {});
}
