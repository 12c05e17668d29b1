import type { LabEvent } from './children.ts';

/** Ended before its time, and why: `name` is the reason that the last event gives, the message what it is about. */
export function failure(reason: string, about: string): Error {
  const error = new Error(about);
  error.name = reason;
  return error;
}

/** Hears every event once, and wakes who waits for one. */
export interface Watch {
  readonly hear: (event: LabEvent) => void;
  /**
   * The next event that `wanted` accepts. Rejects with what `wanted` throws, with `DeadlinePassed` after `seconds`, and with the
   * signal's reason when it is aborted. Ask before doing what causes the event: an event is not kept.
   */
  readonly next: (wanted: (event: LabEvent) => boolean, seconds: number, signal: AbortSignal) => Promise<LabEvent>;
}

/** Opens a watch that nobody waits at yet. */
export function openWatch(): Watch {
  const waiting = new Set<(event: LabEvent) => void>();
  return {
    hear: (event) => {
      for (const look of [...waiting]) look(event);
    },
    next: (wanted, seconds, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<LabEvent>();
      const look = (event: LabEvent) => {
        try {
          if (wanted(event)) resolve(event);
        } catch (thrown) {
          reject(thrown);
        }
      };
      const abort = () => reject(signal.reason);
      const timer = setTimeout(() => reject(failure('DeadlinePassed', `not done within ${seconds} s`)), seconds * 1000);
      waiting.add(look);
      signal.addEventListener('abort', abort, { once: true });
      if (signal.aborted) abort();
      return promise.finally(() => {
        clearTimeout(timer);
        waiting.delete(look);
        signal.removeEventListener('abort', abort);
      });
    },
  };
}
