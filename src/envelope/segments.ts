import { type CipherGCM, createCipheriv, createDecipheriv, type DecipherGCM, hkdfSync } from 'node:crypto';
import { envelopeError } from './envelope-error.ts';

/**
 * The format of Tink's AES-GCM-HKDF streaming AEAD, segment by segment: pure, no files.
 * https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming
 *
 * A ciphertext is `header || segment 0 || segment 1 …`. The header is one byte that holds its own length, a salt as long as
 * the derived key, and a nonce prefix of 7 bytes. Every segment is AES-GCM under the derived key with the nonce
 * `prefix || index (4 bytes, big-endian) || 1 for the last segment, else 0`, which is what makes cutting and reordering show.
 */
export interface StreamingParameters {
  /** HKDF's hash. */
  readonly hash: 'sha1' | 'sha256' | 'sha512';
  /** Length of the main key. */
  readonly keyBytes: 16 | 32;
  /** Length of the key that HKDF derives for one ciphertext, and of its salt. */
  readonly derivedKeyBytes: 16 | 32;
  /** Length of every segment of the ciphertext but the last; the first one includes the header. */
  readonly segmentBytes: number;
}

/** Tink's template `AES256_GCM_HKDF_1MB`: the one that is written here. The others exist so that Tink's own vectors can be run. */
export const AES256_GCM_HKDF_1MB: StreamingParameters = { hash: 'sha256', keyBytes: 32, derivedKeyBytes: 32, segmentBytes: 1024 * 1024 };

/** AES-GCM's tag. */
export const TAG_BYTES = 16;
/** Tink's nonce prefix; 4 bytes of index and 1 of *last* follow. */
const NONCE_PREFIX_BYTES = 7;
/** The index has 32 bits. */
const SEGMENTS_MAX = 2 ** 32;
/** Below malloc's threshold of 128 KiB, from which each answer of node:crypto would be a mapping of its own (see the README). */
const PIECE_BYTES = 96 * 1024;
/** Node's HKDF takes no longer `info`; ours has at most 600. */
const ASSOCIATED_DATA_MAX_BYTES = 1024;

/** The key and nonce prefix of one ciphertext. Wipe `key` after use. */
export interface Stream {
  readonly key: Buffer;
  readonly noncePrefix: Buffer;
  readonly parameters: StreamingParameters;
}

/** Length of the header in bytes. */
export function headerBytesOf(parameters: StreamingParameters): number {
  return 1 + parameters.derivedKeyBytes + NONCE_PREFIX_BYTES;
}

/** Puts a header together. `random` is salt and nonce prefix: fresh for every ciphertext, else nonces repeat and AES-GCM is broken. */
export function headerOf(random: Buffer, parameters: StreamingParameters): Buffer {
  const length = headerBytesOf(parameters);
  if (random.length !== length - 1) throw envelopeError('malformed', `a header takes ${length - 1} random bytes, not ${random.length}`);
  return Buffer.concat([Buffer.of(length), random]);
}

/** Derives the key of one ciphertext from its header. Throws EnvelopeError `malformed` for another format's header. */
export function streamOf(key: Buffer, header: Buffer, associatedData: Buffer, parameters: StreamingParameters): Stream {
  const length = headerBytesOf(parameters);
  if (key.length !== parameters.keyBytes) throw envelopeError('malformed', `the key has ${key.length} bytes, not ${parameters.keyBytes}`);
  if (header.length !== length || header[0] !== length) throw envelopeError('malformed', 'the header is not one of this format');
  if (associatedData.length > ASSOCIATED_DATA_MAX_BYTES) {
    throw envelopeError('too-large', `associated data has ${associatedData.length} bytes; at most ${ASSOCIATED_DATA_MAX_BYTES} are taken`);
  }
  const salt = header.subarray(1, 1 + parameters.derivedKeyBytes);
  const derived = Buffer.from(hkdfSync(parameters.hash, key, salt, associatedData, parameters.derivedKeyBytes));
  return { key: derived, noncePrefix: Buffer.from(header.subarray(1 + parameters.derivedKeyBytes)), parameters };
}

/** How a ciphertext is cut. */
export interface Cut {
  readonly segments: number;
  readonly plaintextBytes: number;
  readonly ciphertextBytes: number;
}

/** The cut of a plaintext of this length. An empty one has one (empty) segment. Throws EnvelopeError `too-large` above 2³² segments. */
export function cutOfPlaintext(plaintextBytes: number, parameters: StreamingParameters): Cut {
  const room = parameters.segmentBytes - TAG_BYTES;
  const segments = Math.max(1, Math.ceil((plaintextBytes + headerBytesOf(parameters)) / room));
  if (segments > SEGMENTS_MAX) throw envelopeError('too-large', `${plaintextBytes} bytes are more than 2^32 segments`);
  return { segments, plaintextBytes, ciphertextBytes: plaintextBytes + headerBytesOf(parameters) + segments * TAG_BYTES };
}

/** The cut of a ciphertext of this length. Throws EnvelopeError `truncated` for a length that no ciphertext has. */
export function cutOfCiphertext(ciphertextBytes: number, parameters: StreamingParameters): Cut {
  const segments = Math.max(1, Math.ceil(ciphertextBytes / parameters.segmentBytes));
  const last = ciphertextBytes - (segments - 1) * parameters.segmentBytes;
  if (last < TAG_BYTES + (segments === 1 ? headerBytesOf(parameters) : 0)) throw envelopeError('truncated', `${ciphertextBytes} bytes are cut short`);
  if (segments > SEGMENTS_MAX) throw envelopeError('too-large', `${ciphertextBytes} bytes are more than 2^32 segments`);
  return { segments, plaintextBytes: ciphertextBytes - headerBytesOf(parameters) - segments * TAG_BYTES, ciphertextBytes };
}

/** Where segment `index` lies, tag included and header left out. */
export function segmentInCiphertext(cut: Cut, index: number, parameters: StreamingParameters): { readonly at: number; readonly bytes: number } {
  const at = index === 0 ? headerBytesOf(parameters) : index * parameters.segmentBytes;
  return { at, bytes: Math.min((index + 1) * parameters.segmentBytes, cut.ciphertextBytes) - at };
}

/** Where the same segment's plaintext lies. */
export function segmentInPlaintext(cut: Cut, index: number, parameters: StreamingParameters): { readonly at: number; readonly bytes: number } {
  const { at, bytes } = segmentInCiphertext(cut, index, parameters);
  return { at: at - headerBytesOf(parameters) - index * TAG_BYTES, bytes: bytes - TAG_BYTES };
}

function nonceOf(stream: Stream, index: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(NONCE_PREFIX_BYTES + 5);
  stream.noncePrefix.copy(nonce);
  nonce.writeUInt32BE(index, NONCE_PREFIX_BYTES);
  nonce.writeUInt8(last ? 1 : 0, NONCE_PREFIX_BYTES + 4);
  return nonce;
}

function algorithmOf(stream: Stream): 'aes-128-gcm' | 'aes-256-gcm' {
  return stream.parameters.derivedKeyBytes === 16 ? 'aes-128-gcm' : 'aes-256-gcm';
}

/** Seals one segment into the front of `into`, tag at its end; gives the part that it filled. */
export function sealSegment(stream: Stream, index: number, last: boolean, plaintext: Buffer, into: Buffer): Buffer {
  const cipher = createCipheriv(algorithmOf(stream), stream.key, nonceOf(stream, index, last), { authTagLength: TAG_BYTES });
  transform(cipher, plaintext, into);
  cipher.final();
  cipher.getAuthTag().copy(into, plaintext.length);
  return into.subarray(0, plaintext.length + TAG_BYTES);
}

/** Opens one segment, tag at its end, into the front of `into`. Throws EnvelopeError `not-authentic`, and gives nothing away then. */
export function openSegment(stream: Stream, index: number, last: boolean, sealed: Buffer, into: Buffer): Buffer {
  const bodyBytes = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv(algorithmOf(stream), stream.key, nonceOf(stream, index, last), { authTagLength: TAG_BYTES });
  decipher.setAuthTag(sealed.subarray(bodyBytes));
  transform(decipher, sealed.subarray(0, bodyBytes), into);
  try {
    decipher.final();
  } catch {
    into.fill(0, 0, bodyBytes);
    throw envelopeError('not-authentic', `segment ${index} does not open`);
  }
  return into.subarray(0, bodyBytes);
}

/**
 * Lets bytes through a cipher into the front of `into`. Piece by piece, each given back to malloc as soon as it is copied: node:crypto
 * allocates every answer anew, and so it gets the same memory each time, which is still in the processor's cache, instead of new pages
 * until the garbage collector comes by.
 */
export function transform(cipher: CipherGCM | DecipherGCM, from: Buffer, into: Buffer): void {
  for (let at = 0; at < from.length; at += PIECE_BYTES) {
    const piece = cipher.update(from.subarray(at, at + PIECE_BYTES));
    piece.copy(into, at);
    // Never memory that others share, should node:crypto ever answer from a pool.
    if (piece.length === piece.buffer.byteLength) piece.buffer.transfer(0);
  }
}
