import { constants, openSync, readSync } from 'node:fs';
import { envelopeError } from './envelope-error.ts';

/** An open file, and its name for errors. */
export interface File {
  readonly path: string;
  readonly descriptor: number;
}

/** What files are made with: opened plaintext is a secret of the weights' owner; ciphertext and manifests are public. */
export const MODE = { plaintext: 0o600, ciphertext: 0o644 };

/** Does a call that takes a descriptor: its error does not say by itself which file it was about, in its `path`. */
export function about<T>(file: File, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (error instanceof Error) Object.assign(error, { path: file.path });
    throw error;
  }
}

/** Opens a file for reading and writing, but follows no link; null where there is none. */
export function openExisting(path: string): File | null {
  try {
    return { path, descriptor: openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK) };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

/** Reads exactly this range into the front of `buffer`. Throws EnvelopeError `truncated` where the file ends before. */
export function read(file: File, buffer: Buffer, at: number, bytes: number): Buffer {
  let done = 0;
  while (done < bytes) {
    const count = about(file, () => readSync(file.descriptor, buffer, done, bytes - done, at + done));
    if (count === 0) throw envelopeError('truncated', `the file ended at byte ${at + done}`);
    done += count;
  }
  return buffer.subarray(0, bytes);
}
