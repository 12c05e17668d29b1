import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { asFault } from '#src/adapters/weights/faults.ts';
import type { Digest } from '#src/digest.ts';
import { filesOf, manifestOf } from '#src/envelope/layout.ts';
import { type EnvelopeWorkers, openWorkers } from '#src/envelope/workers.ts';
import { Fault } from '#src/errors.ts';

/** A folder of plaintext weights, read once. */
export interface HashedWeights {
  /** `file://…` of the folder. */
  readonly address: string;
  readonly manifest: Digest;
  readonly files: number;
  readonly sizeBytes: number;
}

/** Hears how far the reading is, after each file. */
export type OnHashed = (doneBytes: number, totalBytes: number) => void;

/** Reads every file of a folder, or of its `file://` address, and makes its manifest. Throws Fault. */
export async function hashWeights(weights: string, onHashed: OnHashed): Promise<HashedWeights> {
  const folder = folderOf(weights);
  const workers = openWorkers();
  try {
    const sizes = await sizesOf(folder);
    const sizeBytes = sizes.reduce((sum, size) => sum + size, 0);
    let doneBytes = 0;
    const counting: EnvelopeWorkers = {
      ...workers,
      pass: async (order) => {
        const passed = await workers.pass(order);
        doneBytes += passed.plaintextBytes;
        onHashed(doneBytes, sizeBytes);
        return passed;
      },
    };
    const { digest } = await manifestOf(folder, counting);
    return { address: pathToFileURL(folder).href, manifest: digest, files: sizes.length, sizeBytes };
  } catch (thrown) {
    throw asFault(thrown, `manifest of ${folder}`);
  } finally {
    await workers.close();
  }
}

/** The sizes of a model's files. Throws EnvelopeError, or the file system's error. */
export async function sizesOf(folder: string): Promise<readonly number[]> {
  return Promise.all((await filesOf(folder)).map(async (path) => (await stat(join(folder, path))).size));
}

function folderOf(weights: string): string {
  if (!/^[a-z][a-z0-9+.-]*:/i.test(weights)) return resolve(weights);
  if (!weights.startsWith('file:///')) throw new Fault('NotSupportedYet', `--weights ${weights}: only a folder, or file:///…, is read`);
  try {
    return fileURLToPath(weights);
  } catch (cause) {
    throw new Fault('InvalidRequest', `--weights ${weights}: not a file address`, { cause });
  }
}
