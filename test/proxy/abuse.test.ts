import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { expect, test, vi } from 'vitest';
import { openMetrics } from '#src/metrics.ts';
import { openRoom } from '#src/proxy/room.ts';
import { routeOf } from '#src/proxy/route.ts';
import { openUpstream } from '#src/proxy/upstream.ts';
import { fetchesOf } from '#state/fetches.ts';
import { withDatabase } from '#test/postgres.ts';
import { openBroker, openGuest, openTestProxy, until } from './stand.ts';

const PATH = 'eu/chat/s1-v1-0-00000000';
const URL_OF_PATH = `/kbs/v0/resource/${PATH}`;

/** Opens connections from one address that begin an attestation and never end it. */
async function dribble(url: string, count: number, from: string): Promise<readonly Socket[]> {
  const { hostname, port } = new URL(url);
  const sockets = Array.from({ length: count }, () => connect({ host: hostname, port: Number(port), localAddress: from }));
  await Promise.all(
    sockets.map(async (socket) => {
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      await new Promise((done) => socket.write('POST /kbs/v0/attest HTTP/1.1\r\nhost: kbs\r\ncontent-length: 100000\r\n\r\nx', done));
    }),
  );
  return sockets;
}

test('a path that is nearly one is read in no time: nobody makes the proxy think', () => {
  const segment = 'a'.repeat(169);
  const began = performance.now();
  for (let turn = 0; turn < 100; turn++) expect(routeOf('GET', `/kbs/v0/resource/${segment}/${segment}/${segment}!`).kind).toBe('nowhere');
  expect(performance.now() - began).toBeLessThan(500);
});

test('guests that dribble their evidence hold up nobody: neither a key nor another attestation', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH);
    const proxy = await openTestProxy(pool, broker);
    const guest = openGuest(proxy.url);
    const { cookie } = await guest.attest();
    const reached = broker.reached.length;
    const sockets = await dribble(proxy.url, 300, '127.64.9.1');
    expect((await guest.ask('GET', URL_OF_PATH, { cookie })).status).toBe(200);
    expect((await guest.attest()).told.status).toBe(200);
    expect(broker.reached, 'none of the others').toHaveLength(reached + 3);
    for (const socket of sockets) socket.destroy();
    await guest.close();
    await proxy.close();
    await broker.close();
  });
});

test('one address has a share of the open exchanges, and the rest stays for others', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    broker.released.add(URL_OF_PATH);
    const proxy = await openTestProxy(pool, broker);
    const [many, other] = [openGuest(proxy.url, '127.64.9.1'), openGuest(proxy.url, '127.64.9.2')];
    const { cookie } = await other.attest();
    let open = (): void => undefined;
    broker.hold = new Promise((done) => {
      open = done;
    });
    const refused: unknown[] = [];
    const told = Array.from({ length: 260 }, async () => {
      const answer = await many.ask('GET', URL_OF_PATH, { authorization: 'Bearer a.b.c' });
      if (answer.type === 'TooManyRequests') refused.push(answer.status);
      return answer;
    });
    await until(() => refused.length === 4);
    const held = other.ask('GET', URL_OF_PATH, { cookie });
    open();
    expect((await held).status).toBe(200);
    expect((await Promise.all(told)).filter(({ status }) => status === 200)).toHaveLength(256);
    expect((await many.ask('GET', URL_OF_PATH, { authorization: 'Bearer a.b.c' })).status, 'room is given back').toBe(200);
    await Promise.all([many.close(), other.close()]);
    await proxy.close();
    await broker.close();
  });
});

test('a guest that goes in the middle of its evidence is no fault of the KBS', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    const metrics = openMetrics();
    const proxy = await openTestProxy(pool, broker, { metrics });
    const guest = openGuest(proxy.url);
    for (const socket of await dribble(proxy.url, 8, '127.64.9.1')) socket.destroy();
    await guest.attest();
    expect(broker.reached).toHaveLength(2);
    expect((await metrics.faults.get()).values).toEqual([]);
    await guest.close();
    await proxy.close();
    await broker.close();
  });
});

test('whatever the KBS answers that is no error is a release, and on record before it goes out', async () => {
  await withDatabase(async (pool) => {
    const server = createServer((_, response) => response.writeHead(206, { 'content-type': 'application/json' }).end('{"ciphertext":"…"}'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const proxy = await openTestProxy(pool, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
    const guest = openGuest(proxy.url);
    expect((await guest.ask('GET', URL_OF_PATH, { cookie: 'kbs-session-id=aa' })).status).toBe(206);
    expect(await fetchesOf(pool, 'main', PATH, null)).toMatchObject([{ decision: 'released' }]);
    await guest.close();
    await proxy.close();
    server.closeAllConnections();
    server.close();
  });
});

test('a token that nobody signed fills no log', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    const proxy = await openTestProxy(pool, broker);
    const guest = openGuest(proxy.url);
    const long = Array.from({ length: 3000 }, (_, index) => `x${index}`);
    const payload = {
      iss: long,
      'ear.verifier-id': { build: long.join() },
      submods: { [long.join().slice(0, 5000)]: { 'ear.status': long }, cpu0: { 'ear.veraison.annotated-evidence': { init_data: { long } } } },
    };
    const token = ['{}', JSON.stringify(payload), 'signature'].map((part) => Buffer.from(part).toString('base64url')).join('.');
    expect((await guest.ask('GET', URL_OF_PATH, { authorization: `Bearer ${token}` })).type).toBe('PolicyDeny');
    expect(proxy.lines.at(-1)?.length ?? 0).toBeLessThan(4096);
    await guest.close();
    await proxy.close();
    await broker.close();
  });
});

test('a KBS that takes a question and never answers is given up, also by those that wait for a connection', async () => {
  const server = createServer(() => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const upstream = openUpstream({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, replicas: [], certificateAuthority: null });
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const question = { kind: 'resource', path: URL_OF_PATH, headers: {}, body: null, address: '127.64.0.1' } as const;
  const asked = Array.from({ length: 130 }, () => upstream.ask(question));
  const told = Promise.allSettled(asked);
  vi.advanceTimersByTime(30_000);
  vi.useRealTimers();
  for (const one of await told) expect(one).toMatchObject({ status: 'rejected', reason: { reason: 'Unreachable' } });
  await upstream.close();
  server.closeAllConnections();
  server.close();
});

test('room is shared: a quarter for one address, all of it for all, and given back it is there again', () => {
  const room = openRoom(100);
  expect(room.take('a', 25)).toBe(true);
  expect(room.take('a', 1)).toBe(false);
  for (const other of ['b', 'c']) expect(room.take(other, 25)).toBe(true);
  expect(room.take('d', 20)).toBe(true);
  expect(room.take('e', 6)).toBe(false);
  room.give('d', 10);
  room.give('a', 25);
  expect(room.take('e', 25)).toBe(true);
  expect(room.take('a', 16), 'what others hold is not there').toBe(false);
  expect(room.take('a', 15)).toBe(true);
});

test('the room of a body that was sent is given back', async () => {
  await withDatabase(async (pool) => {
    const broker = await openBroker();
    const proxy = await openTestProxy(pool, broker);
    const guest = openGuest(proxy.url, '127.64.9.1');
    const { cookie } = await guest.attest();
    const whole = 'x'.repeat(15 * 1024 * 1024);
    for (let turn = 0; turn < 5; turn++)
      expect((await guest.ask('POST', '/kbs/v0/attest', { cookie }, whole)).status, '5 are more than one address may hold').toBe(200);
    await guest.close();
    await proxy.close();
    await broker.close();
  });
});
