/** Lets somebody outside say "now" to a repeated task. A hint given while the task is under way is kept for the next turn. */
export interface Hints {
  readonly give: () => void;
  /** Forgets the hints given so far and promises the next one. */
  readonly next: () => Promise<void>;
  /** How many were given so far. */
  readonly count: () => number;
}

/** Hints for one task. */
export function openHints(): Hints {
  let current = Promise.withResolvers<void>();
  let count = 0;
  return {
    give: () => {
      count += 1;
      current.resolve();
    },
    count: () => count,
    next: () => {
      current = Promise.withResolvers<void>();
      return current.promise;
    },
  };
}

/** Whether, since it was asked last (at first: since it was opened), a hint was given or so many seconds went by. */
export function openUrgency(hints: Hints, seconds: number): () => boolean {
  let [count, at] = [hints.count(), performance.now()];
  return () => {
    const now = performance.now();
    if (hints.count() === count && now - at < seconds * 1000) return false;
    [count, at] = [hints.count(), now];
    return true;
  };
}

/** Timers of several replicas spread: each pause is this much shorter or longer, as a part of one. */
const JITTER = 0.1;

/**
 * Does a task now, then again whenever its seconds are over or a hint was given, one at a time, until
 * aborted. What the task throws ends the repetition.
 */
export async function repeat(seconds: number, task: () => Promise<void>, signal: AbortSignal, hints?: Hints): Promise<void> {
  while (!signal.aborted) {
    const hinted = hints?.next();
    await task();
    await turnOf(seconds * (1 - JITTER + 2 * JITTER * Math.random()), signal, hinted);
  }
}

/**
 * Resolves when the seconds are over, at a hint, or when aborted. Leaves nothing behind on the signal,
 * which lives as long as the process: a race against one promise of it would keep two a turn for ever.
 */
async function turnOf(seconds: number, signal: AbortSignal, hinted: Promise<void> | undefined): Promise<void> {
  if (signal.aborted) return;
  const turn = Promise.withResolvers<void>();
  const end = (): void => turn.resolve();
  const timer = setTimeout(end, seconds * 1000);
  signal.addEventListener('abort', end, { once: true });
  void hinted?.then(end);
  await turn.promise;
  clearTimeout(timer);
  signal.removeEventListener('abort', end);
}
