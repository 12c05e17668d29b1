import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { envelopeError } from './envelope-error.ts';
import { about, type File } from './file.ts';

/** What is asked of the disk at once: long enough that it streams while other threads compute. A file that is shorter goes through the page cache. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** The longest piece that is taken or given at once. */
const PIECE_MAX_BYTES = 1024 * 1024;
/** Past the page cache, memory, offsets and lengths are multiples of this; a disk that wants more refuses, and is read through the cache. */
const BLOCK_BYTES = 4096;
/** WebAssembly's unit of memory. */
const PAGE_BYTES = 64 * 1024;

/** A file that is read from front to back. Holds memory of its thread: one at a time. */
export interface Reader {
  /** Exactly these bytes (at most 1 MiB), valid until the next call. Throws EnvelopeError `truncated` where the file ends before. */
  readonly take: (at: number, bytes: number) => Buffer;
  readonly close: () => void;
}

/** A file that is written from front to back. Holds memory of its thread: one at a time. */
export interface Writer {
  /** Where the next bytes (at most 1 MiB) are to be put. */
  readonly room: (bytes: number) => Buffer;
  /** So many bytes of that room are filled. */
  readonly filled: (bytes: number) => void;
  /** Writes what is still held. */
  readonly finish: () => void;
  /** Wipes what is held, written or not. */
  readonly close: () => void;
}

interface Memory {
  readonly reading: Buffer;
  readonly writing: Buffer;
}

/** Made once a thread: new pages for every file cost more than reading it. */
let memory: Memory | null = null;

/** WebAssembly's memory begins at a page, which no Buffer promises. */
function memoryOfThread(): Memory {
  if (memory !== null) return memory;
  const bytes = PIECE_MAX_BYTES + WINDOW_BYTES;
  const { buffer } = new WebAssembly.Memory({ initial: (2 * bytes) / PAGE_BYTES });
  memory = { reading: Buffer.from(buffer, 0, bytes), writing: Buffer.from(buffer, bytes, bytes) };
  return memory;
}

/** A second way to the same open file, past the page cache (open(2), O_DIRECT); null where there is none. */
function openDirect({ descriptor }: File, access: number, bytes: number): number | null {
  if (bytes < WINDOW_BYTES) return null;
  try {
    return openSync(`/proc/self/fd/${descriptor}`, access | constants.O_DIRECT);
  } catch {
    return null; // another system than Linux, or a file system without it
  }
}

/** A file and its way past the cache, as long as that is of use. */
interface Ways {
  readonly file: File;
  direct: number | null;
}

/** One call by the way that takes it: an offset or length that is no multiple of a block, and a disk of longer blocks, go through the cache. */
function byEitherWay(ways: Ways, at: number, bytes: number, call: (descriptor: number) => number): number {
  return about(ways.file, () => {
    if (ways.direct === null || at % BLOCK_BYTES !== 0 || bytes % BLOCK_BYTES !== 0) return call(ways.file.descriptor);
    try {
      return call(ways.direct);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EINVAL')) throw error;
      closeDirect(ways);
      return call(ways.file.descriptor);
    }
  });
}

function closeDirect(ways: Ways): void {
  if (ways.direct !== null) closeSync(ways.direct);
  ways.direct = null;
}

/** Opens the reading of an open file of about this length. */
export function openReader(file: File, fileBytes: number): Reader {
  const ways: Ways = { file, direct: openDirect(file, constants.O_RDONLY, fileBytes) };
  const buffer = memoryOfThread().reading;
  /** What is held: the file's bytes from `from` to `to`; the last of them ends where `to - from` bytes behind `offset` do. */
  let [from, to, offset] = [0, 0, PIECE_MAX_BYTES];
  /** The part of the memory that was used: wiping all of it would cost a small file more than reading it. */
  let [lowest, highest] = [PIECE_MAX_BYTES, PIECE_MAX_BYTES];
  const readOn = (at: number): void => {
    const rest = Math.max(0, to - at);
    buffer.copyWithin(PIECE_MAX_BYTES - rest, offset + (to - from) - rest, offset + (to - from));
    const count = byEitherWay(ways, to, WINDOW_BYTES, (descriptor) => readSync(descriptor, buffer, PIECE_MAX_BYTES, WINDOW_BYTES, to));
    if (count === 0) throw envelopeError('truncated', `the file ended at byte ${to}`);
    [from, to, offset] = [to - rest, to + count, PIECE_MAX_BYTES - rest];
    [lowest, highest] = [Math.min(lowest, offset), Math.max(highest, PIECE_MAX_BYTES + count)];
  };
  return {
    take: (at, bytes) => {
      if (at < from || at > to) from = to = at - (at % BLOCK_BYTES);
      while (to < at + bytes) readOn(at);
      return buffer.subarray(offset + (at - from), offset + (at - from) + bytes);
    },
    close: () => {
      closeDirect(ways);
      buffer.fill(0, lowest, highest);
    },
  };
}

/** Opens the writing of an open file, from this byte on: a multiple of 4096. `fileBytes` is about how long it will be. */
export function openWriter(file: File, startAt: number, fileBytes: number): Writer {
  const ways: Ways = { file, direct: openDirect(file, constants.O_WRONLY, fileBytes) };
  const buffer = memoryOfThread().writing;
  let [at, held, highest] = [startAt, 0, 0];
  const put = (bytes: number): void => {
    for (let done = 0; done < bytes; ) {
      const whole = bytes - done - ((bytes - done) % BLOCK_BYTES);
      const length = whole === 0 ? bytes - done : whole;
      done += byEitherWay(ways, at + done, length, (descriptor) => writeSync(descriptor, buffer, done, length, at + done));
    }
    buffer.copyWithin(0, bytes, held);
    at += bytes;
    held -= bytes;
  };
  return {
    room: (bytes) => buffer.subarray(held, held + bytes),
    filled: (bytes) => {
      held += bytes;
      highest = Math.max(highest, held);
      if (held >= WINDOW_BYTES) put(WINDOW_BYTES);
    },
    finish: () => put(held),
    close: () => {
      closeDirect(ways);
      buffer.fill(0, 0, highest);
    },
  };
}
