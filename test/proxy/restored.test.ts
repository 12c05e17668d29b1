/** A database that was restored, or failed over with a loss, knows less than a proxy that stayed up: its next entries have numbers that were used. */
import { expect, test } from 'vitest';
import { transaction } from '#state/database.ts';
import { deny, denyPaths, liftEntries } from '#state/deny-list.ts';
import { withDatabase } from '#test/postgres.ts';
import { openBroker, openGuest, openTestProxy, until } from './stand.ts';

const PATH = 'eu/chat/s1-v1-0-00000000';
const LATER = 'eu/chat/s2-v2-0-11111111';
const urlOf = (path: string): string => `/kbs/v0/resource/${path}`;

test('a proxy refuses what is denied after its database was set back, and says so only then', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    for (const path of [PATH, LATER]) broker.released.add(urlOf(path));
    const lost = ['eu/old/s1-v1-0-22222222', 'eu/old/s2-v1-0-33333333', PATH];
    await transaction(pool, (tx) => denyPaths(tx, 'main', lost, 'sha256:lost'));
    const proxy = await openTestProxy(pool, broker);
    const guest = openGuest(proxy.url);
    const { cookie } = await guest.attest();
    const ask = async (path: string) => (await guest.ask('GET', urlOf(path), { cookie })).status;
    expect([await ask(PATH), await ask(LATER)]).toEqual([404, 200]);
    await transaction(pool, async (tx) => {
      await tx.query('delete from deny_list');
      await tx.query('alter table deny_list alter column id restart with 1');
      await denyPaths(tx, 'main', [LATER], 'sha256:after');
    });
    await until(async () => (await ask(LATER)) === 404);
    expect(await ask(PATH), 'what was lost with the database stays refused until this proxy ends').toBe(404);
    const { rows } = await pool.query('select acknowledged from proxies');
    expect(rows, 'its word counts for the entries that there are').toEqual([{ acknowledged: 1 }]);
    await guest.close();
    await proxy.close();
    await broker.close();
  });
});

test('a proxy sees that the last number it read is another entry’s by now; a guest that it read twice is let in by one lift', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    for (const path of [PATH, LATER]) broker.released.add(urlOf(path));
    const proxy = await openTestProxy(pool, broker);
    const guest = openGuest(proxy.url);
    const { cookie } = await guest.attest();
    const ask = async (path: string) => (await guest.ask('GET', urlOf(path), { cookie })).status;
    const initData = 'HipL4aGnmksGjsQxJf5Gg5Ay8NrNu6/acJCypX9s6qqC2u+AzSeuGoWZ2Obc3nBS';
    await transaction(pool, async (tx) => {
      await deny(tx, 'main', { paths: [], initData: [initData], devices: [] }, 'sha256:held');
      await denyPaths(tx, 'main', ['eu/old/s1-v1-0-22222222'], 'sha256:lost');
    });
    await until(async () => (await ask(PATH)) === 404);
    await pool.query(`update deny_list set path = $1, because = 'sha256:after' where because = 'sha256:lost'`, [LATER]);
    // It acknowledges no entry but those that it read anew, the last of which has the same number as before.
    await pool.query(`update proxies set acknowledged = 0`);
    await until(async () => (await pool.query('select 1 from proxies where acknowledged > 0')).rowCount === 1);
    await transaction(pool, (tx) => liftEntries(tx, 'main', 'sha256:held', 'sha256:lift'));
    await until(async () => (await ask(PATH)) === 200);
    expect(await ask(LATER)).toBe(404);
    await guest.close();
    await proxy.close();
    await broker.close();
  });
});
