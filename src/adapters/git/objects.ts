import { createHash } from 'node:crypto';
import git, { type FsClient } from 'isomorphic-git';

/** A bare repository in memory. */
export interface Store {
  readonly fs: FsClient;
  readonly gitdir: string;
  /** isomorphic-git's own: the packs' parsed indexes. */
  readonly cache: object;
}

/** A line of a tree. */
export interface TreeEntry {
  /** As Git writes it: `100644`, `100755`, `120000`, `40000`, `160000`. */
  readonly mode: string;
  /** null: not UTF-8. */
  readonly name: string | null;
  readonly oid: string;
}

/** Git's own limit is far above; a tree of ours holds some thousand entries of about 60 bytes. */
const TREE_MAX_ENTRIES = 20_000;

/**
 * An object's content, hashed here: isomorphic-git checks a pack's checksum, not what it unpacks, and
 * skips deltas that it cannot resolve. Throws Error where the object is missing, of another type, or
 * not what its name says.
 */
export async function readRaw(store: Store, oid: string, type: 'commit' | 'tree' | 'blob'): Promise<Buffer> {
  const read = await git.readObject({ ...store, oid, format: 'content' });
  if (read.format !== 'content' || read.type !== type) throw new Error(`object ${oid}: expected a ${type}`);
  const bytes = Buffer.from(read.object);
  const hash = createHash('sha1').update(`${type} ${bytes.length}\0`).update(bytes).digest('hex');
  if (hash !== oid) throw new Error(`object ${oid}: its content hashes to ${hash}`);
  return bytes;
}

/**
 * A commit's tree and its first parent. Read by place, not by name: the header order is fixed, and a
 * second `tree` further down is how a signature was once lifted off one commit onto another.
 */
export async function readCommit(store: Store, oid: string): Promise<{ readonly tree: string; readonly firstParent: string | null }> {
  const text = (await readRaw(store, oid, 'commit')).toString('latin1');
  const found = /^tree ([0-9a-f]{40})\n(?:parent ([0-9a-f]{40})\n)?(?:parent [0-9a-f]{40}\n)*author /.exec(text);
  if (found?.[1] === undefined) throw new Error(`commit ${oid}: expected tree, parents and author, in this order`);
  return { tree: found[1], firstParent: found[2] ?? null };
}

/** A tree's entries, in its own order. Throws Error for a tree that is not written as Git writes one. */
export async function readTree(store: Store, oid: string): Promise<readonly TreeEntry[]> {
  const bytes = await readRaw(store, oid, 'tree');
  const entries: TreeEntry[] = [];
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at);
    const end = bytes.indexOf(0, space);
    if (space < 0 || end < 0 || end + 21 > bytes.length) throw new Error(`tree ${oid}: cut off`);
    const mode = bytes.subarray(at, space).toString('latin1');
    entries.push({ mode, name: utf8(bytes.subarray(space + 1, end)), oid: bytes.subarray(end + 1, end + 21).toString('hex') });
    if (entries.length > TREE_MAX_ENTRIES) throw new Error(`tree ${oid}: more than ${TREE_MAX_ENTRIES} entries`);
    at = end + 21;
  }
  return entries;
}

function utf8(bytes: Buffer): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
