import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { LabEvent } from '#src/lab/children.ts';
import { openSetting, type Setting, type SettingOptions } from '#src/lab/setting.ts';
import { failure } from '#src/lab/watch.ts';

const MAIN_FILE = resolve(import.meta.dirname, '../../src/main.ts');
/** Closing ends children, PostgreSQL and servers, each within its own limit; longer than this it hangs, and the lab's guard finishes it. Seconds. */
const CLOSE_SECONDS = 60;
/** Between looks at something that comes about. Milliseconds. */
const LOOK_MILLISECONDS = 100;
/** Of each log, when a proof fails. Characters. */
const LOG_SHOWN_CHARACTERS = 6000;

/** A lab of a proof's own, with every event that it told. */
export interface Stage {
  readonly setting: Setting;
  readonly events: readonly LabEvent[];
}

/** What a proof's lab has more than the story's. */
export type StageOptions = Partial<Pick<SettingOptions, 'between' | 'betweenReplica' | 'replicas' | 'model'>> & {
  readonly onEvent?: (event: LabEvent) => void;
};

/** What a proof says its facts to. */
export interface Proof {
  /** Aborted when its time is over, or a person interrupts it. */
  readonly signal: AbortSignal;
  /** Prints one line: that this is so, or that it is not, and what was seen instead. Goes on either way. */
  readonly fact: (claim: string, is: boolean, seen?: unknown) => void;
  /** The same where both are as `isDeepStrictEqual` has it. */
  readonly same: (claim: string, seen: unknown, expected: unknown) => void;
  /** Prints a line that is no claim. */
  readonly note: (line: string) => void;
  /** Looks until `look` gives something that is not null. Throws `DeadlinePassed`. */
  readonly until: <T>(what: string, seconds: number, look: () => Promise<T | null> | T | null) => Promise<T>;
  /** What the promise gives, unless the proof ends before. */
  readonly inTime: <T>(promise: Promise<T>) => Promise<T>;
  /** Runs `work` on a lab, and closes it. */
  readonly stage: (work: (stage: Stage) => Promise<void>, options?: StageOptions) => Promise<void>;
}

/**
 * Runs a proof as a program: one line a fact, exit code 0 where every one of them held. It ends within
 * `limitSeconds`, whatever hangs, and leaves neither process nor folder behind. Its lines go to `to`.
 */
export async function prove(limitSeconds: number, work: (proof: Proof) => Promise<void>, to: NodeJS.WritableStream = process.stdout): Promise<void> {
  const ending = new AbortController();
  const limit = setTimeout(() => ending.abort(failure('DeadlinePassed', `the proof took more than ${limitSeconds} s`)), limitSeconds * 1000);
  // The kernel closes the guard's standard input with us: what we started is ended, and the folder removed.
  const last = setTimeout(() => process.exit(1), (limitSeconds + CLOSE_SECONDS) * 1000).unref();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => ending.abort(failure('Interrupted', name)));
  const startedAt = performance.now();
  const { proof, failures } = proofOf(ending.signal, to);
  try {
    await work(proof);
  } catch (thrown) {
    proof.fact('the proof came to its end', false, thrown instanceof Error ? (thrown.stack ?? thrown.message) : thrown);
  } finally {
    clearTimeout(limit);
    // Whoever still waits for an event would keep the process.
    ending.abort(failure('Ended', 'the proof is over'));
  }
  proof.note(`${failures() === 0 ? 'proven' : `${failures()} facts do not hold`} in ${Math.round((performance.now() - startedAt) / 100) / 10} s`);
  process.exitCode = failures() === 0 ? 0 : 1;
  clearTimeout(last);
}

function proofOf(signal: AbortSignal, to: NodeJS.WritableStream): { readonly proof: Proof; readonly failures: () => number } {
  let failed = 0;
  const note = (line: string): void => void to.write(`${line}\n`);
  const fact: Proof['fact'] = (claim, is, seen) => {
    if (!is) failed += 1;
    note(is ? `  yes  ${claim}` : `  NO   ${claim}${seen === undefined ? '' : `: ${typeof seen === 'string' ? seen : JSON.stringify(seen)}`}`);
  };
  const until: Proof['until'] = async (what, seconds, look) => {
    const deadline = performance.now() + seconds * 1000;
    for (;;) {
      signal.throwIfAborted();
      const found = await look();
      if (found !== null) return found;
      if (performance.now() > deadline) throw failure('DeadlinePassed', `not within ${seconds} s: ${what}`);
      await pause(LOOK_MILLISECONDS, null, { signal });
    }
  };
  const proof: Proof = {
    signal,
    note,
    fact,
    until,
    inTime: (promise) => {
      const { promise: ended, reject } = Promise.withResolvers<never>();
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      return Promise.race([promise, ended]);
    },
    same: (claim, seen, expected) => fact(claim, isDeepStrictEqual(seen, expected), { seen, expected }),
    stage: async (work, { onEvent, ...rest } = {}) => {
      const events: LabEvent[] = [];
      const hear = (event: LabEvent): void => {
        events.push(event);
        onEvent?.(event);
      };
      const setting = await openSetting({ mainFile: MAIN_FILE, model: null, signal, onEvent: hear, ...rest });
      const before = failed;
      let ended = false;
      try {
        await work({ setting, events });
        ended = true;
      } finally {
        if (!ended || failed > before) await showLogs(join(setting.folder, 'logs'));
        await setting.close();
      }
    },
  };
  return { proof, failures: () => failed };
}

/** On standard error, for whoever has to find out why: the folder is about to go. */
async function showLogs(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const text = await readFile(join(folder, name), 'utf8');
    process.stderr.write(`--- ${name}\n${text.slice(-LOG_SHOWN_CHARACTERS)}\n`);
  }
}

/** Numbers from a seed, each from 0 up to 1, the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
