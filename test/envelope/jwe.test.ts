import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CompactEncrypt, compactDecrypt } from 'jose';
import { describe, expect, it } from 'vitest';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import {
  isJweKey,
  JWE_HEAD_BYTES,
  JWE_PLAINTEXT_MAX_BYTES,
  jweCutOfPlaintext,
  jweCutOfText,
  newJweKey,
  openJwe,
  rewrapHead,
  sealJwe,
} from '#src/envelope/jwe.ts';
import { rewrapJwe } from '#src/envelope/jwe-pass.ts';
import { type Pass, pass } from '#src/envelope/tink.ts';
import { testFolder } from './folder.ts';

const MiB = 1024 * 1024;
const HEADER = '{"alg":"A256KW","enc":"A256GCM"}';
/** Around every place where a part of the work ends: a group of three, a step, a piece, a segment of Tink's, what is asked of the disk. */
const LENGTHS = [1, 2, 3, 4, 49_151, 49_152, 49_153, 786_431, 786_432, 786_433, MiB - 56, MiB - 55, 2 * MiB - 71, 3 * MiB + 1, 5 * MiB + 77];

const key = randomBytes(32);
const other = randomBytes(32);
const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** The kind of an EnvelopeError, the code of the file system's error, or 'done'. */
function outcome(attempt: () => unknown): string {
  try {
    attempt();
    return 'done';
  } catch (error) {
    if (isEnvelopeError(error)) return error.kind;
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

const keysOf = {
  plain: { open: { openWith: null }, seal: { sealWith: null } },
  jwe: { open: { openWith: key, openAs: 'kserve-jwe' }, seal: { sealWith: other, sealAs: 'kserve-jwe' } },
  tink: { open: { openWith: key }, seal: { sealWith: other } },
} as const;
type Format = keyof typeof keysOf;

function order(from: string, to: string | null, opens: Format, seals: Format): Pass {
  return { from, to, ...keysOf[opens].open, ...keysOf[seals].seal, associatedData: 'place', hash: 'both' };
}

/** A file in one format, under `key`. */
function fileOf(format: Format, plaintext: Buffer): string {
  const folder = testFolder();
  writeFileSync(join(folder, 'plain'), plaintext);
  if (format === 'plain') return join(folder, 'plain');
  pass({ ...order(join(folder, 'plain'), join(folder, 'sealed'), 'plain', format), sealWith: key });
  return join(folder, 'sealed');
}

describe('a JWE', () => {
  it('is opened by jose, and jose’s is opened here', async () => {
    for (const length of [1, 2, 3, 1000, MiB + 1]) {
      const plaintext = randomBytes(length);
      const opened = await compactDecrypt(sealJwe(plaintext, key), key);
      expect(opened.protectedHeader).toEqual({ alg: 'A256KW', enc: 'A256GCM' });
      expect(Buffer.from(opened.plaintext).equals(plaintext)).toBe(true);
      const theirs = await new CompactEncrypt(plaintext).setProtectedHeader({ alg: 'A256KW', enc: 'A256GCM' }).encrypt(key);
      expect(openJwe(Buffer.from(theirs), key).equals(plaintext)).toBe(true);
    }
  });

  it('has no other header than the one that every stock reader opens', async () => {
    const text = sealJwe(Buffer.from('x'), key).toString();
    expect(Buffer.from(text.split('.')[0] ?? '', 'base64url').toString()).toBe(HEADER);
    expect(text).toHaveLength(jweCutOfPlaintext(1).textBytes);
    for (const header of [
      { alg: 'A256KW', enc: 'A256GCM', kid: 'k' },
      { alg: 'dir', enc: 'A256GCM' },
      { enc: 'A256GCM', alg: 'A256KW' },
    ]) {
      const theirs = await new CompactEncrypt(Buffer.from('x')).setProtectedHeader(header).encrypt(key);
      expect(outcome(() => openJwe(Buffer.from(theirs), key))).toMatch(/malformed|truncated/);
    }
  });

  it('does not open with a character changed anywhere, nor with one that says the same', () => {
    const text = sealJwe(randomBytes(100), key);
    for (let at = 0; at < text.length; at += 1) {
      const changed = Buffer.from(text);
      changed[at] = changed[at] === 0x41 ? 0x42 : 0x41;
      expect(outcome(() => openJwe(changed, key))).toMatch(/^(malformed|not-authentic|truncated)$/);
    }
    const [dash] = [text.indexOf('-', JWE_HEAD_BYTES)];
    const spelt = Buffer.from(text.toString().replaceAll('-', '+').replaceAll('_', '/'));
    expect(dash === -1 && !text.includes('_') ? 'malformed' : outcome(() => openJwe(spelt, key))).toBe('malformed');
    // The tag's last character holds four bits that say nothing.
    const last = Buffer.from(text);
    last[last.length - 1] = (last.at(-1) ?? 0) + 1;
    expect(outcome(() => openJwe(last, key))).toBe('malformed');
  });

  it('does not open under another key, cut short, or as a text of no possible length', () => {
    const text = sealJwe(randomBytes(100), key);
    expect(outcome(() => openJwe(text, other))).toBe('not-authentic');
    for (const length of [0, 10, JWE_HEAD_BYTES, JWE_HEAD_BYTES + 23]) expect(outcome(() => openJwe(text.subarray(0, length), key))).toBe('truncated');
    expect(outcome(() => openJwe(text.subarray(0, text.length - 4), key))).toBe('malformed');
    expect(outcome(() => jweCutOfText(JWE_HEAD_BYTES + 5 + 23))).toBe('truncated');
  });

  it('holds 64 GiB less 32 bytes, and at least one byte', () => {
    expect(jweCutOfPlaintext(JWE_PLAINTEXT_MAX_BYTES)).toEqual({ plaintextBytes: 68_719_476_704, textBytes: 116 + 91_625_968_939 + 23 });
    expect(outcome(() => jweCutOfPlaintext(JWE_PLAINTEXT_MAX_BYTES + 1))).toBe('unfit');
    expect(outcome(() => jweCutOfPlaintext(0))).toBe('unfit');
    const sparse = join(testFolder(), 'sparse');
    writeFileSync(sparse, '');
    truncateSync(sparse, JWE_PLAINTEXT_MAX_BYTES + 1);
    const to = `${sparse}.jwe`;
    expect(outcome(() => pass(order(sparse, to, 'plain', 'jwe')))).toBe('unfit');
    expect(existsSync(to)).toBe(false);
  });
});

describe('the key that guests fetch', () => {
  it('is never text, which a reader of KServe 0.21 would take for base64url or for a JWK', () => {
    const drawn = [Buffer.alloc(32, 'k'), Buffer.from('é'.repeat(16)), randomBytes(32).fill(0xff, 0, 1)];
    using fetched = newJweKey(() => drawn.shift() ?? Buffer.alloc(0));
    expect(fetched.reveal()[0]).toBe(0xff);
    expect(isJweKey(Buffer.alloc(32, 'k'))).toBe(false);
    expect(isJweKey(Buffer.alloc(33, 0xff))).toBe(false);
  });
});

describe('a pass', () => {
  it.each([
    ['plain', 'jwe'],
    ['jwe', 'plain'],
    ['jwe', 'jwe'],
    ['tink', 'jwe'],
    ['jwe', 'tink'],
  ] as const)('from %s to %s keeps every byte, whatever the length', (opens, seals) => {
    for (const length of LENGTHS) {
      const plaintext = randomBytes(length);
      const from = fileOf(opens, plaintext);
      const to = join(testFolder(), 'to');
      const passed = pass(order(from, to, opens, seals));
      const written = readFileSync(to);
      expect(passed).toEqual({
        plaintextDigest: sha256(plaintext),
        ciphertextDigest: sha256(seals === 'plain' ? readFileSync(from) : written),
        plaintextBytes: length,
        keptBytes: 0,
        ciphertextBytes: seals === 'plain' ? readFileSync(from).length : written.length,
      });
      if (seals === 'jwe') expect(openJwe(written, other).equals(plaintext)).toBe(true);
      if (seals === 'plain') expect(written.equals(plaintext)).toBe(true);
      if (seals === 'tink') expect(pass({ ...order(to, null, 'tink', 'plain'), openWith: other }).plaintextDigest).toBe(sha256(plaintext));
      // A trial says the same, and writes nothing.
      expect(pass({ ...order(from, null, opens, 'plain') })).toMatchObject({ plaintextDigest: sha256(plaintext) });
    }
  });

  it('puts nothing under the name that was asked for before the tag was compared', () => {
    const plaintext = randomBytes(3 * MiB);
    const from = fileOf('jwe', plaintext);
    const folder = testFolder();
    const seen: boolean[] = [];
    pass(order(from, join(folder, 'opened'), 'jwe', 'plain'), () => seen.push(existsSync(join(folder, 'opened'))));
    expect(seen.length).toBeGreaterThan(2);
    expect(seen).not.toContain(true);
    expect(readdirSync(folder)).toEqual(['opened']);
  });

  it.each(['plain', 'jwe', 'tink'] as const)('to %s leaves nothing where the tag does not fit, or the file is not whole', (seals) => {
    const text = readFileSync(fileOf('jwe', randomBytes(2 * MiB)));
    const folder = testFolder();
    const attempt = (bytes: Buffer, opens: Pass['openWith'] = key): string => {
      const from = join(testFolder(), 'from');
      writeFileSync(from, bytes);
      return outcome(() => pass({ ...order(from, join(folder, 'to'), 'jwe', seals), openWith: opens }));
    };
    const flipped = (at: number): Buffer => {
      const changed = Buffer.from(text);
      changed[at] = changed[at] === 0x41 ? 0x42 : 0x41;
      return changed;
    };
    expect(attempt(flipped(MiB))).toBe('not-authentic');
    expect(attempt(flipped(text.length - 10))).toBe('not-authentic');
    expect(attempt(flipped(JWE_HEAD_BYTES - 5))).toBe('not-authentic');
    expect(attempt(flipped(60))).toBe('not-authentic');
    expect(attempt(flipped(5))).toBe('malformed');
    expect(attempt(text, other)).toBe('not-authentic');
    expect(attempt(text.subarray(0, text.length - 4))).toBe('malformed');
    expect(attempt(text.subarray(0, 100))).toBe('truncated');
    const padded = Buffer.from(text);
    padded.write('=', MiB);
    expect(attempt(padded)).toBe('malformed');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('leaves nothing of a file that grew while it was read', () => {
    for (const [opens, seals] of [
      ['plain', 'jwe'],
      ['jwe', 'plain'],
      ['jwe', 'tink'],
    ] as const) {
      const from = fileOf(opens, randomBytes(2 * MiB));
      const folder = testFolder();
      expect(outcome(() => pass(order(from, join(folder, 'to'), opens, seals), () => appendFileSync(from, 'AAAA')))).toBe('changed');
      expect(readdirSync(folder)).toEqual([]);
    }
  });

  it('overwrites nothing that has the name already', () => {
    const from = fileOf('jwe', randomBytes(10));
    const folder = testFolder();
    writeFileSync(join(folder, 'to'), 'mine');
    for (const seals of ['plain', 'jwe', 'tink'] as const) expect(outcome(() => pass(order(from, join(folder, 'to'), 'jwe', seals)))).toBe('EEXIST');
    expect(readdirSync(folder)).toEqual(['to']);
    expect(readFileSync(join(folder, 'to'), 'utf8')).toBe('mine');
  });

  it('starts over where another one left a part, and keeps none of it', () => {
    const plaintext = randomBytes(3 * MiB);
    const from = fileOf('jwe', plaintext);
    const to = join(testFolder(), 'to');
    const half = readFileSync(fileOf('jwe', plaintext)).subarray(0, 2 * MiB);
    for (const seals of ['jwe', 'tink'] as const) {
      writeFileSync(to, half);
      expect(pass({ ...order(from, to, 'jwe', seals), resume: true })).toMatchObject({ keptBytes: 0, ciphertextDigest: sha256(readFileSync(to)) });
    }
  });
});

describe('a rewrap', () => {
  it('changes the second part alone; the new key opens it, the old one does not', () => {
    const plaintext = randomBytes(2 * MiB + 5);
    const from = fileOf('jwe', plaintext);
    const to = join(testFolder(), 'to');
    const { oldDigest, newDigest, bytes } = rewrapJwe({ from, to, openWith: key, sealWith: other });
    const [before, after] = [readFileSync(from), readFileSync(to)];
    expect([oldDigest, newDigest, bytes]).toEqual([sha256(before), sha256(after), before.length]);
    const [old, now] = [before.toString().split('.'), after.toString().split('.')];
    expect(now[1]).not.toBe(old[1]);
    expect(now.toSpliced(1, 1)).toEqual(old.toSpliced(1, 1));
    expect(openJwe(after, other).equals(plaintext)).toBe(true);
    expect(outcome(() => openJwe(after, key))).toBe('not-authentic');
    // What no rewrap undoes.
    expect(openJwe(before, key).equals(plaintext)).toBe(true);
  });

  it('is refused under a wrong key, leaves nothing then, and overwrites nothing', () => {
    const from = fileOf('jwe', randomBytes(100));
    const folder = testFolder();
    const to = join(folder, 'to');
    expect(outcome(() => rewrapJwe({ from, to, openWith: other, sealWith: key }))).toBe('not-authentic');
    expect(readdirSync(folder)).toEqual([]);
    writeFileSync(to, 'mine');
    expect(outcome(() => rewrapJwe({ from, to, openWith: key, sealWith: other }))).toBe('EEXIST');
    expect(readFileSync(to, 'utf8')).toBe('mine');
    expect(outcome(() => rewrapHead(Buffer.alloc(JWE_HEAD_BYTES, 'x'), key, other))).toBe('malformed');
  });

  it('tells by the old digest that a file is not the one that was sealed', () => {
    const from = fileOf('jwe', randomBytes(100));
    const sealed = sha256(readFileSync(from));
    appendFileSync(from, 'AAAA');
    expect(rewrapJwe({ from, to: join(testFolder(), 'to'), openWith: key, sealWith: other }).oldDigest).not.toBe(sealed);
  });
});
