import type { EnvelopeWorkers } from '#src/envelope/workers.ts';

/** Files under way: a small one is mostly waiting for answers. */
const FILES_AT_ONCE = 8;
/** Passes that run: each takes a thread's memory, and nothing waits for a disk here, since windows come and go while others are computed. */
const PASSES_AT_ONCE = 2;

/** The same threads, for files in S3: more files under way, and fewer passes at once. */
export function openLanes(workers: EnvelopeWorkers): EnvelopeWorkers {
  let running = 0;
  const waiting: (() => void)[] = [];
  return {
    ...workers,
    threads: FILES_AT_ONCE,
    pass: async (order, told) => {
      if (running >= PASSES_AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
      else running += 1;
      try {
        return await workers.pass(order, told);
      } finally {
        // Whoever waits takes this one's place.
        const next = waiting.shift();
        if (next === undefined) running -= 1;
        else next();
      }
    },
  };
}
