import type pg from 'pg';
import { expect, test } from 'vitest';
import { teeKeyOf } from '#src/domain/attestation-result.ts';
import type { ProxyOptions } from '#src/proxy/index.ts';
import { transaction } from '#state/database.ts';
import { denyPaths, liftEntries } from '#state/deny-list.ts';
import { fetchesOf } from '#state/fetches.ts';
import { proxiesAlive, proxiesBehind } from '#state/proxies.ts';
import { withDatabase } from '#test/postgres.ts';
import recorded from '../vectors/proxy/recorded.json' with { type: 'json' };
import { type Broker, type Guest, openBroker, openGuest, openTestProxy, speak, until } from './stand.ts';

const PATH = 'eu/chat/s1-v1-0-00000000';
const URL_OF_PATH = `/kbs/v0/resource/${PATH}`;
type TestProxy = Awaited<ReturnType<typeof openTestProxy>>;

/** A database, a stand-in that releases PATH, a proxy, and a guest at 127.64.0.1. */
async function withProxy(
  more: Partial<ProxyOptions>,
  fn: (parts: { pool: pg.Pool; broker: Broker; proxy: TestProxy; guest: Guest }) => Promise<void>,
): Promise<void> {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH);
    const proxy = await openTestProxy(pool, broker, more);
    const guest = openGuest(proxy.url);
    try {
      await fn({ pool, broker, proxy, guest });
    } finally {
      broker.hold = null;
      await guest.close();
      await proxy.close();
      await broker.close();
    }
  });
}

async function deny(pool: pg.Pool, path = PATH): Promise<void> {
  await transaction(pool, (tx) => denyPaths(tx, 'main', [path], 'retired'));
}

test('a guest’s handshake and fetch pass byte for byte, and both are on record, joined, when the answer is there', async () => {
  await withProxy({}, async ({ pool, broker, guest }) => {
    const { cookie, token, told } = await guest.attest();
    expect(told).toMatchObject({ status: 200, body: recorded.attest.body, headers: { 'content-type': 'application/json' } });
    const got = await guest.ask('GET', URL_OF_PATH, { cookie });
    expect(got).toMatchObject({ status: 200, body: recorded.released.body });
    const [fetch] = await fetchesOf(pool, 'main', PATH, null);
    expect(fetch).toMatchObject({
      decision: 'released',
      type: null,
      address: '127.64.0.1',
      handshake: { address: '127.64.0.1', token, teeKey: teeKeyOf(token) },
    });
    expect(broker.reached.map(({ line, bodyBytes }) => [line, bodyBytes])).toEqual([
      ['POST /kbs/v0/auth', 52],
      ['POST /kbs/v0/attest', 19],
      [`GET ${URL_OF_PATH}`, 0],
    ]);
  });
});

test('a bearer’s fetch is joined to the handshake that another proxy saw', async () => {
  await withProxy({}, async ({ pool, broker, proxy, guest }) => {
    const other = await openTestProxy(pool, broker);
    const elsewhere = openGuest(other.url);
    const { token } = await elsewhere.attest();
    await guest.ask('GET', URL_OF_PATH, { authorization: `Bearer ${token}` });
    const [fetch] = await fetchesOf(pool, 'main', PATH, null);
    expect(fetch?.handshake?.token).toBe(token);
    expect(proxy.url).not.toBe(other.url);
    await elsewhere.close();
    await other.close();
  });
});

test('the KBS’s errors pass with its body, without a content type; those with a credential are on record', async () => {
  await withProxy({}, async ({ pool, guest }) => {
    const { cookie } = await guest.attest();
    const denied = await guest.ask('GET', '/kbs/v0/resource/eu/other/v1', { cookie });
    expect(denied).toMatchObject({ status: 401, type: 'PolicyDeny', body: recorded.denied.body });
    expect(denied.headers['content-type']).toBeUndefined();
    const bare = await guest.ask('GET', '/kbs/v0/resource/eu/other/v1');
    expect(bare).toMatchObject({ status: 401, type: 'TokenNotFound' });
    await until(async () => (await fetchesOf(pool, 'main', 'eu/other/v1', null)).length === 1);
    const [fetch] = await fetchesOf(pool, 'main', 'eu/other/v1', null);
    expect(fetch).toMatchObject({ decision: 'refused', type: 'PolicyDeny' });
  });
});

test('nothing but auth, attest and canonical resource reads reaches the KBS; all else is 404', async () => {
  await withProxy({}, async ({ broker, proxy, guest }) => {
    const passing = (method: string, path: string): boolean =>
      (method === 'POST' && (path === '/kbs/v0/auth' || path === '/kbs/v0/attest')) ||
      (method === 'GET' && /^\/kbs\/v0\/resource\/models\/llama3-kek\/v\d+$/.test(path));
    const more = [
      '/kbs/v0/resource/a/b/c?x=1',
      '/kbs/v0/resource/a/b/c?',
      '/kbs/v0/resource/a%2Fb/c',
      '/kbs/v0/resource/a/b/%63',
      '//kbs/v0/resource/a/b/c',
      'http://kbs/kbs/v0/resource/a/b/c',
      '/kbs/v0/./resource/a/b/c',
    ];
    const most = [
      '/kbs/v0/resource/a/b/c/',
      '/kbs/v0//resource/a/b/c',
      '/kbs/v0/resource/a/b/..',
      '/KBS/v0/resource/a/b/c',
      '/kbs/v0/external/x',
      `/kbs/v0/resource/a/b/${'c'.repeat(600)}`,
      '/metrics',
    ];
    const asked = [...recorded.routes, ...[...more, ...most].map((path) => ({ method: 'GET', path }))].filter(({ method, path }) => !passing(method, path));
    for (const { method, path } of asked) {
      // Over a raw connection: a client would straighten the path.
      const told = await speak(proxy.url, [`${method} ${path} HTTP/1.1\r\nhost: kbs\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`]);
      expect([method, path, told.split(' ')[1]]).toEqual([method, path, '404']);
    }
    expect(broker.reached).toEqual([]);
    const plugin = recorded.routes.find(({ path }) => path === '/kbs/v0/nosuch/x');
    expect((await guest.ask('GET', '/kbs/v0/nosuch/x')).body).toBe(plugin?.body);
    expect(proxy.isOpen()).toBe(true);
  });
});

test('the prober’s own paths are refused to everybody', async () => {
  await withProxy({}, async ({ broker, guest }) => {
    const { cookie } = await guest.attest();
    expect(await guest.ask('GET', '/kbs/v0/resource/keyturn/probe/g000000000001', { cookie })).toMatchObject({ status: 404, type: 'PolicyDeny' });
    expect(broker.reached.filter(({ line }) => line.startsWith('GET'))).toEqual([]);
  });
});

test('what is denied is refused within a moment, with 404 in the KBS’s shape, before the KBS is asked, and acknowledged', async () => {
  await withProxy({}, async ({ pool, broker, guest }) => {
    const { cookie } = await guest.attest();
    expect((await guest.ask('GET', URL_OF_PATH, { cookie })).status).toBe(200);
    await deny(pool);
    await until(async () => (await proxiesBehind(pool, 'main', PATH)).length === 0);
    const asked = broker.reached.length;
    const told = await guest.ask('GET', URL_OF_PATH, { cookie });
    expect(told).toMatchObject({ status: 404, type: 'PolicyDeny' });
    expect(told.headers['content-type']).toBeUndefined();
    expect(broker.reached).toHaveLength(asked);
    await until(async () => (await fetchesOf(pool, 'main', PATH, null)).some(({ type }) => type === 'DenyList'));
  });
});

test('a release that the KBS is busy with when the path is denied never goes out', async () => {
  await withProxy({}, async ({ pool, broker, guest }) => {
    const { cookie } = await guest.attest();
    let letGo = (): void => undefined;
    broker.hold = new Promise((done) => {
      letGo = done;
    });
    const told = guest.ask('GET', URL_OF_PATH, { cookie });
    await until(() => broker.reached.some(({ line }) => line.startsWith('GET')));
    await deny(pool);
    await until(async () => (await proxiesBehind(pool, 'main', PATH)).length === 0);
    letGo();
    expect(await told).toMatchObject({ status: 404, type: 'PolicyDeny' });
    await until(async () => (await fetchesOf(pool, 'main', PATH, null)).length > 0);
    expect((await fetchesOf(pool, 'main', PATH, null)).map(({ type }) => type)).toEqual(['DenyList']);
  });
});

test('what was denied before it started is refused from the first request on, the other KBS’s list is not its own', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH).add('/kbs/v0/resource/a/b/c');
    await deny(pool);
    await transaction(pool, (tx) => denyPaths(tx, 'other', ['a/b/c'], 'retired'));
    const proxy = await openTestProxy(pool, broker);
    const guest = openGuest(proxy.url);
    const { cookie } = await guest.attest();
    expect((await guest.ask('GET', URL_OF_PATH, { cookie })).status).toBe(404);
    expect((await guest.ask('GET', '/kbs/v0/resource/a/b/c', { cookie })).status).toBe(200);
    await guest.close();
    expect(await proxiesAlive(pool)).toHaveLength(1);
    await proxy.close();
    expect(await proxiesAlive(pool)).toEqual([]);
    await broker.close();
  });
});

test('a proxy can be waited for from before it first reads the list', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    const denying = await pool.connect();
    await denying.query('begin');
    await denyPaths(denying, 'main', [PATH], 'retired');
    await denying.query('lock table deny_list in access exclusive mode');
    const opening = openTestProxy(pool, broker);
    await until(async () => (await proxiesAlive(pool)).length === 1);
    await denying.query('commit');
    denying.release();
    const proxy = await opening;
    expect((await proxiesAlive(pool))[0]?.acknowledged).toBeGreaterThan(0);
    await proxy.close();
    await broker.close();
  });
});

test('an entry that names init-data or a device refuses the guests that have it, and those that nobody knows', async () => {
  await withProxy({}, async ({ pool, broker, guest }) => {
    const { cookie, token } = await guest.attest();
    const initData = 'HipL4aGnmksGjsQxJf5Gg5Ay8NrNu6/acJCypX9s6qqC2u+AzSeuGoWZ2Obc3nBS';
    await pool.query(`insert into deny_list (kbs, device, because) values ('main', 'some other chip', 'sha256:00')`);
    await pool.query(`select pg_notify('keyturn_deny', 'main')`);
    const unknown = { cookie: 'kbs-session-id=00000000000000000000000000000000' };
    await until(async () => (await guest.ask('GET', URL_OF_PATH, unknown)).status === 404);
    expect((await guest.ask('GET', URL_OF_PATH, { cookie })).status).toBe(200);
    await pool.query(`insert into deny_list (kbs, init_data, because) values ('main', $1, 'sha256:00')`, [initData]);
    await pool.query(`select pg_notify('keyturn_deny', 'main')`);
    await until(async () => (await guest.ask('GET', URL_OF_PATH, { cookie })).status === 404);
    const asked = broker.reached.length;
    expect((await guest.ask('GET', URL_OF_PATH, { authorization: `Bearer ${token}` })).status).toBe(404);
    expect(broker.reached).toHaveLength(asked);
  });
});

test('a lift lets a guest in again that no other entry names, and never a path', async () => {
  await withProxy({}, async ({ pool, guest }) => {
    const { cookie } = await guest.attest();
    const initData = 'HipL4aGnmksGjsQxJf5Gg5Ay8NrNu6/acJCypX9s6qqC2u+AzSeuGoWZ2Obc3nBS';
    const status = async () => (await guest.ask('GET', URL_OF_PATH, { cookie })).status;
    const lift = (because: string) => transaction(pool, (tx) => liftEntries(tx, 'main', because, 'sha256:lift'));
    for (const because of ['sha256:00', 'sha256:01'])
      await pool.query(`insert into deny_list (kbs, init_data, because) values ('main', $1, $2)`, [initData, because]);
    await pool.query(`select pg_notify('keyturn_deny', 'main')`);
    await until(async () => (await status()) === 404);
    await lift('sha256:00');
    const { rows } = await pool.query<{ last: number }>('select max(id) as last from deny_list');
    await until(async () => (await pool.query('select 1 from proxies where acknowledged >= $1', [rows[0]?.last])).rowCount === 1);
    expect(await status(), 'the other names it still').toBe(404);
    await lift('sha256:01');
    await until(async () => (await status()) === 200);
    await deny(pool);
    await until(async () => (await status()) === 404);
    await lift('retired');
    await pool.query(`insert into deny_list (kbs, lifts, because) select 'main', id, 'by hand' from deny_list where path is not null`);
    await pool.query(`select pg_notify('keyturn_deny', 'main')`);
    const { rows: after } = await pool.query<{ last: number }>('select max(id) as last from deny_list');
    await until(async () => (await pool.query('select 1 from proxies where acknowledged >= $1', [after[0]?.last])).rowCount === 1);
    expect(await status(), 'a path is never lifted').toBe(404);
  });
});

test('one credential goes on: the token before the session, and no session where two are named', async () => {
  await withProxy({}, async ({ broker, guest }) => {
    const { cookie, token } = await guest.attest();
    await guest.ask('GET', URL_OF_PATH, { cookie, authorization: `Bearer ${token}`, 'x-forwarded-for': '10.0.0.1' });
    expect(broker.reached.at(-1)?.headers).toMatchObject({ authorization: `Bearer ${token}` });
    expect(broker.reached.at(-1)?.headers.cookie).toBeUndefined();
    expect(broker.reached.at(-1)?.headers['x-forwarded-for']).toBeUndefined();
    expect(await guest.ask('GET', URL_OF_PATH, { cookie: `${cookie}; kbs-session-id=aa` })).toMatchObject({ status: 401, type: 'TokenNotFound' });
    expect((await guest.ask('GET', URL_OF_PATH, { cookie: `theme=dark; ${cookie}` })).status).toBe(200);
  });
});

test('neither cookies nor tokens nor bodies are in the log or, but for the token, in a row', async () => {
  await withProxy({}, async ({ pool, proxy, guest }) => {
    const { cookie, token } = await guest.attest();
    await guest.ask('GET', URL_OF_PATH, { cookie });
    await guest.ask('GET', URL_OF_PATH, { authorization: `Bearer ${token}` });
    const session = cookie.split('=')[1] ?? '';
    const said = proxy.lines.join('\n');
    for (const secret of [session, token, token.split('.')[2] ?? '', JSON.parse(recorded.released.body).ciphertext as string])
      expect(said).not.toContain(secret);
    const { rows } = await pool.query<{ all: string }>(
      'select (select json_agg(h)::text from handshakes h) || (select json_agg(f)::text from fetches f) as all',
    );
    expect(rows[0]?.all).not.toContain(session);
    expect(said).toContain('"policyGeneration":0');
    expect(said).toContain('"attestation":{"cpu0":"affirming"}');
  });
});
