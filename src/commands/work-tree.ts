import { createReadStream } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { documentOfBundle, FOLDERS, placeOf } from '#src/domain/documents/places.ts';
import { DOCUMENT_MAX_BYTES } from '#src/domain/documents/yaml.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Snapshot, Unread } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { Fault } from '#src/errors.ts';

/** A repository of releases has some thousand; more is the wrong folder. */
const FILES_MAX = 20_000;
/** `releases/<workload>/<serial>.yaml`. */
const DEPTH_MAX = 2;

/** The files of a checkout, as they lie there: committed or not. */
export interface WorkTree {
  /** The watched folders, read as a commit of the same files would be; it has no commit's name. */
  readonly snapshot: () => Promise<Snapshot>;
  /** Plain files by their exact paths from the root, no larger than a document; those that are not there, or lie behind a link, are left out. */
  readonly read: (paths: readonly string[]) => Promise<readonly RepositoryFile[]>;
}

/** Opens a checkout; Git is not asked. Throws Fault('NotFound') where there is no such folder. */
export async function openWorkTree(root: string): Promise<WorkTree> {
  if ((await modeOf(join(root, '.'))) !== 'folder') throw new Fault('NotFound', `${root}: no such folder`);
  return {
    snapshot: () => readSnapshot(root),
    read: async (paths) => (await Promise.all([...new Set(paths)].sort().map((path) => readPlain(root, path)))).filter((file) => file !== null),
  };
}

async function readSnapshot(root: string): Promise<Snapshot> {
  const files: RepositoryFile[] = [];
  const unread: Unread[] = [];
  for (const folder of FOLDERS) {
    const mode = await modeOf(join(root, folder));
    if (mode === 'folder') await readFolder(root, folder, 1, { files, unread });
    else if (mode !== 'nothing') unread.push({ path: folder, reason: 'WrongPlace', about: `a ${mode}, expected a folder` });
  }
  return { commit: '', files: files.sort((a, b) => (a.path < b.path ? -1 : 1)), unread };
}

interface Found {
  readonly files: RepositoryFile[];
  readonly unread: Unread[];
}

async function readFolder(root: string, folder: string, depth: number, found: Found): Promise<void> {
  for (const name of (await readdir(join(root, folder))).sort()) {
    const path = `${folder}/${name}`;
    const mode = await modeOf(join(root, path));
    if (mode === 'folder' && depth < DEPTH_MAX) await readFolder(root, path, depth + 1, found);
    else await consider(root, path, mode, found);
  }
}

async function consider(root: string, path: string, mode: Mode, { files, unread }: Found): Promise<void> {
  const refuse = (reason: Reason, about: string): void => {
    unread.push({ path, reason, about });
  };
  if (placeOf(path) === null && documentOfBundle(path) === null) {
    // Whoever meant to write a document wrote .yaml or .json; anything else is nobody's mistake.
    if (/\.(?:ya?ml|json)$/i.test(path)) refuse('WrongPlace', 'no document and no bundle lives at this path');
    return;
  }
  if (mode !== 'file') return refuse('WrongPlace', `a ${mode}, expected a plain file`);
  if (files.length >= FILES_MAX) throw new Fault('LimitExceeded', `${root}: more than ${FILES_MAX} files in the watched folders`);
  const file = await readPlain(root, path);
  if (file === null) return refuse('LimitExceeded', `more than ${DOCUMENT_MAX_BYTES} bytes`);
  files.push(file);
}

/** What a commit would say of a path; `program`: a file that its owner may execute. */
type Mode = 'nothing' | 'folder' | 'link' | 'file' | 'program' | 'device';

async function modeOf(path: string): Promise<Mode> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return 'nothing';
  if (found.isDirectory()) return 'folder';
  if (found.isSymbolicLink()) return 'link';
  if (!found.isFile()) return 'device';
  return (found.mode & 0o100) === 0 ? 'file' : 'program';
}

async function readPlain(root: string, path: string): Promise<RepositoryFile | null> {
  const parts = path.split('/');
  for (const index of parts.keys()) {
    const expected: Mode = index === parts.length - 1 ? 'file' : 'folder';
    if ((await modeOf(join(root, ...parts.slice(0, index + 1)))) !== expected) return null;
  }
  const bytes = Buffer.concat(await Array.fromAsync(createReadStream(join(root, path), { end: DOCUMENT_MAX_BYTES })));
  return bytes.length > DOCUMENT_MAX_BYTES ? null : { path, bytes };
}
