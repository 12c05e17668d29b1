import { lstat, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Digest } from '#src/digest.ts';
import { associatedDataOf, checkInside, MANIFEST_NAME, manifestOf } from '#src/envelope/layout.ts';
import { MANIFEST_MAX_BYTES, type Manifest, parseManifest } from '#src/envelope/manifest.ts';
import type { EnvelopeWorkers } from '#src/envelope/workers.ts';
import { Fault } from '#src/errors.ts';
import { asFault, codeOf, pathOf } from './faults.ts';
import type { Source } from './source.ts';

/**
 * A folder of plaintext, by its `file://` address. Throws Fault `InvalidRequest`, `NotFound`, `NotSupportedYet` for another scheme,
 * `WeightsChanged` where it is not the approved one.
 */
export async function openPlaintext(address: string, approved: Digest, workers: EnvelopeWorkers): Promise<Source> {
  const folder = await folderOf(address);
  const manifest = await approvedManifest(folder, approved, workers);
  return {
    manifest,
    // A plaintext that changed since a segment was half written would be a second text under that segment's nonce.
    resumable: false,
    sizeOf: (path) =>
      lstat(join(folder, path)).then(
        ({ size }) => size,
        () => 0,
      ),
    seal: async (line, { goal, under, hash, told }) => {
      const from = join(folder, line.path);
      await checkInside(folder, line.path).catch((error: unknown) => {
        throw codeOf(error) === 'ENOENT' ? changed(folder, line.path, error) : error;
      });
      const associatedData = associatedDataOf(manifest.digest, line.path);
      const order = { ...goal.order, from, openWith: null, sealWith: under.key, sealAs: under.codec, associatedData, hash };
      const passed = await workers.pass(order, told).catch((error: unknown) => {
        throw pathOf(error) === from ? asFault(error, `${folder}: ${line.path}`) : error;
      });
      if (passed.plaintextDigest !== line.digest) throw changed(folder, line.path);
      return passed;
    },
  };
}

function changed(source: string, path: string, cause?: unknown): Fault {
  return new Fault('WeightsChanged', `weights ${source}: ${path} is not the file that the approved manifest lists`, { cause });
}

async function folderOf(address: string): Promise<string> {
  if (!address.startsWith('file:///')) throw new Fault('NotSupportedYet', `artifact.address: only file:/// is read, not ${address}`);
  let path: string;
  try {
    path = fileURLToPath(address);
  } catch (cause) {
    throw new Fault('InvalidRequest', `artifact.address: not a file address: ${address}`, { cause });
  }
  return realpath(path).catch((cause: unknown) => {
    throw new Fault('NotFound', `artifact.address: ${path} is not there`, { cause });
  });
}

/** A `keyturn.manifest` beside the files, where it has the approved digest; else one is made from the files, which reads them once more. */
async function approvedManifest(folder: string, approved: Digest, workers: EnvelopeWorkers): Promise<Manifest> {
  const beside = await manifestBeside(folder);
  if (beside?.digest === approved) return beside;
  const made = await manifestOf(folder, workers);
  if (made.digest !== approved)
    throw new Fault('WeightsChanged', `weights ${folder}: its ${made.lines.length} files give ${made.digest}, approved is ${approved}`);
  return made;
}

async function manifestBeside(folder: string): Promise<Manifest | null> {
  const path = join(folder, MANIFEST_NAME);
  const found = await lstat(path).catch(() => null);
  if (found === null || !found.isFile() || found.size > MANIFEST_MAX_BYTES) return null;
  try {
    return parseManifest(await readFile(path, 'utf8'));
  } catch {
    // Not approved in this form: what counts is made from the files.
    return null;
  }
}
