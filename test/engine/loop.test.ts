/** What keeps the engine going, over real wakes. */
import type pg from 'pg';
import { expect, it } from 'vitest';
import { type LoopParts, startLoop } from '#src/engine/loop.ts';
import { schedules } from '#src/engine/schedule.ts';
import { openWake } from '#src/engine/wake.ts';
import { Fault } from '#src/errors.ts';
import { openMetrics } from '#src/metrics.ts';
import { withDatabase } from '../postgres.ts';
import { hasReceipt, openTestEngine, type TestEngine } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { granted, testRevocation } from '../world/story.ts';
import { openTestWorld, type TestWorld } from '../world.ts';

/** Longer than any test: what comes about comes about without it. */
const FOR_EVER_SECONDS = 100_000;
const DEADLINE_SECONDS = 20;
const POLL_MILLISECONDS = 50;

async function until(condition: () => Promise<boolean> | boolean): Promise<boolean> {
  const deadline = performance.now() + DEADLINE_SECONDS * 1000;
  while (performance.now() < deadline) {
    if (await condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
  return false;
}

interface Running {
  readonly pool: pg.Pool;
  readonly test: TestWorld;
  readonly engine: TestEngine;
  readonly start: (parts?: Partial<LoopParts>) => ReturnType<typeof startLoop>;
  readonly wake: (run: string) => Promise<void>;
}

async function looping(fn: (running: Running) => Promise<void>): Promise<void> {
  await withDatabase(async (pool, url) => {
    const test = await openTestWorld(pool);
    const engine = await openTestEngine(pool, test);
    test.cluster.add();
    const wake = await openWake({ pool, url, onError: () => undefined });
    const loops: Awaited<ReturnType<typeof startLoop>>[] = [];
    const seconds = { pollSeconds: FOR_EVER_SECONDS, resyncSeconds: FOR_EVER_SECONDS };
    const rest = { concurrency: 2, metrics: openMetrics(), takeIn: async () => {} };
    const start: Running['start'] = async (parts) => {
      const onBug = (thrown: unknown) => {
        throw thrown;
      };
      const loop = await startLoop({ engine: { ...engine.engine, enlist: wake.enlist }, wake, onBug, ...seconds, ...rest, ...parts });
      loops.push(loop);
      return loop;
    };
    try {
      await fn({ pool, test, engine, start, wake: wake.wake });
    } finally {
      await Promise.all(loops.length === 0 ? [wake.stop()] : loops.map((loop) => loop.stop()));
    }
  });
}

/** The pool, whose next `claim` finds no database. */
function failingOnce(pool: pg.Pool): pg.Pool {
  const state = { failed: false };
  const query = async (...given: readonly unknown[]) => {
    if (!state.failed && String(given[0]).includes('set claim = claim + 1, owner')) {
      state.failed = true;
      throw new Fault('Unreachable', 'postgres');
    }
    return (pool.query as (...all: readonly unknown[]) => Promise<unknown>)(...given);
  };
  return new Proxy(pool, {
    get: (target, name) => {
      const value: unknown = name === 'query' ? query : Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

it('a look that the database failed under is asked for again at once, without a resync', async () => {
  await looping(async ({ pool, engine, start, wake }) => {
    await engine.accept(testRelease({ serial: 1 }));
    const { rotation } = await engine.known(1);
    // The first resync is over when the loop has started; nothing is overdue yet.
    await start({ engine: { ...engine.engine, pool: failingOnce(pool) } });
    await wake(rotation);
    expect(await until(() => hasReceipt(pool, 1, 'adopt-revision', 'create-key'))).toBe(true);
  });
});

it('what Git took away is taken out of the policy right after the pass over Git, not at the next resync', async () => {
  await looping(async (running) => {
    const { engine, start } = running;
    await engine.accept(testRelease({ serial: 1, soakSeconds: 0 }));
    await engine.drive();
    const passes: (() => Promise<void>)[] = [async () => {}];
    const loop = await start({ takeIn: async () => passes.shift()?.() });
    expect(await until(() => passes.length === 0)).toBe(true);
    expect(granted(running)).toEqual([1]);
    passes.push(() => engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 })));
    loop.hint();
    expect(await until(() => JSON.stringify(granted(running)) === '[]')).toBe(true);
  });
});

it('a clock that is moved on lets what fell due begin at once, and wakes what rests until then, without a resync', async () => {
  await looping(async ({ pool, test, engine, start }) => {
    await engine.accept(testRelease({ serial: 1, soakSeconds: 0, rotateAfterDays: 30 }));
    await engine.drive();
    const loop = await start();
    const count = async (sql: string) => (await pool.query(sql)).rowCount;
    expect(await until(async () => (await count('select 1 from schedules')) === schedules.length)).toBe(true);
    await test.advance(31 * 86_400);
    loop.clockMoved();
    expect(await until(async () => (await count('select 1 from revisions')) === 2), 'the next epoch').toBe(true);
    await pool.query(
      `update runs set wake_at = instant() + interval '1 day', next_retry_at = instant() + interval '1 day', waiting_for = 'Soaking' where ended_at is null`,
    );
    await test.advance(2 * 86_400);
    loop.clockMoved();
    expect(await until(async () => (await count(`select 1 from runs where ended_at is null and waiting_for = 'Soaking'`)) === 0), 'looked at again').toBe(true);
  });
});

it('carries out a revocation, from the queue that stands in no line', async () => {
  await looping(async ({ pool, engine, start, wake }) => {
    const revocation = testRevocation({ kind: 'device', chipId: 'chip-1' });
    await engine.revoke(revocation);
    await start({ concurrency: 1 });
    const { rows } = await pool.query<{ id: string }>(`select id from runs where workflow = 'revoke'`);
    for (const { id } of rows) await wake(id);
    const isOver = async () => (await pool.query(`select 1 from receipts where step = 'refuse-at-proxies'`)).rowCount === 1;
    expect(await until(isOver)).toBe(true);
  });
});
