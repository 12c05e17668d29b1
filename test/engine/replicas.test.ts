import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { openReplica } from '#src/engine/replicas.ts';
import { openWake } from '#src/engine/wake.ts';
import { silentLog } from '#src/log.ts';
import { insertRevision } from '#state/revisions.ts';
import { claimRun, ownersOfOpenRuns, insertRun as storeRun } from '#state/runs.ts';
import { insertSealing } from '#state/sealings.ts';
import { withDatabase } from '../postgres.ts';

/** A replica that says its owner's name, and then only lives. */
const OTHER = `
  import { openReplica } from '#src/engine/replicas.ts';
  import { openWake } from '#src/engine/wake.ts';
  import { silentLog } from '#src/log.ts';
  import { openDatabase } from '#state/database.ts';
  import { claimRun } from '#state/runs.ts';
  const url = process.argv[1];
  const pool = openDatabase({ url, poolSize: 2 });
  const wake = await openWake({ pool, url, onError: () => undefined });
  const replica = await openReplica({ pool, url, name: 'other', wake, log: silentLog });
  await wake.work('run', async (run) => {
    await claimRun(pool, run, replica.owner);
    process.stdout.write(replica.owner);
    await new Promise(() => undefined);
  }, { concurrency: 1 });
`;

/** Far below the ten seconds after which a heartbeat would tell. */
const SOON = { timeout: 4000, interval: 20 };

async function insertRun(pool: pg.Pool): Promise<string> {
  const sealing = await insertSealing(pool, 'w', 'r-1');
  const made = { workload: 'w', serial: 1, release: 'sha256:0', sealing: sealing.id, rotation: 'r-1', kbs: ['main'], revokedBy: null };
  const revision = await insertRevision(pool, made);
  await storeRun(pool, { id: 'r-1', workflow: 'adopt-revision', revision, workload: 'w', cause: null });
  return 'r-1';
}

test('the runs of a replica that was killed are looked at by another long before its heartbeat ends', async () => {
  await withDatabase(async (pool, url) => {
    const run = await insertRun(pool);
    const wake = await openWake({ pool, url, onError: () => undefined });
    const other = spawn(process.execPath, ['--input-type=module-typescript', '-e', OTHER, url], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void other.kill('SIGKILL'));
    await wake.wake(run);
    const [owner] = await once(other.stdout, 'data');
    const replica = await openReplica({ pool, url, name: 'this', wake, log: silentLog });
    const seen: string[] = [];
    await wake.work('run', async (id) => void seen.push(id), { concurrency: 1 });
    expect(await ownersOfOpenRuns(pool)).toEqual([String(owner)]);
    other.kill('SIGKILL');
    await expect.poll(() => seen, SOON).toEqual([run]);
    expect(await ownersOfOpenRuns(pool)).toEqual([]);
    await replica.close();
    await wake.stop();
  });
});

test('a replica that lives keeps its runs, whoever looks', async () => {
  await withDatabase(async (pool, url) => {
    const run = await insertRun(pool);
    const wake = await openWake({ pool, url, onError: () => undefined });
    const one = await openReplica({ pool, url, name: 'one', wake, log: silentLog });
    const two = await openReplica({ pool, url, name: 'two', wake, log: silentLog });
    const claimed = await claimRun(pool, run, one.owner);
    // The second one's tries are seen by the server: it has asked for the first one's lock, and got a no.
    const asked = () =>
      pool.query(
        `select 1 from pg_stat_activity where application_name = 'keyturn-replica' and datname = current_database() and query like 'select pg_try_advisory_lock%'`,
      );
    await expect.poll(async () => (await asked()).rowCount, SOON).toBeGreaterThan(0);
    const { rows } = await pool.query('select owner, claim from runs');
    expect(rows).toEqual([{ owner: one.owner, claim: claimed?.run.claim }]);
    await Promise.all([one.close(), two.close()]);
    await wake.stop();
  });
});
