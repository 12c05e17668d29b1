import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { array, assert, property, uint8Array } from 'fast-check';
import { expect, test } from 'vitest';
import { addEntry, EMPTY_TREE, rootOf } from '#src/domain/merkle.ts';

const sha256 = (...parts: readonly Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();

/** RFC 9162 §2.1.1, word for word: split at the largest power of two below n. */
function rootByDefinition(entries: readonly Uint8Array[]): Buffer {
  const [first] = entries;
  if (first === undefined) return sha256();
  if (entries.length === 1) return sha256(Buffer.of(0), first);
  let split = 1;
  while (split * 2 < entries.length) split *= 2;
  return sha256(Buffer.of(1), rootByDefinition(entries.slice(0, split)), rootByDefinition(entries.slice(split)));
}

test('roots are those of Certificate Transparency’s own vectors', async () => {
  const { leaves, roots } = JSON.parse(await readFile(new URL('../vectors/merkle.json', import.meta.url), 'utf8'));
  let tree = EMPTY_TREE;
  expect(rootOf(tree).toString('hex')).toBe(roots[0]);
  for (const [index, leaf] of leaves.entries()) {
    tree = addEntry(tree, Buffer.from(leaf, 'hex'));
    expect(rootOf(tree).toString('hex')).toBe(roots[index + 1]);
  }
});

test('a tree that grew has the root that the definition gives, at every size', () => {
  assert(
    property(array(uint8Array({ maxLength: 40 }), { maxLength: 70 }), (entries) => {
      const tree = entries.reduce(addEntry, EMPTY_TREE);
      expect(tree.size).toBe(entries.length);
      expect(rootOf(tree)).toEqual(rootByDefinition(entries));
    }),
  );
});
