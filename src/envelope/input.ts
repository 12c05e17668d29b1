import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { openReader, type Reader } from './blocks.ts';
import { type Channel, openDistantReader } from './distant.ts';
import { envelopeError } from './envelope-error.ts';
import type { File } from './file.ts';

/** What a pass reads: a file of this machine, or one that somebody else fetches. */
export interface Input {
  /** For errors. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly openReader: () => Reader;
  /** Its length by now: a file that grew meanwhile is another one. */
  readonly sizeNow: () => number;
  readonly close: () => void;
}

/** Opens it. Throws EnvelopeError `unsafe-path` for what is no regular file, or the file system's error. */
export function openInput(from: string | Channel): Input {
  if (typeof from !== 'string') {
    const { name, sizeBytes } = from;
    return { name, sizeBytes, openReader: () => openDistantReader(from), sizeNow: () => sizeBytes, close: () => {} };
  }
  // Without O_NONBLOCK a named pipe in place of the file would hold the thread for ever.
  const file: File = { path: from, descriptor: openSync(from, constants.O_RDONLY | constants.O_NONBLOCK) };
  const found = fstatSync(file.descriptor);
  const close = (): void => closeSync(file.descriptor);
  if (!found.isFile()) {
    close();
    throw envelopeError('unsafe-path', `not a regular file: ${from}`);
  }
  return { name: from, sizeBytes: found.size, openReader: () => openReader(file, found.size), sizeNow: () => fstatSync(file.descriptor).size, close };
}
