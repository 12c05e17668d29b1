import { documentOfBundle, FOLDERS, placeOf } from '#src/domain/documents/places.ts';
import { DOCUMENT_MAX_BYTES } from '#src/domain/documents/yaml.ts';
import type { Snapshot, Unread } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { readCommit, readRaw, readTree, type Store, type TreeEntry } from './objects.ts';

/** Each folder has an allowance of its own, so that junk in one never keeps another from being read. */
const FOLDER_MAX_FILES = 20_000;
const FOLDER_MAX_BYTES = 32 * 1024 * 1024;
/** `releases/<workload>/<serial>.yaml`. */
const DEPTH_MAX = 2;
/** A bundle is text of this name, documents and named files are documents' size; nothing else is read. */
const FILE_MAX_BYTES = DOCUMENT_MAX_BYTES;
/** Refusals that are told: the rest is more of the same. */
const UNREAD_MAX = 1000;

interface Walk {
  readonly store: Store;
  readonly files: RepositoryFile[];
  readonly unread: Unread[];
  bytes: number;
  count: number;
}

/**
 * Reads the watched folders of a commit: plain files of mode 100644 where documents and bundles live.
 * Links, submodules, executables, names in capitals, deeper folders and what is too large are left out and
 * said to be; one bad entry never hides another. Files of other names (a README) are passed over.
 */
export async function readSnapshot(store: Store, commit: string): Promise<Snapshot> {
  const { tree } = await readCommit(store, commit);
  const root = await readTree(store, tree);
  const files: RepositoryFile[] = [];
  const unread: Unread[] = [];
  for (const folder of FOLDERS) {
    const entry = root.find(({ name }) => name === folder);
    if (entry === undefined) continue;
    const walk: Walk = { store, files: [], unread: [], bytes: 0, count: 0 };
    if (entry.mode === '40000') await readFolder(walk, entry.oid, folder, 1);
    else unread.push({ path: folder, reason: 'WrongPlace', about: `mode ${entry.mode}, expected a folder` });
    files.push(...walk.files);
    unread.push(...walk.unread);
  }
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { commit, files, unread: unread.slice(0, UNREAD_MAX) };
}

async function readFolder(walk: Walk, oid: string, folder: string, depth: number): Promise<void> {
  for (const entry of await readTree(walk.store, oid)) {
    const path = `${folder}/${entry.name ?? '(not UTF-8)'}`;
    if (entry.mode === '40000' && depth < DEPTH_MAX) await readFolder(walk, entry.oid, path, depth + 1);
    else await readFile(walk, entry, path);
  }
}

async function readFile(walk: Walk, entry: TreeEntry, path: string): Promise<void> {
  const isOurs = placeOf(path) !== null || documentOfBundle(path) !== null;
  // Whoever meant to write a document wrote .yaml or .json; anything else is nobody's mistake.
  if (!isOurs && !/\.(?:ya?ml|json)$/i.test(path)) return;
  const refuse = (reason: Unread['reason'], about: string): void => {
    walk.unread.push({ path, reason, about });
  };
  if (!isOurs) return refuse('WrongPlace', 'no document and no bundle lives at this path');
  if (entry.mode !== '100644') return refuse('WrongPlace', `mode ${entry.mode}, expected a plain file (100644)`);
  walk.count += 1;
  if (walk.count > FOLDER_MAX_FILES) return refuse('LimitExceeded', `more than ${FOLDER_MAX_FILES} files in this folder`);
  const bytes = await readRaw(walk.store, entry.oid, 'blob');
  if (bytes.length > FILE_MAX_BYTES) return refuse('LimitExceeded', `${bytes.length} bytes, expected at most ${FILE_MAX_BYTES}`);
  walk.bytes += bytes.length;
  if (walk.bytes > FOLDER_MAX_BYTES) return refuse('LimitExceeded', `more than ${FOLDER_MAX_BYTES} bytes in this folder`);
  walk.files.push({ path, bytes });
}

/** Files that documents name, anywhere in the tree: plain files only, and no larger than a document. */
export async function readNamed(store: Store, commit: string, paths: readonly string[]): Promise<readonly RepositoryFile[]> {
  const { tree } = await readCommit(store, commit);
  const files: RepositoryFile[] = [];
  for (const path of [...new Set(paths)].sort()) {
    const oid = await find(store, tree, path.split('/'));
    if (oid === null) continue;
    const bytes = await readRaw(store, oid, 'blob');
    if (bytes.length <= FILE_MAX_BYTES) files.push({ path, bytes });
  }
  return files;
}

async function find(store: Store, tree: string, [first, ...rest]: readonly string[]): Promise<string | null> {
  const entry = (await readTree(store, tree)).find(({ name }) => name === first);
  if (entry === undefined) return null;
  if (rest.length === 0) return entry.mode === '100644' ? entry.oid : null;
  return entry.mode === '40000' ? find(store, entry.oid, rest) : null;
}
