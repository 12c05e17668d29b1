import type { SealProgress } from '#src/world.ts';

/** More often is read by nobody, and may be a row each time. */
const PROGRESS_MILLISECONDS = 1000;

/** Counts the plaintext bytes that lie sealed and verified. */
export interface Tally {
  /** So many bytes of this file are done now; `file` is any name of its own. */
  readonly at: (file: string, bytes: number) => void;
  /** Waits until nobody is being told any more, and tells the last state. */
  readonly end: () => Promise<void>;
}

/** Tells `progress` about once a second, one call at a time. What that throws is dropped: it is for people to look at, and decides nothing. */
export function openTally(totalBytes: number, progress: (progress: SealProgress) => Promise<void>): Tally {
  const files = new Map<string, number>();
  let doneBytes = 0;
  let toldAt = performance.now();
  let telling: Promise<void> | null = null;
  const tell = async (): Promise<void> => {
    toldAt = performance.now();
    await progress({ doneBytes: Math.min(doneBytes, totalBytes), totalBytes }).catch(() => {});
    telling = null;
  };
  return {
    at: (file, bytes) => {
      doneBytes += bytes - (files.get(file) ?? 0);
      files.set(file, bytes);
      if (telling === null && performance.now() - toldAt >= PROGRESS_MILLISECONDS) telling = tell();
    },
    end: async () => {
      await telling;
      await tell();
    },
  };
}
