import { inflateSync } from 'node:zlib';
import { Fault } from '#src/errors.ts';

/** No document of ours has a thirtieth of it; a larger file anywhere in the branch's history has no place beside releases. */
export const OBJECT_MAX_BYTES = 8 * 1024 * 1024;
/** All objects of one pack, unpacked: four times what one poll may bring. Bytes. */
const PACK_MAX_BYTES = 256 * 1024 * 1024;
/** The same of what deltas make: a thousand commits of a folder of thousands differ by a line each. Bytes. */
const MADE_MAX_BYTES = 2 * 1024 * 1024 * 1024;

const HEADER_BYTES = 12;
const TRAILER_BYTES = 20;
const REF_NAME_BYTES = 20;
const OFFSET_DELTA = 6;
const REF_DELTA = 7;

/**
 * Walks a pack (gitformat-pack) before anybody unpacks it for keeps, and throws Fault('LimitExceeded') where
 * an object, or all of them, would be too large: the wire's limit counts compressed bytes, and a megabyte of
 * those was seen to become five gigabytes of memory. Throws Error for what is no pack.
 */
export function checkPack(pack: Buffer): void {
  if (pack.length < HEADER_BYTES + TRAILER_BYTES || pack.toString('latin1', 0, 4) !== 'PACK') throw new Error('not a pack');
  const total = { unpacked: 0, made: 0 };
  let at = HEADER_BYTES;
  for (let left = pack.readUInt32BE(8); left > 0; left -= 1) {
    const entry = readEntry(pack, at);
    total.unpacked += entry.bytes.length;
    const made = entry.isDelta ? targetSize(entry.bytes) : entry.bytes.length;
    total.made += made;
    if (made > OBJECT_MAX_BYTES) throw tooLarge(`an object of ${made} bytes, expected at most ${OBJECT_MAX_BYTES}`);
    if (total.unpacked > PACK_MAX_BYTES || total.made > MADE_MAX_BYTES) throw tooLarge(`more than ${PACK_MAX_BYTES} bytes, or ${MADE_MAX_BYTES} with deltas`);
    at = entry.end;
  }
}

function tooLarge(what: string): Fault {
  return new Fault('LimitExceeded', `git fetch: ${what}, somewhere in the branch’s history`);
}

interface Entry {
  /** Unpacked; of a delta the instructions. */
  readonly bytes: Buffer;
  readonly isDelta: boolean;
  readonly end: number;
}

/** The size that the header says is the most that is unpacked. */
function readEntry(pack: Buffer, start: number): Entry {
  let at = start;
  let byte = byteAt(pack, at++);
  const type = (byte >> 4) & 7;
  let size = byte & 15;
  for (let scale = 16; byte >= 128; scale *= 128) {
    byte = byteAt(pack, at++);
    size += (byte & 127) * scale;
  }
  if (type === OFFSET_DELTA) while (byteAt(pack, at++) >= 128);
  if (type === REF_DELTA) at += REF_NAME_BYTES;
  if (size > OBJECT_MAX_BYTES) throw tooLarge(`an object of ${size} bytes, expected at most ${OBJECT_MAX_BYTES}`);
  const { buffer, engine } = inflate(pack.subarray(at), size);
  if (buffer.length !== size) throw new Error('a pack whose object is not as long as its header says');
  return { bytes: buffer, isDelta: type === OFFSET_DELTA || type === REF_DELTA, end: at + engine.bytesWritten };
}

/** With `info`, Node tells where the stream ended; its types do not know that. */
function inflate(bytes: Buffer, size: number): { readonly buffer: Buffer; readonly engine: { readonly bytesWritten: number } } {
  const options = { info: true, maxOutputLength: Math.max(1, size), chunkSize: Math.max(64, Math.min(size + 1, 64 * 1024)) };
  return inflateSync(bytes, options) as unknown as ReturnType<typeof inflate>;
}

/** The second number of a delta: how many bytes it makes (gitformat-pack, *Deltified representation*). */
function targetSize(delta: Buffer): number {
  let at = 0;
  while (byteAt(delta, at++) >= 128);
  let size = 0;
  for (let scale = 1; ; scale *= 128) {
    const byte = byteAt(delta, at++);
    size += (byte & 127) * scale;
    if (byte < 128) return size;
  }
}

function byteAt(bytes: Buffer, at: number): number {
  const byte = bytes[at];
  if (byte === undefined) throw new Error('a pack that is cut off');
  return byte;
}
