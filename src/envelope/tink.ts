import { createHash, type Hash, randomBytes } from 'node:crypto';
import { closeSync, fdatasyncSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import type { Digest } from '#src/digest.ts';
import { openWriter, type Reader, type Writer } from './blocks.ts';
import type { Codec } from './codec.ts';
import { type Channel, openDistantWriter } from './distant.ts';
import { envelopeError, isEnvelopeError } from './envelope-error.ts';
import { about, type File, MODE, openExisting, read } from './file.ts';
import { type Input, openInput } from './input.ts';
import { jweCutOfText } from './jwe.ts';
import { passJwe } from './jwe-pass.ts';
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
  readonly from: string | Channel;
  /** A file that is not there yet (but see `resume`); null: nothing is written. */
  readonly to: string | Channel | null;
  /** The 32 bytes of a key, or null where `from` is plaintext. */
  readonly openWith: Buffer | null;
  readonly sealWith: Buffer | null;
  /** Tink's where it is not said. Where one of them is KServe's, `jwe-pass.ts` carries the pass out. */
  readonly openAs?: Codec;
  readonly sealAs?: Codec;
  /** Bound to the ciphertext on both sides; a JWE binds nothing. Not secret. */
  readonly associatedData: string;
  /** What is hashed in passing. A digest costs about as much as opening and sealing together. */
  readonly hash: 'both' | 'plaintext' | 'ciphertext' | 'neither';
  /**
   * When re-encrypting: `to` may hold what a pass that died has written. Its segments are opened under `sealWith` and hashed like all
   * others, up to the first that is not whole, and the pass goes on from there; where it fails, what it wrote is left for the next.
   * `from` must hold the plaintext that it held then: a segment's nonce is used again, and must not seal a second text. A pass from or
   * to JWE starts over instead.
   */
  readonly resume?: boolean;
  /**
   * What a distant file that is sealed begins with (see `newHeader`): the same again gives the same bytes, which is how the parts that a
   * dead process has sent are told from others. The rule of `resume` holds: never for a second text. Drawn anew where it is not given, and for a
   * JWE always.
   */
  readonly header?: Uint8Array;
}

/** What passed. */
export interface Passed {
  /** null where it was not asked for. */
  readonly plaintextDigest: Digest | null;
  /** Of the ciphertext that was written; where none was, of the one that was read. null where there is none, or it was not asked for. */
  readonly ciphertextDigest: Digest | null;
  readonly plaintextBytes: number;
  /** Those of them that `to` held already: verified, not written. */
  readonly keptBytes: number;
  /** 0 where there is no ciphertext. */
  readonly ciphertextBytes: number;
}

const PARAMETERS = AES256_GCM_HKDF_1MB;
const HEADER_BYTES = headerBytesOf(PARAMETERS);

/** What is written: a file, whose `header` is there where it is gone on with, or one that somebody else carries off. */
type Output =
  | { readonly kind: 'file'; readonly file: File; readonly header: Buffer | null }
  | { readonly kind: 'distant'; readonly channel: Channel; readonly header: Buffer | null };

/** Everything that a pass holds while it runs. */
interface Running {
  readonly reader: Reader;
  readonly output: Output | null;
  readonly cut: Cut;
  readonly opening: Stream | null;
  readonly sealing: Stream | null;
  readonly writtenHeader: Buffer | null;
  readonly plaintextHash: Hash | null;
  readonly ciphertextHash: Hash | null;
  /** Made once a pass, filled for every segment. */
  readonly buffers: { readonly plaintext: Buffer; readonly sealed: Buffer };
}

/** A header for a ciphertext that is yet to be sealed: public, and never used for another one. */
export function newHeader(): Buffer {
  return headerOf(randomBytes(HEADER_BYTES - 1), PARAMETERS);
}

/** How many bytes a file has once it is opened, by its length alone. Throws EnvelopeError `truncated` for a length that no sealed file has. */
export function plaintextBytesOf(sealedBytes: number, codec?: Codec): number {
  return codec === 'kserve-jwe' ? jweCutOfText(sealedBytes).plaintextBytes : cutOfCiphertext(sealedBytes, PARAMETERS).plaintextBytes;
}

/**
 * Carries a pass out, blocking its thread (`workers.ts` gives it one); `told` hears after each segment how many bytes of plaintext have
 * passed. What it writes is on the disk when it returns; where it throws, nothing is left (but see `resume`). Throws EnvelopeError, or the
 * file system's own error, with the `path` that it is about.
 */
export function pass(order: Pass, told: (plaintextBytes: number) => void = () => {}): Passed {
  if (isJwe(order)) return passJwe(order, told);
  const input = openInput(order.from);
  try {
    const cut = order.openWith === null ? cutOfPlaintext(input.sizeBytes, PARAMETERS) : cutOfCiphertext(input.sizeBytes, PARAMETERS);
    if (order.to === null) return run(order, cut, input, null, told);
    if (typeof order.to === 'string') return passToFile(order, cut, input, order.to, told);
    const header = order.header === undefined ? null : Buffer.from(order.header);
    return run(order, cut, input, { kind: 'distant', channel: order.to, header }, told);
  } finally {
    input.close();
  }
}

function passToFile(order: Pass, cut: Cut, input: Input, path: string, told: (plaintextBytes: number) => void): Passed {
  const output = openOutput(order, cut, path);
  const { file } = output;
  try {
    const passed = run(order, cut, input, output, told);
    about(file, () => fdatasyncSync(file.descriptor));
    return passed;
  } catch (error) {
    if (order.resume !== true) rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(file.descriptor);
  }
}

function isJwe({ openWith, openAs, sealWith, sealAs }: Pass): boolean {
  return (openWith !== null && openAs === 'kserve-jwe') || (sealWith !== null && sealAs === 'kserve-jwe');
}

function openOutput(order: Pass, cut: Cut, path: string): Output & { readonly kind: 'file' } {
  if (order.resume === true) {
    const part = openPart(order, cut, path);
    if (part !== null) return part;
    // Another file, not this one emptied: whoever still holds it open writes under another header.
    rmSync(path, { force: true });
  }
  const mode = order.openWith !== null && order.sealWith === null ? MODE.plaintext : MODE.ciphertext;
  return { kind: 'file', file: { path, descriptor: openSync(path, 'wx', mode) }, header: null };
}

/** What a pass that died has written; null where that is nothing, or its first segment does not open under this key for this place. */
function openPart({ openWith, sealWith, associatedData }: Pass, cut: Cut, path: string): (Output & { readonly kind: 'file' }) | null {
  if (openWith === null || sealWith === null) throw new TypeError('only re-encrypting can be gone on with');
  const file = openExisting(path);
  if (file === null) return null;
  const buffers = segmentBuffers();
  let stream: Stream | null = null;
  let header: Buffer | null = null;
  try {
    const found = Buffer.from(read(file, buffers.sealed, 0, HEADER_BYTES));
    stream = streamOf(sealWith, found, Buffer.from(associatedData), PARAMETERS);
    if (openKept(file, stream, cut, 0, buffers) !== null) header = found;
  } catch (error) {
    if (!isEnvelopeError(error)) throw error;
  } finally {
    for (const secret of [stream?.key, buffers.plaintext]) secret?.fill(0);
    if (header === null) closeSync(file.descriptor);
  }
  return header === null ? null : { kind: 'file', file, header };
}

function run(order: Pass, cut: Cut, input: Input, output: Output | null, told: (plaintextBytes: number) => void): Passed {
  const associatedData = Buffer.from(order.associatedData);
  const buffers = segmentBuffers();
  const reader = input.openReader();
  let [opening, sealing]: (Stream | null)[] = [null, null];
  try {
    const readHeader = order.openWith === null ? null : Buffer.from(reader.take(0, HEADER_BYTES));
    const writtenHeader = order.sealWith === null ? null : (output?.header ?? newHeader());
    opening = order.openWith === null || readHeader === null ? null : streamOf(order.openWith, readHeader, associatedData, PARAMETERS);
    sealing = order.sealWith === null || writtenHeader === null ? null : streamOf(order.sealWith, writtenHeader, associatedData, PARAMETERS);
    const header = writtenHeader ?? readHeader;
    const plaintextHash = order.hash === 'both' || order.hash === 'plaintext' ? createHash('sha256') : null;
    const ciphertextHash = header !== null && (order.hash === 'both' || order.hash === 'ciphertext') ? createHash('sha256').update(header) : null;
    const running: Running = { reader, output, cut, opening, sealing, writtenHeader, plaintextHash, ciphertextHash, buffers };
    const kept = output?.kind !== 'file' || output.header === null ? 0 : keepSegments(running, output.file, told);
    passSegments(running, kept, told);
    // A file that grew meanwhile is another file than the one whose length the last segment was chosen by.
    const expected = opening === null ? cut.plaintextBytes : cut.ciphertextBytes;
    if (input.sizeNow() !== expected) throw envelopeError('changed', `the file changed its length while it was read: ${input.name}`);
    return {
      plaintextDigest: plaintextHash === null ? null : `sha256:${plaintextHash.digest('hex')}`,
      ciphertextDigest: ciphertextHash === null ? null : `sha256:${ciphertextHash.digest('hex')}`,
      plaintextBytes: cut.plaintextBytes,
      keptBytes: kept === 0 ? 0 : endOf(segmentInPlaintext(cut, kept - 1, PARAMETERS)),
      ciphertextBytes: header === null ? 0 : cut.ciphertextBytes,
    };
  } finally {
    for (const secret of [opening?.key, sealing?.key, buffers.plaintext]) secret?.fill(0);
    reader.close();
  }
}

/** Verifies what the output holds already, and cuts off what is not whole; gives the number of segments that stay. */
function keepSegments({ sealing, cut, plaintextHash, ciphertextHash, buffers }: Running, output: File, told: (plaintextBytes: number) => void): number {
  if (sealing === null) return 0;
  let index = 0;
  for (; index < cut.segments; index += 1) {
    const kept = openKept(output, sealing, cut, index, buffers);
    if (kept === null) break;
    plaintextHash?.update(kept.plaintext);
    ciphertextHash?.update(kept.sealed);
    told(endOf(segmentInPlaintext(cut, index, PARAMETERS)));
  }
  const end = index === 0 ? HEADER_BYTES : endOf(segmentInCiphertext(cut, index - 1, PARAMETERS));
  about(output, () => ftruncateSync(output.descriptor, end));
  return index;
}

/** A segment that a dead pass has written, and its plaintext; null where it is not whole. */
function openKept(
  file: File,
  stream: Stream,
  cut: Cut,
  index: number,
  buffers: Running['buffers'],
): { readonly sealed: Buffer; readonly plaintext: Buffer } | null {
  const { at, bytes } = segmentInCiphertext(cut, index, PARAMETERS);
  try {
    const sealed = read(file, buffers.sealed, at, bytes);
    return { sealed, plaintext: openSegment(stream, index, index === cut.segments - 1, sealed, buffers.plaintext) };
  } catch (error) {
    if (isEnvelopeError(error)) return null;
    throw error;
  }
}

/** Passes what is not kept, and writes it where something is written. */
function passSegments(running: Running, kept: number, told: (plaintextBytes: number) => void): void {
  const { output, cut, writtenHeader, sealing } = running;
  const startAt = kept === 0 ? 0 : endOf(segmentInCiphertext(cut, kept - 1, PARAMETERS));
  const writer = output === null ? null : writerOf(output, startAt, sealing === null ? cut.plaintextBytes : cut.ciphertextBytes);
  try {
    if (kept === 0 && writtenHeader !== null) writer?.filled(writtenHeader.copy(writer.room(HEADER_BYTES)));
    try {
      for (let index = kept; index < cut.segments; index += 1) told(passSegment(running, writer, index));
    } finally {
      writer?.finish(); // also what was sealed before an error: the next pass goes on behind it
    }
  } finally {
    writer?.close();
  }
}

function writerOf(output: Output, startAt: number, fileBytes: number): Writer {
  return output.kind === 'file' ? openWriter(output.file, startAt, fileBytes) : openDistantWriter(output.channel, fileBytes);
}

/** Passes one segment, and gives how many bytes of plaintext have passed with it. */
function passSegment({ reader, cut, opening, sealing, plaintextHash, ciphertextHash, buffers }: Running, writer: Writer | null, index: number): number {
  const last = index === cut.segments - 1;
  const sealedPlace = segmentInCiphertext(cut, index, PARAMETERS);
  const place = segmentInPlaintext(cut, index, PARAMETERS);
  const source = opening === null ? place : sealedPlace;
  const taken = reader.take(source.at, source.bytes);
  const plaintext = opening === null ? taken : openSegment(opening, index, last, taken, buffers.plaintext);
  const room = writer?.room(sealing === null ? place.bytes : sealedPlace.bytes) ?? buffers.sealed;
  const given = sealing === null ? plaintext : sealSegment(sealing, index, last, plaintext, room);
  plaintextHash?.update(plaintext);
  ciphertextHash?.update(sealing === null ? taken : given);
  if (sealing === null && writer !== null) plaintext.copy(room);
  writer?.filled(given.length);
  return endOf(place);
}

function endOf({ at, bytes }: { readonly at: number; readonly bytes: number }): number {
  return at + bytes;
}

function segmentBuffers(): Running['buffers'] {
  const buffer = (): Buffer => Buffer.allocUnsafeSlow(PARAMETERS.segmentBytes);
  return { plaintext: buffer(), sealed: buffer() };
}
