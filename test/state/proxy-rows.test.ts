import { expect, test } from 'vitest';
import type { Boot } from '#src/domain/kbs.ts';
import { type Instant, parseInstant } from '#src/instant.ts';
import { countBoot, sightBoots, sightingsAt } from '#state/boots.ts';
import { transaction } from '#state/database.ts';
import { brokersNaming, denyCounts, denyListSince, denyPaths, liftEntries } from '#state/deny-list.ts';
import { type FetchRecord, fetchesOf, recordFetch, recordFetches } from '#state/fetches.ts';
import { findHandshake, type HandshakeRecord, recordHandshake } from '#state/handshakes.ts';
import { noteProber } from '#state/probers.ts';
import { acknowledge, forgetProxy, proxiesAlive, proxiesBehind } from '#state/proxies.ts';
import { withDatabase } from '#test/postgres.ts';

const handshake: HandshakeRecord = { kbs: 'main', proxy: 'p1', address: '127.64.0.1', sessionDigest: 's1', tokenDigest: 't1', token: 'a.b.c', teeKey: 'k1' };
const fetch: FetchRecord = {
  kbs: 'main',
  proxy: 'p1',
  path: 'eu/chat/s1-v1-0-00000000',
  address: '127.64.0.1',
  sessionDigest: 's1',
  tokenDigest: null,
  decision: 'released',
  status: 200,
  type: null,
  requestId: 'q1',
};

test('a fetch is joined to the newest handshake of its session or of its token, and carries the KBS’s generation', async () => {
  await withDatabase(async (pool) => {
    await pool.query(`insert into brokers (name, repository, generation) values ('main', 'eu', 7)`);
    await recordHandshake(pool, handshake);
    const second = await recordHandshake(pool, { ...handshake, tokenDigest: 't2', token: 'd.e.f' });
    await recordHandshake(pool, { ...handshake, kbs: 'other' });
    await recordFetches(pool, [fetch, { ...fetch, sessionDigest: null, tokenDigest: 't1' }, { ...fetch, sessionDigest: 'unknown', requestId: 'q3' }]);
    const fetches = await fetchesOf(pool, 'main', fetch.path, null);
    expect(fetches.map((one) => one.handshake?.token ?? null)).toEqual(['d.e.f', 'a.b.c', null]);
    expect(fetches[0]?.handshake).toMatchObject({ id: second, address: '127.64.0.1', teeKey: 'k1' });
    const { rows } = await pool.query<{ generation: number }>('select distinct generation from fetches');
    expect(rows).toEqual([{ generation: 7 }]);
    expect(await findHandshake(pool, 'main', { session: 's1' })).toMatchObject({ id: second });
    expect(await findHandshake(pool, 'main', { token: 't9' })).toBeNull();
  });
});

test('fetches are those of one KBS and path since an instant, oldest first, without the prober’s', async () => {
  await withDatabase(async (pool) => {
    await recordHandshake(pool, handshake);
    await recordHandshake(pool, { ...handshake, sessionDigest: 'probe', teeKey: 'prober' });
    await noteProber(pool, 'prober');
    await noteProber(pool, 'prober');
    await recordFetch(pool, fetch);
    await pool.query(`update installation set clock_offset = '1 minute'`);
    const { rows } = await pool.query<{ at: Instant }>(`select instant() - interval '30 seconds' as at`);
    const since = rows[0]?.at ?? parseInstant('2026-01-01T00:00:00Z');
    await recordFetches(pool, [
      { ...fetch, decision: 'refused', status: 401, type: 'PolicyDeny', requestId: 'q2' },
      { ...fetch, sessionDigest: 'probe', requestId: 'q3' },
      { ...fetch, path: 'eu/chat/s2-v2-0-00000000', requestId: 'q4' },
      { ...fetch, kbs: 'other', requestId: 'q5' },
      { ...fetch, sessionDigest: null, requestId: 'q6' },
    ]);
    expect((await fetchesOf(pool, 'main', fetch.path, null)).map((one) => one.decision)).toEqual(['released', 'refused', 'released']);
    const later = await fetchesOf(pool, 'main', fetch.path, since);
    expect(later.map((one) => [one.decision, one.type, one.handshake?.teeKey ?? null])).toEqual([
      ['refused', 'PolicyDeny', 'k1'],
      ['released', null, null],
    ]);
  });
});

test('a TEE key counts for one boot, and a boot for one TEE key, for good', async () => {
  await withDatabase(async (pool) => {
    const startedAt = parseInstant('2026-11-23T10:00:00Z');
    const boot: Boot = { cluster: 'c', podUid: 'u1', containerId: 'x1', pod: 'chat-1', address: '127.64.0.1', startedAt };
    const restarted: Boot = { ...boot, containerId: 'x2' };
    await sightBoots(pool, [boot, restarted, boot]);
    await sightBoots(pool, [{ ...boot, address: '127.64.9.9' }]);
    expect(await sightingsAt(pool, '127.64.0.1')).toEqual([boot, restarted]);
    expect(await sightingsAt(pool, '127.64.9.9')).toEqual([]);
    expect(await countBoot(pool, boot, 'k1')).toBe(true);
    expect(await countBoot(pool, boot, 'k1')).toBe(true);
    expect(await countBoot(pool, restarted, 'k1')).toBe(false);
    expect(await countBoot(pool, boot, 'k2')).toBe(false);
    expect(await countBoot(pool, restarted, 'k2')).toBe(true);
    expect(await countBoot(pool, { ...boot, podUid: 'never sighted' }, 'k3')).toBe(false);
  });
});

test('two boots that claim one TEE key at the same moment: exactly one has it', async () => {
  await withDatabase(async (pool) => {
    const startedAt = parseInstant('2026-11-23T10:00:00Z');
    const boots = ['x1', 'x2'].map((containerId) => ({ cluster: 'c', podUid: 'u', containerId, pod: 'chat', address: '127.64.0.1', startedAt }));
    await sightBoots(pool, boots);
    const counted = await Promise.all(boots.map((boot) => countBoot(pool, boot, 'k')));
    expect(counted.filter(Boolean)).toHaveLength(1);
  });
});

test('the deny-list grows with the transaction, once for each cause, and tells who listens', async () => {
  await withDatabase(async (pool) => {
    const listener = await pool.connect();
    const heard: string[] = [];
    listener.on('notification', ({ payload }) => heard.push(payload ?? ''));
    await listener.query('listen keyturn_deny');
    await transaction(pool, async (tx) => {
      await denyPaths(tx, 'main', ['a/b/c', 'a/b/d', 'a/b/c'], 'retired');
      await denyPaths(tx, 'other', [], 'retired');
    });
    await transaction(pool, (tx) => denyPaths(tx, 'main', ['a/b/c'], 'retired'));
    await transaction(pool, (tx) => denyPaths(tx, 'main', ['a/b/c'], 'sha256:00'));
    await transaction(pool, async (tx) => {
      await denyPaths(tx, 'main', ['a/b/rolled-back'], 'retired');
      throw new Error('no');
    }).catch(() => undefined);
    const entries = await denyListSince(pool, 'main', 0);
    expect(entries.map(({ path, because }) => [path, because])).toEqual([
      ['a/b/c', 'retired'],
      ['a/b/d', 'retired'],
      ['a/b/c', 'sha256:00'],
    ]);
    expect(await denyListSince(pool, 'main', entries[1]?.id ?? 0)).toHaveLength(1);
    expect(await denyCounts(pool)).toEqual([{ kbs: 'main', entries: 3 }]);
    await listener.query('select 1');
    expect(heard).toEqual(['main', 'main', 'main']);
    listener.release(true);
  });
});

test('a lift is a row of its own for each guest that the revocation names, once; a path has none', async () => {
  await withDatabase(async (pool) => {
    await transaction(pool, (tx) => denyPaths(tx, 'main', ['a/b/c'], 'sha256:00'));
    await pool.query(
      `insert into deny_list (kbs, device, because) values ('main', 'chip', 'sha256:00'), ('main', 'chip', 'sha256:01'), ('other', 'chip', 'sha256:00')`,
    );
    expect(await brokersNaming(pool, 'sha256:00')).toEqual(['main', 'other']);
    for (let time = 0; time < 2; time += 1) await transaction(pool, (tx) => liftEntries(tx, 'main', 'sha256:00', 'sha256:lift'));
    const entries = await denyListSince(pool, 'main', 0);
    expect(entries.map(({ path, device, lifts }) => [path, device, lifts])).toEqual([
      ['a/b/c', null, null],
      [null, 'chip', null],
      [null, 'chip', null],
      [null, null, entries[1]?.id],
    ]);
    await expect(pool.query(`insert into deny_list (kbs, path, lifts, because) values ('main', 'a/b/d', $1, '')`, [entries[2]?.id])).rejects.toThrow();
  });
});

test('entries become visible in the order of their ids, so that an acknowledgement covers all lower ones', async () => {
  await withDatabase(async (pool) => {
    const slow = await pool.connect();
    await slow.query('begin');
    await denyPaths(slow, 'main', ['a/b/first'], 'retired');
    const second = transaction(pool, (tx) => denyPaths(tx, 'main', ['a/b/second'], 'retired'));
    const early = await Promise.race([second.then(() => 'committed'), pool.query('select pg_sleep(0.2)').then(() => 'waits')]);
    expect(early).toBe('waits');
    expect(await denyListSince(pool, 'main', 0)).toEqual([]);
    await slow.query('commit');
    slow.release();
    await second;
    expect((await denyListSince(pool, 'main', 0)).map(({ path }) => path)).toEqual(['a/b/first', 'a/b/second']);
  });
});

test('a proxy is waited for until it acknowledges the entry, or has been silent for so long that it refuses everything', async () => {
  await withDatabase(async (pool) => {
    const behind = async (path: string): Promise<string[]> => (await proxiesBehind(pool, 'main', path)).map(({ proxy }) => proxy);
    await acknowledge(pool, { id: 'p1', kbs: 'main', acknowledged: 0, staleSeconds: 300 });
    await acknowledge(pool, { id: 'p2', kbs: 'main', acknowledged: 0, staleSeconds: 20 });
    await acknowledge(pool, { id: 'p3', kbs: 'other', acknowledged: 0, staleSeconds: 300 });
    await transaction(pool, (tx) => denyPaths(tx, 'main', ['a/b/c'], 'retired'));
    expect(await behind('a/b/c')).toEqual(['p1', 'p2']);
    const [entry] = await denyListSince(pool, 'main', 0);
    await acknowledge(pool, { id: 'p1', kbs: 'main', acknowledged: entry?.id ?? 0, staleSeconds: 300 });
    await acknowledge(pool, { id: 'p1', kbs: 'main', acknowledged: 0, staleSeconds: 300 });
    expect(await behind('a/b/c')).toEqual(['p2']);
    expect(await behind('a/b/never-denied')).toEqual(['p1', 'p2']);
    await pool.query(`update installation set clock_offset = '21 seconds'`);
    expect(await behind('a/b/c')).toEqual(['p2']);
    await pool.query(`update installation set clock_offset = '23 seconds'`);
    expect(await behind('a/b/c')).toEqual([]);
    expect((await proxiesAlive(pool)).map(({ id }) => id)).toEqual(['p1', 'p3']);
    await forgetProxy(pool, 'p1');
    expect((await proxiesAlive(pool)).map(({ id }) => id)).toEqual(['p3']);
  });
});
