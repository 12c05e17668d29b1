import { expect, test } from 'vitest';
import { isFault } from '#src/errors.ts';
import { clockOf, isCommitUnknown, openDatabase, transaction } from '#state/database.ts';
import { withDatabase } from '#test/postgres.ts';

const MARKS = 'create table marks (name text primary key)';

test('instants, whole numbers and numerics come back in our own forms', async () => {
  await withDatabase(async (pool) => {
    const { rows } = await pool.query(`select '2026-11-23 10:11:12.5+00'::timestamptz as at, 7::bigint as whole, 1.50::numeric as exact,
      array['2026-11-23 10:11:12+05:30'::timestamptz, null] as ats, array[1,2]::bigint[] as wholes, null::timestamptz as never`);
    expect(rows).toEqual([
      {
        at: '2026-11-23T10:11:12.500Z',
        whole: 7,
        exact: '1.50',
        ats: ['2026-11-23T04:41:12.000Z', null],
        wholes: [1, 2],
        never: null,
      },
    ]);
    await expect(pool.query('select 9007199254740993 as big')).rejects.toThrow(RangeError);
  });
});

test('the clock is the database’s, and moves with the installation’s offset', async () => {
  await withDatabase(async (pool) => {
    const clock = clockOf(pool);
    const before = await clock();
    expect(before).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    await pool.query(`update installation set clock_offset = '40 days'`);
    expect((Date.parse(await clock()) - Date.parse(before)) / 86_400_000).toBeCloseTo(40, 1);
  });
});

test('what throws in a transaction leaves nothing behind', async () => {
  await withDatabase(async (pool) => {
    await pool.query(MARKS);
    await expect(
      transaction(pool, async (tx) => {
        await tx.query(`insert into marks values ('a')`);
        throw new Error('no');
      }),
    ).rejects.toThrow();
    expect((await pool.query('select * from marks')).rows).toEqual([]);
    await transaction(pool, (tx) => tx.query(`insert into marks values ('b')`));
    expect((await pool.query('select name from marks')).rows).toEqual([{ name: 'b' }]);
  });
});

test('a transaction whose statement failed in silence is never taken for committed', async () => {
  await withDatabase(async (pool) => {
    await pool.query(MARKS);
    await expect(
      transaction(pool, async (tx) => {
        await tx.query(`insert into marks values ('a')`);
        await tx.query('select 1/0').catch(() => undefined);
      }),
    ).rejects.toThrow();
    expect((await pool.query('select * from marks')).rows).toEqual([]);
  });
});

test('a commit whose answer is lost says that nobody knows', async () => {
  await withDatabase(async (pool) => {
    await pool.query(MARKS);
    const lost = await transaction(pool, async (tx) => {
      await tx.query(`insert into marks values ('a')`);
      const { rows } = await tx.query('select pg_backend_pid() as pid');
      await pool.query('select pg_terminate_backend($1)', [rows[0].pid]);
    }).catch((thrown: unknown) => thrown);
    expect(isCommitUnknown(lost)).toBe(true);
    expect(isFault(lost) && lost.reason).toBe('Unreachable');
  });
});

test('sessions that the server ends do not end the process, and the pool goes on', async () => {
  await withDatabase(async (pool) => {
    const heard: Error[] = [];
    pool.on('error', (error) => heard.push(error));
    const killer = await pool.connect();
    await Promise.all([pool.query('select 1'), pool.query('select 1')]);
    await killer.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()');
    killer.release();
    await expect.poll(() => heard.length, { timeout: 5000 }).toBeGreaterThan(0);
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  });
});

test('a database that does not answer is a Fault, Unreachable', async () => {
  const pool = openDatabase({ url: 'postgresql://keyturn:x@127.0.0.1:1/none', poolSize: 1 });
  for (const call of [pool.query('select 1'), pool.connect(), transaction(pool, async () => undefined)]) {
    const thrown = await Promise.resolve(call).catch((error: unknown) => error);
    expect(isFault(thrown) && thrown.reason).toBe('Unreachable');
  }
  await pool.end();
});

test('a deadlock, and a lock that is not had in time, is a Conflict, which is asked again', async () => {
  await withDatabase(async (pool) => {
    await pool.query(MARKS);
    await pool.query(`insert into marks values ('a'), ('b')`);
    let waiting = 0;
    let meet = () => {};
    const both = new Promise<void>((resolve) => {
      meet = resolve;
    });
    const lock = async (first: string, second: string) =>
      transaction(pool, async (tx) => {
        await tx.query('select 1 from marks where name = $1 for update', [first]);
        waiting += 1;
        if (waiting === 2) meet();
        await both;
        await tx.query('select 1 from marks where name = $1 for update', [second]);
      });
    const results = await Promise.allSettled([lock('a', 'b'), lock('b', 'a')]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(results.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { name: 'Fault', reason: 'Conflict' } });

    await transaction(pool, async (tx) => {
      await tx.query('lock table marks');
      const late = transaction(pool, async (other) => {
        await other.query(`set local lock_timeout = '20ms'`);
        await other.query('select 1 from marks');
      });
      await expect(late).rejects.toMatchObject({ name: 'Fault', reason: 'Conflict' });
    });
  });
});

test('a mistake of ours stays what it is', async () => {
  await withDatabase(async (pool) => {
    await expect(pool.query('select nothing')).rejects.toMatchObject({ name: 'error', code: '42703' });
  });
});

test('a session that a test kept is told', async () => {
  const kept = withDatabase(async (pool) => {
    await pool.connect();
  });
  await expect(kept).rejects.toThrow('not released');
});
