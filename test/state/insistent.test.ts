import type pg from 'pg';
import { expect, it } from 'vitest';
import { insistent } from '#state/insistent.ts';
import { lockWorkload } from '#state/runs.ts';
import { withDatabase } from '#test/postgres.ts';

/** A session that holds the lock of a workload in an open transaction, and that the database never gives up by itself. */
async function holding(pool: pg.Pool, workload: string): Promise<{ readonly session: pg.PoolClient; readonly lost: Promise<Error> }> {
  const session = await pool.connect();
  const lost = new Promise<Error>((resolve) => session.once('error', resolve));
  await session.query('set idle_in_transaction_session_timeout = 0');
  await session.query('begin');
  await lockWorkload(session, workload);
  return { session, lost };
}

it('does not wait for a session that fell asleep over its lock, also where another waits in between', () =>
  withDatabase(async (pool) => {
    const asleep = await holding(pool, 'a');
    const between = await holding(pool, 'b');
    const waits = lockWorkload(between.session, 'a');
    // The one in between is at work: it waits for the lock that the sleeper holds, and lets go of its own once it had it.
    const ends = waits.then(() => between.session.query('commit'));
    await insistent(pool, (tx) => lockWorkload(tx, 'b'));
    expect((await asleep.lost).message).toBeTruthy();
    await ends;
    asleep.session.release(true);
    between.session.release(true);
  }));

it('waits for a session that works', () =>
  withDatabase(async (pool) => {
    const { session } = await holding(pool, 'a');
    const order: string[] = [];
    const works = session.query('select pg_sleep(0.7)').then(async () => {
      order.push('it worked');
      await session.query('commit');
    });
    await insistent(pool, async (tx) => {
      await lockWorkload(tx, 'a');
      order.push('its lock was had');
    });
    await works;
    expect(order).toEqual(['it worked', 'its lock was had']);
    session.release(true);
  }));

it('what is thrown inside is thrown, and nothing looks on afterwards', () =>
  withDatabase(async (pool) => {
    await expect(
      insistent(pool, async () => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    expect(pool.totalCount - pool.idleCount).toBe(0);
  }));
