import { beginWork, type GitObject, nameOf, type ObjectKind, type Pack, readPack, unpack, type Work } from './pack.ts';

/** A repository in memory: the packs as they came, the newest last. Nothing else is kept of it, and nothing lies on a disk. */
export interface Store {
  readonly packs: readonly Pack[];
  /** Whether a host was asked, and able, to leave out what is too large. */
  readonly filtered: boolean;
  /** What the present reading may still cost. */
  readonly work: Work;
}

/** An object, or why it is not there: `left-out` where it is too large or made to be, `absent` where nothing explains it. */
export type Read =
  | { readonly kind: 'read'; readonly bytes: Buffer }
  | { readonly kind: 'other'; readonly found: ObjectKind }
  | { readonly kind: 'left-out'; readonly about: string }
  | { readonly kind: 'absent' };

/** A commit, by its raw bytes. */
export interface Commit {
  readonly tree: string;
  readonly firstParent: string | null;
  /** What Git would not have written; null: nothing. */
  readonly odd: string | null;
}

/** A line of a tree. */
export interface TreeEntry {
  /** As Git writes it: `100644`, `100755`, `120000`, `40000`, `160000`. */
  readonly mode: string;
  /** null: not UTF-8. */
  readonly name: string | null;
  readonly oid: string;
}

/** A repository that holds nothing. */
export const EMPTY_STORE: Store = { packs: [], filtered: false, work: beginWork() };

/** The same with one pack more. An empty pack adds nothing. Throws as `readPack` does. */
export async function withPack(store: Store, bytes: Buffer, filtered: boolean): Promise<Store> {
  const packs = bytes.length === 0 ? store.packs : [...store.packs, await readPack(bytes)];
  return { packs, filtered: store.filtered || filtered, work: store.work };
}

/** Bytes that the packs take. */
export function sizeBytesOf({ packs }: Store): number {
  return packs.reduce((sum, { bytes }) => sum + bytes.length, 0);
}

/** The same store, for a reading that begins now. */
export function afresh(store: Store): Store {
  return { ...store, work: beginWork() };
}

/** Whether an object of this name is there, of whatever kind. */
export function has({ packs }: Store, oid: string): boolean {
  return packs.some(({ byName }) => byName.has(oid));
}

/** Reads an object, and hashes it once more: what is read is what its name says. */
export function read(store: Store, oid: string, kind: ObjectKind): Read {
  const object = find(store, oid);
  if (object !== null) return object.kind === kind ? { kind: 'read', bytes: object.bytes } : { kind: 'other', found: object.kind };
  const size = store.packs.flatMap(({ tooLarge }) => tooLarge.get(oid) ?? []).at(0);
  if (size !== undefined) return { kind: 'left-out', about: `${size} bytes` };
  if (store.packs.some(({ byName }) => byName.has(oid))) return { kind: 'left-out', about: 'more work than one reading may take' };
  if (store.packs.some(({ nameless }) => nameless > 0)) return { kind: 'left-out', about: 'not unpacked: too large, or made of what is' };
  // Of what is no file nothing was to be left out.
  return store.filtered && kind === 'blob' ? { kind: 'left-out', about: 'left out by the host, which was told how large a file may be' } : { kind: 'absent' };
}

function find({ packs, work }: Store, oid: string): GitObject | null {
  for (const pack of packs.toReversed()) {
    const entry = pack.byName.get(oid);
    const object = entry === undefined ? null : unpack(pack, entry, work);
    if (object !== null && nameOf(object) === oid) return object;
  }
  return null;
}

/** Bytes of an object that has to be there. Throws Error where it is not, or of another kind. */
export function readWhole(store: Store, oid: string, kind: ObjectKind): Buffer {
  const found = read(store, oid, kind);
  if (found.kind === 'read') return found.bytes;
  throw new Error(`object ${oid}: ${found.kind === 'other' ? `a ${found.found}, expected a ${kind}` : found.kind === 'absent' ? 'not there' : found.about}`);
}

/**
 * A commit's tree and its first parent. Read by place, as Git does, not by name: a second `tree` further
 * down is how a signature was once lifted off one commit onto another. Throws Error where it is missing or
 * does not begin with its tree.
 */
export function readCommit(store: Store, oid: string): Commit {
  const text = readWhole(store, oid, 'commit').toString('latin1');
  const found = /^tree ([0-9a-f]{40})\n(?:parent ([0-9a-f]{40})\n)?(?:parent [0-9a-f]{40}\n)*/.exec(text);
  if (found?.[1] === undefined) throw new Error(`commit ${oid}: expected its tree first`);
  const end = text.indexOf('\n\n');
  return { tree: found[1], firstParent: found[2] ?? null, odd: oddIn(text.slice(found[0].length, end < 0 ? text.length : end)) };
}

/** The headers behind tree and parents: author and committer come next, and none of the four comes again. */
function oddIn(headers: string): string | null {
  const again = /^(tree|parent) /m.exec(headers)?.[1];
  if (again !== undefined) return `a \`${again}\` header out of its place; the first tree is read`;
  const people = headers.match(/^(?:author|committer) /gm) ?? [];
  return people.length === 2 && /^author [^\n]*\ncommitter /.test(headers) ? null : 'expected one author, then one committer';
}

/** A tree's entries, in its own order. Throws Error for a tree that is cut off. */
export function parseTree(bytes: Buffer): readonly TreeEntry[] {
  const entries: TreeEntry[] = [];
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at);
    const end = space < 0 ? -1 : bytes.indexOf(0, space);
    if (end < 0 || end + 21 > bytes.length) throw new Error('a tree that is cut off');
    const mode = bytes.toString('latin1', at, space);
    entries.push({ mode, name: utf8(bytes.subarray(space + 1, end)), oid: bytes.toString('hex', end + 1, end + 21) });
    at = end + 21;
  }
  return entries;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function utf8(bytes: Buffer): string | null {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}
