import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import { type Db, transaction } from './database.ts';

/** How often a transaction that cannot wait looks for who stands in its way. Milliseconds. */
const LOOK_MILLISECONDS = 100;
/** A session that holds a transaction open and has asked nothing for so long stands still: between two statements of ours pass a few. Milliseconds. */
const STANDS_STILL_MILLISECONDS = 250;

/**
 * `transaction` for what cannot wait. A process that was frozen in the middle of a transaction keeps its locks until the
 * database gives it up, seconds later: here such a session is ended as soon as it blocks this one, directly or through
 * others. Nothing is lost by that: what it had written is rolled back, and it asks again when it wakes. Sessions that work are waited for.
 */
export async function insistent<T>(pool: pg.Pool, fn: (tx: pg.PoolClient) => Promise<T>): Promise<T> {
  const over = new AbortController();
  let looking: Promise<void> = Promise.resolve();
  try {
    return await transaction(pool, async (tx) => {
      const { rows } = await tx.query<{ pid: number }>('select pg_backend_pid() as pid');
      looking = endStalled(pool, rows[0]?.pid ?? 0, over.signal);
      return fn(tx);
    });
  } finally {
    over.abort();
    await looking;
  }
}

async function endStalled(db: Db, pid: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    await pause(LOOK_MILLISECONDS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    // Where that fails the transaction waits as any other does.
    await db
      .query(
        `with recursive blocking (pid) as (
           select unnest(pg_blocking_pids($1)) union select next.pid from blocking, unnest(pg_blocking_pids(blocking.pid)) as next (pid)
         )
         select pg_terminate_backend(a.pid) from pg_stat_activity a join blocking b on b.pid = a.pid
         where a.state like 'idle in transaction%' and a.usename = current_user and a.datname = current_database()
           and a.state_change < clock_timestamp() - $2 * interval '1 millisecond'`,
        [pid, STANDS_STILL_MILLISECONDS],
      )
      .catch(() => undefined);
  }
}
