import type { PgBoss } from 'pg-boss';
import type { Queue } from './enlist.ts';

/** Waits up to this long are also timed here, so that they end on time and not at the next poll. */
const TIMED_SECONDS = 60;
/** Due times closer than this share a timer. */
const TIMER_MILLISECONDS = 50;

/** Asks for work when a wake falls due that this replica sent. */
export interface Timers {
  /** A worker of pg-boss, to be told at such a moment. */
  readonly add: (queue: Queue, worker: string) => void;
  /** A wake falls due in so many milliseconds. */
  readonly set: (queue: Queue, milliseconds: number) => void;
  readonly stop: () => void;
}

/** Makes this replica ask for its work at the moment when a wake that it sent falls due. Only ever earlier: the poll does not rest on it. */
export function openTimers(boss: PgBoss): Timers {
  const workers = new Map<Queue, string[]>();
  const timers = new Map<string, NodeJS.Timeout>();
  return {
    add: (queue, worker) => {
      workers.set(queue, [...(workers.get(queue) ?? []), worker]);
    },
    set: (queue, milliseconds) => {
      if (milliseconds <= 0 || milliseconds > TIMED_SECONDS * 1000 || !workers.has(queue)) return;
      const slot = Math.ceil((performance.now() + milliseconds) / TIMER_MILLISECONDS) + 1;
      const name = `${queue} ${slot}`;
      if (timers.has(name)) return;
      const timer = setTimeout(
        () => {
          timers.delete(name);
          for (const worker of workers.get(queue) ?? []) boss.notifyWorker(worker);
        },
        slot * TIMER_MILLISECONDS - performance.now(),
      );
      timers.set(name, timer.unref());
    },
    stop: () => {
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
    },
  };
}
