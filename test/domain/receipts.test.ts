import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Digest } from '#src/digest.ts';
import { addEntry, EMPTY_TREE, rootOf } from '#src/domain/merkle.ts';
import {
  type Head,
  headBytes,
  headLine,
  type Receipt,
  readPublicKey,
  receiptDigest,
  receiptLine,
  receiptText,
  treeEntry,
  verifySignature,
} from '#src/domain/receipts.ts';
import { type Verified, verifyExport } from '#src/domain/verify-export.ts';
import { instantOf } from '#src/instant.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const PUBLIC = publicKey.export({ type: 'spki', format: 'pem' }).toString();

function receipt(run: string, number: number, previous: Digest | null, more: Partial<Receipt> = {}): Receipt {
  return {
    id: `${run}/${number}`,
    installation: 'test',
    run,
    number,
    cause: run === 'r-b' ? 'r-a' : null,
    previous,
    workload: 'chat',
    workflow: 'adopt-revision',
    subject: { kind: 'revision', release: `sha256:${'1'.repeat(64)}`, serial: 1, epoch: 1, pathNumber: 0 },
    step: 'create-key',
    at: instantOf(1_795_000_000_000 + number),
    claim: 3,
    facts: { keyId: 'key-1' },
    evidence: { said: 'grün ✓', ratio: 1.5 },
    proof: 'observed',
    verdicts: [{ gate: 'release-is-signed', evidence: null, goodUntil: null }],
    kept: [],
    moves: null,
    generations: { main: 4 },
    ...more,
  };
}

/** Two runs whose receipts alternate. */
function receipts(count: number): readonly Receipt[] {
  const last = new Map<string, Receipt>();
  return Array.from({ length: count }, (_, index) => {
    const run = index % 2 === 0 ? 'r-a' : 'r-b';
    const before = last.get(run) ?? null;
    const next = receipt(run, (before?.number ?? 0) + 1, before === null ? null : receiptDigest(before));
    last.set(run, next);
    return next;
  });
}

function headOver(list: readonly Receipt[], treeSize: number, key: KeyObject = privateKey, installation = 'test'): Head {
  const tree = list.slice(0, treeSize).reduce((grown, one) => addEntry(grown, treeEntry(receiptDigest(one))), EMPTY_TREE);
  const head = { installation, treeSize, rootHash: `sha256:${rootOf(tree).toString('hex')}` as Digest, at: instantOf(1_795_000_100_000) };
  return { head, signature: sign(null, headBytes(head), key).toString('base64') };
}

function write(list: readonly Receipt[], heads: readonly Head[]): Buffer {
  const lines = [...list.map((one) => receiptLine(receiptDigest(one), receiptText(one))), ...heads.map(headLine)];
  return Buffer.from(`${lines.join('\n')}\n`);
}

async function* inChunks(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < bytes.length; from += size) yield bytes.subarray(from, from + size);
}

const check = (bytes: Buffer, head: string | null = null, chunk = 1000): Promise<Verified> => verifyExport(inChunks(bytes, chunk), PUBLIC, head);

const LIST = receipts(7);
const EXPORT = write(LIST, [headOver(LIST, 3), headOver(LIST, 7)]);

test('an export as it was written verifies, however its bytes come', async () => {
  for (const chunk of [1, 7, 100_000]) expect(await check(EXPORT, null, chunk)).toMatchObject({ kind: 'verified', receipts: 7, heads: 2 });
  expect(await check(write([], [headOver([], 0)]))).toMatchObject({ kind: 'verified', receipts: 0, heads: 1 });
});

test('any one byte that is changed is found, and its line is named', async () => {
  const bytes = write(LIST.slice(0, 3), [headOver(LIST, 1), headOver(LIST, 3)]);
  let line = 1;
  for (const [index, byte] of bytes.entries()) {
    for (const other of [byte ^ 1, byte ^ 0x80, 0x20, 0x0a]) {
      if (other === byte) continue;
      const changed = Buffer.from(bytes);
      changed[index] = other;
      const found = await check(changed);
      if (found.kind !== 'broken' || found.line !== line) throw new Error(`byte ${index} of line ${line}, ${byte} made ${other}: ${JSON.stringify(found)}`);
    }
    if (byte === 0x0a) line += 1;
  }
  expect(line).toBe(6);
});

test('a receipt that is changed is named, not only its line', async () => {
  const changed = Buffer.from(EXPORT.toString().replace('key-1', 'key-2'));
  expect(await check(changed)).toMatchObject({ kind: 'broken', line: 1, receipt: 'r-a/1' });
});

test('a receipt with its digest made anew breaks its chain or the root', async () => {
  const [first, ...rest] = LIST;
  if (first === undefined) throw new Error('no receipts');
  const forged = [{ ...first, step: 'other' }, ...rest];
  expect(await check(write(forged, [headOver(LIST, 3), headOver(LIST, 7)]))).toMatchObject({ kind: 'broken', line: 3, receipt: 'r-a/2' });
  const last = LIST[6];
  if (last === undefined) throw new Error('no receipts');
  const end = [...LIST.slice(0, 6), { ...last, step: 'other' }];
  expect(await check(write(end, [headOver(LIST, 3), headOver(LIST, 7)]))).toMatchObject({ kind: 'broken', line: 9 });
});

test('receipts that are left out, doubled, exchanged or added are found', async () => {
  const heads = [headOver(LIST, 7)];
  const [a, b, c, d, ...rest] = LIST;
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new Error('no receipts');
  for (const list of [[a, b, d, ...rest], [a, a, b, c, d, ...rest], [c, b, a, d, ...rest], [b, a, c, d, ...rest], LIST.slice(0, 6)]) {
    expect((await check(write(list, heads))).kind).toBe('broken');
  }
  expect(await check(write(receipts(8), heads))).toMatchObject({ kind: 'broken' });
});

test('a chain that leaves a number out is broken, though whoever left it out has the key', async () => {
  const first = receipt('r-a', 1, null);
  const list = [first, receipt('r-a', 3, receiptDigest(first))];
  expect(await check(write(list, [headOver(list, 2)]))).toMatchObject({ kind: 'broken', line: 2, receipt: 'r-a/3' });
});

test('a receipt after the last head, no head, and a cut end are found', async () => {
  expect(await check(write(LIST, [headOver(LIST, 3)]))).toMatchObject({ kind: 'broken' });
  expect(await check(write(LIST, []))).toMatchObject({ kind: 'broken' });
  expect(await check(Buffer.alloc(0))).toMatchObject({ kind: 'broken' });
  expect(await check(EXPORT.subarray(0, -1))).toMatchObject({ kind: 'broken', line: 9 });
  const text = EXPORT.toString().split('\n');
  expect(await check(Buffer.from([...text.slice(0, 6), text[7], text[6], text[8], ''].join('\n')))).toMatchObject({
    kind: 'broken',
    line: 8,
    receipt: 'r-a/4',
  });
});

test('a head of another key, another installation, or over the same receipts twice is refused', async () => {
  const stranger = generateKeyPairSync('ed25519').privateKey;
  for (const head of [headOver(LIST, 7, stranger), headOver(LIST, 7, privateKey, 'other')]) {
    expect(await check(write(LIST, [head]))).toMatchObject({ kind: 'broken', line: 8 });
  }
  expect(await check(write(LIST, [headOver(LIST, 7), headOver(LIST, 7)]))).toMatchObject({ kind: 'broken', line: 9 });
});

test('JSON that says the same in other bytes is no export', async () => {
  const [line = ''] = EXPORT.toString().split('\n');
  for (const other of [line.replace('{"digest"', '{ "digest"'), line.replace('"claim":3', '"claim":3.0'), line.replace('ü', '\\u00fc'), `\uFEFF${line}`]) {
    expect(other).not.toBe(line);
    expect(await check(Buffer.from(EXPORT.toString().replace(line, other)))).toMatchObject({ kind: 'broken', line: 1 });
  }
});

test('base64 that decodes to the same bytes in other letters is refused', async () => {
  const { head, signature } = headOver(LIST, 7);
  // 64 bytes end in two letters of which the last has four bits that say nothing.
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  const other = `${signature.slice(0, -3)}${letters[letters.indexOf(signature.at(-3) ?? '') + 1]}==`;
  expect(Buffer.from(other, 'base64')).toEqual(Buffer.from(signature, 'base64'));
  for (const written of [other, signature.replace('==', ''), `${signature} `, signature.replaceAll('+', '-').replaceAll('/', '_').replace('==', '')]) {
    expect(await check(write(LIST, [{ head, signature: written }]))).toMatchObject({ kind: 'broken', line: 8 });
  }
});

test('a head kept from before is a state that the log went through, or the log was rewritten', async () => {
  for (const size of [0, 2, 3, 7]) expect((await check(EXPORT, headLine(headOver(LIST, size)))).kind).toBe('verified');
  expect((await check(EXPORT, `${headLine(headOver(LIST, 2))}\n`)).kind).toBe('verified');
  const longer = receipts(9);
  expect(await check(EXPORT, headLine(headOver(longer, 9)))).toMatchObject({ kind: 'broken', line: 0 });
  const rewritten = [receipt('r-z', 1, null), ...LIST.slice(1)];
  expect(await check(EXPORT, headLine(headOver(rewritten, 5)))).toMatchObject({ kind: 'broken', line: 0 });
  expect(await check(EXPORT, headLine(headOver(LIST, 5, generateKeyPairSync('ed25519').privateKey)))).toMatchObject({ kind: 'broken', line: 0 });
});

test('signatures of P-256 and P-384 verify with their own hash, and other keys are not read', () => {
  const bytes = Buffer.from('head');
  for (const [namedCurve, hash] of [
    ['P-256', 'sha256'],
    ['P-384', 'sha384'],
  ] as const) {
    const pair = generateKeyPairSync('ec', {
      namedCurve,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    });
    const signature = sign(hash, bytes, createPrivateKey(pair.privateKey)).toString('base64');
    expect(verifySignature(readPublicKey(pair.publicKey), bytes, signature)).toBe(true);
    expect(verifySignature(readPublicKey(pair.publicKey), Buffer.from('hear'), signature)).toBe(false);
  }
  const rsa = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  expect(() => readPublicKey(rsa.publicKey)).toThrow();
});
