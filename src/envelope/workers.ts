import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Secret } from '#src/secret.ts';
import { answerCall, type ByteSink, type ByteSource, type Channel, type ChannelCall, openChannel } from './distant.ts';
import { envelopeError } from './envelope-error.ts';
import type { Pass, Passed } from './tink.ts';
import type { Task, TaskAnswer } from './worker.ts';

/** A pass whose keys are still secrets, and whose files may be distant ones. */
export type PassOrder = Omit<Pass, 'openWith' | 'sealWith' | 'from' | 'to'> & {
  readonly openWith: Secret | null;
  readonly sealWith: Secret | null;
  readonly from: string | ByteSource;
  readonly to: string | ByteSink | null;
};

/** Threads that carry passes out, one each at a time, so that the event loop stays free. */
export interface EnvelopeWorkers {
  /** How many passes run at once. */
  readonly threads: number;
  /**
   * Waits for a free thread, then carries the pass out there; `told` hears a few times a second how many bytes of plaintext have passed.
   * Throws EnvelopeError, an Error with the file system's `code` and the `path` that it is about, or what a distant file's end has thrown.
   */
  readonly pass: (order: PassOrder, told?: (plaintextBytes: number) => void) => Promise<Passed>;
  /** Ends the threads; what still runs is rejected. They also end by themselves when they were idle for a while, and never keep a process alive. */
  readonly close: () => Promise<void>;
}

/** More do not pay: two already read and write faster than one NVMe drive (measured; see the README). */
const THREADS_MAX = 4;
/** A thread costs about 20 MiB: kept between the files of one model, given back after it. */
const IDLE_SECONDS = 5;

interface Waiting {
  readonly task: Task;
  readonly source: ByteSource | null;
  readonly sink: ByteSink | null;
  /** What a distant file's end has thrown: the thread only knows that it did. */
  failure: { readonly error: unknown } | null;
  readonly told: (plaintextBytes: number) => void;
  readonly resolve: (passed: Passed) => void;
  readonly reject: (error: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  current: Waiting | null;
  idle: NodeJS.Timeout | null;
}

interface Pool {
  readonly threads: number;
  readonly running: Set<Thread>;
  readonly queue: Waiting[];
  closed: boolean;
}

/** Opens a set of threads; none is started before it is needed. */
export function openWorkers(threads: number = Math.min(THREADS_MAX, 2 * availableParallelism())): EnvelopeWorkers {
  const pool: Pool = { threads, running: new Set(), queue: [], closed: false };
  return {
    threads,
    pass: ({ openWith, sealWith, from, to, ...rest }, told = () => {}) => {
      const passed = new Promise<Passed>((resolve, reject) => {
        if (pool.closed) return reject(closedError());
        const order = { ...rest, from: endOf(from), to: to === null ? null : endOf(to) };
        const ends = { source: typeof from === 'string' ? null : from, sink: typeof to === 'string' ? null : to };
        pool.queue.push({ task: { order, openWith: copyOf(openWith), sealWith: copyOf(sealWith) }, ...ends, failure: null, told, resolve, reject });
        fill(pool);
      });
      return passed.finally(() => (typeof from === 'string' ? undefined : from.close()));
    },
    close: async () => {
      pool.closed = true;
      for (const { task, reject } of pool.queue.splice(0)) {
        wipe(task);
        reject(closedError());
      }
      await Promise.all([...pool.running].map(({ worker }) => worker.terminate()));
    },
  };
}

/** A file as the thread is told of it. */
function endOf(end: string | ByteSource | ByteSink): string | Channel {
  if (typeof end === 'string') return end;
  return 'sizeBytes' in end ? openChannel(end.name, end.sizeBytes, end.sizeBytes) : openChannel(end.name, 0);
}

/** Gives waiting passes to free threads, and starts threads up to the limit. */
function fill(pool: Pool): void {
  while (!pool.closed && pool.queue.length > 0) {
    const thread = [...pool.running].find(({ current }) => current === null) ?? (pool.running.size < pool.threads ? start(pool) : null);
    const next = thread === null ? undefined : pool.queue.shift();
    if (thread === null || next === undefined) return;
    if (thread.idle !== null) clearTimeout(thread.idle);
    thread.idle = null;
    thread.current = next;
    thread.worker.ref();
    // The keys' memory is handed over, so that no second copy stays on this side.
    thread.worker.postMessage(
      next.task,
      [next.task.openWith, next.task.sealWith].filter((memory) => memory !== null),
    );
  }
}

function start(pool: Pool): Thread {
  // The thread needs nothing of our environment, where secrets may stand.
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { env: {} });
  const thread: Thread = { worker, current: null, idle: null };
  worker.on('message', (answer: TaskAnswer) => {
    const { current } = thread;
    if (answer.kind === 'progress') return current?.told(answer.plaintextBytes);
    if (answer.kind === 'read' || answer.kind === 'write') return current === null ? undefined : void serve(current, answer);
    thread.current = null;
    if (current !== null) settle(current, answer);
    fill(pool);
    if (thread.current === null) rest(pool, thread);
  });
  worker.on('error', (error) => end(pool, thread, error instanceof Error ? error : new Error(String(error))));
  worker.on('exit', () => end(pool, thread, closedError()));
  pool.running.add(thread);
  return thread;
}

/** Fetches or carries off one window of a distant file. */
function serve(waiting: Waiting, call: ChannelCall): Promise<void> {
  const { source, sink, task } = waiting;
  const failed = (error: unknown): void => {
    waiting.failure ??= { error };
  };
  const work = async (window: Buffer): Promise<void> => {
    if (call.kind === 'read') await source?.read(call.at, window);
    else await sink?.write(window, call.fileBytes);
  };
  return answerCall(channelOf(call.kind === 'read' ? task.order.from : task.order.to), work, call.bytes, failed);
}

function channelOf(end: string | Channel | null): Channel {
  if (end === null || typeof end === 'string') throw new TypeError('a thread asked about a distant file that its pass has not');
  return end;
}

function rest(pool: Pool, thread: Thread): void {
  thread.worker.unref();
  thread.idle = setTimeout(() => {
    pool.running.delete(thread);
    void thread.worker.terminate();
  }, IDLE_SECONDS * 1000).unref();
}

function end(pool: Pool, thread: Thread, error: Error): void {
  if (!pool.running.delete(thread)) return;
  if (thread.idle !== null) clearTimeout(thread.idle);
  thread.current?.reject(error);
  thread.current = null;
  fill(pool);
}

function closedError(): Error {
  return new Error('the envelope’s threads are closed');
}

/** Copies a key into memory of its own, which can be handed over. */
function copyOf(key: Secret | null): ArrayBuffer | null {
  if (key === null) return null;
  const bytes = key.reveal();
  const memory = new ArrayBuffer(bytes.length);
  bytes.copy(Buffer.from(memory));
  return memory;
}

function wipe({ openWith, sealWith }: Task): void {
  for (const memory of [openWith, sealWith]) if (memory !== null) Buffer.from(memory).fill(0);
}

function settle({ resolve, reject, failure }: Waiting, answer: Extract<TaskAnswer, { kind: 'passed' | 'envelope-error' | 'system-error' }>): void {
  if (failure !== null) {
    reject(failure.error);
    return;
  }
  switch (answer.kind) {
    case 'passed':
      resolve(answer.passed);
      break;
    case 'envelope-error':
      reject(envelopeError(answer.error.kind, answer.error.message, answer.error.path));
      break;
    case 'system-error':
      reject(Object.assign(new Error(answer.error.message), { code: answer.error.code, path: answer.error.path }));
      break;
  }
}
