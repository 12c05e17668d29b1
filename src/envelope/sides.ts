import { type Hash, randomBytes } from 'node:crypto';
import type { Reader, Writer } from './blocks.ts';
import { decodeInto, encodeInto, endJwe, JWE_HEAD_BYTES, JWE_TAIL_BYTES, type JweHead, jweCipher, jweDecipher, jweTail, newHead, openHead } from './jwe.ts';
import {
  AES256_GCM_HKDF_1MB,
  type Cut,
  headerBytesOf,
  headerOf,
  openSegment,
  type Stream,
  sealSegment,
  segmentInCiphertext,
  segmentInPlaintext,
  streamOf,
  transform,
} from './segments.ts';

/**
 * Both sides of a pass between formats that are not cut alike: one gives plaintext in the pieces that it is asked for, the other takes
 * them. Pieces come in order, have at most 1 MiB, and are those of `Cut` where a side is Tink's.
 */

const PARAMETERS = AES256_GCM_HKDF_1MB;
const HEADER_BYTES = headerBytesOf(PARAMETERS);
/** The longest piece. */
const PIECE_MAX_BYTES = PARAMETERS.segmentBytes;
/** Between base64 and cipher: a multiple of three whose text still is a young string to V8. From twice as much on it was measured seven times slower. */
const STEP_BYTES = 48 * 1024;

/** Where plaintext comes from. */
export interface Opening {
  /** The piece with this number, at this byte of the plaintext; valid until the next call. Throws EnvelopeError. */
  readonly take: (index: number, at: number, bytes: number) => Buffer;
  /** All was taken. Throws EnvelopeError where none of it may be believed. */
  readonly end: () => void;
  /** Forgets keys and plaintext. */
  readonly close: () => void;
}

/** Where plaintext goes. */
export interface Sealing {
  readonly put: (index: number, plaintext: Buffer) => void;
  readonly end: () => void;
  readonly close: () => void;
}

/** What is written, if anything is. `fill` fills the whole room. */
export type Sink = (bytes: number, fill: (room: Buffer) => void) => void;

/** A sink that hashes what it writes; without a writer it only hashes. */
export function openSink(writer: Writer | null, hash: Hash | null): Sink {
  const scratch = writer === null ? Buffer.allocUnsafeSlow(PIECE_MAX_BYTES) : null;
  return (bytes, fill) => {
    const room = scratch === null ? writer?.room(bytes) : scratch.subarray(0, bytes);
    if (room === undefined) return;
    fill(room);
    hash?.update(room);
    writer?.filled(bytes);
  };
}

/** From plaintext as it lies there. */
export function fromPlaintext(reader: Reader): Opening {
  return { take: (_, at, bytes) => reader.take(at, bytes), end: () => {}, close: () => {} };
}

/** From Tink's format: its own segments only. */
export function fromTink(reader: Reader, key: Buffer, associatedData: Buffer, cut: Cut): Opening {
  const stream = streamOf(key, Buffer.from(reader.take(0, HEADER_BYTES)), associatedData, PARAMETERS);
  const plaintext = Buffer.allocUnsafeSlow(PIECE_MAX_BYTES);
  return {
    take: (index) => {
      const { at, bytes } = segmentInCiphertext(cut, index, PARAMETERS);
      return openSegment(stream, index, index === cut.segments - 1, reader.take(at, bytes), plaintext);
    },
    end: () => {},
    close: () => wipe(stream.key, plaintext),
  };
}

/**
 * From a JWE of this many bytes; `hash` hears its text, where all pieces but the last are multiples of three: else some of it is read twice.
 * Nothing that it gives is to be believed before `end`.
 */
export function fromJwe(reader: Reader, key: Buffer, textBytes: number, hash: Hash | null): Opening {
  const head = openHead(key, reader.take(0, JWE_HEAD_BYTES));
  hash?.update(head.text);
  const decipher = jweDecipher(head);
  const [ciphertext, plaintext] = [Buffer.allocUnsafeSlow(STEP_BYTES), Buffer.allocUnsafeSlow(PIECE_MAX_BYTES)];
  const tailAt = textBytes - JWE_TAIL_BYTES;
  /** Plaintext from `at` up to the end of the last group of three that lies within a step, or `to`: gives where it ended. */
  const step = (at: number, to: number, into: Buffer): number => {
    const from = at - (at % 3);
    const end = Math.min(to, from + STEP_BYTES);
    const textAt = JWE_HEAD_BYTES + (from / 3) * 4;
    const textEnd = Math.min(tailAt, JWE_HEAD_BYTES + Math.ceil(end / 3) * 4);
    const text = reader.take(textAt, textEnd - textAt);
    hash?.update(text);
    const given = decodeInto(text, ciphertext, textEnd === tailAt);
    transform(decipher, given.subarray(at - from, end - from), into);
    return end;
  };
  return {
    take: (_, at, bytes) => {
      for (let done = at; done < at + bytes; ) done = step(done, at + bytes, plaintext.subarray(done - at));
      return plaintext.subarray(0, bytes);
    },
    end: () => {
      const tail = reader.take(tailAt, JWE_TAIL_BYTES);
      hash?.update(tail);
      endJwe(decipher, tail);
    },
    close: () => wipe(head.contentKey, plaintext),
  };
}

/** To plaintext as it is. */
export function toPlaintext(sink: Sink): Sealing {
  return { put: (_, plaintext) => sink(plaintext.length, (room) => plaintext.copy(room)), end: () => {}, close: () => {} };
}

/** To Tink's format: its own segments only. */
export function toTink(sink: Sink, key: Buffer, associatedData: Buffer, cut: Cut): Sealing {
  const header = headerOf(randomBytes(HEADER_BYTES - 1), PARAMETERS);
  const stream: Stream = streamOf(key, header, associatedData, PARAMETERS);
  sink(header.length, (room) => header.copy(room));
  return {
    put: (index, plaintext) => {
      sink(segmentInCiphertext(cut, index, PARAMETERS).bytes, (room) => sealSegment(stream, index, index === cut.segments - 1, plaintext, room));
    },
    end: () => {},
    close: () => wipe(stream.key),
  };
}

/** To a JWE, under a content key of its own. */
export function toJwe(sink: Sink, key: Buffer): Sealing {
  const head: JweHead = newHead(key);
  sink(head.text.length, (room) => head.text.copy(room));
  const cipher = jweCipher(head);
  // Up to two bytes of ciphertext wait in front for those that make three of them.
  const ciphertext = Buffer.allocUnsafeSlow(STEP_BYTES + 2);
  let waiting = 0;
  const give = (bytes: number): void => {
    sink(Math.ceil((bytes * 4) / 3), (room) => encodeInto(ciphertext.subarray(0, bytes), room));
    ciphertext.copyWithin(0, bytes, waiting);
    waiting -= bytes;
  };
  return {
    put: (_, plaintext) => {
      for (let at = 0; at < plaintext.length; at += STEP_BYTES) {
        const piece = plaintext.subarray(at, at + STEP_BYTES);
        transform(cipher, piece, ciphertext.subarray(waiting));
        waiting += piece.length;
        give(waiting - (waiting % 3));
      }
    },
    end: () => {
      if (waiting > 0) give(waiting);
      const tail = jweTail(cipher);
      sink(tail.length, (room) => tail.copy(room));
    },
    close: () => wipe(head.contentKey),
  };
}

/** The bytes of a piece, where a side is Tink's. */
export function tinkPieceBytes(cut: Cut, index: number): number {
  return segmentInPlaintext(cut, index, PARAMETERS).bytes;
}

function wipe(...secrets: readonly Buffer[]): void {
  for (const secret of secrets) secret.fill(0);
}
