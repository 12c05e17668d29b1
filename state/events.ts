import type { Json } from '#src/domain/json.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { storableJson } from './text.ts';

/** A thing that happened, for people and machines that watch (DESIGN §9, *Events*). */
export interface Event {
  readonly event: string;
  readonly run: string | null;
  readonly workload: string | null;
  readonly body: Readonly<Record<string, Json>>;
}

/** Appends an event in the caller's transaction, and tells who listens on `keyturn_event`. */
export function appendEvent(tx: Db, event: Event): Promise<void> {
  return appendEvents(tx, [event]);
}

/** The same for several, in their order. */
export async function appendEvents(tx: Db, events: readonly Event[]): Promise<void> {
  const column = <N extends keyof Event>(name: N): readonly Event[N][] => events.map((event) => event[name]);
  await tx.query(
    `with stored as (
       insert into events (event, run, workload, body)
       select event, run, workload, body from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[]) with ordinality as given (event, run, workload, body, place)
       order by place
     ) select pg_notify('keyturn_event', '')`,
    [column('event'), column('run'), column('workload'), column('body').map((body) => JSON.stringify(storableJson(body)))],
  );
}

/** An event with its place in the log. */
export interface StoredEvent extends Event {
  readonly id: number;
  readonly at: Instant;
}

/** Reads the log as it grows. */
export interface EventTail {
  /** What was committed since the last call and not read yet, oldest first, at most `limit`: fewer, and for now there are no more. */
  readonly next: (limit: number) => Promise<readonly StoredEvent[]>;
}

/** An id that was drawn is waited for this long: no transaction of ours lives longer, and one that was rolled back leaves its id unused. */
const LATE_SECONDS = 60;
/** Ids waited for at once; the oldest are given up first. A database that crashed skips some dozens. */
const LATE_MAX = 1000;

/**
 * Reads every event after this id once. Ids are drawn before the commit, so that 10 may be read a moment
 * before 9 is there: ids that were skipped are asked for again until they are too old to come.
 */
export function openEventTail(db: Db, after: number): EventTail {
  let last = after;
  let late: ReadonlyMap<number, number> | null = null;
  return {
    next: async (limit) => {
      // Of the ids before it some may still be on their way.
      late ??= await absent(db, Math.max(0, after - LATE_MAX), after);
      const ids = [...late.keys()];
      const { rows } = await db.query<StoredEvent>('select id, at, event, run, workload, body from events where id > $1 or id = any($2) order by id limit $3', [
        last,
        ids,
        limit,
      ]);
      const highest = rows.at(-1)?.id ?? 0;
      late = stillLate(late, rows, last, highest);
      last = Math.max(last, highest);
      return rows;
    },
  };
}

async function absent(db: Db, from: number, to: number): Promise<ReadonlyMap<number, number>> {
  const { rows } = await db.query<{ id: number }>(
    'select id.id from generate_series($1::bigint, $2::bigint) id (id) where not exists (select 1 from events e where e.id = id.id)',
    [from + 1, to],
  );
  return new Map(rows.map(({ id }) => [id, performance.now()]));
}

/** What was waited for and did not come, with the ids that these rows skipped. */
function stillLate(before: ReadonlyMap<number, number>, rows: readonly StoredEvent[], last: number, highest: number): ReadonlyMap<number, number> {
  const now = performance.now();
  const read = new Set(rows.map(({ id }) => id));
  const late = new Map([...before].filter(([id, since]) => !read.has(id) && now - since < LATE_SECONDS * 1000));
  for (let id = Math.max(last + 1, highest - LATE_MAX); id < highest; id += 1) if (!read.has(id)) late.set(id, now);
  return new Map([...late].slice(-LATE_MAX));
}

/** The id of the newest event; 0 where there is none. */
export async function lastEvent(db: Db): Promise<number> {
  const { rows } = await db.query<{ id: number }>('select coalesce(max(id), 0) as id from events');
  return rows[0]?.id ?? 0;
}
