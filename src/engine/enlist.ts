import { randomUUID } from 'node:crypto';
import type { ConstructorOptions, PgBoss } from 'pg-boss';
import type { Instant } from '#src/instant.ts';
import type { Db } from '#state/database.ts';
import type { Timers } from './timers.ts';

/** Revocations and reinstatements never stand in line behind rotations. */
export type Queue = 'run' | 'revocation';

/** Both. */
export const QUEUES: readonly Queue[] = ['run', 'revocation'];

interface DueRow {
  readonly id: string;
  readonly workflow: string;
  /** Until it is due, on the database's own clock; not above 0: now. */
  readonly milliseconds: number;
  /** The moment on the database's own clock, which pg-boss counts by: in the lab `instant()` is set apart from it. */
  readonly machine_at: string;
}

/**
 * The due time lives in our row, and pg-boss is told it: its `upsert` changes only what it is given,
 * so that a wake for now would leave a job deferred by an hour where it is, and a look that defers
 * itself would push away a wake that came meanwhile. Claiming a run sets its due time to null.
 */
export async function enlistRuns(
  { boss, timers }: { readonly boss: PgBoss; readonly timers: Timers },
  tx: Db,
  runs: readonly string[],
  at: Instant | null,
  more: { readonly priority?: number } = {},
): Promise<void> {
  const { rows } = await tx.query<DueRow>(
    `with locked as (select id, wake_at as was from runs where id = any($1) and ended_at is null order by id for no key update)
     update runs set wake_at = least(was, coalesce($2, instant())) from locked where runs.id = locked.id
     returning runs.id, workflow, (extract(epoch from wake_at - instant()) * 1000)::double precision as milliseconds,
       to_char((clock_timestamp() + (wake_at - instant())) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as machine_at`,
    [runs, at],
  );
  const due = [...rows].sort((a, b) => (a.id < b.id ? -1 : 1));
  // Of one run alone it is always told: a wake must not rest on what another version wrote. So is a priority, which a job that waits has not.
  const late = due.length > 1 && more.priority === undefined ? await lateOf(tx, due, await insertJobs(boss, tx, due)) : null;
  for (const row of due) {
    const queue = queueOf(row.workflow);
    if (late === null || late.has(row.id))
      await boss.upsert(queue, { run: row.id }, { singletonKey: row.id, startAfter: startAfter(row), db: database(tx), ...more });
    timers.set(queue, row.milliseconds);
  }
}

/** One statement a queue for all that have no job waiting, instead of one a run. The runs that got one. */
async function insertJobs(boss: PgBoss, tx: Db, due: readonly DueRow[]): Promise<ReadonlySet<string>> {
  const inserted = new Set<string>();
  for (const queue of QUEUES) {
    const runs = new Map<string, DueRow>(due.filter(({ workflow }) => queueOf(workflow) === queue).map((row) => [randomUUID(), row]));
    if (runs.size === 0) continue;
    const jobs = [...runs].map(([id, row]) => ({ id, data: { run: row.id }, singletonKey: row.id, startAfter: startAfter(row) }));
    // Where one waits already, the unique index of a `stately` queue leaves the new one out.
    for (const id of (await boss.insert(queue, jobs, { returnId: true, db: database(tx) })) ?? []) inserted.add(runs.get(id)?.id ?? '');
  }
  return inserted;
}

/** Those whose job waits for a later moment than their row says, as all do whose time came by a move of the lab's clock. */
async function lateOf(tx: Db, due: readonly DueRow[], inserted: ReadonlySet<string>): Promise<ReadonlySet<string>> {
  const asked = due.filter(({ id }) => !inserted.has(id));
  const { rows } = await tx.query<{ id: string }>(
    `select distinct job.singleton_key as id from pgboss.job join unnest($2::text[], $3::timestamptz[]) as due (run, at) on due.run = job.singleton_key
     where job.name = any($1) and job.state = 'created' and job.start_after > greatest(due.at, now())`,
    [QUEUES, asked.map(({ id }) => id), asked.map(({ machine_at }) => machine_at)],
  );
  return new Set(rows.map(({ id }) => id));
}

/** 0 is counted from the transaction's start, so that it is due already and notifies. */
function startAfter({ milliseconds, machine_at }: DueRow): string | number {
  return milliseconds <= 0 ? 0 : machine_at;
}

/** The caller's transaction, as pg-boss takes it. */
export function database(tx: Db): NonNullable<ConstructorOptions['db']> {
  return { executeSql: (text, values) => tx.query(text, values === undefined ? [] : [...values]) };
}

function queueOf(workflow: string): Queue {
  return workflow === 'revoke' || workflow === 'reinstate' ? 'revocation' : 'run';
}
