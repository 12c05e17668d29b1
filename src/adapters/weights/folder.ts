import { lstat, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Codec } from '#src/envelope/codec.ts';
import { checkInside, readSealedManifest } from '#src/envelope/layout.ts';
import { codeOf, pathOf } from './faults.ts';
import type { Goal, Place } from './place.ts';
import { isPresent, removeCiphertext } from './remove.ts';
import { type FolderPlace, placeOf, putFile, stampOf, syncNames, takeParts } from './store.ts';

/** A place in a store of kind `file`. Throws Fault as `placeOf` does. */
export async function openFolderPlace(store: string, path: string, prefix: string): Promise<Place> {
  const place = await placeOf(store, path, prefix);
  const at = (file: string): string => join(place.folder, file);
  let parts: ReadonlyMap<string, string> = new Map();
  return {
    store,
    prefix,
    isDistant: false,
    stampOf: (file) => stampOf(at(file)),
    sizeOf: (file) =>
      lstat(at(file)).then(
        ({ size }) => size,
        () => 0,
      ),
    open: async (file) => {
      const from = at(file);
      const found = await checkInside(place.root, join(prefix, file)).then(() => true, falseWhereMissing);
      return found ? { from, isAbout: (thrown) => pathOf(thrown) === from } : null;
    },
    manifest: (codec) => manifestOf(place, codec),
    takeParts: async (wanted) => {
      parts = await takeParts(place, wanted);
    },
    dropPart: async (file) => {
      const part = parts.get(file);
      if (part !== undefined) await rm(part, { force: true });
    },
    put: (file, torn, resumable, write) =>
      putFile(place, file, torn, (to) => write(goalOf(to, resumable)), resumable ? { part: parts.get(file) ?? null } : undefined),
    putBytes: (file, torn, bytes) => putFile(place, file, torn, (part) => writeWhole(part, bytes)),
    settle: (files) => syncNames(place, files),
    remove: () => removeCiphertext(place),
    isPresent: () => isPresent(place),
  };
}

function goalOf(to: string, resumable: boolean): Goal {
  const again = async (): Promise<Goal> => {
    await rm(to, { force: true });
    return goalOf(to, resumable);
  };
  const goal: Goal = { order: resumable ? { to, resume: true } : { to }, rewound: async () => goal, again };
  return goal;
}

async function manifestOf(place: FolderPlace, codec: Codec): Promise<Buffer | null> {
  try {
    return await readSealedManifest(place.folder, codec);
  } catch (error) {
    falseWhereMissing(error);
    return null;
  }
}

async function writeWhole(path: string, bytes: Buffer): Promise<void> {
  const handle = await open(path, 'wx', 0o644);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function falseWhereMissing(error: unknown): false {
  if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return false;
  throw error;
}
