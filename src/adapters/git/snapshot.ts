import { documentOfBundle, FOLDERS, folderMeant, placeOf } from '#src/domain/documents/places.ts';
import { DOCUMENT_MAX_BYTES } from '#src/domain/documents/yaml.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Snapshot, Unread } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { has, parseTree, read, readCommit, readWhole, type Store, type TreeEntry } from './objects.ts';
import { openBreath } from './pack.ts';

/** Each folder has an allowance of its own, so that junk in one never keeps another from being read. */
const FOLDER_MAX_FILES = 20_000;
const FOLDER_MAX_BYTES = 32 * 1024 * 1024;
/** Entries of a folder and of those in it: a thousand small trees can each be said to hold the same large one. */
const FOLDER_MAX_ENTRIES = 300_000;
/** A bundle is text of this name, documents and named files are documents' size; nothing else is read. */
export const FILE_MAX_BYTES = DOCUMENT_MAX_BYTES;
/** Files that documents name, read at a time: nobody may have signed those documents yet. */
const NAMED_MAX_FILES = 5000;
const NAMED_MAX_BYTES = 32 * 1024 * 1024;
/** Refusals of each folder that are told: the rest is more of the same, and counted. */
const UNREAD_MAX = 100;
/** Of a path that somebody made long. */
const PATH_SHOWN = 200;

const FOLDER = '40000';
const FILE = '100644';
/** What Git writes beside those two: executables (and, long ago, files that a group may write), links, submodules. */
const OTHER_MODES = ['100755', '100664', '120000', '160000'];

/** An entry whose name is one. */
interface Named extends TreeEntry {
  readonly name: string;
}

/** What is read of one watched folder. */
interface Walk {
  readonly store: Store;
  readonly breathe: () => Promise<void>;
  readonly files: RepositoryFile[];
  readonly unread: Unread[];
  /** Refusals that are only counted. */
  untold: number;
  entries: number;
  bytes: number;
}

/** The files of watched folders that were read whole, by folder and object: what has the same name is the same. */
export type Folders = ReadonlyMap<string, readonly RepositoryFile[]>;

/** A file that is ours by its name. */
interface Candidate {
  readonly path: string;
  readonly oid: string;
}

/**
 * Reads the watched folders of a commit: plain files of mode 100644 where documents and bundles live.
 * Links, submodules, executables, names in capitals, deeper folders, what is too large and what Git would
 * not have written are left out and said to be; one bad entry never hides another. Files of other names (a
 * README) are passed over. Of `before`, what was read then, folders that are the same are taken as they are.
 * Throws Error where the commit, its root, or what nothing explains is not there.
 */
export async function readSnapshot(store: Store, commit: string, before: Folders): Promise<{ readonly snapshot: Snapshot; readonly folders: Folders }> {
  const breathe = openBreath();
  const open = (): Walk => ({ store, breathe, files: [], unread: [], untold: 0, entries: 0, bytes: 0 });
  const root = open();
  const { tree, odd } = readCommit(store, commit);
  if (odd !== null) refuse(root, `commit ${commit}`, 'ObjectMalformed', odd);
  const entries = await named(root, '', parseTree(readWhole(store, tree, 'tree')));
  for (const { name } of entries) {
    const meant = folderMeant(name);
    if (meant !== null) refuse(root, name, 'WrongPlace', `not read: the folder is called ${meant}`);
  }
  const told = [...tell(root, '')];
  const files: RepositoryFile[] = [];
  const folders = new Map<string, readonly RepositoryFile[]>();
  for (const folder of FOLDERS) {
    const entry = entries.find(({ name }) => name === folder);
    if (entry === undefined) continue;
    const name = nameOfFolder(folder, entry);
    const known = before.get(name);
    const walk = open();
    if (known === undefined) await readWatched(walk, entry, folder);
    const found = known ?? walk.files;
    told.push(...tell(walk, `${folder}/`));
    files.push(...found);
    // What was left out now may be read the next time, which has an allowance of its own.
    if (walk.unread.length === 0) folders.set(name, found);
  }
  return { snapshot: { commit, files: files.sort((a, b) => (a.path < b.path ? -1 : 1)), unread: told }, folders };
}

function nameOfFolder(folder: string, { mode, oid }: Pick<TreeEntry, 'mode' | 'oid'>): string {
  return `${folder} ${mode} ${oid}`;
}

/** The watched folders in which two commits differ; all of them where the known one cannot be read. */
export function movedFolders(store: Store, commit: string, known: string | null): readonly string[] {
  if (known === null || !has(store, known)) return FOLDERS;
  try {
    const [now, then] = [commit, known].map((one) => parseTree(readWhole(store, readCommit(store, one).tree, 'tree')));
    const namesAt = (entries: readonly TreeEntry[] | undefined, folder: string): string =>
      JSON.stringify(entries?.filter(({ name }) => name === folder).map((entry) => nameOfFolder(folder, entry)));
    return FOLDERS.filter((folder) => namesAt(now, folder) !== namesAt(then, folder));
  } catch {
    return FOLDERS;
  }
}

function refuse(walk: Walk, path: string, reason: Reason, about: string): void {
  if (walk.unread.length >= UNREAD_MAX) walk.untold += 1;
  else walk.unread.push({ path: path.length <= PATH_SHOWN ? path : `${path.slice(0, PATH_SHOWN).toWellFormed()}… (${path.length} characters)`, reason, about });
}

function tell({ unread, untold }: Walk, path: string): readonly Unread[] {
  return untold === 0 ? unread : [...unread, { path, reason: 'LimitExceeded', about: `${untold} more entries were not read, too many to be told one by one` }];
}

/** A watched folder and those in it, the small ones first: a large one keeps no other from being read. */
async function readWatched(walk: Walk, top: Named, path: string): Promise<void> {
  const candidates: Candidate[] = [];
  const inner: { readonly entry: Named; readonly path: string; readonly sizeBytes: number }[] = [];
  for (const entry of await readFolder(walk, top, path)) {
    const at = `${path}/${entry.name}`;
    const bytes = entry.mode === FOLDER ? treeBytes(walk, entry, at) : null;
    if (entry.mode !== FOLDER) consider(walk, candidates, entry, at);
    else if (bytes !== null) inner.push({ entry, path: at, sizeBytes: bytes.length });
    await walk.breathe();
  }
  for (const { entry, path: at } of inner.sort((a, b) => a.sizeBytes - b.sizeBytes)) {
    for (const one of await readFolder(walk, entry, at)) consider(walk, candidates, one, `${at}/${one.name}`);
  }
  await readFiles(walk, candidates);
}

/** Its entries; none, and a refusal, where it cannot be read. */
async function readFolder(walk: Walk, entry: Named, path: string): Promise<readonly Named[]> {
  if (entry.mode !== FOLDER) {
    refuse(walk, path, 'NotPlainFile', `mode ${entry.mode}, expected a folder`);
    return [];
  }
  if (walk.entries > FOLDER_MAX_ENTRIES) {
    refuse(walk, path, 'LimitExceeded', `more than ${FOLDER_MAX_ENTRIES} entries beside it`);
    return [];
  }
  const bytes = treeBytes(walk, entry, path);
  if (bytes === null) return [];
  try {
    const entries = parseTree(bytes);
    walk.entries += entries.length;
    return await named(walk, `${path}/`, entries);
  } catch (cause) {
    refuse(walk, path, 'ObjectMalformed', cause instanceof Error ? cause.message : 'not a folder');
    return [];
  }
}

function treeBytes(walk: Walk, { oid }: Named, path: string): Buffer | null {
  const found = read(walk.store, oid, 'tree');
  if (found.kind === 'read') return found.bytes;
  if (found.kind === 'absent') throw new Error(`${path}: its tree ${oid} is not there`);
  if (found.kind === 'left-out') refuse(walk, path, 'LimitExceeded', found.about);
  else refuse(walk, path, 'ObjectMalformed', `a ${found.found}, where its mode says a folder`);
  return null;
}

/** Entries that Git could have written, each name once. */
async function named(walk: Walk, folder: string, entries: readonly TreeEntry[]): Promise<readonly Named[]> {
  const sound = new Map<string, Named>();
  for (const { mode, name, oid } of entries) {
    await walk.breathe();
    const fault = name === null ? 'a name that is not UTF-8' : nameFault(name, mode);
    if (fault !== null) refuse(walk, `${folder}${name ?? '(not UTF-8)'}`, 'ObjectMalformed', fault);
    else if (name !== null && sound.has(name)) refuse(walk, `${folder}${name}`, 'ObjectMalformed', 'the same name again; the first is read');
    else if (name !== null) sound.set(name, { mode, name, oid });
  }
  return [...sound.values()];
}

function nameFault(name: string, mode: string): string | null {
  if (name === '' || name === '.' || name === '..' || name.toLowerCase() === '.git') return `an entry called ${name === '' ? 'nothing' : name}`;
  if (name.includes('/')) return 'a name with a slash in it';
  return mode === FILE || mode === FOLDER || OTHER_MODES.includes(mode) ? null : `mode ${mode.slice(0, 20)}, which Git does not write`;
}

/** Takes a file as ours by its place, or says why it is not, where somebody may have meant it to be. */
function consider(walk: Walk, candidates: Candidate[], { mode, oid }: Named, path: string): void {
  const isOurs = placeOf(path) !== null || documentOfBundle(path) !== null;
  // Whoever meant to write a document wrote .yaml or .json; a folder, link or submodule may hold some. Anything else is nobody's mistake.
  if (!isOurs && mode !== FOLDER && mode !== '120000' && mode !== '160000' && !/\.(?:ya?ml|json)[^\p{L}\p{N}]*$/iu.test(path)) return;
  if (mode === FOLDER) refuse(walk, path, 'WrongPlace', 'no document lives in a folder this deep');
  else if (mode !== FILE) refuse(walk, path, 'NotPlainFile', `mode ${mode}, expected a plain file (${FILE})`);
  else if (!isOurs) refuse(walk, path, 'WrongPlace', 'no document and no bundle lives at this path');
  else candidates.push({ path, oid });
}

/** Reads files as far as the allowance goes: first documents that have bundles, those with few before those with many, then what nobody signed. */
async function readFiles(walk: Walk, candidates: readonly Candidate[]): Promise<void> {
  const groups = [...Map.groupBy(candidates, ({ path }) => documentOfBundle(path) ?? path).values()];
  const rank = (group: readonly Candidate[]): number => (group.length === 1 ? Number.POSITIVE_INFINITY : group.length);
  groups.sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
  let count = 0;
  for (const { path, oid } of groups.flat()) {
    await walk.breathe();
    count += 1;
    if (count > FOLDER_MAX_FILES || walk.bytes > FOLDER_MAX_BYTES) {
      refuse(
        walk,
        path,
        'LimitExceeded',
        count > FOLDER_MAX_FILES ? `more than ${FOLDER_MAX_FILES} files in this folder` : `more than ${FOLDER_MAX_BYTES} bytes in this folder`,
      );
      continue;
    }
    const bytes = fileBytes(walk, path, oid);
    if (bytes === null) continue;
    walk.bytes += bytes.length;
    walk.files.push({ path, bytes });
  }
}

function fileBytes(walk: Walk, path: string, oid: string): Buffer | null {
  const found = read(walk.store, oid, 'blob');
  if (found.kind === 'absent') throw new Error(`${path}: its content ${oid} is not there`);
  if (found.kind === 'read' && found.bytes.length <= FILE_MAX_BYTES) return found.bytes;
  if (found.kind === 'other') refuse(walk, path, 'ObjectMalformed', `a ${found.found}, where its mode says a file`);
  else refuse(walk, path, 'LimitExceeded', `${found.kind === 'read' ? `${found.bytes.length} bytes` : found.about}, expected at most ${FILE_MAX_BYTES} bytes`);
  return null;
}

/**
 * Files that documents name, anywhere in the tree, by their exact paths: plain files only, no larger than a
 * document, as many and as much of them as one reading may take. Throws Error as `readSnapshot` does.
 */
export async function readNamed(store: Store, commit: string, paths: readonly string[]): Promise<readonly RepositoryFile[]> {
  const breathe = openBreath();
  const { tree } = readCommit(store, commit);
  const folders = new Map<string, ReadonlyMap<string, TreeEntry>>();
  const files: RepositoryFile[] = [];
  let bytesLeft = NAMED_MAX_BYTES;
  for (const path of [...new Set(paths)].sort()) {
    await breathe();
    const oid = find(store, folders, tree, path.split('/'));
    const found = oid === null ? null : read(store, oid, 'blob');
    if (found?.kind === 'absent') throw new Error(`${path}: its content ${oid} is not there`);
    if (found?.kind !== 'read' || found.bytes.length > FILE_MAX_BYTES) continue;
    bytesLeft -= found.bytes.length;
    if (files.length >= NAMED_MAX_FILES || bytesLeft < 0) break;
    files.push({ path, bytes: found.bytes });
  }
  return files;
}

/** The file at a path below a tree; null: none, or no plain one. `folders`: those that were read. */
function find(store: Store, folders: Map<string, ReadonlyMap<string, TreeEntry>>, tree: string, [first = '', ...rest]: readonly string[]): string | null {
  let entries = folders.get(tree);
  if (entries === undefined) {
    entries = entriesOf(store, tree);
    folders.set(tree, entries);
  }
  const entry = entries.get(first);
  if (entry === undefined) return null;
  if (rest.length === 0) return entry.mode === FILE ? entry.oid : null;
  return entry.mode === FOLDER ? find(store, folders, entry.oid, rest) : null;
}

/** By name; of a name that comes twice the first counts, as everywhere. None where the tree cannot be read. */
function entriesOf(store: Store, tree: string): ReadonlyMap<string, TreeEntry> {
  const found = read(store, tree, 'tree');
  if (found.kind === 'absent') throw new Error(`tree ${tree} is not there`);
  if (found.kind !== 'read') return new Map();
  try {
    return new Map(
      parseTree(found.bytes)
        .map((entry): [string, TreeEntry] => [entry.name ?? '', entry])
        .toReversed(),
    );
  } catch {
    return new Map();
  }
}
