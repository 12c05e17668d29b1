import pg from 'pg';
import { expect, test } from 'vitest';
import { millisecondsOf } from '#src/instant.ts';
import { moveClock, openClock } from '#src/lab/clock.ts';
import { clockOf } from '#state/database.ts';
import { acknowledge, proxiesAlive } from '#state/proxies.ts';
import { withDatabase } from '#test/postgres.ts';

const DAYS = 30 * 86_400;
/** What the far sides may be behind, and what a loaded machine takes between two looks. */
const CLOSE_MILLISECONDS = 60_000;

test('a clock that is moved on is everybody’s: the database’s, the far sides’, and that of whoever listens', async () => {
  await withDatabase(async (pool, url) => {
    const clock = await openClock(url);
    const listener = new pg.Client({ connectionString: url });
    await listener.connect();
    await listener.query('listen keyturn_clock');
    const told = new Promise((resolve) => listener.once('notification', resolve));
    const before = millisecondsOf(await clockOf(pool)());
    await moveClock(url, DAYS);
    await told;
    const moved = millisecondsOf(await clockOf(pool)()) - before;
    expect(moved).toBeGreaterThanOrEqual(DAYS * 1000);
    expect(moved).toBeLessThan(DAYS * 1000 + CLOSE_MILLISECONDS);
    await expect.poll(async () => (await clock.now()) - before, { timeout: 10_000 }).toBeGreaterThanOrEqual(DAYS * 1000);
    await listener.end();
    await clock.close();
  });
});

test('a proxy that was heard of just now is not silent because the clock was moved', async () => {
  await withDatabase(async (pool, url) => {
    await acknowledge(pool, { id: 'one', kbs: 'main', acknowledged: 0, staleSeconds: 300 });
    await moveClock(url, DAYS);
    expect(await proxiesAlive(pool)).toMatchObject([{ id: 'one' }]);
  });
});
