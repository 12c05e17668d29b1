import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import type { Guard } from './guard.ts';

/** A command that prints more than this on one channel is broken: status of one workload is a few kilobytes. Bytes. */
const OUTPUT_MAX_BYTES = 16 * 1024 * 1024;
/** What is kept of a child's standard error, to be shown when it fails. Lines. */
const LAST_WORDS_LINES = 20;
/** First pause before an exited child is started again; doubles up to the second figure. Seconds. */
const RESTART_SECONDS = { first: 0.25, longest: 5 };
/** A child that lived this long, or told an event, was well: the pause starts small again. Seconds. */
const WELL_SECONDS = 10;
/** From SIGTERM to SIGKILL. Seconds. */
const STOP_SECONDS = 5;

/** How the product's own command line is started: `node src/main.ts …`, never through npm, which hides signals. */
export interface Keyturn {
  readonly mainFile: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly guard: Guard;
}

/** A line that a child printed with `--json`. */
export interface LabEvent {
  readonly event: string;
  readonly at: string;
  readonly [name: string]: unknown;
}

/** How a command ended; `code` null where a signal ended it. */
export interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

/** A process that is kept running until it is stopped. */
export interface Child {
  readonly name: string;
  /** Of the process that runs now; null between one and the next. */
  readonly pid: () => number | null;
  /** How often it was started again. */
  readonly restarts: () => number;
  /** How the process before ended: its exit code, null where a signal ended it; undefined: none has. */
  readonly lastExit: () => number | null | undefined;
  /** The last lines of its standard error. */
  readonly lastWords: () => readonly string[];
  /** SIGTERM, and SIGKILL after some seconds. Resolves when it has ended. */
  readonly stop: () => Promise<void>;
}

function start(keyturn: Keyturn, words: readonly string[]): ChildProcess & { readonly stdout: Readable; readonly stderr: Readable } {
  // A group of its own: Ctrl-C in a terminal reaches the lab alone, which then ends its children in the right order.
  const child = spawn(process.execPath, [keyturn.mainFile, ...words], {
    cwd: keyturn.folder,
    env: keyturn.environment,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { pid } = child;
  if (pid !== undefined) {
    keyturn.guard.add(pid);
    child.on('exit', () => keyturn.guard.remove(pid));
  }
  return child;
}

async function collect(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size <= OUTPUT_MAX_BYTES) chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Resolves when the process has ended and all that it printed was read; null where a signal ended it, or where it did not start. */
function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once('error', () => resolve(null));
    child.once('close', (code) => resolve(code));
  });
}

async function stop(child: ChildProcess, exit: Promise<unknown>): Promise<void> {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_SECONDS * 1000);
  await exit;
  clearTimeout(timer);
}

/** Runs one command of the product to its end; it is ended after `timeoutSeconds`, or when `signal` says so, and has then no code. */
export async function runCommand(keyturn: Keyturn, words: readonly string[], timeoutSeconds: number, signal?: AbortSignal): Promise<Ended> {
  const child = start(keyturn, words);
  const exit = exitOf(child);
  const end = () => void stop(child, exit);
  const timer = setTimeout(end, timeoutSeconds * 1000);
  signal?.addEventListener('abort', end, { once: true });
  try {
    const [code, output, errors] = await Promise.all([exit, collect(child.stdout), collect(child.stderr)]);
    return { code, output, errors };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', end);
  }
}

/** The event that a line holds; null for a line that is no event. */
export function eventOf(line: string): LabEvent | null {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== 'object' || value === null || !('event' in value) || typeof value.event !== 'string') return null;
    const at = 'at' in value && typeof value.at === 'string' ? value.at : new Date().toISOString();
    return { ...value, event: value.event, at };
  } catch {
    return null;
  }
}

/** A command that should never end. */
export interface Service {
  readonly name: string;
  /** Its words, asked anew at every start. */
  readonly words: () => readonly string[];
  /** Its standard error goes there. */
  readonly logFile: string;
  readonly onEvent: (event: LabEvent) => void;
}

/** Starts a command, passes its events on, and starts it again whenever it exits. */
export function keepRunning(keyturn: Keyturn, { name, words, logFile, onEvent }: Service): Child {
  const stopping = new AbortController();
  const log = createWriteStream(logFile, { flags: 'a', mode: 0o600 });
  const lastWords: string[] = [];
  let restarts = -1;
  let lastExit: number | null | undefined;
  let current: { readonly child: ChildProcess; readonly exit: Promise<number | null> } | null = null;

  const hear = (line: string) => {
    log.write(`${line}\n`);
    lastWords.push(line);
    if (lastWords.length > LAST_WORDS_LINES) lastWords.shift();
  };
  const keep = async () => {
    for (let seconds = RESTART_SECONDS.first; !stopping.signal.aborted; seconds = Math.min(seconds * 2, RESTART_SECONDS.longest)) {
      restarts += 1;
      const startedAt = performance.now();
      let told = false;
      const child = start(keyturn, words());
      const exit = exitOf(child);
      current = { child, exit };
      createInterface({ input: child.stdout }).on('line', (line) => {
        const event = eventOf(line);
        if (event === null) return;
        told = true;
        onEvent(event);
      });
      createInterface({ input: child.stderr }).on('line', hear);
      lastExit = await exit;
      if (told || performance.now() - startedAt > WELL_SECONDS * 1000) seconds = RESTART_SECONDS.first;
      await pause(seconds * 1000, null, { signal: stopping.signal }).catch(() => null);
    }
    log.end();
  };
  const kept = keep();
  return {
    name,
    pid: () => (current === null || current.child.exitCode !== null || current.child.signalCode !== null ? null : (current.child.pid ?? null)),
    restarts: () => restarts,
    lastExit: () => lastExit,
    lastWords: () => lastWords,
    stop: async () => {
      stopping.abort();
      if (current !== null) await stop(current.child, current.exit);
      await kept;
    },
  };
}
