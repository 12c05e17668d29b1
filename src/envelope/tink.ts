import { createHash, type Hash, randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import type { Digest } from '#src/digest.ts';
import { envelopeError } from './envelope-error.ts';
import {
  AES256_GCM_HKDF_1MB,
  type Cut,
  cutOfCiphertext,
  cutOfPlaintext,
  headerBytesOf,
  headerOf,
  openSegment,
  type Stream,
  sealSegment,
  segmentInCiphertext,
  segmentInPlaintext,
  streamOf,
} from './segments.ts';

/**
 * One reading of one file, in constant memory: the plaintext passes by once, a segment (1 MiB) at a time.
 *
 * | `openWith` | `sealWith` | it |
 * |---|---|---|
 * | null | a key | seals |
 * | a key | null | opens; `to: null` is a trial, which writes nothing |
 * | a key | another | re-encrypts |
 * | null | null | copies; `to: null` only hashes |
 */
export interface Pass {
  readonly from: string;
  /** A file that is not there yet; null: nothing is written. */
  readonly to: string | null;
  /** The 32 bytes of a key, or null where `from` is plaintext. */
  readonly openWith: Buffer | null;
  readonly sealWith: Buffer | null;
  /** Bound to the ciphertext on both sides. Not secret. */
  readonly associatedData: string;
  /** What is hashed in passing. A digest costs about as much as sealing does. */
  readonly hash: 'both' | 'ciphertext' | 'neither';
}

/** What passed. */
export interface Passed {
  /** null where it was not asked for. */
  readonly plaintextDigest: Digest | null;
  /** Of the ciphertext that was written; where none was, of the one that was read. null where there is none, or it was not asked for. */
  readonly ciphertextDigest: Digest | null;
  readonly plaintextBytes: number;
  /** 0 where there is no ciphertext. */
  readonly ciphertextBytes: number;
}

const PARAMETERS = AES256_GCM_HKDF_1MB;
const HEADER_BYTES = headerBytesOf(PARAMETERS);
/** Opened plaintext is a secret of the weights' owner; ciphertext and manifests are public. */
const MODE = { plaintext: 0o600, ciphertext: 0o644 };

/** Everything that a pass holds while it runs. */
interface Running {
  readonly input: number;
  readonly output: number | null;
  readonly cut: Cut;
  readonly opening: Stream | null;
  readonly sealing: Stream | null;
  readonly plaintextHash: Hash | null;
  readonly ciphertextHash: Hash | null;
  /** Made once a pass, filled for every segment. */
  readonly buffers: { readonly taken: Buffer; readonly plaintext: Buffer; readonly sealed: Buffer };
}

/**
 * Carries a pass out, blocking its thread (`workers.ts` gives it one). What it writes is on the disk when it returns; where it
 * throws, nothing is left. Throws EnvelopeError, or the file system's own error.
 */
export function pass(order: Pass): Passed {
  // Without O_NONBLOCK a named pipe in place of the file would hold the thread for ever.
  const input = openSync(order.from, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!fstatSync(input).isFile()) throw envelopeError('unsafe-path', `not a regular file: ${order.from}`);
    if (order.to === null) return run(order, input, null);
    const output = openSync(order.to, 'wx', order.openWith !== null && order.sealWith === null ? MODE.plaintext : MODE.ciphertext);
    try {
      const passed = run(order, input, output);
      fsyncSync(output);
      return passed;
    } catch (error) {
      rmSync(order.to, { force: true });
      throw error;
    } finally {
      closeSync(output);
    }
  } finally {
    closeSync(input);
  }
}

function run(order: Pass, input: number, output: number | null): Passed {
  const { size } = fstatSync(input);
  const cut = order.openWith === null ? cutOfPlaintext(size, PARAMETERS) : cutOfCiphertext(size, PARAMETERS);
  const associatedData = Buffer.from(order.associatedData);
  const [taken, plaintext, sealed] = [segmentBuffer(), segmentBuffer(), segmentBuffer()];
  const readHeader = order.openWith === null ? null : Buffer.from(read(input, taken, 0, HEADER_BYTES));
  const writtenHeader = order.sealWith === null ? null : headerOf(randomBytes(HEADER_BYTES - 1), PARAMETERS);
  const opening = order.openWith === null || readHeader === null ? null : streamOf(order.openWith, readHeader, associatedData, PARAMETERS);
  const sealing = order.sealWith === null || writtenHeader === null ? null : streamOf(order.sealWith, writtenHeader, associatedData, PARAMETERS);
  const header = writtenHeader ?? readHeader;
  const plaintextHash = order.hash === 'both' ? createHash('sha256') : null;
  const ciphertextHash = order.hash === 'neither' || header === null ? null : createHash('sha256').update(header);
  try {
    if (writtenHeader !== null && output !== null) write(output, writtenHeader, 0);
    const running: Running = { input, output, cut, opening, sealing, plaintextHash, ciphertextHash, buffers: { taken, plaintext, sealed } };
    for (let index = 0; index < cut.segments; index += 1) passSegment(running, index);
    // A file that grew meanwhile is another file than the one whose length the last segment was chosen by.
    if (fstatSync(input).size !== size) throw envelopeError('changed', `the file changed its length while it was read: ${order.from}`);
  } finally {
    for (const secret of [opening?.key, sealing?.key, taken, plaintext]) secret?.fill(0);
  }
  return {
    plaintextDigest: plaintextHash === null ? null : `sha256:${plaintextHash.digest('hex')}`,
    ciphertextDigest: ciphertextHash === null ? null : `sha256:${ciphertextHash.digest('hex')}`,
    plaintextBytes: cut.plaintextBytes,
    ciphertextBytes: header === null ? 0 : cut.ciphertextBytes,
  };
}

function passSegment({ input, output, cut, opening, sealing, plaintextHash, ciphertextHash, buffers }: Running, index: number): void {
  const last = index === cut.segments - 1;
  const sealedPlace = segmentInCiphertext(cut, index, PARAMETERS);
  const place = segmentInPlaintext(cut, index, PARAMETERS);
  const source = opening === null ? place : sealedPlace;
  const taken = read(input, buffers.taken, source.at, source.bytes);
  const plaintext = opening === null ? taken : openSegment(opening, index, last, taken, buffers.plaintext);
  const given = sealing === null ? plaintext : sealSegment(sealing, index, last, plaintext, buffers.sealed);
  plaintextHash?.update(plaintext);
  ciphertextHash?.update(sealing === null ? taken : given);
  if (output !== null) write(output, given, sealing === null ? place.at : sealedPlace.at);
}

function segmentBuffer(): Buffer {
  return Buffer.allocUnsafeSlow(PARAMETERS.segmentBytes);
}

/** Reads exactly this range into the front of `buffer`. */
function read(file: number, buffer: Buffer, at: number, bytes: number): Buffer {
  let done = 0;
  while (done < bytes) {
    const count = readSync(file, buffer, done, bytes - done, at + done);
    if (count === 0) throw envelopeError('truncated', `the file ended at byte ${at + done}`);
    done += count;
  }
  return buffer.subarray(0, bytes);
}

/** Writes all of it: one `write` may take less. */
function write(file: number, bytes: Buffer, at: number): void {
  let done = 0;
  while (done < bytes.length) done += writeSync(file, bytes, done, bytes.length - done, at + done);
}
