import { randomBytes } from 'node:crypto';
import { link, lstat, mkdir, open, readdir, realpath, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { isSealedName } from '#src/envelope/layout.ts';
import { Fault } from '#src/errors.ts';
import { asFault, codeOf } from './faults.ts';
import { checkPrefix } from './place.ts';

/** What a file is called until it is whole. 16 random digits, so that two processes never write to one file. */
const PART = /(?<=\.(?:sealed|jwe))\.[0-9a-f]{16}\.part$/;

/** One sealing's folder in a store of kind `file`. */
export interface FolderPlace {
  readonly store: string;
  /** `<workload>/<rotation>`. */
  readonly prefix: string;
  /** `<store's path>/<workload>/<rotation>`. */
  readonly folder: string;
  /** The real path of the store: nothing is written outside. */
  readonly root: string;
}

/** Finds the place. Throws Fault `NotFound` where the store's own folder is missing, `InvalidRequest` for a prefix that leaves it. */
export async function placeOf(store: string, path: string, prefix: string): Promise<FolderPlace> {
  checkPrefix(store, prefix);
  const root = await realpath(path).catch((cause: unknown) => {
    throw new Fault('NotFound', `weights store ${store}: its folder ${path} is not there`, { cause });
  });
  return { store, prefix, folder: join(root, prefix), root };
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

/** A file of ours in a place. */
interface OwnFile {
  /** From the place's folder. */
  readonly path: string;
  /** null: it is whole. Else the path of the file that this part was to become. */
  readonly partOf: string | null;
}

/**
 * What lies in a place: our own files, by their names, and every folder, the deepest last. Links and other people's files are not listed.
 * Throws Fault `InvalidRequest` where the place is reached through a link.
 */
export async function ownFiles({ store, folder }: FolderPlace): Promise<{ readonly files: readonly OwnFile[]; readonly folders: readonly string[] }> {
  const real = await realpath(folder).catch(nullWhereMissing);
  if (real === null) return { files: [], folders: [] };
  if (real !== folder) throw new Fault('InvalidRequest', `weights store ${store}: ${folder} is reached through a link`);
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter((path) => isSealedName(path) || PART.test(path))
    .map((path) => ({ path, partOf: PART.test(path) ? path.replace(PART, '') : null }));
  const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
  return { files, folders: [folder, ...folders.sort((a, b) => a.length - b.length)] };
}

function nullWhereMissing(error: unknown): null {
  if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
  throw error;
}

/**
 * Takes over what processes that died left half written, and gives it by the path of the file that it was to become; deletes what is not
 * `wanted`. It gets a name of ours, which no two can give it, so that its writer, should it only have slept, cannot bring it to an end.
 */
export async function takeParts(place: FolderPlace, wanted: (path: string) => boolean): Promise<ReadonlyMap<string, string>> {
  const { files } = await ownFiles(place);
  const taken = new Map<string, string>();
  for (const { path, partOf } of files) {
    if (partOf === null) continue;
    const found = join(place.folder, path);
    // One that has its final name too is part of a ciphertext already: never written to again.
    const alone = await lstat(found).then(({ nlink }) => nlink === 1, nullWhereMissing);
    const part = partName(join(place.folder, partOf));
    if (alone === true && wanted(partOf) && !taken.has(partOf) && (await rename(found, part).catch(nullWhereMissing)) !== null) taken.set(partOf, part);
    else await rm(found, { force: true });
  }
  return taken;
}

function partName(final: string): string {
  return `${final}.${randomBytes(8).toString('hex')}.part`;
}

/**
 * Puts one file into the store so that it is there whole or not at all, also after a power cut: `write` fills a new file beside it (and
 * brings it to the disk), which then takes its name.
 *
 * The first one to finish wins: where another process has put the file there meanwhile, ours is dropped and Fault `Conflict` thrown, so
 * that a sleeper never changes a ciphertext whose digest was recorded. `torn` is the stamp of a file that was found torn: that one, and no
 * other that took its place since, is removed first. `resume`: the part to go on with (null: a new one), which stays where `write` fails.
 * Every error is a Fault that names store and file. The name itself is on the disk once its folder was synced: see `syncNames`.
 */
export async function putFile<T>(
  place: FolderPlace,
  path: string,
  torn: string | null,
  write: (part: string) => Promise<T>,
  resume?: { readonly part: string | null },
): Promise<T> {
  const final = join(place.folder, path);
  const folder = dirname(final);
  const part = resume?.part ?? partName(final);
  let keep = resume !== undefined;
  try {
    await mkdir(folder, { recursive: true });
    if (!`${await realpath(folder)}/`.startsWith(`${place.root}/`)) throw new Fault('InvalidRequest', `weights store ${place.store}: ${path} leads out of it`);
    const written = await write(part);
    keep = false;
    if (torn !== null && (await stampOf(final)) === torn) await rm(final, { force: true });
    await take(place, part, final, path);
    return written;
  } catch (error) {
    throw asFault(error, `store ${place.store}: ${place.prefix}/${path}`);
  } finally {
    if (!keep) await rm(part, { force: true });
  }
}

async function take(place: FolderPlace, part: string, final: string, path: string): Promise<void> {
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

/** Brings the names of these files to the disk, and of the folders that they lie in, up to the store's own. */
export async function syncNames(place: FolderPlace, paths: readonly string[]): Promise<void> {
  const folders = new Set<string>([place.root]);
  for (const path of paths) {
    for (let folder = dirname(join(place.folder, path)); !folders.has(folder); folder = dirname(folder)) folders.add(folder);
  }
  for (const folder of folders) await syncFolder(folder);
}

/** A new name, or that one is gone, is on the disk only when its folder is. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
