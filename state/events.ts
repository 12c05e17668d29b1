import type { Json } from '#src/domain/json.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** A thing that happened, for people and machines that watch (DESIGN §9, *Events*). */
export interface Event {
  readonly event: string;
  readonly run: string | null;
  readonly workload: string | null;
  readonly body: Readonly<Record<string, Json>>;
}

/** Appends an event in the caller's transaction, and tells who listens on `keyturn_event`. */
export async function appendEvent(tx: Db, event: Event): Promise<void> {
  await tx.query('insert into events (event, run, workload, body) values ($1, $2, $3, $4)', [event.event, event.run, event.workload, event.body]);
  await tx.query(`select pg_notify('keyturn_event', '')`);
}

/** An event with its place in the log. */
export interface StoredEvent extends Event {
  readonly id: number;
  readonly at: Instant;
}

/** Events after this id, oldest first, at most `limit`. */
export async function eventsAfter(db: Db, id: number, limit: number): Promise<readonly StoredEvent[]> {
  const { rows } = await db.query<StoredEvent>('select id, at, event, run, workload, body from events where id > $1 order by id limit $2', [id, limit]);
  return rows;
}

/** The id of the newest event; 0 where there is none. */
export async function lastEvent(db: Db): Promise<number> {
  const { rows } = await db.query<{ id: number }>('select coalesce(max(id), 0) as id from events');
  return rows[0]?.id ?? 0;
}
