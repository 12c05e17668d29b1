import { rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CODECS } from '#src/envelope/codec.ts';
import { sealedManifestName } from '#src/envelope/layout.ts';
import { codeOf } from './faults.ts';
import { type FolderPlace, ownFiles, syncFolder } from './store.ts';

/**
 * Deletes what is ours in a place, and the folders that this leaves empty: the sealed manifest first, and on the disk, so that what is
 * left is never taken for whole. What is not ours stays where it is. Throws Fault, or the file system's error.
 */
export async function removeCiphertext(place: FolderPlace): Promise<void> {
  const { files, folders } = await ownFiles(place);
  for (const name of CODECS.map(sealedManifestName)) {
    if (!files.some(({ path }) => path === name)) continue;
    await rm(join(place.folder, name), { force: true });
    await syncFolder(place.folder);
  }
  for (const { path } of files) await rm(join(place.folder, path), { force: true });
  // The workload's own folder too, where this was its last ciphertext.
  for (const folder of [...folders].reverse().concat(dirname(place.folder))) await removeWhereEmpty(folder);
  await syncFolder(place.root);
}

/** Removes a folder; one that stays forgets on the disk too what was deleted in it. */
async function removeWhereEmpty(folder: string): Promise<void> {
  try {
    await rmdir(folder);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOTEMPTY' || code === 'EEXIST') await syncFolder(folder);
    else if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
  }
}

/** Whether anything of ours is in a place: a sealed file, or a part of one. */
export async function isPresent(place: FolderPlace): Promise<boolean> {
  const { files } = await ownFiles(place);
  return files.length > 0;
}
