import { checkPack } from './pack.ts';

/** What isomorphic-git asks of a file. */
interface FileStat {
  readonly size: number;
  readonly mode: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly isFile: () => boolean;
  readonly isDirectory: () => boolean;
  readonly isSymbolicLink: () => boolean;
}

/**
 * Files in memory, as isomorphic-git's `fs`: a repository that is bounded, thrown away at any doubt, and
 * leaves nothing on a disk that others could write to. Only what a bare repository without a work
 * tree needs; the rest is refused.
 */
export function openMemoryFiles(): { readonly fs: { readonly promises: object }; readonly sizeBytes: () => number } {
  const files = new Map<string, Buffer>();
  const folders = new Set<string>(['/']);
  const promises = {
    readFile: async (path: string, options?: string | { encoding?: string }) => {
      const bytes = files.get(clean(path));
      if (bytes === undefined) throw failure(folders.has(clean(path)) ? 'EISDIR' : 'ENOENT', path);
      const encoding = typeof options === 'string' ? options : options?.encoding;
      return encoding === undefined ? bytes : bytes.toString('utf8');
    },
    writeFile: async (path: string, data: Uint8Array | string) => {
      if (!folders.has(parentOf(clean(path)))) throw failure('ENOENT', path);
      const bytes = Buffer.from(data);
      // A pack is written down before it is unpacked: here is where it can be looked at first.
      if (path.endsWith('.pack')) checkPack(bytes);
      files.set(clean(path), bytes);
    },
    unlink: async (path: string) => {
      if (!files.delete(clean(path))) throw failure('ENOENT', path);
    },
    readdir: async (path: string) => {
      const folder = clean(path);
      if (!folders.has(folder)) throw failure(files.has(folder) ? 'ENOTDIR' : 'ENOENT', path);
      return [...files.keys(), ...folders].filter((one) => one !== '/' && parentOf(one) === folder).map((one) => one.slice(one.lastIndexOf('/') + 1));
    },
    mkdir: async (path: string) => {
      const folder = clean(path);
      if (folders.has(folder) || files.has(folder)) throw failure('EEXIST', path);
      if (!folders.has(parentOf(folder))) throw failure('ENOENT', path);
      folders.add(folder);
    },
    rmdir: async (path: string) => {
      if (!folders.delete(clean(path))) throw failure('ENOENT', path);
    },
    stat: async (path: string) => statOf(path),
    lstat: async (path: string) => statOf(path),
    readlink: async (path: string) => {
      throw failure('EINVAL', path);
    },
    symlink: async (_target: string, path: string) => {
      throw failure('EPERM', path);
    },
  };
  function statOf(path: string): FileStat {
    const bytes = files.get(clean(path));
    const isFolder = folders.has(clean(path));
    if (bytes === undefined && !isFolder) throw failure('ENOENT', path);
    const kind = { isFile: () => !isFolder, isDirectory: () => isFolder, isSymbolicLink: () => false };
    return { size: bytes?.length ?? 0, mode: isFolder ? 0o40755 : 0o100644, mtimeMs: 0, ctimeMs: 0, ...kind };
  }
  return { fs: { promises }, sizeBytes: () => [...files.values()].reduce((sum, bytes) => sum + bytes.length, 0) };
}

function clean(path: string): string {
  const trimmed = path.replace(/\/+/g, '/').replace(/\/$/, '');
  return trimmed === '' ? '/' : trimmed;
}

function parentOf(path: string): string {
  const end = path.lastIndexOf('/');
  return end <= 0 ? '/' : path.slice(0, end);
}

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}
