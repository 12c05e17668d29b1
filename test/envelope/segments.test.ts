import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { keyOf, keysetOf } from '#src/envelope/keyset.ts';
import { openMessage, sealMessage } from '#src/envelope/message.ts';
import {
  AES256_GCM_HKDF_1MB,
  cutOfPlaintext,
  openSegment,
  type StreamingParameters,
  sealSegment,
  segmentInCiphertext,
  segmentInPlaintext,
  streamOf,
} from '#src/envelope/segments.ts';
import { Secret } from '#src/secret.ts';

type Vector = StreamingParameters & Readonly<Record<'key' | 'plaintext' | 'associatedData' | 'ciphertext', string>>;
const vectors = JSON.parse(readFileSync('test/vectors/tink/tink-java.json', 'utf8')) as readonly Vector[];
const recorded = JSON.parse(readFileSync('test/vectors/tink/tink-go.json', 'utf8')) as {
  readonly key: string;
  readonly keyset: string;
  readonly associatedData: string;
  readonly small: { readonly plaintext: string; readonly ciphertext: string };
  readonly large: { readonly plaintextBytes: number; readonly header: string; readonly ciphertextBytes: number; readonly ciphertextSha256: string };
};
const hex = (text: string) => Buffer.from(text, 'hex');

/** Small segments, so that a short text has many. */
const small: StreamingParameters = { hash: 'sha256', keyBytes: 32, derivedKeyBytes: 32, segmentBytes: 64 };

/** What kind of no an attempt is met with; 'opened' where there was none. */
function outcome(attempt: () => unknown): string {
  try {
    attempt();
    return 'opened';
  } catch (error) {
    return isEnvelopeError(error) ? error.kind : String(error);
  }
}

describe('the format is Tink’s', () => {
  it.each(vectors.map((vector, index) => ({ vector, index })))('opens vector $index of Tink for Java', ({ vector }) => {
    const opened = openMessage(hex(vector.ciphertext), hex(vector.key), hex(vector.associatedData), vector);
    expect(opened.toString('hex')).toBe(vector.plaintext);
  });

  it('opens what tink-go sealed with the keyset that we wrote', () => {
    using keyset = new Secret(hex(recorded.keyset));
    using key = keyOf(keyset);
    const opened = openMessage(hex(recorded.small.ciphertext), key.reveal(), Buffer.from(recorded.associatedData));
    expect(opened.toString('utf8')).toBe(recorded.small.plaintext);
  });

  it('seals three segments to the bytes that tink-go sealed them to', () => {
    const { plaintextBytes, header, ciphertextBytes, ciphertextSha256 } = recorded.large;
    const plaintext = Buffer.from(Uint8Array.from({ length: plaintextBytes }, (_, index) => (index * 7 + (index >> 8)) & 255));
    const cut = cutOfPlaintext(plaintextBytes, AES256_GCM_HKDF_1MB);
    const stream = streamOf(hex(recorded.key), hex(header), Buffer.from(recorded.associatedData), AES256_GCM_HKDF_1MB);
    const into = Buffer.alloc(AES256_GCM_HKDF_1MB.segmentBytes);
    const hash = createHash('sha256').update(hex(header));
    for (let index = 0; index < cut.segments; index += 1) {
      const { at, bytes } = segmentInPlaintext(cut, index, AES256_GCM_HKDF_1MB);
      hash.update(sealSegment(stream, index, index === cut.segments - 1, plaintext.subarray(at, at + bytes), into));
    }
    expect(cut).toMatchObject({ segments: 3, ciphertextBytes });
    expect(hash.digest('hex')).toBe(ciphertextSha256);
  });
});

describe('a sealed message', () => {
  const key = randomBytes(32);
  const associatedData = Buffer.from('keyturn/v1\nmanifest');
  const plaintext = randomBytes(200);
  const sealed = sealMessage(plaintext, key, associatedData, small);
  const open = (bytes: Buffer, with_ = key, under = associatedData) => outcome(() => openMessage(bytes, with_, under, small));
  const { segments } = cutOfPlaintext(plaintext.length, small);
  const segment = (index: number) => sealed.subarray(index * small.segmentBytes, (index + 1) * small.segmentBytes);

  it('opens to what was sealed, at every length around a segment’s end', () => {
    for (let length = 0; length < 130; length += 1) {
      const text = randomBytes(length);
      const ciphertext = sealMessage(text, key, associatedData, small);
      expect(ciphertext.length).toBe(cutOfPlaintext(length, small).ciphertextBytes);
      expect(openMessage(ciphertext, key, associatedData, small).equals(text)).toBe(true);
    }
  });

  it('is never sealed to the same bytes twice', () => {
    expect(sealMessage(plaintext, key, associatedData, small).equals(sealed)).toBe(false);
  });

  it('does not open under another key, or with other associated data', () => {
    expect(open(sealed)).toBe('opened');
    expect(open(sealed, randomBytes(32))).toBe('not-authentic');
    expect(open(sealed, key, Buffer.from('keyturn/v1\nmanifesto'))).toBe('not-authentic');
  });

  it('does not open when any byte of it is another one', () => {
    for (let at = 0; at < sealed.length; at += 1) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(open(changed)).toBe(at === 0 ? 'malformed' : 'not-authentic');
    }
  });

  it('does not open when it is cut, at a segment’s end or anywhere', () => {
    expect(segments).toBe(5);
    for (let length = 0; length < sealed.length; length += 1) expect(open(sealed.subarray(0, length))).toMatch(/^(not-authentic|truncated)$/);
    for (let index = 1; index < segments; index += 1) expect(open(sealed.subarray(0, index * small.segmentBytes))).toBe('not-authentic');
  });

  it('does not open when segments are swapped, doubled or left out', () => {
    const swapped = Buffer.concat([segment(0), segment(2), segment(1), ...[3, 4].map(segment)]);
    const doubled = Buffer.concat([0, 1, 1, 2, 3, 4].map(segment));
    const without = Buffer.concat([0, 1, 3, 4].map(segment));
    expect([swapped, doubled, without].map((bytes) => open(bytes))).toEqual(['not-authentic', 'not-authentic', 'not-authentic']);
  });

  it('gives nothing away of a segment that does not open', () => {
    const header = sealed.subarray(0, 40);
    const stream = streamOf(key, header, associatedData, small);
    const into = Buffer.alloc(small.segmentBytes, 7);
    const changed = Buffer.from(segment(1));
    changed[0] = (changed[0] ?? 0) ^ 1;
    expect(outcome(() => openSegment(stream, 1, false, changed, into))).toBe('not-authentic');
    expect(into.subarray(0, 48).equals(Buffer.alloc(48))).toBe(true);
  });

  it('has no room for places beyond its end', () => {
    const cut = cutOfPlaintext(200, small);
    const ends = Array.from({ length: cut.segments }, (_, index) => segmentInCiphertext(cut, index, small)).map(({ at, bytes }) => at + bytes);
    expect(ends.at(-1)).toBe(cut.ciphertextBytes);
  });

  it('may not carry more associated data than HKDF takes', () => {
    expect(outcome(() => sealMessage(plaintext, key, Buffer.alloc(1025), small))).toBe('too-large');
  });
});

describe('a keyset', () => {
  it('holds the key that was put in, and is always the same for it', () => {
    using key = new Secret(hex(recorded.key));
    using keyset = keysetOf(key);
    using back = keyOf(keyset);
    expect(keyset.reveal().toString('hex')).toBe(recorded.keyset);
    expect(back.reveal().equals(key.reveal())).toBe(true);
  });

  it('is refused in any other form', () => {
    const good = hex(recorded.keyset);
    const keyAt = good.indexOf(hex(recorded.key));
    const others = Array.from({ length: good.length }, (_, at) => at).filter((at) => at < keyAt || at >= keyAt + 32);
    for (const at of others) {
      const other = Buffer.from(good);
      other[at] = (other[at] ?? 0) ^ 1;
      expect(outcome(() => keyOf(new Secret(other)))).toBe('malformed');
    }
    expect(outcome(() => keyOf(new Secret(Buffer.concat([good, Buffer.of(0)]))))).toBe('malformed');
    expect(outcome(() => keyOf(new Secret(good.subarray(0, -1))))).toBe('malformed');
    expect(outcome(() => keysetOf(new Secret(Buffer.alloc(16))))).toBe('malformed');
  });
});
