/**
 * A thousand open rotations, a tenth of which fail for ever, on one replica: what a step costs, and
 * whether anybody starves. Real PostgreSQL, real pg-boss, the production engine; the outside systems are
 * the test world's, in this process, and their work is in the figure too.
 *
 *   node test/bench/engine.ts [--rotations N] [--json]
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import { startLoop } from '#src/engine/loop.ts';
import { openWake } from '#src/engine/wake.ts';
import { Fault } from '#src/errors.ts';
import { openPostgres } from '#src/lab/postgres.ts';
import { openMetrics } from '#src/metrics.ts';
import type { Cluster, TargetRef } from '#src/world.ts';
import { openDatabase, transaction } from '#state/database.ts';
import { checkInstallation, migrate } from '#state/migrate.ts';
import { openRuns } from '#state/runs.ts';
import { openTestEngine } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { openTestWorld } from '../world.ts';
import { type Bar, tellBars } from './bar.ts';

/** One in so many fails for ever. */
const FAILING_EVERY = 10;
/** Seconds until the slowest healthy one must have finished. */
const LIMIT_SECONDS = 900;

interface EngineFigures {
  readonly healthy: number;
  readonly finished: number;
  readonly steps: number;
  readonly seconds: number;
  readonly cpuMillisecondsAStep: number;
  readonly slowestSeconds: number;
  readonly medianSeconds: number;
}

/** The bars of the engine, measured with so many open rotations. */
export async function benchEngine(rotations = 1000): Promise<readonly Bar[]> {
  const { healthy, finished, steps, seconds, cpuMillisecondsAStep, slowestSeconds, medianSeconds } = await measured(rotations);
  const what = `${rotations} open rotations, a tenth failing for ever`;
  return [
    {
      bar: `${what}: engine time a step`,
      value: cpuMillisecondsAStep,
      unit: 'ms CPU',
      target: '≤ 10',
      peer: 'steps a second',
      peerValue: steps / seconds,
      met: cpuMillisecondsAStep <= 10,
    },
    {
      bar: `${what}: healthy ones that finished`,
      value: finished,
      unit: `of ${healthy}`,
      target: 'all',
      peer: 'slowest ÷ median',
      peerValue: slowestSeconds / medianSeconds,
      met: finished === healthy,
    },
  ];
}

async function measured(rotations: number): Promise<EngineFigures> {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-bench-'));
  await chmod(folder, 0o755);
  const postgres = await openPostgres({ folder, temporary: true });
  const pool = openDatabase({ url: postgres.url, poolSize: 10 });
  try {
    await migrate(pool);
    await checkInstallation(pool, { name: 'test', mode: 'lab' });
    return await run(pool, postgres.url, rotations);
  } finally {
    await pool.end();
    await postgres.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function run(pool: pg.Pool, url: string, rotations: number): Promise<EngineFigures> {
  const test = await openTestWorld(pool);
  const { engine, accept } = await openTestEngine(pool, test);
  const failing = new Set<string>();
  const cluster = stubborn(test.cluster, failing);
  const wake = await openWake({ pool, url, onError: () => undefined });
  // W would be waited for by everybody alike, and costs nothing.
  const broker = { ...test.kbs, lateWriteSeconds: { policy: 1, referenceValue: 1, resource: 1 } };
  const world = { ...engine.world, cluster: () => cluster, broker: () => broker };
  for (let number = 0; number < rotations; number += 1) {
    const workload = `w${number}`;
    if (number % FAILING_EVERY === 0) failing.add(workload);
    test.cluster.add({ name: workload, replicas: 1 });
    await accept(testRelease({ workload, serial: 1, svn: '1', soakSeconds: 0, keepPreviousSeconds: 0, minimumAttested: 1 }));
  }
  const loop = await startLoop({
    engine: { ...engine, world, enlist: wake.enlist },
    wake,
    takeIn: async () => undefined,
    pollSeconds: 3600,
    concurrency: 6,
    resyncSeconds: 30,
    metrics: openMetrics(),
    onBug: (thrown) => {
      throw thrown;
    },
  });
  const began = performance.now();
  const cpu = process.cpuUsage();
  await transaction(pool, async (tx) => wake.enlistMany(tx, await openRuns(pool), null));
  const healthy = rotations - failing.size;
  for (;;) {
    await test.cluster.tick();
    loop.podsMoved();
    const { rows } = await pool.query<{ finished: number; steps: number }>(
      `select (select count(*)::int from revisions where state = 'serving') as finished, (select count(*)::int from receipts) as steps`,
    );
    const [row] = rows;
    const seconds = (performance.now() - began) / 1000;
    if (row === undefined || row.finished >= healthy || seconds > LIMIT_SECONDS) break;
    await pause(500);
  }
  const seconds = (performance.now() - began) / 1000;
  const used = process.cpuUsage(cpu);
  await loop.stop();
  const { rows } = await pool.query<{ steps: number; finished: number; slowest: number; median: number }>(
    `select count(*)::int as steps, count(*) filter (where step = 'confirm-serving')::int as finished,
       extract(epoch from max(at) filter (where step = 'confirm-serving') - min(at))::float8 as slowest,
       extract(epoch from percentile_disc(0.5) within group (order by at) filter (where step = 'confirm-serving') - min(at))::float8 as median from receipts`,
  );
  const [row] = rows;
  if (row === undefined) throw new Error('a count gave no row');
  return {
    healthy,
    finished: row.finished,
    steps: row.steps,
    seconds,
    cpuMillisecondsAStep: (used.user + used.system) / 1000 / row.steps,
    slowestSeconds: row.slowest,
    medianSeconds: row.median,
  };
}

/** The cluster, which never answers for some. */
function stubborn(cluster: Cluster, failing: ReadonlySet<string>): Cluster {
  const asked = <T>(target: TargetRef, answer: () => Promise<T>): Promise<T> =>
    failing.has(target.name) ? Promise.reject(new Fault('Unreachable', `deployment ${target.name}`)) : answer();
  return {
    ...cluster,
    object: (target) => asked(target, () => cluster.object(target)),
    rehearse: (target, change) => asked(target, () => cluster.rehearse(target, change)),
    pods: (target) => asked(target, () => cluster.pods(target)),
  };
}

if (import.meta.main) {
  const asked = process.argv.indexOf('--rotations');
  tellBars(await benchEngine(asked < 0 ? 1000 : Number(process.argv[asked + 1])), process.argv.includes('--json'));
}
