import { isUtf8 } from 'node:buffer';
import { type CipherGCM, createCipheriv, createDecipheriv, type DecipherGCM, randomBytes } from 'node:crypto';
import { Secret } from '#src/secret.ts';
import { envelopeError } from './envelope-error.ts';
import { TAG_BYTES } from './segments.ts';

/**
 * JWE Compact Serialization (RFC 7516 §7.1) in the one form that KServe's storage initializer is given: pure, no files.
 *
 *   base64url(header) . base64url(encrypted key) . base64url(IV) . base64url(ciphertext) . base64url(tag)
 *
 * A content key of its own for each file, wrapped by AES-KW (RFC 3394) under the key that guests fetch; the file by AES-256-GCM under the
 * content key, the ASCII of the first part its associated data. Strict: no other header, no padding, no bits behind the last byte.
 */
const HEADER = Buffer.from(Buffer.from('{"alg":"A256KW","enc":"A256GCM"}').toString('base64url'));

const KEY_BYTES = 32;
const WRAPPED_KEY_BYTES = 40;
const IV_BYTES = 12;
/** RFC 3394 §2.2.3.1. */
const WRAP_IV = Buffer.alloc(8, 0xa6);
const DOT = 0x2e;

const IV_AT = HEADER.length + 1 + charactersOf(WRAPPED_KEY_BYTES) + 1;
/** Everything in front of the ciphertext, the fourth part's dot included. Bytes. */
export const JWE_HEAD_BYTES = IV_AT + charactersOf(IV_BYTES) + 1;
/** The last dot, and the tag. Bytes. */
export const JWE_TAIL_BYTES = 1 + charactersOf(TAG_BYTES);
/** AES-GCM's limit for one key and IV: 2³⁹ − 256 bits (NIST SP 800-38D §5.2.1.1). */
export const JWE_PLAINTEXT_MAX_BYTES = 2 ** 36 - 32;

/** Characters of base64url without padding (RFC 7515 §2). */
function charactersOf(bytes: number): number {
  return Math.ceil((bytes * 4) / 3);
}

/** Why a file above that is not sealed. */
export const JWE_TOO_LONG = `a JWE holds at most ${JWE_PLAINTEXT_MAX_BYTES} bytes, the limit of AES-GCM`;

/** How long a file is on both sides. */
export interface JweCut {
  readonly plaintextBytes: number;
  /** Of the whole text. */
  readonly textBytes: number;
}

/**
 * The cut of a plaintext of this length. Throws EnvelopeError `unfit` above 64 GiB (32 bytes less, to be exact), and for an empty one, which KServe's
 * reader takes for a failure.
 */
export function jweCutOfPlaintext(plaintextBytes: number): JweCut {
  if (plaintextBytes === 0) throw envelopeError('unfit', 'an empty file: KServe’s reader does not open a JWE of no bytes');
  if (plaintextBytes > JWE_PLAINTEXT_MAX_BYTES) throw envelopeError('unfit', `${plaintextBytes} bytes: ${JWE_TOO_LONG}`);
  return { plaintextBytes, textBytes: JWE_HEAD_BYTES + charactersOf(plaintextBytes) + JWE_TAIL_BYTES };
}

/** The cut of a text of this length. Throws EnvelopeError `truncated` for a length that no text has, `too-large` above the format's limit. */
export function jweCutOfText(textBytes: number): JweCut {
  const characters = textBytes - JWE_HEAD_BYTES - JWE_TAIL_BYTES;
  if (characters <= 0 || characters % 4 === 1) throw envelopeError('truncated', `${textBytes} bytes are no whole JWE`);
  const plaintextBytes = Math.floor((characters * 3) / 4);
  if (plaintextBytes > JWE_PLAINTEXT_MAX_BYTES) throw envelopeError('too-large', `${textBytes} bytes are more than AES-GCM seals under one IV`);
  return { plaintextBytes, textBytes };
}

/** What stands in front of the ciphertext, and what is in it. Wipe `contentKey` after use. */
export interface JweHead {
  readonly text: Buffer;
  readonly contentKey: Buffer;
  readonly iv: Buffer;
}

/** A fresh content key and IV, under this key of 32 bytes. */
export function newHead(key: Buffer): JweHead {
  const [contentKey, iv] = [randomBytes(KEY_BYTES), randomBytes(IV_BYTES)];
  return { text: headText(wrap(key, contentKey), iv.toString('base64url')), contentKey, iv };
}

/** Opens what stands in front. Throws EnvelopeError `malformed` for another header, `not-authentic` under another key. */
export function openHead(key: Buffer, text: Buffer): JweHead {
  const dotted = text[HEADER.length] === DOT && text[IV_AT - 1] === DOT && text[JWE_HEAD_BYTES - 1] === DOT;
  if (text.length !== JWE_HEAD_BYTES || !dotted || !text.subarray(0, HEADER.length).equals(HEADER)) {
    throw envelopeError('malformed', 'not a compact JWE of A256KW and A256GCM with no other header field');
  }
  const wrapped = decoded(text.subarray(HEADER.length + 1, IV_AT - 1), true);
  const iv = decoded(text.subarray(IV_AT, JWE_HEAD_BYTES - 1), true);
  return { text: Buffer.from(text), contentKey: unwrap(key, wrapped), iv };
}

/**
 * The same, with the content key wrapped under another key: nothing else of the file changes, for the associated data is the header
 * alone. Whoever kept the old key and an old copy, or the content key, still opens the file. Throws as `openHead`.
 */
export function rewrapHead(text: Buffer, openWith: Buffer, sealWith: Buffer): Buffer {
  const { contentKey, iv } = openHead(openWith, text);
  try {
    return headText(wrap(sealWith, contentKey), iv.toString('base64url'));
  } finally {
    contentKey.fill(0);
  }
}

function headText(wrapped: Buffer, iv: string): Buffer {
  return Buffer.from(`${HEADER.toString('latin1')}.${wrapped.toString('base64url')}.${iv}.`);
}

function wrap(key: Buffer, contentKey: Buffer): Buffer {
  checkKey(key);
  const cipher = createCipheriv('id-aes256-wrap', key, WRAP_IV);
  return Buffer.concat([cipher.update(contentKey), cipher.final()]);
}

function unwrap(key: Buffer, wrapped: Buffer): Buffer {
  checkKey(key);
  try {
    const decipher = createDecipheriv('id-aes256-wrap', key, WRAP_IV);
    return Buffer.concat([decipher.update(wrapped), decipher.final()]);
  } catch {
    throw envelopeError('not-authentic', 'the JWE’s encrypted key does not open');
  }
}

function checkKey(key: Buffer): void {
  if (key.length !== KEY_BYTES) throw envelopeError('malformed', `the key has ${key.length} bytes, not ${KEY_BYTES}`);
}

/** AES-256-GCM as a JWE uses it. */
export function jweCipher({ contentKey, iv }: JweHead): CipherGCM {
  return createCipheriv('aes-256-gcm', contentKey, iv, { authTagLength: TAG_BYTES }).setAAD(HEADER);
}

/** The other way. What it gives is not to be believed before `endJwe`. */
export function jweDecipher({ contentKey, iv }: JweHead): DecipherGCM {
  return createDecipheriv('aes-256-gcm', contentKey, iv, { authTagLength: TAG_BYTES }).setAAD(HEADER);
}

/** What ends the text of a cipher that has seen everything. */
export function jweTail(cipher: CipherGCM): Buffer {
  cipher.final();
  return Buffer.from(`.${cipher.getAuthTag().toString('base64url')}`);
}

/** Compares the tag. Throws EnvelopeError `malformed`, or `not-authentic`: then everything that the decipher gave is to be thrown away. */
export function endJwe(decipher: DecipherGCM, tail: Buffer): void {
  if (tail[0] !== DOT) throw envelopeError('malformed', 'a JWE’s tag does not stand at its end');
  decipher.setAuthTag(decoded(tail.subarray(1), true));
  try {
    decipher.final();
  } catch {
    throw envelopeError('not-authentic', 'the JWE does not open: it was changed, or is not whole');
  }
}

/** Writes bytes as base64url into the front of `into`; all but the last of a text are a multiple of three. */
export function encodeInto(bytes: Buffer, into: Buffer): void {
  into.write(bytes.toString('base64url'), 0, 'latin1');
}

/**
 * Reads base64url into the front of `into`, and gives the part that it filled; all but the last of a text (`isLast`) are a multiple of
 * four. Throws EnvelopeError `malformed` for anything that `encodeInto` does not write: node:buffer itself skips what it does not know.
 */
export function decodeInto(text: Buffer, into: Buffer, isLast: boolean): Buffer {
  const bytes = Math.floor((text.length * 3) / 4);
  const written = into.write(text.toString('latin1'), 0, 'base64url');
  const given = into.subarray(0, bytes);
  const tail = text.length % 4;
  const same = tail === 0 || (isLast && given.subarray(bytes - (tail - 1)).toString('base64url') === text.subarray(text.length - tail).toString('latin1'));
  // The other alphabet's two characters are taken for ours.
  if (written !== bytes || !same || text.includes('+') || text.includes('/')) throw envelopeError('malformed', 'a JWE’s part is not base64url');
  return given;
}

function decoded(text: Buffer, isLast: boolean): Buffer {
  return decodeInto(text, Buffer.alloc(Math.floor((text.length * 3) / 4)), isLast);
}

/** Seals bytes that fit in memory. Throws EnvelopeError. */
export function sealJwe(plaintext: Buffer, key: Buffer): Buffer {
  jweCutOfPlaintext(plaintext.length);
  const head = newHead(key);
  const cipher = jweCipher(head);
  const ciphertext = cipher.update(plaintext);
  head.contentKey.fill(0);
  return Buffer.concat([head.text, Buffer.from(ciphertext.toString('base64url')), jweTail(cipher)]);
}

/** Opens bytes that fit in memory, all of them or none. Throws EnvelopeError. */
export function openJwe(text: Buffer, key: Buffer): Buffer {
  const { textBytes } = jweCutOfText(text.length);
  const head = openHead(key, text.subarray(0, JWE_HEAD_BYTES));
  const decipher = jweDecipher(head);
  head.contentKey.fill(0);
  const plaintext = decipher.update(decoded(text.subarray(JWE_HEAD_BYTES, textBytes - JWE_TAIL_BYTES), true));
  try {
    endJwe(decipher, text.subarray(textBytes - JWE_TAIL_BYTES));
    return plaintext;
  } catch (error) {
    plaintext.fill(0);
    throw error;
  }
}

/**
 * Draws the bytes that guests fetch as the key: 32 random ones that are no UTF-8. kserve-storage 0.20 takes whatever it is given as the key's bytes;
 * 0.21 takes what reads as UTF-8 for a JWK or for base64url, and only the rest for the bytes themselves.
 */
export function newJweKey(draw: (bytes: number) => Buffer = randomBytes): Secret {
  for (;;) {
    const bytes = draw(KEY_BYTES);
    if (isJweKey(bytes)) return new Secret(bytes);
  }
}

/** Whether every stock reader takes these bytes for the same key. */
export function isJweKey(bytes: Buffer): boolean {
  return bytes.length === KEY_BYTES && !isUtf8(bytes);
}
