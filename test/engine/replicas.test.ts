import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { openReplica, type Replica } from '#src/engine/replicas.ts';
import { openWake, type Wake } from '#src/engine/wake.ts';
import { silentLog } from '#src/log.ts';
import { transaction } from '#state/database.ts';
import { insertRevision } from '#state/revisions.ts';
import { claimRun, restRun, runsInHand, insertRun as storeRun } from '#state/runs.ts';
import { insertSealing } from '#state/sealings.ts';
import { withDatabase } from '../postgres.ts';

/** A replica that says its owner's name once it has a run in hand, and then only lives. `claims` no: it says so before it claims. */
const OTHER = `
  import { openReplica } from '#src/engine/replicas.ts';
  import { openWake } from '#src/engine/wake.ts';
  import { silentLog } from '#src/log.ts';
  import { openDatabase } from '#state/database.ts';
  import { claimRun } from '#state/runs.ts';
  const [, url, claims] = process.argv;
  const pool = openDatabase({ url, poolSize: 2 });
  const wake = await openWake({ pool, url, onError: () => undefined });
  const replica = await openReplica({ url, name: 'other', wake, log: silentLog });
  await wake.work('run', async (run) => {
    if (claims === 'yes') await claimRun(pool, run, replica.owner);
    process.stdout.write(replica.owner);
    await new Promise(() => undefined);
  }, { concurrency: 1 });
`;

/** A second or two; a loaded machine gets many. No heartbeat helps within this: see `outliveHeartbeats`. */
const SOON = { timeout: 60_000, interval: 20 };
const TEST_MILLISECONDS = 90_000;

/** Whatever is under way counts as alive for an hour: what comes about then comes about without a heartbeat's end. */
async function outliveHeartbeats(pool: pg.Pool): Promise<void> {
  await pool.query(`update pgboss.job set heartbeat_on = now() + interval '1 hour' where state = 'active'`);
}

async function insertRun(pool: pg.Pool): Promise<string> {
  const sealing = await insertSealing(pool, 'w', 'r-1', null);
  const made = { workload: 'w', serial: 1, release: 'sha256:0', sealing: sealing.id, rotation: 'r-1', kbs: ['main'], revokedBy: null };
  const revision = await insertRevision(pool, made);
  await storeRun(pool, { id: 'r-1', workflow: 'adopt-revision', revision, workload: 'w', cause: null });
  return 'r-1';
}

/** Another process with the run in hand, and its owner's name. */
async function startOther(url: string, claims: 'yes' | 'no'): Promise<{ readonly process: ChildProcess; readonly owner: string }> {
  const other = spawn(process.execPath, ['--input-type=module-typescript', '-e', OTHER, url, claims], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void other.kill('SIGKILL'));
  const [owner] = await once(other.stdout, 'data');
  return { process: other, owner: String(owner) };
}

interface Ours {
  readonly wake: Wake;
  readonly replica: Replica;
  readonly seen: readonly string[];
}

/** A replica in this process, whose looks do what they are told. */
async function withReplica(pool: pg.Pool, url: string, fn: (ours: Ours) => Promise<void>, look: (run: string, owner: string) => Promise<void>): Promise<void> {
  const wake = await openWake({ pool, url, onError: () => undefined });
  const replica = await openReplica({ url, name: 'this', wake, log: silentLog });
  const seen: string[] = [];
  const handler = async (run: string): Promise<void> => {
    seen.push(run);
    await look(run, replica.owner);
  };
  try {
    await wake.work('run', handler, { concurrency: 1 });
    await fn({ wake, replica, seen });
  } finally {
    await replica.close();
    await wake.stop();
  }
}

const nothing = async (): Promise<void> => undefined;

/** Wakes a run before anybody here can take it. */
async function wakeRun(pool: pg.Pool, url: string, run: string): Promise<void> {
  const wake = await openWake({ pool, url, onError: () => undefined });
  await wake.wake(run);
  await wake.stop();
}

async function claimOf(pool: pg.Pool, run: string): Promise<number> {
  const { rows } = await pool.query<{ claim: number }>('select claim from runs where id = $1', [run]);
  return rows[0]?.claim ?? -1;
}

test(
  'the runs of a replica that was killed are looked at by another, whatever its heartbeat says',
  async () => {
    await withDatabase(async (pool, url) => {
      const run = await insertRun(pool);
      await wakeRun(pool, url, run);
      const other = await startOther(url, 'yes');
      expect((await runsInHand(pool)).map(({ owner }) => owner)).toEqual([other.owner]);
      await withReplica(
        pool,
        url,
        async ({ seen }) => {
          other.process.kill('SIGKILL');
          await outliveHeartbeats(pool);
          await expect.poll(() => seen, SOON).toEqual([run]);
          expect(await runsInHand(pool)).toEqual([]);
        },
        nothing,
      );
    });
  },
  TEST_MILLISECONDS,
);

test(
  'so is a run that was handed to it, though it was killed before it claimed it',
  async () => {
    await withDatabase(async (pool, url) => {
      const run = await insertRun(pool);
      await wakeRun(pool, url, run);
      const other = await startOther(url, 'no');
      expect(await runsInHand(pool)).toEqual([]);
      other.process.kill('SIGKILL');
      await outliveHeartbeats(pool);
      await withReplica(pool, url, async ({ seen }) => void (await expect.poll(() => seen, SOON).toEqual([run])), nothing);
    });
  },
  TEST_MILLISECONDS,
);

test(
  'a replica that fell silent loses its runs, and is fenced when it wakes',
  async () => {
    await withDatabase(async (pool, url) => {
      const run = await insertRun(pool);
      await wakeRun(pool, url, run);
      const other = await startOther(url, 'yes');
      const claim = await claimOf(pool, run);
      await withReplica(
        pool,
        url,
        async ({ seen }) => {
          other.process.kill('SIGSTOP');
          expect(seen).toEqual([]);
          // As if a heartbeat's time had passed.
          await pool.query(`update pgboss.job set heartbeat_on = heartbeat_on - interval '10 seconds' where state = 'active'`);
          await expect.poll(() => seen, SOON).toEqual([run]);
          other.process.kill('SIGCONT');
          expect(await claimOf(pool, run)).toBeGreaterThan(claim);
        },
        nothing,
      );
    });
  },
  TEST_MILLISECONDS,
);

test(
  'a replica that lives keeps its runs, whoever looks',
  async () => {
    await withDatabase(async (pool, url) => {
      const run = await insertRun(pool);
      const held = Promise.withResolvers<void>();
      const claims: (number | undefined)[] = [];
      const look = async (id: string, owner: string): Promise<void> => {
        claims.push((await claimRun(pool, id, owner))?.run.claim);
        await held.promise;
      };
      await withReplica(
        pool,
        url,
        async ({ wake, replica }) => {
          const two = await openReplica({ url, name: 'two', wake, log: silentLog });
          await wake.wake(run);
          await expect.poll(() => claims.length, SOON).toBe(1);
          // The second one's tries are seen by the server: it has asked for the first one's lock, and got a no.
          const asked = () =>
            pool.query(
              `select 1 from pg_stat_activity where application_name = 'keyturn-replica' and datname = current_database() and query like 'select pg_try_advisory_lock%'`,
            );
          await expect.poll(async () => (await asked()).rowCount, SOON).toBeGreaterThan(0);
          const { rows } = await pool.query('select owner, claim from runs');
          expect(rows).toEqual([{ owner: replica.owner, claim: claims[0] }]);
          await two.close();
          held.resolve();
        },
        look,
      );
    });
  },
  TEST_MILLISECONDS,
);

test(
  'what a replica had in hand when the database went away is looked at again at once',
  async () => {
    await withDatabase(async (pool, url) => {
      const run = await insertRun(pool);
      let cut = false;
      const look = async (id: string, owner: string): Promise<void> => {
        await claimRun(pool, id, owner);
        if (cut) return;
        cut = true;
        // Every session but the one that says so: pg-boss can write down neither the look's end nor its failure.
        await pool.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()');
        // Nor can it later, and no heartbeat ends.
        await pool.query(`update pgboss.job set heartbeat_on = now() + interval '1 hour', retry_count = retry_count + 1 where state = 'active'`);
        throw new Error('the database is gone');
      };
      await withReplica(
        pool,
        url,
        async ({ wake, seen }) => {
          await wake.wake(run);
          await expect.poll(() => seen.length, SOON).toBeGreaterThan(1);
        },
        look,
      );
    });
  },
  TEST_MILLISECONDS,
);

test(
  'a look that rested is not looked at earlier because its end was not written down',
  async () => {
    await withDatabase(async (pool, url) => {
      const run = await insertRun(pool);
      const look = async (id: string, owner: string): Promise<void> => {
        const claimed = await claimRun(pool, id, owner);
        if (claimed === null) return;
        const { rows } = await pool.query<{ at: Parameters<Wake['wakeAt']>[1] }>(`select instant() + interval '1 hour' as at`);
        const at = rows[0]?.at ?? null;
        if (at === null) return;
        await transaction(pool, async (tx) => {
          await restRun(tx, claimed.run, { step: 's', waitingFor: 'PodsNotMoved', about: 'w', nextRetryAt: at });
        });
        await ours?.wakeAt(id, at);
        // pg-boss cannot end what is another's attempt: the look stays as it would after a lost session.
        await pool.query(`update pgboss.job set retry_count = retry_count + 1 where state = 'active'`);
      };
      let ours: Wake | null = null;
      await withReplica(
        pool,
        url,
        async ({ wake, seen }) => {
          ours = wake;
          await wake.wake(run);
          const states = async () => (await pool.query<{ state: string }>(`select state from pgboss.job order by state`)).rows.map(({ state }) => state);
          await expect.poll(states, SOON).toEqual(['created', 'completed']);
          expect(seen).toEqual([run]);
        },
        look,
      );
    });
  },
  TEST_MILLISECONDS,
);
