import { setTimeout as pause } from 'node:timers/promises';

/** Lets somebody outside say "now" to a repeated task. A hint given while the task is under way is kept for the next turn. */
export interface Hints {
  readonly give: () => void;
  /** Forgets the hints given so far and promises the next one. */
  readonly next: () => Promise<void>;
}

/** Hints for one task. */
export function openHints(): Hints {
  let current = Promise.withResolvers<void>();
  return {
    give: () => current.resolve(),
    next: () => {
      current = Promise.withResolvers<void>();
      return current.promise;
    },
  };
}

/** Timers of several replicas spread: each pause is this much shorter or longer, as a part of one. */
const JITTER = 0.1;

/**
 * Does a task now, then again whenever its seconds are over or a hint was given, one at a time, until
 * aborted. What the task throws ends the repetition.
 */
export async function repeat(seconds: number, task: () => Promise<void>, signal: AbortSignal, hints?: Hints): Promise<void> {
  const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  while (!signal.aborted) {
    const hinted = hints?.next();
    await task();
    const timer = new AbortController();
    const due = pause(seconds * 1000 * (1 - JITTER + 2 * JITTER * Math.random()), undefined, { signal: timer.signal }).catch(() => undefined);
    await Promise.race([due, aborted, ...(hinted === undefined ? [] : [hinted])]);
    timer.abort();
  }
}
