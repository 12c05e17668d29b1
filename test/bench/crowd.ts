import { mkdtempSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import { parse } from 'yaml';
import { openWorld } from '#src/commands/open.ts';
import { loadConfig } from '#src/config.ts';
import { type Intake, takeIn } from '#src/engine/intake.ts';
import { openWake, type Wake } from '#src/engine/wake.ts';
import { writeModel } from '#src/lab/model.ts';
import { openSetting, type Setting } from '#src/lab/setting.ts';
import { hint } from '#src/lab/story.ts';
import { silentLog } from '#src/log.ts';
import { basisOf } from '#state/basis.ts';
import { openDatabase, transaction } from '#state/database.ts';
import { openHttpGate } from '../proofs/gate.ts';
import { releaseFiles } from './documents.ts';

/** Controllers on one database: one is frozen or dead, the other goes on. */
const REPLICAS = 2;
/** Seconds between two polls of Git: where a webhook was lost, this is what it costs. */
const POLL_SECONDS = 30;
/** One in so many fails for ever, and is tried again and again. */
const FAILING_EVERY = 10;
/** Weights of a rotation: what is measured seals none. Bytes. */
const MODEL_SIZE_BYTES = 64 * 1024;
/** For anything that is waited for before something is measured; a loaded machine gets many times what it takes. Seconds. */
const PATIENCE_SECONDS = 240;
/** Between two looks at what comes about. Milliseconds. */
const LOOK_MILLISECONDS = 100;
/** Between two looks at who has a run in hand: a look at one takes tens of milliseconds. Milliseconds. */
const HAND_MILLISECONDS = 2;
/** A wake that brought nobody: another look was over before it was seen. Milliseconds. */
const WAKE_AGAIN_MILLISECONDS = 1500;

/** A lab in which many rotations are open. */
export interface Crowd {
  readonly setting: Setting;
  readonly query: <T extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => Promise<readonly T[]>;
  /** The workloads whose keys are published: guests get them. Their rotations are open too. */
  readonly workloads: readonly string[];
  /** How many rotations are open now. */
  readonly open: () => Promise<number>;
  /** Stops (SIGSTOP) whoever has the workload's rotation in hand, in the middle of a look. */
  readonly stopOwner: (workload: string) => Promise<Stopped>;
  /**
   * Ends it (SIGKILL). Whoever is started in its place stands still until `restore`: to boot is another machine's work,
   * and here would be that of the cores on which everything is measured. Resolves when it does.
   */
  readonly end: (stopped: Stopped) => Promise<void>;
  /** Delivers the webhook to a controller that lives. */
  readonly hint: (stopped: Stopped) => Promise<void>;
  /** Lets it go on, or waits until its successor serves. */
  readonly restore: (stopped: Stopped) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** A controller that stands still. */
export interface Stopped {
  readonly replica: number;
  readonly pid: number;
  /** How many processes have said their names until then. */
  readonly names: number;
}

interface Parts {
  readonly setting: Setting;
  readonly pool: pg.Pool;
  readonly wake: Wake;
  readonly signal: AbortSignal;
}

/**
 * Opens the lab with its own PostgreSQL, far sides, proxy and two controllers, and brings it `rotations` open
 * rotations through Git: `published` of them have their key where guests get it, and wait for an object. Of the
 * others a tenth fails for ever, because its key store does not answer, and people hold the rest.
 */
export async function openCrowd(rotations: number, published: number, signal: AbortSignal): Promise<Crowd> {
  await using stack = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'keyturn-bench-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  await writeModel(folder, { sizeBytes: MODEL_SIZE_BYTES, seed: 1 });
  const gates: Awaited<ReturnType<typeof openHttpGate>>[] = [];
  const setting = await openSetting({
    mainFile: resolve(import.meta.dirname, '../../src/main.ts'),
    model: folder,
    replicas: REPLICAS,
    signal,
    onEvent: () => undefined,
    between: async (farSides) => {
      const gate = await openHttpGate(farSides.kmsUrl);
      gates.push(gate);
      return { ...farSides, kmsUrl: gate.url };
    },
  });
  stack.defer(async () => {
    await setting.close();
    for (const gate of gates) await gate.close();
  });
  const pool = openDatabase({ url: setting.farSides.databaseUrl, poolSize: 3 });
  stack.defer(() => pool.end());
  const wake = await openWake({ pool, url: setting.farSides.databaseUrl, onError: () => undefined });
  stack.defer(wake.stop);
  const parts: Parts = { setting, pool, wake, signal };
  await pollSeldom(parts);
  const workloads = Array.from({ length: published }, (_, number) => `q${number}`);
  await release(parts, workloads);
  await until(parts, async () => (await countOf(pool, `select count(*)::int as count from receipts where step = 'confirm-published'`)) >= published);
  for (const gate of gates) await gate.set('gone');
  const others = Array.from({ length: rotations - published }, (_, number) => `w${number}`);
  await hold(
    pool,
    others.filter((_, number) => number % FAILING_EVERY !== 0),
  );
  await takeInAlone(parts, others);
  await until(parts, async () => (await openRotations(pool)) >= rotations);
  const standing = stack.move();
  return {
    setting,
    workloads,
    query: async <T extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []) => (await pool.query<T>(text, [...values])).rows,
    open: () => openRotations(pool),
    stopOwner: (workload) => stopOwner(parts, workload),
    end: (stopped) => end(parts, stopped),
    hint: ({ replica }) => hintAt(parts, REPLICAS - 1 - replica),
    restore: (stopped) => restore(parts, stopped),
    close: () => standing.disposeAsync(),
  };
}

/** Rows alone: what a person who holds a workload leaves behind is not what is measured. */
async function hold(pool: pg.Pool, workloads: readonly string[]): Promise<void> {
  await pool.query(
    `insert into holds (kind, subject, chain, why, held_by) select 'workload', name, (select min(id) from runs), 'a bench', 'a bench' from unnest($1::text[]) as name`,
    [workloads],
  );
}

async function countOf(pool: pg.Pool, text: string): Promise<number> {
  return (await pool.query<{ count: number }>(text)).rows[0]?.count ?? 0;
}

function openRotations(pool: pg.Pool): Promise<number> {
  return countOf(pool, `select count(*)::int as count from runs where workflow = 'adopt-revision' and ended_at is null`);
}

async function until({ signal }: Parts, look: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_SECONDS * 1000;
  while (!(await look())) {
    if (performance.now() > deadline) throw new Error('the crowd does not come about');
    await pause(LOOK_MILLISECONDS, undefined, { signal });
  }
}

/** The releases of these workloads, in one merge, and a hint to everybody. */
async function release(parts: Parts, workloads: readonly string[]): Promise<void> {
  const { setting } = parts;
  const files = await Promise.all(workloads.map((workload) => releaseFiles(setting, workload)));
  await setting.farSides.git.commit(Object.assign({}, ...files), `Releases of ${workloads.length} workloads`);
  await hintAt(parts, 0);
}

/**
 * The same, taken in by this process as `serve` does it, but for the question whether each fits what every KBS
 * holds: it looks through all that was accepted, and a thousand at once cost minutes that nobody measures here.
 */
async function takeInAlone({ setting, pool, wake }: Parts, workloads: readonly string[]): Promise<void> {
  const config = await loadConfig(setting.configFile, {});
  const { git, loaders, verifying, close } = await openWorld(config, pool);
  try {
    const files = await Promise.all(workloads.map((workload) => releaseFiles(setting, workload)));
    await setting.farSides.git.commit(Object.assign({}, ...files), `Releases of ${workloads.length} workloads`);
    const basis: Intake['basis'] = (tx, one) => basisOf(tx, loaders.release, one);
    const report = await takeIn({ ...verifying, pool, git, enlist: wake.enlist, loaders, misfit: async () => null, basis, log: silentLog });
    if (report.failures.length > 0) throw new Error(`not taken in: ${report.failures[0]?.about}`);
  } finally {
    await close();
  }
}

function configOf({ folder }: Setting, replica: number): string {
  return join(folder, `keyturn-${replica + 1}.yaml`);
}

/** As production would: the lab's own polls are seconds apart, and would hide a webhook that was lost. */
async function pollSeldom(parts: Parts): Promise<void> {
  const { setting } = parts;
  const replicas = [...Array(REPLICAS).keys()];
  await Promise.all(
    replicas.map(async (replica) => {
      const file = configOf(setting, replica);
      await writeFile(file, readFileSync(file, 'utf8').replace(/pollSeconds: \d+/, `pollSeconds: ${POLL_SECONDS}`));
      // It listens before it has said its name.
      await until(parts, async () => ownersOf(setting, replica).length > 0);
      const pid = setting.pid('serve', replica);
      if (pid === null) throw new Error('a controller does not run');
      process.kill(pid, 'SIGTERM');
      await untilSuccessor(parts, { replica, pid, names: 1 });
    }),
  );
}

/** Every process says its name once, when it serves: the last is its own. */
function ownersOf({ folder }: Setting, replica: number): readonly string[] {
  const log = readFileSync(join(folder, 'logs', replica === 0 ? 'serve.log' : `serve-${replica + 1}.log`), 'utf8');
  return Array.from(log.matchAll(/"replica":"([^"]+)"/g), ([, owner = '']) => owner);
}

/** The process has ended, and another serves, which has said its name after so many. */
async function untilSuccessor(parts: Parts, { replica, pid, names }: Stopped): Promise<void> {
  await until(parts, async () => parts.setting.pid('serve', replica) !== pid && ownersOf(parts.setting, replica).length > names);
}

/** Wakes the rotation before all others, and stops whoever takes it in hand. */
async function stopOwner(parts: Parts, workload: string): Promise<Stopped> {
  const { pool, wake, setting, signal } = parts;
  const { rows } = await pool.query<{ id: string }>(`select id from runs where workload = $1 and workflow = 'adopt-revision' and ended_at is null`, [workload]);
  const [run] = rows;
  if (run === undefined) throw new Error(`no rotation of ${workload} is open`);
  const ownerOf = async () => (await pool.query<{ owner: string | null }>('select owner from runs where id = $1', [run.id])).rows[0]?.owner ?? null;
  for (const deadline = performance.now() + PATIENCE_SECONDS * 1000; performance.now() < deadline; ) {
    await transaction(pool, (tx) => wake.free(tx, [{ id: run.id, at: null }]));
    for (const again = performance.now() + WAKE_AGAIN_MILLISECONDS; performance.now() < again; ) {
      const owner = await ownerOf();
      const replica = [...Array(REPLICAS).keys()].find((one) => ownersOf(setting, one).at(-1) === owner);
      const pid = replica === undefined ? null : setting.pid('serve', replica);
      if (replica !== undefined && pid !== null) {
        process.kill(pid, 'SIGSTOP');
        if ((await ownerOf()) === owner) return { replica, pid, names: ownersOf(setting, replica).length };
        process.kill(pid, 'SIGCONT');
      }
      await pause(HAND_MILLISECONDS, undefined, { signal });
    }
  }
  throw new Error(`nobody takes the rotation of ${workload} in hand`);
}

async function end({ setting, signal }: Parts, { replica, pid }: Stopped): Promise<void> {
  process.kill(pid, 'SIGKILL');
  for (;;) {
    await pause(HAND_MILLISECONDS, undefined, { signal });
    const successor = setting.pid('serve', replica);
    if (successor === null || successor === pid) continue;
    process.kill(successor, 'SIGSTOP');
    return;
  }
}

/** A frozen one goes on; of a dead one the successor does. */
async function restore(parts: Parts, stopped: Stopped): Promise<void> {
  const { setting, pool } = parts;
  const { replica, pid } = stopped;
  const standing = setting.pid('serve', replica);
  if (standing !== null) process.kill(standing, 'SIGCONT');
  if (standing === pid) return;
  await untilSuccessor(parts, stopped);
  // One that has just started reads all of Git first, with code that was never run: what is measured is a controller that stands.
  const commit = await setting.farSides.git.commit({ [`notes/${pid}.txt`]: 'nothing that is watched' }, 'A note');
  await hintAt(parts, replica);
  await until(parts, async () => (await pool.query('select 1 from branches where commit_id = $1', [commit])).rowCount !== 0);
}

async function hintAt({ setting }: Parts, replica: number): Promise<void> {
  const config = parse(readFileSync(configOf(setting, replica), 'utf8')) as { readonly serve: { readonly webhook: { readonly listen: string } } };
  await hint({ ...setting, webhookUrl: `http://${config.serve.webhook.listen}/webhook` });
}
