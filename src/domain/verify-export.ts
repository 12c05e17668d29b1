import type { KeyObject } from 'node:crypto';
import { type Digest, digestOf, isDigest } from '../digest.ts';
import { canonicalJson, type Json } from './json.ts';
import { addEntry, EMPTY_TREE, type MerkleTree, rootOf } from './merkle.ts';
import { type Head, headBytes, RECEIPT_MAX_BYTES, type Receipt, readPublicKey, treeEntry, verifySignature } from './receipts.ts';

/** What an export turned out to be. `line` counts from 1; 0 is the head that was given beside it. */
export type Verified =
  | { readonly kind: 'verified'; readonly receipts: number; readonly heads: number; readonly last: Head }
  | { readonly kind: 'broken'; readonly line: number; readonly receipt: string | null; readonly what: string };

/** A receipt's line has some bytes around it. */
const LINE_MAX_BYTES = RECEIPT_MAX_BYTES + 1024;
const HASH_BYTES = 32;
const LINE_END = 0x0a;

/**
 * Verifies an export (state/README.md, *The export*) with nothing but the public key: every line is its
 * own RFC 8785 form, every receipt is what its digest says, every run's chain is whole, every head is
 * signed and is the root of what stands before it, and the last head covers everything. `head`, kept
 * from an earlier export, must be a state that this log went through.
 *
 * Reads the export's bytes as they come and holds 32 of them a receipt and one digest a run. `hear` gets every
 * receipt that fits so far: what it heard is worth what the result says. Throws
 * only where the key or the stream cannot be read.
 */
export async function verifyExport(
  chunks: AsyncIterable<Uint8Array>,
  publicKeyPem: string,
  head: string | null = null,
  hear: (receipt: Receipt) => void = () => {},
): Promise<Verified> {
  const log = openLog(readPublicKey(publicKeyPem), hear);
  let line = 0;
  try {
    if (head !== null) log.expect(headOf(parseLine(Buffer.from(head.trimEnd()))));
    for await (const bytes of linesOf(chunks)) {
      line += 1;
      log.read(parseLine(bytes));
    }
    return log.end();
  } catch (thrown) {
    if (!isBroken(thrown)) throw thrown;
    return { kind: 'broken', line: thrown.atHead ? 0 : line, receipt: thrown.receipt, what: thrown.message };
  }
}

interface Broken extends Error {
  readonly receipt: string | null;
  readonly atHead: boolean;
}

function broken(what: string, receipt: string | null = null, atHead = false): Broken {
  return Object.assign(new Error(what), { name: 'Broken', receipt, atHead });
}

function isBroken(thrown: unknown): thrown is Broken {
  return thrown instanceof Error && thrown.name === 'Broken';
}

// ---------------------------------------------------------------- lines

async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let rest: Uint8Array[] = [];
  let restBytes = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(LINE_END); end !== -1; end = chunk.indexOf(LINE_END, from)) {
      yield Buffer.concat([...rest, chunk.subarray(from, end)]);
      rest = [];
      restBytes = 0;
      from = end + 1;
    }
    if (from < chunk.length) rest.push(chunk.subarray(from));
    restBytes += chunk.length - from;
    if (restBytes > LINE_MAX_BYTES) throw broken(`a line is longer than ${LINE_MAX_BYTES} bytes`);
  }
  // An export that was cut short: what is left is read, so that its line is named.
  if (restBytes > 0) yield Buffer.concat([...rest, Buffer.from('\n')]);
}

type Line = Readonly<Record<string, unknown>>;

function parseLine(bytes: Uint8Array): Line {
  let value: unknown;
  let canonical: string;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
    canonical = canonicalJson(value as Json);
  } catch {
    throw broken('not a line of JSON');
  }
  if (canonical !== text) throw broken('not its own RFC 8785 form, byte for byte', idIn(value));
  if (!isObject(value)) throw broken('neither a receipt nor a head');
  return value;
}

function isObject(value: unknown): value is Line {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function idIn(value: unknown): string | null {
  return isObject(value) && isObject(value.receipt) && typeof value.receipt.id === 'string' ? value.receipt.id : null;
}

function hasOnly(value: Line, names: readonly string[]): boolean {
  return Object.keys(value).sort().join() === [...names].sort().join();
}

function headOf(line: Line): Head {
  const { head, signature } = line;
  if (!hasOnly(line, ['head', 'signature']) || !isObject(head) || typeof signature !== 'string') throw broken('neither a receipt nor a head');
  const { installation, treeSize, rootHash, at } = head;
  const whole = typeof treeSize === 'number' && Number.isSafeInteger(treeSize) && treeSize >= 0;
  const texts = typeof installation === 'string' && typeof rootHash === 'string' && isDigest(rootHash) && typeof at === 'string';
  if (!hasOnly(head, ['at', 'installation', 'rootHash', 'treeSize']) || !whole || !texts) throw broken('a head without its members');
  return { head: head as unknown as Head['head'], signature };
}

// ---------------------------------------------------------------- the log

interface Log {
  /** A head that the log must have gone through. */
  readonly expect: (head: Head) => void;
  readonly read: (line: Line) => void;
  readonly end: () => Verified;
}

function openLog(key: KeyObject, hear: (receipt: Receipt) => void): Log {
  const chains = new Map<string, { readonly number: number; readonly digest: Digest }>();
  const entries = openEntries();
  let installation: string | null = null;
  let expected: Head | null = null;
  let last: Head | null = null;
  let heads = 0;

  const belongs = (name: unknown, receipt: string | null) => {
    installation ??= typeof name === 'string' ? name : null;
    if (installation === null || name !== installation) throw broken('of another installation than what stands before it', receipt);
  };
  const readReceipt = (line: Line) => {
    const id = idIn(line);
    const { digest, receipt } = line;
    if (!hasOnly(line, ['digest', 'receipt']) || !isObject(receipt) || typeof digest !== 'string') throw broken('neither a receipt nor a head', id);
    if (last !== null) throw broken('a receipt that stands after a head', id);
    const found = digestOf(canonicalJson(receipt as Json));
    if (found !== digest) throw broken(`its digest is ${found}`, id);
    belongs(receipt.installation, id);
    const { run, number, previous } = receipt;
    if (typeof run !== 'string' || typeof number !== 'number' || id !== `${run}/${number}`) throw broken('its id, run and number do not agree', id);
    const before = chains.get(run);
    if (number !== (before?.number ?? 0) + 1) throw broken(`follows receipt ${before?.number ?? 0} of its run`, id);
    if (previous !== (before?.digest ?? null)) throw broken('does not name the digest of the receipt before it in its run', id);
    chains.set(run, { number, digest: found });
    entries.add(treeEntry(found));
    hear(receipt as unknown as Receipt);
  };
  const readHead = (head: Head) => {
    belongs(head.head.installation, null);
    if (!verifySignature(key, headBytes(head.head), head.signature)) throw broken('its signature does not verify');
    const { treeSize, rootHash } = head.head;
    if (treeSize > entries.size()) throw broken(`a head over ${treeSize} receipts, where ${entries.size()} stand`);
    if (last !== null && treeSize <= last.head.treeSize) throw broken('a head over no more receipts than the one before it');
    if (entries.root(treeSize) !== rootHash) throw broken(`not the root of the first ${treeSize} receipts`);
    last = head;
    heads += 1;
  };
  return {
    expect: (head) => {
      if (!verifySignature(key, headBytes(head.head), head.signature)) throw broken('the signature of the given head does not verify', null, true);
      installation = head.head.installation;
      expected = head;
      entries.watch(head.head.treeSize);
    },
    read: (line) => {
      if ('head' in line) readHead(headOf(line));
      else readReceipt(line);
    },
    end: () => {
      if (last === null) throw broken('no head');
      if (last.head.treeSize !== entries.size()) throw broken(`${entries.size() - last.head.treeSize} receipts stand after the last head`);
      const { head } = expected ?? last;
      if (head.treeSize > entries.size()) throw broken('the log ends before the given head', null, true);
      if (expected !== null && entries.watched() !== head.rootHash) throw broken('the log never was in the state of the given head', null, true);
      return { kind: 'verified', receipts: entries.size(), heads, last };
    },
  };
}

interface Entries {
  readonly size: () => number;
  readonly add: (entry: Buffer) => void;
  /** Root over the first `size`, which never falls from call to call. */
  readonly root: (size: number) => Digest;
  /** Remembers the root at this size when it is passed. */
  readonly watch: (size: number) => void;
  readonly watched: () => Digest | null;
}

/** Heads come after all receipts, so that the entries wait for them, 32 bytes each. */
function openEntries(): Entries {
  let bytes = Buffer.alloc(1024 * HASH_BYTES);
  let size = 0;
  let tree: MerkleTree = EMPTY_TREE;
  let watching: number | null = null;
  let seen: Digest | null = null;
  const digest = (): Digest => `sha256:${rootOf(tree).toString('hex')}`;
  const notice = () => {
    if (tree.size === watching) seen = digest();
  };
  return {
    size: () => size,
    add: (entry) => {
      if ((size + 1) * HASH_BYTES > bytes.length) bytes = Buffer.concat([bytes], bytes.length * 2);
      entry.copy(bytes, size * HASH_BYTES);
      size += 1;
    },
    root: (to) => {
      notice();
      while (tree.size < to) {
        tree = addEntry(tree, bytes.subarray(tree.size * HASH_BYTES, (tree.size + 1) * HASH_BYTES));
        notice();
      }
      return digest();
    },
    watch: (at) => {
      watching = at;
    },
    watched: () => seen,
  };
}
