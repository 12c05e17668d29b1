import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { moveClock } from '#src/lab/clock.ts';
import { openPostgres, type Postgres } from '#src/lab/postgres.ts';
import { type Disturbance, REPLICAS } from './chaos-draw.ts';
import { type Held, type House, openRuns, type Stopped, stopInHand, tellWaiting, UNDER_WAY } from './chaos-house.ts';
import type { Stream } from './chaos-stream.ts';
import type { HeldAnswer } from './gate.ts';

/** What was measured, each in milliseconds. */
export interface Figures {
  /** From SIGKILL to another controller's look, a run. */
  readonly takeovers: number[];
  /** The same for what was handed to the dead one and not yet, or no longer, claimed by it. */
  readonly gaps: number[];
  /** From SIGSTOP to another controller's look, a run. */
  readonly freezes: number[];
  /** From the database's return to the next look at a run that was in hand when it went away. */
  readonly returns: number[];
  /** From SIGTERM to a run's being let go of. */
  readonly handovers: number[];
  /** From SIGTERM to the process's end. */
  readonly exits: number[];
  /** Exit codes after SIGTERM. */
  readonly codes: (number | null | undefined)[];
  /** Freezes that fell between a read and the act that it is for. */
  between: number;
}

/** Nothing measured yet. */
export function noFigures(): Figures {
  return { takeovers: [], gaps: [], freezes: [], returns: [], handovers: [], exits: [], codes: [], between: 0 };
}

/** What a disturbance needs beside the house. */
export interface Disturbing {
  readonly house: House;
  readonly figures: Figures;
  readonly chance: () => number;
  /** Closes the databases that were started again. */
  readonly stack: AsyncDisposableStack;
  readonly stream: Stream;
}

/** Every run goes on elsewhere within this, whatever the machine does: four times the bar of a freeze. Seconds. */
const GOES_ON_SECONDS = 60;
/** Between looks at whether it did. Milliseconds. */
const LOOK_MILLISECONDS = 5;
/** How long a held read is waited for. A rotation makes each of them once or twice. Seconds. */
const READ_SECONDS = 45;
/** A crashed PostgreSQL removes its lock file last; a shutdown waits for its sessions. Seconds. */
const STOP_SECONDS = 60;
/** What a workload's key may serve. Days. */
const DUE_DAYS = 30;
const DAY_SECONDS = 86_400;
/** From the last merge to the end of what it began. Seconds. */
const QUIET_SECONDS = 240;

/** Lets one thing go wrong, and returns what it was, for a person. */
export async function disturb(disturbing: Disturbing, disturbance: Disturbance): Promise<string> {
  switch (disturbance.kind) {
    case 'kill':
      return disturbance.aimed ? killAimed(disturbing, disturbance.replica) : killBlind(disturbing, disturbance.replica);
    case 'freeze':
      return freeze(disturbing, disturbance);
    case 'restart':
      return restart(disturbing, disturbance.signal, disturbance.goneSeconds);
    case 'end':
      return end(disturbing, disturbance.replica);
    case 'due':
      return due(disturbing);
  }
}

interface RunNow {
  readonly id: string;
  readonly owner: string | null;
  readonly claim: number;
  readonly ended: boolean;
  readonly resting: boolean;
}

/** Milliseconds from `since` until each of the runs is in another's hand, or was and has been let go of. The database may be away meanwhile. */
async function untilElsewhere({ house }: Disturbing, runs: readonly Held[], since: number, letGo = false): Promise<readonly number[]> {
  const took = new Map<string, number>();
  await house.proof.until(`another controller goes on with ${runs.map(({ id }) => id).join(', ')}`, GOES_ON_SECONDS, async () => {
    for (let tries = 0; tries < 20 && took.size < runs.length; tries += 1) {
      const now = await house
        .query<RunNow>(
          'select id, owner, claim::int, ended_at is not null as ended, owner is null and next_retry_at > instant() as resting from runs where id = any($1)',
          [runs.map(({ id }) => id)],
        )
        .catch(() => []);
      for (const run of now) {
        const before = runs.find(({ id }) => id === run.id);
        if (before === undefined || took.has(run.id)) continue;
        const isElsewhere = run.owner !== null && run.owner !== before.owner && run.claim > before.claim;
        // Freed (one claim more), looked at (another), and at rest again between two of our looks.
        if (run.ended || isElsewhere || run.claim >= before.claim + 2 || (letGo && run.resting)) took.set(run.id, performance.now() - since);
      }
      if (took.size < runs.length) await pause(LOOK_MILLISECONDS, null, { signal: house.proof.signal });
    }
    return took.size === runs.length ? true : null;
  });
  return [...took.values()];
}

async function killAimed(disturbing: Disturbing, preferred: number): Promise<string> {
  const { house, figures, chance } = disturbing;
  const { replica, pid, owner, runs } = await stopInHand(house, preferred, chance);
  house.forget(replica);
  const since = performance.now();
  process.kill(pid, 'SIGKILL');
  const took = await untilElsewhere(disturbing, runs, since);
  figures.takeovers.push(...took);
  return `SIGKILL of ${replica + 1} (${owner}) with ${runs.length} in hand: another goes on after ${told(took)}`;
}

/** A job of pg-boss that was handed out, of a run that nobody has in hand. */
interface Job {
  readonly id: string;
  readonly attempt: number;
}

async function killBlind(disturbing: Disturbing, preferred: number): Promise<string> {
  const { house, figures } = disturbing;
  const replica = house.ownerOf(preferred) === null ? house.serving()[0] : preferred;
  const pid = replica === undefined ? null : house.setting.pid('serve', replica);
  const owner = replica === undefined ? null : house.ownerOf(replica);
  if (replica === undefined || pid === null || owner === null) return 'nobody to kill';
  house.forget(replica);
  const since = performance.now();
  process.kill(pid, 'SIGKILL');
  const [runs, jobs] = await Promise.all([
    house.held(owner),
    house.query<Job>(
      `select j.id, j.retry_count as attempt from pgboss.job j join runs r on r.id = j.singleton_key where j.state = 'active' and r.owner is null`,
    ),
  ]);
  const took = runs.length === 0 ? [] : await untilElsewhere(disturbing, runs, since);
  figures.takeovers.push(...took);
  let left = jobs;
  await house.proof.until('what was handed to a dead controller is handed to another', GOES_ON_SECONDS, async () => {
    const now = await house.query<Job>(`select id, retry_count as attempt from pgboss.job where state = 'active' and id = any($1::uuid[])`, [
      left.map(({ id }) => id),
    ]);
    left = left.filter((job) => now.some(({ id, attempt }) => id === job.id && attempt === job.attempt));
    return left.length === 0 ? true : null;
  });
  if (jobs.length > 0) figures.gaps.push(performance.now() - since);
  return `SIGKILL of ${replica + 1} (${owner}), whatever it did: ${runs.length === 0 ? 'nothing in hand' : `another goes on after ${told(took)}`}`;
}

async function freeze(disturbing: Disturbing, { replica, seconds, between }: Extract<Disturbance, { kind: 'freeze' }>): Promise<string> {
  const { house, figures, chance } = disturbing;
  const caught = between === 'nothing' ? null : await stopBetween(house, between);
  const stopped = caught ?? (await stopInHand(house, replica, chance));
  const since = performance.now();
  if (caught !== null) figures.between += 1;
  const took = await untilElsewhere(disturbing, stopped.runs, since);
  figures.freezes.push(...took);
  const left = seconds * 1000 - (performance.now() - since);
  if (left > 0) await pause(left, null, { signal: house.proof.signal });
  process.kill(stopped.pid, 'SIGCONT');
  const where = caught === null ? '' : ` between a read of ${between} and its act`;
  return `SIGSTOP of ${stopped.replica + 1}${where} with ${stopped.runs.length} in hand: another goes on after ${told(took)}; SIGCONT after ${((performance.now() - since) / 1000).toFixed(1)} s`;
}

/** The reads that stand before an act, and the receipt that the act is for; the one before it is there. */
const READS = {
  kms: { request: /^POST \/ TrentService\.ListKeys$/, step: 'create-key', after: null },
  kubernetes: { request: /^GET \/apis\/apps\/v1\/namespaces\/[^/]+\/deployments\/[^/?]+/, step: 'patch-template', after: 'confirm-published' },
} as const;

/** Stops a controller when the answer to such a read is behind its gate, and lets the answer through then: it lies ready when the process wakes. */
async function stopBetween(house: House, where: keyof typeof READS): Promise<Stopped | null> {
  const { request, step, after } = READS[where];
  const deadline = performance.now() + READ_SECONDS * 1000;
  while (performance.now() < deadline) {
    const first = await firstAnswer(house, where, request, deadline - performance.now());
    if (first === null) return null;
    const { replica, answer } = first;
    const pid = house.setting.pid('serve', replica);
    const owner = house.ownerOf(replica);
    if (pid !== null && owner !== null) {
      process.kill(pid, 'SIGSTOP');
      const runs = await house.held(owner);
      const due = await house.query(
        `select 1 from runs r where r.id = any($1) and r.workflow = 'adopt-revision' and not exists (select 1 from receipts c where c.run = r.id and c.step = $2)
           and ($3::text is null or exists (select 1 from receipts c where c.run = r.id and c.step = $3))`,
        [runs.map(({ id }) => id), step, after],
      );
      answer.release();
      if (due.length > 0) return { replica, pid, owner, runs };
      process.kill(pid, 'SIGCONT');
    } else answer.release();
  }
  return null;
}

/** The first answer of this kind to any controller; null: there was none in time. Those that come at the same moment go through. */
async function firstAnswer(house: House, where: keyof typeof READS, request: RegExp, milliseconds: number) {
  let chosen: HeldAnswer | null = null;
  const answers = Array.from({ length: REPLICAS }, async (_, replica) => {
    const answer = await (house.gates[replica]?.[where].holdAt(request) ?? Promise.reject(new Error('no gate')));
    if (chosen === null) chosen = answer;
    else answer.release();
    return { replica, answer };
  });
  const late = pause(milliseconds, null, { signal: house.proof.signal });
  const first = await Promise.race([...answers, late]);
  for (const gates of house.gates) void gates[where].holdAt(null);
  return first;
}

/** The first process of the lab's PostgreSQL ends, as by a crash (SIGQUIT) or by a shutdown (SIGINT), and comes back after a while. */
async function restart(disturbing: Disturbing, signal: 'SIGQUIT' | 'SIGINT', goneSeconds: number): Promise<string> {
  const { house, figures, stack } = disturbing;
  const { proof, setting, database } = house;
  const folder = join(setting.folder, 'postgres');
  const lockFile = join(folder, 'data', 'postmaster.pid');
  const runs = await house.held();
  process.kill(Number((await readFile(lockFile, 'utf8')).split('\n')[0]), signal);
  database.set('gone');
  await proof.until('PostgreSQL has ended', STOP_SECONDS, () => (existsSync(lockFile) ? null : true));
  await pause(goneSeconds * 1000, null, { signal: proof.signal });
  // At its old address, also for those who go past the gate: the far sides follow its clock.
  const postgres: Postgres = await openPostgres({ folder, port: Number(new URL(database.behind()).port) });
  stack.defer(postgres.close);
  database.set('open', postgres.url);
  const since = performance.now();
  // Any look will do: also by the one that had it in hand before.
  const anew = runs.map((run) => ({ ...run, owner: '' }));
  const took = runs.length === 0 ? [] : await untilElsewhere(disturbing, anew, since);
  figures.returns.push(...took);
  return `${signal} of PostgreSQL, gone for ${goneSeconds.toFixed(1)} s, with ${runs.length} in hand: they go on ${told(took)} after its return`;
}

async function end(disturbing: Disturbing, preferred: number): Promise<string> {
  const { house, figures, chance } = disturbing;
  const { replica, pid, runs } = await stopInHand(house, preferred, chance);
  house.forget(replica);
  process.kill(pid, 'SIGTERM');
  const since = performance.now();
  process.kill(pid, 'SIGCONT');
  const ended = house.proof.until('a controller that was told to end has ended', GOES_ON_SECONDS, () =>
    house.setting.pid('serve', replica) === pid ? null : performance.now() - since,
  );
  const took = await untilElsewhere(disturbing, runs, since, true);
  figures.handovers.push(...took);
  const exit = await ended;
  figures.exits.push(exit);
  await house.proof.until('its exit code is known', GOES_ON_SECONDS, () => (house.setting.lastExit(replica) === undefined ? null : true));
  await house.untilServing(REPLICAS);
  figures.codes.push(house.setting.lastExit(replica));
  return `SIGTERM of ${replica + 1} with ${runs.length} in hand: let go of after ${told(took)}, ended after ${Math.round(exit)} ms`;
}

/** While nothing rolls: evidence of pods that were just moved would be a month old, and they would be waited for until they restart. */
async function due({ house, stream }: Disturbing): Promise<string> {
  await stream.quietly(async () => {
    const isQuiet = async () => ((await house.query(`select 1 from runs where ${UNDER_WAY}`)).length === 0 ? true : null);
    await house.proof.until('nothing is under way', QUIET_SECONDS, isQuiet).catch(async (thrown: unknown) => {
      for (const run of await openRuns(house)) house.proof.note(tellWaiting(run));
      throw thrown;
    });
    await moveClock(house.database.url, DUE_DAYS * DAY_SECONDS);
    stream.moved.seconds += DUE_DAYS * DAY_SECONDS;
  });
  return `the clock is moved on by ${DUE_DAYS} days`;
}

function told(milliseconds: readonly number[]): string {
  return milliseconds.length === 0 ? '-' : `${milliseconds.map((each) => Math.round(each)).join(', ')} ms`;
}
