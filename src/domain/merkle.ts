import { createHash } from 'node:crypto';

/**
 * A Merkle tree (RFC 9162 §2.1) that grows at its end: the roots of its complete subtrees, largest
 * first, which is all that adding a leaf or telling the root needs. At most 53 hashes of 32 bytes.
 */
export interface MerkleTree {
  readonly size: number;
  readonly peaks: readonly Buffer[];
}

/** No leaves; its root is SHA-256 of nothing. */
export const EMPTY_TREE: MerkleTree = { size: 0, peaks: [] };

/** RFC 9162 §2.1.1: a leaf and a node never hash the same, since these bytes come first. */
const LEAF = Buffer.of(0);
const NODE = Buffer.of(1);

function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** The tree with one entry more. Costs one hash, and one more for each subtree that it completes. */
export function addEntry(tree: MerkleTree, entry: Uint8Array): MerkleTree {
  const peaks = [...tree.peaks];
  let hash = sha256(LEAF, entry);
  // Each one bit at the low end of the size is a complete subtree as large as the one that the new leaf completes.
  for (let size = tree.size; size % 2 === 1; size = (size - 1) / 2) hash = sha256(NODE, peaks.pop() ?? hash, hash);
  peaks.push(hash);
  return { size: tree.size + 1, peaks };
}

/** `MTH` of RFC 9162 §2.1.1, 32 bytes. */
export function rootOf(tree: MerkleTree): Buffer {
  const last = tree.peaks.at(-1);
  if (last === undefined) return sha256();
  return tree.peaks.slice(0, -1).reduceRight((right, left) => sha256(NODE, left, right), last);
}
