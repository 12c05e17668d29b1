import { randomBytes } from 'node:crypto';
import { link, lstat, mkdir, open, readdir, realpath, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Fault } from '#src/errors.ts';
import { codeOf } from './faults.ts';

/** What a file is called until it is whole. 16 random digits, so that two processes never write to one file. */
const PART = /\.[0-9a-f]{16}\.part$/;

/** One sealing's folder in one store. */
export interface Place {
  readonly store: string;
  /** `<store's path>/<workload>/<rotation>`. */
  readonly folder: string;
  /** The real path of the store: nothing is written outside. */
  readonly root: string;
}

/** Finds the place. Throws Fault `NotFound` where the store's own folder is missing, `InvalidRequest` for a prefix that leaves it. */
export async function placeOf(store: string, path: string, prefix: string): Promise<Place> {
  if (!/^[A-Za-z0-9_-]+\/[A-Za-z0-9_-]+$/.test(prefix)) throw new Fault('InvalidRequest', `weights store ${store}: not a prefix: ${prefix}`);
  const root = await realpath(path).catch((cause: unknown) => {
    throw new Fault('NotFound', `weights store ${store}: its folder ${path} is not there`, { cause });
  });
  return { store, folder: join(root, prefix), root };
}

/** Tells the file at this path from any that takes its place; null where there is none. */
export async function stampOf(path: string): Promise<string | null> {
  return lstat(path, { bigint: true }).then(
    ({ ino, size, mtimeNs }) => `${ino} ${size} ${mtimeNs}`,
    (error: unknown) => {
      if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
      throw error;
    },
  );
}

/** Deletes what a process that died left half written. */
export async function removeParts(place: Place): Promise<void> {
  if ((await stampOf(place.folder)) === null) return;
  for (const entry of await readdir(place.folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile() && PART.test(entry.name)) await rm(join(entry.parentPath, entry.name), { force: true });
  }
}

/**
 * Puts one file into the store so that it is there whole or not at all, also after a power cut: `write` fills a new file beside it (and
 * brings it to the disk), which then takes its name.
 *
 * The first one to finish wins: where another process has put the file there meanwhile, ours is dropped and Fault `Conflict` thrown, so
 * that a sleeper never changes a ciphertext whose digest was recorded. `torn` is the stamp of a file that was found torn: that one, and no
 * other that took its place since, is removed first.
 */
export async function putFile<T>(place: Place, path: string, torn: string | null, write: (part: string) => Promise<T>): Promise<T> {
  const final = join(place.folder, path);
  const folder = dirname(final);
  await mkdir(folder, { recursive: true });
  if (!`${await realpath(folder)}/`.startsWith(`${place.root}/`)) throw new Fault('InvalidRequest', `weights store ${place.store}: ${path} leads out of it`);
  const part = `${final}.${randomBytes(8).toString('hex')}.part`;
  try {
    const written = await write(part);
    if (torn !== null && (await stampOf(final)) === torn) await rm(final, { force: true });
    await take(place, part, final, path);
    await syncFolder(folder);
    return written;
  } finally {
    await rm(part, { force: true });
  }
}

async function take(place: Place, part: string, final: string, path: string): Promise<void> {
  try {
    await link(part, final);
    await unlink(part);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EEXIST') throw new Fault('Conflict', `weights store ${place.store}: another process has just sealed ${path}`, { cause: error });
    // Some network and FUSE file systems have no hard links; there the last one wins, and the next look compares digests.
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'ENOSYS') throw error;
    await rename(part, final);
  }
}

/** A new name is on the disk only when its folder is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
