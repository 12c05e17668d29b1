/** The same for a revocation: a process may end at each of these points, and what was revoked is refused, gone and disabled all the same. */
import type pg from 'pg';
import { afterAll, describe, expect, it } from 'vitest';
import { revoke } from '#workflows/revoke.ts';
import { withDatabase } from './postgres.ts';
import { openTestEngine, type TestEngine } from './world/engine.ts';
import { testRelease } from './world/release.ts';
import { testRevocation } from './world/story.ts';
import { driveThrough, type Point, pointsOf, type Trap, trapped, trappedPool, writtenTwice } from './world/traps.ts';
import { openTestWorld, type TestWorld } from './world.ts';

const POINTS = pointsOf(revoke);
/** Release 1 stays live beside every other, to be fallen back to; itself it keeps nothing. */
const KEPT = { keepPreviousSeconds: 86_400 };
const CHAINS = 3;
const met: Point[] = [];

describe('a process that ends anywhere in a revocation', () => {
  afterAll(() => expect(new Set(met).size).toBe(revoke.steps.length * 4));

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
  const engine = await openTestEngine(pool, test, { emergencies: [trapped(revoke, trap, test)], pool: trappedPool(pool, trap) });
  test.cluster.add();
  await engine.accept(testRelease({ serial: 1 }));
  await engine.drive();
  for (const [index, point] of points.entries()) {
    const serial = index + 2;
    await engine.accept(testRelease({ serial, ...KEPT }));
    await engine.driveTo(serial, 'confirm-serving');
    const held = test.cluster.all().map(({ uid }) => uid);
    const before = test.network.log.length;
    Object.assign(trap, { point, met: 0, commit: null });
    await engine.revoke({ ...testRevocation({ kind: 'key', workload: 'chat', epoch: serial }, `revoke-${serial}`), evict: true });
    await driveThrough(engine);
    const name = `${point.workflow} ${point.step} ${point.moment}`;
    expect(trap.met, `${name} was met`).toBe(1);
    met.push(point);
    expect(await endOf(pool, test, engine, serial, held), name).toEqual(END);
    const twice = writtenTwice(test.network.log.slice(before));
    expect(twice, name).toEqual([]);
  }
}

/** Of the revoked release, and of release 1 that serves again. */
async function endOf(pool: pg.Pool, test: TestWorld, engine: TestEngine, serial: number, held: readonly string[]) {
  const [now, gone] = [await engine.known(1), await engine.known(serial)];
  const { policy, resources } = test.kbs;
  const steps = await pool.query<{ step: string }>(`select c.step from receipts c join runs r on r.id = c.run where r.workflow = 'revoke' order by c.id`);
  return {
    steps: new Set(steps.rows.slice(-revoke.steps.length).map(({ step }) => step)).size,
    states: [now.state, gone.state],
    keys: [now, gone].map(({ rotation }) => test.kms.keys(rotation).map((key) => key.state)),
    granted: typeof policy === 'string' ? policy : policy.grants.flatMap((grant) => grant.paths.map(serialOf)),
    stored: [...resources.keys()].map(serialOf),
    pods: test.cluster.all().map((pod) => [pod.annotations['keyturn.dev/rotation'] === now.rotation, pod.ready, held.includes(pod.uid)]),
    open: (await pool.query('select 1 from runs where ended_at is null')).rowCount,
    unsettled: (await pool.query(`select 1 from receipts c join runs r on r.id = c.run where r.workflow = 'revoke' group by c.run, c.step having count(*) > 1`))
      .rowCount,
  };
}

const END = {
  steps: revoke.steps.length,
  states: ['serving', 'retired'],
  keys: [['active'], ['deactivated']],
  granted: [1],
  stored: [1],
  pods: [
    [true, true, false],
    [true, true, false],
    [true, true, false],
  ],
  open: 0,
  unsettled: 0,
};

function serialOf(path: string): number {
  return Number(/\/s(\d+)-/.exec(path)?.[1]);
}
