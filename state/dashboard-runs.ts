/** A rotation's runs and their receipts, as the dashboard shows them: the receipts' evidence stays where it is. */
import { counting } from '#src/domain/fold.ts';
import type { Json } from '#src/domain/json.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { helpFor } from './status.ts';

/** Runs of a rotation: its own, and one for each revision that it takes away. */
const RUNS_SHOWN = 50;
/** A rotation causes retirements, and those the destruction of a key. */
export const CAUSES_MAX = 5;
/** A run has a dozen receipts, and four more for each time that it was reopened: its first, which stand for good, and its newest. */
const FIRST_SHOWN = 20;
const NEWEST_SHOWN = 100;

/** A run, and what it recorded. */
export interface RunView {
  readonly id: string;
  readonly workflow: string;
  readonly workload: string;
  /** Of the revision that it is about; null where it is about something else. */
  readonly serial: number | null;
  readonly epoch: number | null;
  /** That revision's own rotation. */
  readonly rotation: string | null;
  readonly step: string | null;
  readonly waitingFor: string | null;
  readonly about: string | null;
  readonly help: string | null;
  readonly since: Instant | null;
  readonly nextRetryAt: Instant | null;
  readonly deadline: Instant | null;
  /** Of long work that is in hand; null: none is. */
  readonly progress: Progress | null;
  readonly createdAt: Instant;
  readonly endedAt: Instant | null;
  /** In order; `total` says how many there are. */
  readonly receipts: readonly ReceiptView[];
  readonly total: number;
}

/** How far long work is. */
export interface Progress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** When this piece of work began, and when it was last heard of. */
  readonly since: Instant;
  readonly at: Instant;
}

/** A receipt, without its evidence. */
export interface ReceiptView {
  readonly run: string;
  readonly number: number;
  /** Its place in the log over all runs; null: the next head numbers it. */
  readonly seq: number | null;
  readonly step: string;
  readonly at: Instant;
  readonly digest: string;
  readonly proof: string | null;
  readonly moves: string | null;
  readonly facts: Json;
  /** The gates that answered yes for it. */
  readonly verdicts: readonly { readonly gate: string; readonly goodUntil: Instant | null }[];
  /** Why the run was reopened, or the release that amended it; null for a receipt that says no such thing. */
  readonly because: string | null;
  /** false: written before the last reopening, so that its step has to come about again. */
  readonly counts: boolean;
}

/** The runs of a rotation: its adopt run first, then those that it caused, and those on its revision (`id`) that nothing caused, as they began. */
export async function runsOf(db: Db, { id, rotation }: { readonly id: number; readonly rotation: string }): Promise<readonly RunView[]> {
  const { rows } = await db.query<BareRun>(
    `${RUN_ROWS} where u.id in (
       with recursive down as (
         select id, 1 as depth from runs where id = $1 or (revision = $2 and cause is null)
         union
         select c.id, depth + 1 from down join runs c on c.cause = down.id where depth < $4)
       select id from down)
     order by u.id <> $1, u.created_at, u.id limit $3`,
    [rotation, id, RUNS_SHOWN, CAUSES_MAX],
  );
  return withReceipts(db, rows);
}

/** The runs that carried a revocation out, and those that lifted it, as they began: by the digest of its document. */
export async function runsOfRevocation(db: Db, revocation: string): Promise<readonly RunView[]> {
  const { rows } = await db.query<BareRun>(`${RUN_ROWS} where u.revocation = $1 order by u.workflow = 'reinstate', u.created_at, u.id limit $2`, [
    revocation,
    RUNS_SHOWN,
  ]);
  return withReceipts(db, rows);
}

type BareRun = Omit<RunView, 'help' | 'receipts' | 'total'>;

const RUN_ROWS = `select u.id, u.workflow, u.workload, r.serial, s.epoch, r.rotation, u.step, u.waiting_for as "waitingFor", u.about, u.since,
    coalesce(u.next_retry_at, u.wake_at) as "nextRetryAt", u.deadline, u.progress, u.created_at as "createdAt", u.ended_at as "endedAt"
  from runs u left join revisions r on r.id = u.revision left join sealings s on s.id = r.sealing`;

async function withReceipts(db: Db, rows: readonly BareRun[]): Promise<readonly RunView[]> {
  const receipts = await receiptsOf(
    db,
    rows.map((run) => run.id),
  );
  return rows.map((run) => {
    const { shown = [], total = 0 } = receipts.get(run.id) ?? {};
    return { ...run, help: helpFor(run.waitingFor), receipts: shown, total };
  });
}

interface ReceiptRow extends Omit<ReceiptView, 'counts'> {
  readonly total: number;
}

async function receiptsOf(db: Db, runs: readonly string[]): Promise<ReadonlyMap<string, { readonly shown: readonly ReceiptView[]; readonly total: number }>> {
  const { rows } = await db.query<ReceiptRow>(
    `select run, number, seq, step, at, digest, total, b ->> 'proof' as proof, b ->> 'moves' as moves, coalesce(b -> 'facts', '{}') as facts,
       coalesce(b #>> '{evidence,because}', case when step = 'amended' then b #>> '{evidence,path}' end) as because,
       coalesce((select jsonb_agg(jsonb_build_object('gate', v -> 'gate', 'goodUntil', v -> 'goodUntil')) from jsonb_array_elements(b -> 'verdicts') v), '[]') as verdicts
     from (select c.run, c.number, c.seq, c.step, c.at, c.digest, c.body::jsonb as b, count(*) over (partition by c.run) as total,
             row_number() over (partition by c.run order by c.number desc) as back from receipts c where c.run = any($1)) newest
     where number <= $2 or back <= $3 order by run, number`,
    [runs, FIRST_SHOWN, NEWEST_SHOWN],
  );
  const byRun = Map.groupBy(rows, ({ run }) => run);
  return new Map([...byRun].map(([run, own]) => [run, { shown: marked(own), total: own[0]?.total ?? 0 }]));
}

/** Which of a run's receipts count, as the engine folds them. */
function marked(rows: readonly ReceiptRow[]): readonly ReceiptView[] {
  const standing = new Set(counting(rows.map(({ number, step, at }) => ({ number, step, at, facts: {} }))).map(({ number }) => number));
  return rows.map(({ total: _, ...receipt }) => ({ ...receipt, counts: standing.has(receipt.number) }));
}
