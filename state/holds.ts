import type { Json } from '#src/domain/json.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { appendEvent } from './events.ts';
import { appendReceipt } from './receipts.ts';
import { insertChain, lockWorkload } from './runs.ts';

/** What is held: one run (a rotation with all runs that it caused), all runs of one workload, or all of the installation. */
export type HoldSubject = { readonly kind: 'run'; readonly run: string } | { readonly kind: 'workload'; readonly workload: string } | { readonly kind: 'all' };

/** A hold that was not lifted. */
export interface Hold {
  readonly subject: HoldSubject;
  readonly why: string;
  /** Who, in their own words: it is noted, not proven. */
  readonly by: string;
  readonly at: Instant;
  /** The run whose receipts tell of it: `hold`, later `resume`. */
  readonly chain: string;
}

/** Who stops something, or lets it go on, and why. */
export interface HoldOrder {
  readonly subject: HoldSubject;
  readonly why: string;
  readonly by: string;
}

/** Puts wakes for now into the caller's transaction (`engine/wake.ts`). */
export type WakeAll = (tx: Db, runs: readonly string[]) => Promise<void>;

interface Row {
  readonly kind: HoldSubject['kind'];
  readonly subject: string;
  readonly why: string;
  readonly by: string;
  readonly at: Instant;
  readonly chain: string;
}

const COLUMNS = 'h.kind, h.subject, h.why, h.held_by as by, h.at, h.chain';

/**
 * The runs `r` that a hold `h` stops. Never a revocation's work: its own run, or the run that takes
 * away a revision which was revoked. The keeper, the deny-list and the sweeper ask no hold.
 */
const STOPS = `(h.kind = 'all' or (h.kind = 'workload' and h.subject = r.workload) or (h.kind = 'run' and h.subject in (r.id, r.cause)))
  and r.revocation is null
  and not (r.workflow = 'retire-revision' and exists (select 1 from revisions v where v.id = r.revision and v.revoked_by is not null))`;

/** What stops a run now, the oldest first; null: nothing. */
export async function holdOn(db: Db, run: string): Promise<Hold | null> {
  const { rows } = await db.query<Row>(`select ${COLUMNS} from runs r join holds h on h.lifted_at is null and ${STOPS} where r.id = $1 order by h.id limit 1`, [
    run,
  ]);
  return rows[0] === undefined ? null : holdOf(rows[0]);
}

/** Every hold that was not lifted, oldest first. */
export async function openHolds(db: Db): Promise<readonly Hold[]> {
  const { rows } = await db.query<Row>(`select ${COLUMNS} from holds h where h.lifted_at is null order by h.id`);
  return rows.map(holdOf);
}

/** A hold in the words of a log line. */
export function aboutHold({ subject, by, at, why }: Hold): string {
  return `${subjectName(subject)}, by ${by} since ${at}: ${why}`;
}

/** What is held, in the words of a log line. */
export function subjectName(subject: HoldSubject): string {
  switch (subject.kind) {
    case 'run':
      return subject.run;
    case 'workload':
      return subject.workload;
    case 'all':
      return 'everything';
  }
}

/** What became of an order to hold: `held`, and which runs it stops; it was held `already`; or there is nothing of that name, or nothing left to stop. */
export type Held =
  | { readonly kind: 'held' | 'already'; readonly hold: Hold; readonly stops: readonly string[] }
  | { readonly kind: 'unknown'; readonly what: string };

/**
 * Stops all runs of the subject, in the caller's transaction: the row, its receipt, its event, and a fence, so that whoever is in the
 * middle of a step does not act once this is committed. What was sent already may still land. Runs that come later are stopped by the row.
 */
export async function holdRuns(tx: Db, { subject, why, by }: HoldOrder, wakeAll: WakeAll): Promise<Held> {
  const workload = await lockSubject(tx, subject);
  if (workload === null) return { kind: 'unknown', what: unknownName(subject) };
  const before = await openHold(tx, subject);
  if (before !== null) return { kind: 'already', hold: before, stops: await stoppedBy(tx, before) };
  const chain = await insertChain(tx, 'hold', workload);
  const { rows } = await tx.query<{ at: Instant }>('insert into holds (kind, subject, chain, why, held_by) values ($1, $2, $3, $4, $5) returning at', [
    subject.kind,
    nameOf(subject),
    chain,
    why,
    by,
  ]);
  if (rows[0] === undefined) throw new Error('insert … returning gave no row');
  const hold: Hold = { subject, why, by, at: rows[0].at, chain };
  const stops = await stoppedBy(tx, hold);
  await tx.query('update runs set claim = claim + 1 where id = any($1)', [stops]);
  await tell(tx, 'hold', hold, { why, by, stops: [...stops] });
  await wakeAll(tx, stops);
  return { kind: 'held', hold, stops };
}

/** Lifts the hold of exactly this subject, in the caller's transaction, and wakes what it stopped. null: it is not held. */
export async function resumeRuns(
  tx: Db,
  { subject, why, by }: HoldOrder,
  wakeAll: WakeAll,
): Promise<{ readonly hold: Hold; readonly goOn: readonly string[] } | null> {
  if ((await lockSubject(tx, subject)) === null) return null;
  const hold = await openHold(tx, subject);
  if (hold === null) return null;
  const goOn = await stoppedBy(tx, hold);
  await tx.query('update holds set lifted_at = instant(), lifted_by = $2, lifted_why = $3 where chain = $1', [hold.chain, by, why]);
  await tell(tx, 'resume', hold, { why, by, heldSince: hold.at, goOn: [...goOn] });
  await wakeAll(tx, goOn);
  return { hold, goOn };
}

/** Receipt and event of what a person said. */
async function tell(tx: Db, step: 'hold' | 'resume', { subject, chain }: Hold, said: Readonly<Record<string, Json>>): Promise<void> {
  const evidence = { subject: { ...subject }, ...said };
  await appendReceipt(tx, { run: chain, step, facts: {}, evidence, proof: 'observed', verdicts: [], kept: [], moves: null });
  const workload = subject.kind === 'workload' ? subject.workload : null;
  const run = subject.kind === 'run' ? subject.run : null;
  await appendEvent(tx, { event: step === 'hold' ? 'held' : 'resumed', run, workload, body: { ...evidence, chain } });
}

/**
 * Holds still what the subject stands for, and gives the workload of its chain; null: there is nothing
 * of that name. For all, the table: a run that is inserted and claimed meanwhile, in a transaction that
 * we cannot see yet, would act behind the fence. Before any other lock, since others take it row by row.
 */
async function lockSubject(tx: Db, subject: HoldSubject): Promise<string | null> {
  if (subject.kind === 'all') {
    await tx.query('lock table runs in exclusive mode');
    return '*';
  }
  const { rows } =
    subject.kind === 'run'
      ? await tx.query<{ workload: string }>(`select workload from runs where id = $1 and workflow not in ('hold', 'let-go')`, [subject.run])
      : await tx.query<{ workload: string }>('select workload from revisions where workload = $1 limit 1', [subject.workload]);
  const workload = rows[0]?.workload ?? null;
  if (workload !== null) await lockWorkload(tx, workload);
  return workload;
}

async function openHold(tx: Db, subject: HoldSubject): Promise<Hold | null> {
  const { rows } = await tx.query<Row>(`select ${COLUMNS} from holds h where h.lifted_at is null and h.kind = $1 and h.subject = $2`, [
    subject.kind,
    nameOf(subject),
  ]);
  return rows[0] === undefined ? null : holdOf(rows[0]);
}

async function stoppedBy(tx: Db, { chain }: Hold): Promise<readonly string[]> {
  const { rows } = await tx.query<{ id: string }>(`select r.id from runs r join holds h on h.chain = $1 and ${STOPS} where r.ended_at is null order by r.id`, [
    chain,
  ]);
  return rows.map(({ id }) => id);
}

function nameOf(subject: HoldSubject): string {
  return subject.kind === 'all' ? '*' : subjectName(subject);
}

function unknownName(subject: HoldSubject): string {
  return subject.kind === 'workload' ? `no revision of a workload ${subject.workload}` : `no run ${subjectName(subject)}`;
}

function holdOf({ kind, subject, why, by, at, chain }: Row): Hold {
  const subjects: Readonly<Record<Row['kind'], HoldSubject>> = {
    run: { kind: 'run', run: subject },
    workload: { kind: 'workload', workload: subject },
    all: { kind: 'all' },
  };
  return { subject: subjects[kind], why, by, at, chain };
}
