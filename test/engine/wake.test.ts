import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type pg from 'pg';
import { expect, test } from 'vitest';
import { openHand } from '#src/engine/hand.ts';
import { openWake, type Wake } from '#src/engine/wake.ts';
import { type Instant, later } from '#src/instant.ts';
import { clockOf, transaction } from '#state/database.ts';
import { withDatabase } from '#test/postgres.ts';

/** A wake for now takes milliseconds, and a loaded machine gets many; a deferred one that is missed shows after an hour. */
const SOON = { timeout: 20_000, interval: 5 };
const HOUR = 3600;

interface Looks {
  readonly wake: Wake;
  readonly seen: readonly { readonly run: string; readonly milliseconds: number }[];
  /** The most looks at one run that were at work at once. */
  readonly overlap: () => number;
  /** Called in each look. */
  during: (run: string) => Promise<void>;
}

async function insertRuns(pool: pg.Pool, count: number, workflow = 'adopt-revision'): Promise<readonly string[]> {
  const ids = Array.from({ length: count }, (_, index) => `r-${index.toString(16).padStart(16, '0')}`);
  await pool.query(`insert into runs (id, workflow, workload, wake_at) select id, $2, 'chat', null from unnest($1::text[]) id`, [ids, workflow]);
  return ids;
}

/** A controller that claims, does what the test says, and rests. */
async function withLooks(pool: pg.Pool, url: string, fn: (looks: Looks) => Promise<void>, concurrency = 3): Promise<void> {
  const wake = await openWake({ pool, url, onError: () => undefined });
  const seen: { run: string; milliseconds: number }[] = [];
  const atWork = new Map<string, number>();
  let most = 0;
  const looks: Looks = { wake, seen, overlap: () => most, during: async () => undefined };
  const handler = async (run: string) => {
    atWork.set(run, (atWork.get(run) ?? 0) + 1);
    most = Math.max(most, atWork.get(run) ?? 0);
    seen.push({ run, milliseconds: performance.now() });
    await pool.query('update runs set wake_at = null where id = $1', [run]);
    await looks.during(run);
    atWork.set(run, (atWork.get(run) ?? 1) - 1);
  };
  try {
    for (const queue of ['run', 'revocation'] as const) await wake.work(queue, handler, { concurrency });
    await fn(looks);
  } finally {
    await wake.stop();
  }
}

const inAnHour = async (pool: pg.Pool): Promise<Instant> => later(await clockOf(pool)(), HOUR);

test('a wake for now is looked at now, though one in an hour is waiting already', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    await withLooks(pool, url, async ({ wake, seen }) => {
      await wake.wakeAt(run, await inAnHour(pool));
      await wake.wake(run);
      await expect.poll(() => seen.length, SOON).toBe(1);
    });
  });
});

test('a wake that comes during a look is followed by another look, though that look puts itself off by an hour', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    await withLooks(pool, url, async (looks) => {
      const { wake, seen } = looks;
      looks.during = async () => {
        if (seen.length === 1) await wake.wake(run);
        await wake.wakeAt(run, await inAnHour(pool));
      };
      await wake.wake(run);
      await expect.poll(() => seen.length, SOON).toBe(2);
    });
  });
});

test('wakes of one run never make two looks at once, and many of them make few looks', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    await withLooks(pool, url, async (looks) => {
      const { wake, seen } = looks;
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      looks.during = () => held;
      await wake.wake(run);
      await expect.poll(() => seen.length, SOON).toBe(1);
      await Promise.all(Array.from({ length: 12 }, () => wake.wake(run)));
      release();
      await expect.poll(() => seen.length, SOON).toBe(2);
      const { rows } = await pool.query(`select count(*)::int as left from pgboss.job where state in ('created', 'retry')`);
      expect(rows).toEqual([{ left: 0 }]);
      expect(looks.overlap()).toBe(1);
    });
  });
});

test('a wake goes with the caller’s transaction: none without its commit', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    await withLooks(pool, url, async ({ wake, seen }) => {
      const lost = transaction(pool, async (tx) => {
        await wake.enlist(tx, run, null);
        throw new Error('rolled back');
      });
      await expect(lost).rejects.toThrow();
      expect((await pool.query(`select 1 from pgboss.job where singleton_key = $1`, [run])).rows).toEqual([]);
      await transaction(pool, (tx) => wake.enlist(tx, run, null));
      await expect.poll(() => seen.length, SOON).toBe(1);
    });
  });
});

test('a deferred wake comes when it is due by the database’s own clock, which may stand far from the machine’s', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    await pool.query(`update installation set clock_offset = '90 days'`);
    await withLooks(pool, url, async ({ wake, seen }) => {
      const sent = performance.now();
      await wake.wakeAt(run, later(await clockOf(pool)(), 1));
      await expect.poll(() => seen.length, SOON).toBe(1);
      const took = (seen[0]?.milliseconds ?? 0) - sent;
      expect(took).toBeGreaterThan(950);
    });
  });
});

test('a thousand runs that fall due together are looked at without waiting for polls, each once', async () => {
  await withDatabase(async (pool, url) => {
    const runs = await insertRuns(pool, 1000);
    await withLooks(pool, url, async ({ wake, seen }) => {
      await transaction(pool, (tx) => wake.enlistMany(tx, runs, null));
      // A worker that slept until its next poll each time would need ten minutes.
      await expect.poll(() => seen.length, { timeout: 120_000, interval: 20 }).toBe(1000);
      expect(new Set(seen.map(({ run }) => run)).size).toBe(1000);
    });
  });
}, 150_000);

test('many at once are woken whether they wait for later, for now, for nothing, or are looked at', async () => {
  await withDatabase(async (pool, url) => {
    const runs = await insertRuns(pool, 4);
    const [later1 = '', now = '', , busy = ''] = runs;
    await withLooks(pool, url, async (looks) => {
      const { wake, seen } = looks;
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      looks.during = (run) => (run === busy ? held : Promise.resolve());
      await wake.wake(busy);
      await expect.poll(() => seen.length, SOON).toBe(1);
      await wake.wakeAt(later1, await inAnHour(pool));
      await wake.wakeAt(busy, await inAnHour(pool));
      await pool.query('update runs set wake_at = null where id = $1', [busy]);
      await transaction(pool, async (tx) => {
        await wake.enlist(tx, now, null);
        await wake.enlistMany(tx, runs, null);
      });
      await expect.poll(() => new Set(seen.map(({ run }) => run)).size, SOON).toBe(4);
      release();
      await expect.poll(() => seen.filter(({ run }) => run === busy).length, SOON).toBe(2);
    });
  });
});

test('many whose time came because the lab’s clock was moved are looked at together', async () => {
  await withDatabase(async (pool, url) => {
    const runs = await insertRuns(pool, 3);
    await withLooks(pool, url, async ({ wake, seen }) => {
      for (const run of runs) await wake.wakeAt(run, await inAnHour(pool));
      await pool.query(`update installation set clock_offset = '2 hours'`);
      await transaction(pool, (tx) => wake.enlistMany(tx, runs, null));
      await expect.poll(() => new Set(seen.map(({ run }) => run)).size, SOON).toBe(3);
    });
  });
});

test('revocations do not stand in line behind rotations', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    await pool.query(`insert into runs (id, workflow, workload) values ('r-revoke', 'revoke', 'chat')`);
    await withLooks(
      pool,
      url,
      async (looks) => {
        let release = () => {};
        const held = new Promise<void>((resolve) => {
          release = resolve;
        });
        looks.during = (id) => (id === run ? held : Promise.resolve());
        await looks.wake.wake(run);
        await expect.poll(() => looks.seen.length, SOON).toBe(1);
        await looks.wake.wake('r-revoke');
        await expect.poll(() => looks.seen.at(-1)?.run, SOON).toBe('r-revoke');
        release();
      },
      1,
    );
  });
});

test('an ended run is never woken', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    await pool.query('update runs set ended_at = instant()');
    await withLooks(pool, url, async ({ wake }) => {
      await wake.wake(run);
      expect((await pool.query('select 1 from pgboss.job')).rows).toEqual([]);
    });
  });
});

test('sessions that the server ends cost no wake and no process', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    await withLooks(pool, url, async ({ wake, seen }) => {
      await wake.wake(run);
      await expect.poll(() => seen.length, SOON).toBe(1);
      await pool.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()');
      await expect
        .poll(
          () =>
            wake.wake(run).then(
              () => true,
              () => false,
            ),
          SOON,
        )
        .toBe(true);
      // A look whose end could not be written down is taken for lost by its heartbeat, after 10 to 12 s.
      await expect.poll(() => seen.length, { timeout: 25_000 }).toBeGreaterThan(1);
    });
  });
});

const DEAD = `
  import { openWake } from '#src/engine/wake.ts';
  import { openDatabase } from '#state/database.ts';
  const url = process.argv[1];
  const pool = openDatabase({ url, poolSize: 2 });
  const wake = await openWake({ pool, url, onError: () => undefined });
  await wake.work('run', () => { process.stdout.write('looking'); return new Promise(() => undefined); }, { concurrency: 1 });
`;

test('what a dead replica had in hand is looked at at once when it is freed', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    const wake = await openWake({ pool, url, onError: () => undefined });
    await wake.wake(run);
    const replica = spawn(process.execPath, ['--input-type=module-typescript', '-e', DEAD, url], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(replica.stdout, 'data');
    replica.kill('SIGKILL');
    await once(replica, 'exit');
    await wake.stop();
    await withLooks(pool, url, async (looks) => {
      await looks.wake.wake(run);
      const { rows } = await pool.query(`select state from pgboss.job order by state`);
      expect(rows).toEqual([{ state: 'created' }, { state: 'active' }]);
      expect(looks.seen).toEqual([]);
      await transaction(pool, (tx) => looks.wake.free(tx, [{ id: run, at: null }]));
      await expect.poll(() => looks.seen.length, SOON).toBe(1);
    });
  });
});

test('what is freed is looked at before what has waited for longer, whether or not it was among that', async () => {
  await withDatabase(async (pool, url) => {
    const runs = await insertRuns(pool, 5);
    const [, , waiting = '', , other = ''] = runs;
    const wake = await openWake({ pool, url, onError: () => undefined });
    for (const run of runs.slice(0, 4)) await wake.wake(run);
    await transaction(pool, (tx) =>
      wake.free(
        tx,
        [waiting, other].map((id) => ({ id, at: null })),
      ),
    );
    await wake.stop();
    const look = async ({ seen }: Looks): Promise<void> => {
      await expect.poll(() => seen.length, SOON).toBe(5);
      expect(new Set(seen.slice(0, 2).map(({ run }) => run))).toEqual(new Set([waiting, other]));
    };
    await withLooks(pool, url, look, 1);
  });
});

test('a replica that ends hands its looks over at their next step, and another goes on at once', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    const ending = await openWake({ pool, url, onError: () => undefined });
    const began = Promise.withResolvers<void>();
    const look = async (id: string, signal: AbortSignal): Promise<void> => {
      await pool.query('update runs set wake_at = null where id = $1', [id]);
      began.resolve();
      await once(signal, 'abort');
      await ending.wake(id);
    };
    await ending.work('run', look, { concurrency: 1 });
    await ending.wake(run);
    await began.promise;
    await withLooks(pool, url, async ({ seen }) => {
      await ending.stop();
      await expect.poll(() => seen.map((one) => one.run), SOON).toEqual([run]);
    });
  });
});

test('what a hand let go of before it ended is not its own any more', async () => {
  const hand = openHand();
  const looks = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
  const [early, late] = looks.map((look, index) => hand.hold(`r-${index}`, () => look.promise));
  looks[0].resolve();
  expect(await early).toBe(true);
  expect(hand.empty()).toEqual(['r-1']);
  looks[1].resolve();
  expect(await late).toBe(false);
  expect(hand.runs().size).toBe(0);
});

test('a look that does not end in time is fenced and goes on elsewhere, and the end waits for it no longer', async () => {
  await withDatabase(async (pool, url) => {
    const [run = ''] = await insertRuns(pool, 1);
    const ending = await openWake({ pool, url, onError: () => undefined });
    const claims: (number | undefined)[] = [];
    const release = Promise.withResolvers<void>();
    const look = async (id: string): Promise<void> => {
      const { rows } = await pool.query<{ claim: number }>('update runs set wake_at = null, claim = claim + 1 where id = $1 returning claim', [id]);
      claims.push(rows[0]?.claim);
      await release.promise;
    };
    await ending.work('run', look, { concurrency: 1 });
    await ending.wake(run);
    await expect.poll(() => claims.length, SOON).toBe(1);
    await withLooks(pool, url, async ({ seen }) => {
      await ending.stop();
      await expect.poll(() => seen.map((one) => one.run), SOON).toEqual([run]);
      const { rows } = await pool.query<{ claim: number }>('select claim from runs');
      expect(rows[0]?.claim).toBeGreaterThan(claims[0] ?? Number.POSITIVE_INFINITY);
      release.resolve();
    });
  });
});
