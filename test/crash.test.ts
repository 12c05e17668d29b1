/**
 * A process may end anywhere (DESIGN §10, first bar): at each of these points the one that looks is
 * ended, or its answer lost, and another look goes on. The world must end as if nothing had happened.
 */
import type pg from 'pg';
import { afterAll, describe, expect, it } from 'vitest';
import { startDueDestructions } from '#src/engine/schedule.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { destroyKey } from '#workflows/destroy-key.ts';
import { workflows } from '#workflows/index.ts';
import { retireRevision } from '#workflows/retire-revision.ts';
import { withDatabase } from './postgres.ts';
import { openTestEngine, stepsOf, type TestEngine } from './world/engine.ts';
import { testRelease } from './world/release.ts';
import { driveThrough, type Point, pointsOf, type Trap, trapped, trappedPool, writtenTwice } from './world/traps.ts';
import { openTestWorld, type TestWorld } from './world.ts';

const POINTS: readonly Point[] = workflows.flatMap(pointsOf);

/** What cannot be read back is sent again after its answer was lost: the same bytes, at the same path. */
const SENT_AGAIN = new Set(['put-resource after-effect', 'put-resource answer-lost']);

const DAY_SECONDS = 86_400;

/** Chains of rotations, one point each, over databases of their own; two cores are kept busy by this many. */
const CHAINS = 3;
const met: Point[] = [];

describe('a process that ends anywhere', () => {
  afterAll(() => expect(new Set(met).size).toBeGreaterThanOrEqual(workflows.reduce((sum, { steps }) => sum + steps.length * 4, 0)));

  for (let chain = 0; chain < CHAINS; chain += 1) {
    const points = POINTS.filter((_, index) => index % CHAINS === chain);
    it.concurrent(`leaves the same world behind, from ${points.length} points (${chain + 1} of ${CHAINS})`, { timeout: 300_000 }, async () => {
      await withDatabase((pool) => sweep(pool, points));
    });
  }
});

async function sweep(pool: pg.Pool, points: readonly Point[]): Promise<void> {
  const test = await openTestWorld(pool);
  const trap: Trap = { point: null, met: 0, commit: null };
  const engine = await openTestEngine(pool, test, { workflows: workflows.map((workflow) => trapped(workflow, trap, test)), pool: trappedPool(pool, trap) });
  test.cluster.add();
  // What comes to its end at a point is what the release before it brought.
  const releaseOf = (serial: number) => testRelease({ serial, ...(isEnd(points[serial - 1]) ? { destroyAfterDays: 1 } : {}) });
  await engine.accept(releaseOf(1));
  await engine.drive();
  for (const [index, point] of points.entries()) {
    const serial = index + 2;
    Object.assign(trap, { point, met: 0, commit: null });
    const before = test.network.log.length;
    await engine.accept(releaseOf(serial));
    await driveThrough(engine);
    if (isEnd(point)) {
      await test.advance(DAY_SECONDS);
      await startDueDestructions(engine.engine);
      await driveThrough(engine);
    }
    const name = `${point.workflow} ${point.step} ${point.moment}`;
    expect(trap.met, `${name} was met`).toBe(1);
    met.push(point);
    expect(await endOf(pool, test, engine, serial), name).toEqual(expectedEnd(serial, isEnd(point)));
    const twice = writtenTwice(test.network.log.slice(before));
    expect(twice.length, `${name}: ${twice.join(', ')}`).toBe(SENT_AGAIN.has(`${point.step} ${point.moment}`) ? 1 : 0);
  }
}

function isEnd(point: Point | undefined): boolean {
  return point?.workflow === destroyKey.name;
}

// ---------------------------------------------------------------- the end world

async function endOf(pool: pg.Pool, test: TestWorld, engine: TestEngine, serial: number) {
  const now = await engine.known(serial);
  const old = await engine.known(serial - 1);
  const { policy, referenceValues, resources } = test.kbs;
  const states = (rotation: string) => test.kms.keys(rotation).map((key) => key.state);
  const rows = await pool.query(`select 1 from resources where path like $1`, [`%/s${serial}-%`]);
  return {
    adopt: await stepsOf(pool, serial, 'adopt-revision'),
    retire: await stepsOf(pool, serial - 1, 'retire-revision'),
    destroy: await stepsOf(pool, serial - 1, 'destroy-key'),
    states: [now.state, old.state],
    keys: [states(now.rotation), states(old.rotation)],
    keyIsTheFact: test.kms.keys(now.rotation)[0]?.keyId === now.sealing.facts.keyId,
    sealed: [now, old].map(({ rotation }) => test.weights.sealed().filter((name) => name.includes(rotation)).length),
    rows: rows.rowCount,
    granted: typeof policy === 'string' ? policy : policy.grants.flatMap((grant) => grant.paths.map(serialOf)),
    measurements: referenceValues.get('svn'),
    stored: [...resources.keys()].map(serialOf),
    pods: test.cluster.all().map((pod) => [pod.annotations['keyturn.dev/rotation'] === now.rotation, pod.ready]),
    open: (await pool.query('select 1 from runs where ended_at is null')).rowCount,
    unsettled: (await pool.query(`select 1 from receipts group by run, step having count(*) > 1`)).rowCount,
  };
}

function expectedEnd(serial: number, destroyed: boolean): Awaited<ReturnType<typeof endOf>> {
  return {
    adopt: adoptRevision.steps.map(({ name }) => name),
    retire: retireRevision.steps.map(({ name }) => name),
    destroy: destroyed ? destroyKey.steps.map(({ name }) => name) : [],
    states: ['serving', 'retired'],
    keys: [['active'], destroyed ? [] : ['deactivated']],
    keyIsTheFact: true,
    sealed: [1, destroyed ? 0 : 1],
    rows: 1,
    granted: [serial],
    measurements: [String(serial)],
    stored: [serial],
    pods: [
      [true, true],
      [true, true],
      [true, true],
    ],
    open: 0,
    unsettled: 0,
  };
}

function serialOf(path: string): number {
  return Number(/\/s(\d+)-/.exec(path)?.[1]);
}
