/**
 * What the dashboard shows beside `status.ts`, from rows alone. Never read here: `resources`, tokens, and the digests
 * of sessions and tokens. Every list has an end, and every statement a time.
 */
import type pg from 'pg';
import type { Instant } from '#src/instant.ts';
import type { Progress } from './dashboard-runs.ts';
import { type Db, transaction } from './database.ts';
import { readStatus, type Status } from './status.ts';

/** A page that a person waits for; longer, and the database has more urgent work. Seconds. */
const STATEMENT_SECONDS = 5;
/** A run that was due this long ago, in nobody's hands, was not looked at: a resync comes every 30 seconds. Seconds. */
const OVERDUE_SECONDS = 120;
/** Open runs that are looked up: many times those that a page shows. */
const RUNS_READ = 10_000;
/** Rotations of a workload that a page lists, newest first. */
const ROTATIONS_SHOWN = 200;

/** Where everything stands, and whether anybody still looks at it. */
export interface Board {
  readonly status: Status;
  /** When the newest event was written; null: none was. */
  readonly newestEventAt: Instant | null;
  /** Open runs that were due some minutes ago and that nobody has in hand: the controller does not look. */
  readonly overdue: { readonly runs: number; readonly since: Instant | null };
  /** Of the open runs, by id: what they are about, and how far long work is. */
  readonly runs: ReadonlyMap<string, BoardRun>;
}

/** What the board tells of an open run beside its status. */
export interface BoardRun {
  /** Of its revision; null: it is about none. */
  readonly serial: number | null;
  readonly epoch: number | null;
  readonly progress: Progress | null;
}

/** One line of a workload's history. */
export interface PastRotation {
  readonly id: string;
  readonly serial: number;
  readonly epoch: number;
  readonly state: string;
  readonly withdrawn: boolean;
  readonly revoked: boolean;
  readonly acceptedAt: Instant;
  /** Of its adopt run; null: still open. */
  readonly endedAt: Instant | null;
}

/** A workload's rotations, newest first, ROTATIONS_SHOWN at most of `total`. */
export interface History {
  readonly at: Instant;
  readonly total: number;
  readonly rotations: readonly PastRotation[];
}

/**
 * Runs `fn` in a transaction that can only read, and that sees one state of the database throughout. A statement ends
 * after 5 seconds. Throws Fault where the database does not answer, or not in time.
 */
export function reading<T>(pool: pg.Pool, fn: (tx: Db) => Promise<T>): Promise<T> {
  return transaction(pool, async (tx) => {
    await tx.query('set transaction isolation level repeatable read, read only');
    await tx.query(`set local statement_timeout = ${STATEMENT_SECONDS * 1000}`);
    return fn(tx);
  });
}

/** Reads the board. */
export async function readBoard(db: Db): Promise<Board> {
  const status = await readStatus(db);
  const { rows } = await db.query<{ newest: Instant | null; runs: number; since: Instant | null }>(
    `select (select at from events order by id desc limit 1) as newest, o.runs, o.since
     from (select count(*) as runs, min(next_retry_at) as since from runs
           where ended_at is null and owner is null and next_retry_at < instant() - $1 * interval '1 second') o`,
    [OVERDUE_SECONDS],
  );
  const [row] = rows;
  const { rows: open } = await db.query<BoardRun & { id: string }>(
    `select u.id, r.serial, s.epoch, u.progress from runs u left join revisions r on r.id = u.revision left join sealings s on s.id = r.sealing
     where u.ended_at is null order by u.id limit $1`,
    [RUNS_READ],
  );
  const runs = new Map(open.map(({ id, ...run }) => [id, run]));
  return { status, newestEventAt: row?.newest ?? null, overdue: { runs: row?.runs ?? 0, since: row?.since ?? null }, runs };
}

/** Reads a workload's history; null: it never had a rotation. */
export async function readHistory(db: Db, workload: string): Promise<History | null> {
  const { rows: heads } = await db.query<{ at: Instant; total: number }>(
    'select instant() as at, (select count(*) from revisions where workload = $1) as total',
    [workload],
  );
  const [head] = heads;
  if (head === undefined || head.total === 0) return null;
  const { rows } = await db.query<PastRotation>(
    `select r.rotation as id, r.serial, s.epoch, r.state, r.withdrawn_by is not null as withdrawn, r.revoked_by is not null as revoked,
       r.accepted_at as "acceptedAt", u.ended_at as "endedAt"
     from revisions r join sealings s on s.id = r.sealing left join runs u on u.id = r.rotation
     where r.workload = $1 order by r.id desc limit $2`,
    [workload, ROTATIONS_SHOWN],
  );
  return { ...head, rotations: rows };
}
