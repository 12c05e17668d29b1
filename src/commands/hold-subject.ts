import { userInfo } from 'node:os';
import type { Command } from 'commander';
import { loadConfig } from '#src/config.ts';
import { openWake } from '#src/engine/wake.ts';
import { Fault } from '#src/errors.ts';
import { readReference } from '#src/reference.ts';
import { type Db, transaction } from '#state/database.ts';
import type { HoldSubject, WakeAll } from '#state/holds.ts';
import { checkInstallation } from '#state/migrate.ts';
import { openDatabaseOf } from './database.ts';

/** The options that `hold` and `resume` share. */
export interface HoldOptions {
  readonly config: string;
  readonly workload?: string;
  readonly all?: true;
  readonly reason?: string;
  readonly by?: string;
  readonly json?: true;
}

/** A reason is a sentence or two: it is in every status line of what it stops. */
const REASON_MAX_CHARACTERS = 500;
const NAME_MAX_CHARACTERS = 100;

/** Exactly one of a run, `--workload` and `--all`; anything else is a mistake of usage. */
export function subjectOf(command: Command, run: string | undefined, { workload, all }: HoldOptions): HoldSubject {
  const given: readonly (HoldSubject | null)[] = [
    run === undefined ? null : { kind: 'run', run },
    workload === undefined ? null : { kind: 'workload', workload },
    all === true ? { kind: 'all' } : null,
  ];
  const [subject, ...more] = given.filter((one) => one !== null);
  if (subject === undefined || more.length > 0) return command.error('error: expected one of: a run, --workload NAME, --all', { exitCode: 2 });
  return subject;
}

/** A person's words, fit for a terminal and a receipt. Throws Fault('InvalidRequest'). */
export function wordsOf(option: '--reason' | '--by', text: string): string {
  const words = text.trim();
  const most = option === '--by' ? NAME_MAX_CHARACTERS : REASON_MAX_CHARACTERS;
  if (words === '' || words.length > most || /\p{C}/u.test(words)) {
    throw new Fault('InvalidRequest', `${option}: expected 1 to ${most} characters, none of them a line's end or another control character`);
  }
  return words;
}

/** Who asks: `--by`, or the name under which this process runs. It is noted, not proven. Throws Fault. */
export function nameOf({ by }: HoldOptions): string {
  return wordsOf('--by', by ?? ownName());
}

function ownName(): string {
  try {
    return userInfo().username;
  } catch (cause) {
    throw new Fault('InvalidRequest', '--by: this process runs under no name; say who you are', { cause });
  }
}

/** Does this in one transaction of the configured database, with leave to wake runs at its commit. Throws Error, Fault. */
export async function inDatabase<T>(file: string, task: (tx: Db, wakeAll: WakeAll) => Promise<T>): Promise<T> {
  const config = await loadConfig(file, process.env);
  const pool = await openDatabaseOf(config, () => undefined);
  using url = await readReference(config.database.url);
  await checkInstallation(pool, { name: config.installation, mode: config.mode });
  // What it could not do is told by the transaction; nobody here works for it.
  const wake = await openWake({ pool, url: url.reveal().toString('utf8').trim(), onError: () => undefined });
  try {
    return await transaction(pool, (tx) => task(tx, (open, runs) => wake.enlistMany(open, runs, null)));
  } finally {
    await wake.stop();
    await pool.end();
  }
}
