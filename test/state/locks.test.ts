/** Transactions of several replicas that meet: whichever comes second sees the first, and none waits for another in a circle. */
import type pg from 'pg';
import { expect, it } from 'vitest';
import { openWake, type Wake } from '#src/engine/wake.ts';
import { acceptRelease, acceptRevocation } from '#state/acceptance.ts';
import { type Checkpoint, commitStep } from '#state/checkpoint.ts';
import { clockOf, transaction } from '#state/database.ts';
import { claimRun, insertRun, restRun } from '#state/runs.ts';
import { withDatabase } from '../postgres.ts';
import { openTestEngine } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { testRevocation } from '../world/story.ts';
import { openTestWorld } from '../world.ts';

const enlist = async () => {};
const POLL_MILLISECONDS = 20;

/** Resolves when the promise has settled, or when a statement of this database waits for a lock. */
async function settledOrBlocked(pool: pg.Pool, promise: Promise<unknown>): Promise<'settled' | 'blocked'> {
  let settled = false;
  void promise.catch(() => undefined).then(() => (settled = true));
  const deadline = performance.now() + 10_000;
  while (performance.now() < deadline) {
    if (settled) return 'settled';
    const { rowCount } = await pool.query(`select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`);
    if (rowCount !== 0) return 'blocked';
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
  throw new Error('neither settled nor blocked');
}

async function store(pool: pg.Pool, kind: 'Release' | 'Revocation', document: { path: string; digest: string }): Promise<void> {
  const insert = `insert into documents (path, digest, kind, bytes, commit_id) values ($1, $2, $3, '', 'test')`;
  await pool.query(insert, [document.path, document.digest, kind]);
}

it.each(['revocation', 'release'] as const)(
  'a revocation and the release that it names are taken in at once, the %s first: the release is revoked',
  async (first) => {
    await withDatabase(async (pool) => {
      const { engine } = await openTestEngine(pool, await openTestWorld(pool));
      const release = testRelease({ serial: 2 });
      const revocation = testRevocation({ kind: 'release', workload: 'chat', serial: 2 });
      await store(pool, 'Release', release);
      await store(pool, 'Revocation', revocation);
      const takeRelease = () => transaction(pool, (tx) => acceptRelease(tx, release, enlist));
      const takeRevocation = () => transaction(pool, (tx) => acceptRevocation(tx, revocation, enlist, engine.loaders));
      let second: Promise<void> = Promise.resolve();
      await transaction(pool, async (tx) => {
        if (first === 'revocation') await acceptRevocation(tx, revocation, enlist, engine.loaders);
        else await acceptRelease(tx, release, enlist);
        second = first === 'revocation' ? takeRelease() : takeRevocation();
        await settledOrBlocked(pool, second);
      });
      await second;
      const { rows } = await pool.query('select revoked_by from revisions');
      expect(rows).toEqual([{ revoked_by: revocation.digest }]);
    });
  },
);

/** Wakes two runs together while the wake of one is on its way in the caller's transaction. */
function interrupting(pool: pg.Pool, wake: Wake, runs: readonly string[]) {
  const other: { waking: Promise<void> | null } = { waking: null };
  const enlistOne: Wake['enlist'] = async (tx, run, at) => {
    if (other.waking === null) {
      other.waking = transaction(pool, (many) => wake.enlistMany(many, runs, null));
      await settledOrBlocked(pool, other.waking);
    }
    await wake.enlist(tx, run, at);
  };
  return { enlistOne, other };
}

it('a checkpoint that wakes its neighbours, and a resync that wakes all of them, do not wait for each other', async () => {
  await withDatabase(async (pool, url) => {
    const engine = await openTestEngine(pool, await openTestWorld(pool));
    const wake = await openWake({ pool, url, onError: () => undefined });
    try {
      await engine.accept(testRelease({ serial: 1 }));
      const subject = await engine.known(1);
      // Lower than any id that is drawn: a resync locks it first.
      const neighbour = 'r-0000000000000000';
      await transaction(pool, (tx) => insertRun(tx, { id: neighbour, workflow: 'another', revision: subject.id, workload: 'chat', cause: null }));
      const claimed = await claimRun(pool, subject.rotation, 'test');
      if (claimed === null) throw new Error('the run is open');
      const { enlistOne, other } = interrupting(pool, wake, [neighbour, subject.rotation]);
      const point: Checkpoint = {
        ...{ run: claimed.run, subject, step: 'go-live', facts: {}, evidence: null, proof: 'observed', keep: [], goodUntil: null, verdicts: [] },
        ...{ ownGates: [], moves: 'live', lifts: false, last: false, deadlineSeconds: null },
      };
      await expect(commitStep(pool, point, enlistOne, { installation: 'test', loaders: engine.engine.loaders })).resolves.toMatchObject({ kind: 'committed' });
      await expect(other.waking).resolves.toBeUndefined();
    } finally {
      await wake.stop();
    }
  });
});

it('a revocation of everything, and a resync that wakes all runs, do not wait for each other', async () => {
  await withDatabase(async (pool, url) => {
    const engine = await openTestEngine(pool, await openTestWorld(pool));
    const wake = await openWake({ pool, url, onError: () => undefined });
    try {
      for (const workload of ['alpha', 'beta', 'gamma']) await engine.accept(testRelease({ workload, serial: 1 }));
      const { rows } = await pool.query<{ id: string }>('select id from runs order by id');
      const { enlistOne, other } = interrupting(
        pool,
        wake,
        rows.map(({ id }) => id),
      );
      const revocation = testRevocation({ kind: 'all' });
      await store(pool, 'Revocation', revocation);
      await expect(transaction(pool, (tx) => acceptRevocation(tx, revocation, enlistOne, engine.engine.loaders))).resolves.toBeUndefined();
      await expect(other.waking).resolves.toBeUndefined();
    } finally {
      await wake.stop();
    }
  });
});

it('a run that rests, and a resync that wakes it with the run that caused it, do not wait for each other', async () => {
  await withDatabase(async (pool, url) => {
    const engine = await openTestEngine(pool, await openTestWorld(pool));
    const wake = await openWake({ pool, url, onError: () => undefined });
    try {
      await engine.accept(testRelease({ serial: 1 }));
      const subject = await engine.known(1);
      const [cause, caused] = ['r-0000000000000000', 'r-ffffffffffffffff'] as const;
      await transaction(pool, async (tx) => {
        await insertRun(tx, { id: cause, workflow: 'one', revision: subject.id, workload: 'chat', cause: null });
        await insertRun(tx, { id: caused, workflow: 'another', revision: subject.id, workload: 'chat', cause });
      });
      const claimed = await claimRun(pool, caused, 'test');
      if (claimed === null) throw new Error('the run is open');
      const { enlistOne, other } = interrupting(pool, wake, [cause, caused]);
      const resting = transaction(pool, async (tx) => {
        const nextRetryAt = await clockOf(tx)();
        await restRun(tx, claimed.run, { step: 'write', waitingFor: 'Held', about: 'the test', nextRetryAt });
        await enlistOne(tx, caused, nextRetryAt);
      });
      await expect(resting).resolves.toBeUndefined();
      await expect(other.waking).resolves.toBeUndefined();
    } finally {
      await wake.stop();
    }
  });
});
