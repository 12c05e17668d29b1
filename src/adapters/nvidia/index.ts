import { Worker } from 'node:worker_threads';
import type { RimReader } from '#src/domain/collateral/rim.ts';
import type { RimAnswer } from './rim-worker.ts';

/** Reads RIMs in a thread of its own: XML that was made to hurt takes the thread, and not the process. */
export interface RimThread {
  readonly read: RimReader;
  /** Ends the thread, after what was asked for is answered. */
  readonly close: () => Promise<void>;
}

/** The largest genuine one takes some 10 ms; a loaded machine may need a thousand times as long. */
const DEADLINE_SECONDS = 20;
/** A genuine one takes some 10 MiB beside Node's own 20. */
const MEMORY = { maxOldGenerationSizeMb: 96, maxYoungGenerationSizeMb: 32, stackSizeMb: 4 } as const;

interface Thread {
  readonly worker: Worker;
  /** Who waits for an answer; null is no answer, and no use of the thread any more. */
  waiting: ((answer: RimAnswer | null) => void) | null;
}

/** Opens a reader; its thread is started by the first document, and one that died or was late is replaced by the next. */
export function openRimThread(deadlineSeconds: number = DEADLINE_SECONDS): RimThread {
  let thread: Thread | null = null;
  let last: Promise<unknown> = Promise.resolve();
  const end = async (): Promise<void> => {
    const ending = thread;
    thread = null;
    await ending?.worker.terminate();
  };
  const readOne = async (bytes: Buffer): Promise<RimAnswer> => {
    thread ??= start();
    const answer = await ask(thread, bytes, deadlineSeconds);
    if (answer !== null) return answer;
    await end();
    return { verdict: 'malformed', reason: 'LimitExceeded', about: `not read in ${deadlineSeconds} s, or not in the memory that it is given` };
  };
  return {
    read: (bytes) => {
      const next = last.then(() => readOne(bytes));
      last = next;
      return next;
    },
    close: async () => {
      await last;
      await end();
    },
  };
}

function start(): Thread {
  // The thread needs nothing of our environment, where secrets may stand.
  const worker = new Worker(new URL('./rim-worker.ts', import.meta.url), { resourceLimits: MEMORY, env: {} });
  const thread: Thread = { worker, waiting: null };
  worker.on('message', (answer: RimAnswer) => thread.waiting?.(answer));
  worker.on('error', () => thread.waiting?.(null));
  worker.on('exit', () => thread.waiting?.(null));
  return thread;
}

function ask(thread: Thread, bytes: Buffer, deadlineSeconds: number): Promise<RimAnswer | null> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => thread.waiting?.(null), deadlineSeconds * 1000);
    thread.waiting = (answer) => {
      clearTimeout(timer);
      thread.waiting = null;
      // It keeps no process alive that waits for nothing of it.
      thread.worker.unref();
      resolve(answer);
    };
    thread.worker.ref();
    thread.worker.postMessage(new Uint8Array(bytes));
  });
}
