import { type FileHandle, open, readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { COLLATERAL_MAX_BYTES } from '#src/domain/collateral/read.ts';
import { Fault } from '#src/errors.ts';

/** A file to be judged. */
export interface FoundFile {
  /** As it was named, or below the folder that was. */
  readonly path: string;
  readonly sizeBytes: number;
}

/** What is found under the words of the command line. */
export interface FoundFiles {
  readonly files: readonly FoundFile[];
  /** Files that stand beside those named: read for certificates and lists, and not judged. */
  readonly beside: readonly FoundFile[];
}

/** A thousand kinds of platform with all they need. */
const FILES_MAX = 20_000;
const DEPTH_MAX = 16;
/** Chains and lists are small; whoever keeps thousands of other files beside them names what belongs to them. */
const BESIDE = { files: 256, sizeBytes: 64 * 1024 } as const;

/**
 * Every file named, and every file below every folder named, each once, in the order of names; links are followed,
 * and a folder that was seen is not entered again. Throws Fault for what is not there, is no file, or is too much.
 */
export async function findFiles(words: readonly string[]): Promise<FoundFiles> {
  const seen = new Set<string>();
  const files: FoundFile[] = [];
  const folders = new Set<string>();
  for (const word of words) {
    const found = await look(word);
    if (found.isDirectory()) await walk(word, 0, seen, files);
    else if (found.isFile()) {
      await take(word, found.size, seen, files);
      folders.add(dirname(word));
    } else throw new Fault('NotPlainFile', `${word}: neither a file nor a folder`);
  }
  const beside: FoundFile[] = [];
  for (const folder of folders) beside.push(...(await besideIn(folder, seen)));
  return { files, beside };
}

async function look(path: string): Promise<{ isDirectory: () => boolean; isFile: () => boolean; size: number }> {
  return stat(path).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'ELOOP') throw new Fault('InvalidRequest', `${path}: a link that leads back to itself`);
    if (thrown.code === 'EACCES' || thrown.code === 'EPERM') throw new Fault('PermissionDenied', `${path}: may not be read`);
    throw new Fault('NotFound', `${path}: no such file`);
  });
}

async function take(path: string, sizeBytes: number, seen: Set<string>, files: FoundFile[]): Promise<void> {
  const real = await realpath(path);
  if (seen.has(real)) return;
  seen.add(real);
  if (files.length >= FILES_MAX) throw new Fault('LimitExceeded', `more than ${FILES_MAX} files`);
  files.push({ path, sizeBytes });
}

async function walk(folder: string, depth: number, seen: Set<string>, files: FoundFile[]): Promise<void> {
  if (depth > DEPTH_MAX) throw new Fault('LimitExceeded', `${folder}: more than ${DEPTH_MAX} folders deep`);
  const real = await realpath(folder);
  if (seen.has(real)) return;
  seen.add(real);
  const names = await readdir(folder).catch(() => {
    throw new Fault('PermissionDenied', `${folder}: may not be read`);
  });
  for (const name of names.sort()) {
    const path = join(folder, name);
    const found = await look(path);
    if (found.isDirectory()) await walk(path, depth + 1, seen, files);
    else if (found.isFile()) await take(path, found.size, seen, files);
  }
}

async function besideIn(folder: string, seen: ReadonlySet<string>): Promise<readonly FoundFile[]> {
  const names = await readdir(folder).catch(() => []);
  if (names.length > BESIDE.files) return [];
  const found: FoundFile[] = [];
  for (const name of names.sort()) {
    const path = join(folder, name);
    const one = await stat(path).catch(() => null);
    if (one?.isFile() !== true || one.size > BESIDE.sizeBytes || seen.has(await realpath(path))) continue;
    found.push({ path, sizeBytes: one.size });
  }
  return found;
}

/** A file's bytes; null: it has more than is ever read. At most that much is taken into memory, whatever the file has become meanwhile. */
export async function readLimited({ path, sizeBytes }: FoundFile): Promise<Buffer | null> {
  if (sizeBytes > COLLATERAL_MAX_BYTES) return null;
  let handle: FileHandle | null = null;
  try {
    handle = await open(path);
    const buffer = Buffer.alloc(sizeBytes + 1);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    if (bytesRead > sizeBytes) throw new Fault('Conflict', `${path}: it grows while it is read`);
    return buffer.subarray(0, bytesRead);
  } catch (thrown) {
    if (thrown instanceof Fault) throw thrown;
    throw new Fault('PermissionDenied', `${path}: may not be read`);
  } finally {
    await handle?.close();
  }
}
