import { randomBytes } from 'node:crypto';
import type { Digest } from '#src/digest.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Run, Subject } from '#src/domain/run.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** Puts a wake for a run into the caller's transaction; `at` null: now. Implemented over pg-boss (`engine/wake.ts`). */
export type Enlist = (tx: Db, run: string, at: Instant | null) => Promise<void>;

interface RunRow {
  readonly id: string;
  readonly workflow: string;
  readonly revision: number | null;
  readonly revocation: Digest | null;
  readonly workload: string;
  readonly cause: string | null;
  readonly claim: number;
  readonly generations: Record<string, number>;
  readonly waiting_for: Reason | null;
  readonly about: string | null;
  readonly since: Instant | null;
  readonly failures: number;
  readonly deadline: Instant | null;
}

const COLUMNS = 'id, workflow, revision, revocation, workload, cause, claim, generations, waiting_for, about, since, failures, deadline';

/** A run in the hands of its claimer. */
export interface Claimed {
  readonly run: Run;
  /** Looks in a row with the same answer. */
  readonly failures: number;
  readonly deadline: Instant | null;
}

/** Draws a run's id. */
export function drawRunId(): string {
  return `r-${randomBytes(8).toString('hex')}`;
}

/** Stores a run; its subject is a revision. */
export async function insertRun(tx: Db, run: { id: string; workflow: string; revision: number; workload: string; cause: string | null }): Promise<void> {
  await tx.query('insert into runs (id, workflow, revision, workload, cause) values ($1, $2, $3, $4, $5)', [
    run.id,
    run.workflow,
    run.revision,
    run.workload,
    run.cause,
  ]);
}

/** Stores the run that carries out a revocation. `workload`: `*` where it touches several, or none that we know. */
export async function insertRevokeRun(
  tx: Db,
  run: { readonly revocation: Digest; readonly workload: string; readonly generations: Readonly<Record<string, number>> },
): Promise<string> {
  const id = drawRunId();
  await tx.query(`insert into runs (id, workflow, revocation, workload, generations) values ($1, 'revoke', $2, $3, $4)`, [
    ...[id, run.revocation, run.workload, run.generations],
  ]);
  return id;
}

/**
 * Stores a run that is over already: a chain for the receipts of something that no workflow carries out. Nobody looks at it. `workload`:
 * `*` where it is about all.
 */
export async function insertChain(tx: Db, workflow: 'hold' | 'let-go', workload: string): Promise<string> {
  const id = drawRunId();
  await tx.query('insert into runs (id, workflow, workload, wake_at, ended_at) values ($1, $2, $3, null, instant())', [id, workflow, workload]);
  return id;
}

/** The last claimer wins: everybody before is fenced from here on. null: ended, or no such run. */
export async function claimRun(db: Db, id: string, owner: string): Promise<Claimed | null> {
  const { rows } = await db.query<RunRow>(
    `update runs set claim = claim + 1, owner = $2, wake_at = null where id = $1 and ended_at is null returning ${COLUMNS}`,
    [id, owner],
  );
  return rows[0] === undefined ? null : claimedOf(rows[0]);
}

/** The run again, while the claim is still this one; null: fenced. `lock` holds it until the transaction ends. */
export async function refreshRun(db: Db, run: Run, lock = false): Promise<Claimed | null> {
  const { rows } = await db.query<RunRow>(`select ${COLUMNS} from runs where id = $1 and claim = $2 and ended_at is null${lock ? ' for no key update' : ''}`, [
    run.id,
    run.claim,
  ]);
  return rows[0] === undefined ? null : claimedOf(rows[0]);
}

/** Whether the claim is still this one. */
export async function stillMine(db: Db, run: Run, lock: 'none' | 'share' = 'none'): Promise<boolean> {
  const { rowCount } = await db.query(`select 1 from runs where id = $1 and claim = $2 and ended_at is null${lock === 'share' ? ' for share' : ''}`, [
    run.id,
    run.claim,
  ]);
  return rowCount === 1;
}

/** The database's clock, where the claim is still this one; null: fenced. */
export async function instantOfMine(db: Db, run: Run): Promise<Instant | null> {
  const { rows } = await db.query<{ at: Instant }>('select instant() as at from runs where id = $1 and claim = $2 and ended_at is null', [run.id, run.claim]);
  return rows[0]?.at ?? null;
}

function claimedOf(row: RunRow): Claimed {
  return { run: runOf(row), failures: row.failures, deadline: row.deadline };
}

function runOf(row: RunRow): Run {
  const { id, workflow, workload, cause, claim, generations, about, since } = row;
  return { id, workflow, subject: subjectOf(row), workload, cause, claim, generations, waitingFor: row.waiting_for, about, since };
}

function subjectOf(row: RunRow): Subject {
  if (row.revision !== null) return { kind: 'revision', revision: row.revision };
  if (row.revocation !== null) return { kind: 'revocation', revocation: row.revocation };
  throw new Error(`run ${row.id} is about nothing`);
}

/** Why a run rests. */
export interface Rest {
  readonly step: string;
  readonly waitingFor: Reason;
  readonly about: string;
  readonly nextRetryAt: Instant;
}

/**
 * Writes down what a run waits for. `since` and `failures` go on while the answer stays the same and
 * start anew with any other. false: fenced.
 */
export async function restRun(tx: Db, run: Run, rest: Rest): Promise<boolean> {
  const { rowCount } = await tx.query(
    `update runs set owner = null, step = $3, waiting_for = $4, about = $5, next_retry_at = $6,
       since = case when waiting_for = $4 and about = $5 and since is not null then since else instant() end,
       failures = case when waiting_for = $4 and about = $5 then failures + 1 else 1 end
     where id = $1 and claim = $2 and ended_at is null`,
    [run.id, run.claim, rest.step, rest.waitingFor, rest.about, rest.nextRetryAt],
  );
  return rowCount === 1;
}

/** Clears what a run waited for, after a step was done. */
export async function advanceRun(tx: Db, run: Run, change: { generations: Readonly<Record<string, number>>; deadline: Instant | null }): Promise<void> {
  await tx.query(
    `update runs set waiting_for = null, about = null, since = null, step = null, next_retry_at = null, failures = 0,
       progress = null, generations = generations || $2, deadline = coalesce($3, deadline) where id = $1`,
    [run.id, change.generations, change.deadline],
  );
}

/** Notes how far a run's long work is, while the claim is still this one. `since`: when this piece of work began. */
export async function noteProgress(db: Db, run: Run, { doneBytes, totalBytes }: { readonly doneBytes: number; readonly totalBytes: number }): Promise<void> {
  await db.query(
    `update runs set progress = jsonb_build_object('doneBytes', $3::bigint, 'totalBytes', $4::bigint, 'at', instant(),
       'since', coalesce(case when (progress ->> 'doneBytes')::bigint <= $3 then progress -> 'since' end, to_jsonb(instant())))
     where id = $1 and claim = $2 and ended_at is null`,
    [run.id, run.claim, doneBytes, totalBytes],
  );
}

/** Ends a run. */
export async function endRun(tx: Db, id: string): Promise<void> {
  await tx.query(
    'update runs set ended_at = instant(), owner = null, waiting_for = null, about = null, since = null, next_retry_at = null, deadline = null where id = $1 and ended_at is null',
    [id],
  );
}

/** The open run of a workflow on a revision; null where there is none. */
export async function openRun(db: Db, workflow: string, revision: number): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>('select id from runs where workflow = $1 and revision = $2 and ended_at is null', [workflow, revision]);
  return rows[0]?.id ?? null;
}

/** The ids of all open runs, of one workload where given, oldest first. */
export async function openRuns(db: Db, workload: string | null = null): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    'select id from runs where ended_at is null and ($1::text is null or workload = $1) order by created_at, id',
    [workload],
  );
  return rows.map((row) => row.id);
}

/** One change of a workload at a time: its runs wake each other, and would deadlock on their rows. */
export function lockWorkload(tx: Db, workload: string): Promise<void> {
  return lockWorkloads(tx, [workload]);
}

/**
 * The same for several at once. All their open runs are locked with them, in the order of their ids: who
 * wakes many runs together (`enlistMany`) takes them in that order and asks for no workload. Always *for
 * no key update*: a row that is updated twice in one transaction has its foreign key checked again, and
 * that check would wait for a *for update* on the run that caused it.
 */
export async function lockWorkloads(tx: Db, workloads: readonly string[]): Promise<void> {
  for (const workload of [...workloads].sort()) await tx.query(`select pg_advisory_xact_lock(hashtextextended('workload/' || $1, 0))`, [workload]);
  await tx.query('select id from runs where workload = any($1) and ended_at is null order by id for no key update', [workloads]);
}

/** Fences whoever holds an open run of the workload: its target may have moved. */
export async function fenceWorkload(tx: Db, workload: string): Promise<void> {
  await tx.query('update runs set claim = claim + 1 where workload = $1 and ended_at is null', [workload]);
}

/** Opens an ended adopt run again. */
export async function reviveRun(tx: Db, id: string): Promise<void> {
  await tx.query(
    'update runs set ended_at = null, claim = claim + 1, failures = 0, waiting_for = null, about = null, since = null, deadline = null where id = $1',
    [id],
  );
}

/** A run as it stands, ended or not; null: no such run. */
export async function readRun(db: Db, id: string): Promise<Run | null> {
  const { rows } = await db.query<RunRow>(`select ${COLUMNS} from runs where id = $1`, [id]);
  return rows[0] === undefined ? null : runOf(rows[0]);
}

/** Every workload that has a revision, by name. */
export async function workloads(db: Db): Promise<readonly string[]> {
  const { rows } = await db.query<{ workload: string }>('select distinct workload from revisions order by workload');
  return rows.map((row) => row.workload);
}

/** Open runs whose wake is overdue or was lost: the safety net of a resync. At most 1000, oldest first. */
export async function overdueRuns(db: Db): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select id from runs where ended_at is null and coalesce(next_retry_at, created_at) < instant() - interval '2 seconds' order by coalesce(next_retry_at, created_at) limit 1000`,
  );
  return rows.map((row) => row.id);
}

/** Open runs that wait for one of these. */
export async function runsWaitingFor(db: Db, reasons: readonly Reason[]): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>('select id from runs where ended_at is null and waiting_for = any($1) order by id', [reasons]);
  return rows.map((row) => row.id);
}

/** An open run in somebody's hand, as of a claim. */
export interface Held {
  readonly id: string;
  readonly owner: string;
  readonly claim: number;
}

/** Open runs that somebody has in hand just now. */
export async function runsInHand(db: Db): Promise<readonly Held[]> {
  const { rows } = await db.query<Held>('select id, owner, claim from runs where ended_at is null and owner is not null order by id');
  return rows;
}

/** A run that was taken out of a hand, and when it wants to be looked at; null: now, because its look was cut off. */
export interface Freed {
  readonly id: string;
  readonly at: Instant | null;
}

/** Takes runs out of whoever's hands, where nobody claimed them since (`claim` null: all the same), and fences whoever still believes to have them. */
export async function releaseRuns(tx: Db, held: readonly { readonly id: string; readonly claim: number | null }[]): Promise<readonly Freed[]> {
  const { rows } = await tx.query<Freed>(
    `with given as (select id, claim from unnest($1::text[], $2::bigint[]) as given (id, claim)),
       locked as (select r.id, case when r.owner is null then r.wake_at end as at from runs r join given on given.id = r.id
         where r.ended_at is null and r.claim = coalesce(given.claim, r.claim) order by r.id for no key update of r)
     update runs set owner = null, claim = claim + 1 from locked where runs.id = locked.id returning runs.id, locked.at`,
    [held.map(({ id }) => id), held.map(({ claim }) => claim)],
  );
  return rows;
}

/** Takes the runs out of a dead replica's hands, and fences it. */
export async function releaseOwner(tx: Db, owner: string): Promise<readonly Freed[]> {
  const { rows } = await tx.query<{ id: string }>(
    `update runs set owner = null, claim = claim + 1 where id in (select id from runs where owner = $1 and ended_at is null order by id for no key update) returning id`,
    [owner],
  );
  return rows.map(({ id }) => ({ id, at: null }));
}
