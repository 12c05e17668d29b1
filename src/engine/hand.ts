/** What is under way in this process, and the word that it has to end. */
export interface Hand {
  readonly runs: () => ReadonlySet<string>;
  /** Aborted when this process ends. */
  readonly ending: AbortSignal;
  /** Does `look` with a run in hand. Resolves with false where the hand was emptied meanwhile: the run is somebody else's by then. */
  readonly hold: (run: string, look: () => Promise<void>) => Promise<boolean>;
  readonly end: () => void;
  /** Lets go of everything that has not ended, and gives its runs. */
  readonly empty: () => readonly string[];
}

/** An empty hand. */
export function openHand(): Hand {
  // By look: a run that was taken away by mistake may come back while its first look is still under way.
  const held = new Map<symbol, string>();
  const ending = new AbortController();
  return {
    runs: () => new Set(held.values()),
    ending: ending.signal,
    hold: async (run, look) => {
      const mark = Symbol(run);
      held.set(mark, run);
      try {
        await look();
        return held.has(mark);
      } finally {
        held.delete(mark);
      }
    },
    end: () => ending.abort(),
    empty: () => {
      const runs = [...new Set(held.values())];
      held.clear();
      return runs;
    },
  };
}

/** Waits for something, but no longer than this. What it throws is only told. */
export async function inTime(work: Promise<unknown>, seconds: number, onError: (error: Error) => void): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, seconds * 1000);
  const done = work.then(
    () => undefined,
    (thrown: unknown) => onError(thrown instanceof Error ? thrown : new Error(String(thrown))),
  );
  await Promise.race([done, late.promise]);
  clearTimeout(timer);
}
