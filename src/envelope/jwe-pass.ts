import { createHash, type Hash, randomBytes } from 'node:crypto';
import { closeSync, existsSync, fdatasyncSync, linkSync, openSync, renameSync, rmSync } from 'node:fs';
import type { Digest } from '#src/digest.ts';
import { openWriter, type Reader, type Writer } from './blocks.ts';
import { type Channel, openDistantWriter } from './distant.ts';
import { envelopeError } from './envelope-error.ts';
import { about, type File, MODE } from './file.ts';
import { type Input, openInput } from './input.ts';
import { JWE_HEAD_BYTES, jweCutOfPlaintext, jweCutOfText, rewrapHead } from './jwe.ts';
import { AES256_GCM_HKDF_1MB, type Cut, cutOfCiphertext, cutOfPlaintext } from './segments.ts';
import { fromJwe, fromPlaintext, fromTink, type Opening, openSink, type Sealing, type Sink, tinkPieceBytes, toJwe, toPlaintext, toTink } from './sides.ts';
import type { Pass, Passed } from './tink.ts';

/** Of plaintext, where no side is Tink's: a multiple of three, for base64url's sake. */
const PIECE_BYTES = 768 * 1024;
/** Of text that is copied as it is. */
const COPY_BYTES = 1024 * 1024;
/** What a file system without hard links answers. */
const NO_LINKS: readonly string[] = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'];

/** How long everything is. */
interface Plan {
  readonly plaintextBytes: number;
  /** Of the file that is read, and of the one that is made. */
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Tink's cut of the plaintext, where a side is Tink's. */
  readonly cut: Cut | null;
}

/**
 * Carries out a pass of which a side is KServe's JWE; as `pass`, but for this. A JWE has one tag, at its end: what is opened from one stands
 * under a name of its own until the tag was compared, and takes the place that was asked for then. And the pass always starts over:
 * neither GCM's state nor SHA-256's can be taken up in the middle of a file.
 */
export function passJwe(order: Pass, told: (plaintextBytes: number) => void): Passed {
  return reading(order.from, (input) => {
    const plan = planOf(order, input.sizeBytes);
    if (order.to === null || typeof order.to !== 'string') return run(order, plan, input, order.to, told);
    if (order.resume === true) rmSync(order.to, { force: true });
    const kind = order.sealWith === null ? 'plaintext' : 'ciphertext';
    return writing(order.to, kind, (output) => run(order, plan, input, output, told));
  });
}

/** What a rewrap made. */
export interface Rewrapped {
  /** Of the file as it was: whoever knows what was sealed compares it. */
  readonly oldDigest: Digest;
  readonly newDigest: Digest;
  readonly bytes: number;
}

/**
 * Writes a JWE anew with its content key wrapped under another key: the second part is another, every other byte the same. Reads no
 * plaintext, and does not look whether the file is whole: compare `oldDigest`. `to` must not be there yet, and is on the disk on
 * return; where this throws, nothing is left. Blocks its thread. Throws EnvelopeError, or the file system's error.
 */
export function rewrapJwe({
  from,
  to,
  openWith,
  sealWith,
}: { readonly [name in 'from' | 'to']: string } & { readonly [name in 'openWith' | 'sealWith']: Buffer }): Rewrapped {
  const [oldHash, newHash] = [createHash('sha256'), createHash('sha256')];
  const bytes = reading(from, (input) => {
    const fileBytes = input.sizeBytes;
    jweCutOfText(fileBytes);
    return writing(to, 'ciphertext', (output) => {
      passing(input, output, fileBytes, (reader, writer) => {
        const sink = openSink(writer, newHash);
        const head = Buffer.from(reader.take(0, JWE_HEAD_BYTES));
        oldHash.update(head);
        const rewrapped = rewrapHead(head, openWith, sealWith);
        sink(rewrapped.length, (room) => rewrapped.copy(room));
        for (let at = JWE_HEAD_BYTES; at < fileBytes; at += COPY_BYTES) {
          const piece = reader.take(at, Math.min(COPY_BYTES, fileBytes - at));
          oldHash.update(piece);
          sink(piece.length, (room) => piece.copy(room));
        }
      });
      checkLength(input, fileBytes);
      return fileBytes;
    });
  });
  return { oldDigest: `sha256:${oldHash.digest('hex')}`, newDigest: `sha256:${newHash.digest('hex')}`, bytes };
}

function planOf({ openWith, openAs, sealWith, sealAs }: Pass, fileBytes: number): Plan {
  const [opensJwe, sealsJwe] = [openWith !== null && openAs === 'kserve-jwe', sealWith !== null && sealAs === 'kserve-jwe'];
  const opensTink = openWith !== null && !opensJwe;
  const opened = opensTink ? cutOfCiphertext(fileBytes, AES256_GCM_HKDF_1MB).plaintextBytes : fileBytes;
  const plaintextBytes = opensJwe ? jweCutOfText(fileBytes).plaintextBytes : opened;
  const cut = opensTink || (sealWith !== null && !sealsJwe) ? cutOfPlaintext(plaintextBytes, AES256_GCM_HKDF_1MB) : null;
  if (sealsJwe) return { plaintextBytes, readBytes: fileBytes, writtenBytes: jweCutOfPlaintext(plaintextBytes).textBytes, cut };
  return { plaintextBytes, readBytes: fileBytes, writtenBytes: sealWith === null ? plaintextBytes : (cut?.ciphertextBytes ?? 0), cut };
}

function run(order: Pass, plan: Plan, input: Input, output: File | Channel | null, told: (plaintextBytes: number) => void): Passed {
  const asked = (what: 'plaintext' | 'ciphertext'): Hash | null => (order.hash === 'both' || order.hash === what ? createHash('sha256') : null);
  const [plaintextHash, ciphertextHash] = [asked('plaintext'), asked('ciphertext')];
  const [readHash, writtenHash] = order.sealWith === null ? [ciphertextHash, null] : [null, ciphertextHash];
  passing(input, output, plan.writtenBytes, (reader, writer) => {
    const opening = openingOf(order, plan, reader, readHash);
    try {
      passPieces(plan, opening, sealingOf(order, plan, openSink(writer, writtenHash)), plaintextHash, told);
    } finally {
      opening.close();
    }
  });
  checkLength(input, plan.readBytes);
  const digestOf = (hash: Hash | null): Digest | null => (hash === null ? null : `sha256:${hash.digest('hex')}`);
  return {
    plaintextDigest: digestOf(plaintextHash),
    ciphertextDigest: digestOf(ciphertextHash),
    plaintextBytes: plan.plaintextBytes,
    keptBytes: 0,
    ciphertextBytes: order.sealWith === null ? plan.readBytes : plan.writtenBytes,
  };
}

function passPieces(plan: Plan, opening: Opening, sealing: Sealing, hash: Hash | null, told: (plaintextBytes: number) => void): void {
  try {
    for (let at = 0, index = 0; at < plan.plaintextBytes || index < (plan.cut?.segments ?? 0); index += 1) {
      const bytes = plan.cut === null ? Math.min(PIECE_BYTES, plan.plaintextBytes - at) : tinkPieceBytes(plan.cut, index);
      const plaintext = opening.take(index, at, bytes);
      hash?.update(plaintext);
      sealing.put(index, plaintext);
      at += bytes;
      told(at);
    }
    opening.end();
    sealing.end();
  } finally {
    sealing.close();
  }
}

function openingOf({ openWith, openAs, associatedData }: Pass, { readBytes, cut }: Plan, reader: Reader, hash: Hash | null): Opening {
  if (openWith === null) return fromPlaintext(reader);
  if (openAs === 'kserve-jwe') return fromJwe(reader, openWith, readBytes, hash);
  return fromTink(reader, openWith, Buffer.from(associatedData), cutThere(cut));
}

function sealingOf({ sealWith, sealAs, associatedData }: Pass, { cut }: Plan, sink: Sink): Sealing {
  if (sealWith === null) return toPlaintext(sink);
  if (sealAs === 'kserve-jwe') return toJwe(sink, sealWith);
  return toTink(sink, sealWith, Buffer.from(associatedData), cutThere(cut));
}

function cutThere(cut: Cut | null): Cut {
  if (cut === null) throw new TypeError('a side is Tink’s, and the plaintext is not cut');
  return cut;
}

/** A file that grew meanwhile is another file than the one whose length the pass was planned by. */
function checkLength(input: Input, bytes: number): void {
  if (input.sizeNow() !== bytes) throw envelopeError('changed', `the file changed its length while it was read: ${input.name}`);
}

function reading<T>(from: string | Channel, work: (input: Input) => T): T {
  const input = openInput(from);
  try {
    return work(input);
  } finally {
    input.close();
  }
}

/** Writes a new file, which is on the disk on return; where `work` throws, nothing is left. Plaintext has another name until it is whole. */
function writing<T>(path: string, kind: keyof typeof MODE, work: (output: File) => T): T {
  const written = kind === 'plaintext' ? `${path}.${randomBytes(8).toString('hex')}.part` : path;
  const output: File = { path: written, descriptor: openSync(written, 'wx', MODE[kind]) };
  try {
    const done = work(output);
    about(output, () => fdatasyncSync(output.descriptor));
    if (written !== path) takeName(written, path);
    return done;
  } catch (error) {
    rmSync(written, { force: true });
    throw error;
  } finally {
    closeSync(output.descriptor);
  }
}

function takeName(written: string, path: string): void {
  try {
    linkSync(written, path);
    rmSync(written);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && NO_LINKS.includes(String(error.code)))) throw error;
    if (existsSync(path)) throw Object.assign(new Error(`EEXIST: ${path}`), { code: 'EEXIST', path });
    renameSync(written, path);
  }
}

function passing(input: Input, output: File | Channel | null, writtenBytes: number, work: (reader: Reader, writer: Writer | null) => void): void {
  const reader = input.openReader();
  const writer = output === null ? null : 'shared' in output ? openDistantWriter(output, writtenBytes) : openWriter(output, 0, writtenBytes);
  try {
    try {
      work(reader, writer);
    } finally {
      writer?.finish(); // also after an error: a distant file's last window may still be on its way, out of memory that is another's once this returns
    }
  } finally {
    writer?.close();
    reader.close();
  }
}
