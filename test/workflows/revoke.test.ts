import { expect, it } from 'vitest';
import { keyPath } from '#src/domain/paths.ts';
import { openRevocationRecords } from '#src/domain/revocation-record.ts';
import { verifyExport } from '#src/domain/verify-export.ts';
import { keep } from '#src/engine/keeper.ts';
import { makeRevokedLook } from '#src/engine/look.ts';
import { acceptRelease } from '#state/acceptance.ts';
import { transaction } from '#state/database.ts';
import { exportReceipts, runReceipts } from '#state/receipts.ts';
import { readRun } from '#state/runs.ts';
import { revoke } from '#workflows/revoke.ts';
import { evictPods } from '#workflows/steps/evict-pods.ts';
import { testRelease } from '../world/release.ts';
import { granted, type Story, stored, tell, testRevocation } from '../world/story.ts';

const KEY_1 = testRevocation({ kind: 'key', workload: 'chat', epoch: 1 });
const RELEASE_2 = testRevocation({ kind: 'release', workload: 'chat', serial: 2 });

interface RunRow {
  readonly id: string;
  readonly waiting_for: string | null;
  readonly about: string | null;
  readonly ended: boolean;
}

async function revokeRun({ pool }: Story, digest: string): Promise<RunRow> {
  const { rows } = await pool.query<RunRow>(
    `select id, waiting_for, about, ended_at is not null as ended from runs where workflow = 'revoke' and revocation = $1`,
    [digest],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('no revoke run');
  return row;
}

async function stepsOf(story: Story, digest: string): Promise<readonly string[]> {
  const { id } = await revokeRun(story, digest);
  return (await runReceipts(story.pool, id)).map(({ step }) => step);
}

it('a revoked release is refused, deleted and touched by a run of its own, with a receipt for each', async () => {
  await tell({}, async (story) => {
    const { engine, pool } = story;
    expect(await engine.accept(testRelease({ serial: 1, keepPreviousSeconds: 3600 }))).toBeNull();
    await engine.driveTo(1, 'confirm-serving');
    expect(await engine.accept(testRelease({ serial: 2, keepPreviousSeconds: 3600 }))).toBeNull();
    await engine.driveTo(2, 'confirm-serving');
    expect(granted(story)).toEqual([1, 2]);
    await engine.revoke(RELEASE_2);
    await engine.drive(async () => (await revokeRun(story, RELEASE_2.digest)).ended);
    expect(new Set(await stepsOf(story, RELEASE_2.digest))).toEqual(new Set(revoke.steps.map(({ name }) => name)));
    expect(granted(story)).toEqual([1]);
    expect(stored(story)).toEqual([1]);
    const { id } = await revokeRun(story, RELEASE_2.digest);
    const [first] = await runReceipts(pool, id);
    expect(first?.subject).toEqual({ kind: 'revocation', revocation: RELEASE_2.digest });
  });
});

it('a workload whose only key is revoked goes on under the next one, re-encrypted; the old key is disabled last', async () => {
  await tell({}, async (story) => {
    const { engine, test, pool } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'confirm-serving');
    await engine.revoke(KEY_1);
    expect(stored(story)).toEqual([1]);
    await engine.drive(async () => (await revokeRun(story, KEY_1.digest)).ended);
    const { rows } = await pool.query('select s.epoch, r.state from revisions r join sealings s on s.id = r.sealing order by r.id');
    expect(rows).toEqual([
      { epoch: 1, state: expect.stringMatching(/^(serving|closing|retired)$/) },
      { epoch: 2, state: 'serving' },
    ]);
    const [old] = test.kms.keys((await engine.known(1)).rotation);
    expect(old?.state).toBe('deactivated');
    expect((await stepsOf(story, KEY_1.digest)).at(-1)).toBe('disable-keys');
  });
});

it('what was fallen back to goes on under its next key too, though the newest release is revoked and retired', async () => {
  await tell({}, async (story) => {
    const { engine, test, pool } = story;
    for (const serial of [1, 2]) {
      await engine.accept(testRelease({ serial, soakSeconds: 0, keepPreviousSeconds: serial === 1 ? 0 : 3600 }));
      await engine.driveTo(serial, 'confirm-serving');
    }
    await engine.revoke(RELEASE_2);
    await engine.drive(async () => (await engine.known(2)).state === 'retired' && (await engine.known(1)).state === 'serving');
    await engine.revoke(KEY_1);
    await engine.drive();
    const { rows } = await pool.query('select r.serial, s.epoch, r.state from revisions r join sealings s on s.id = r.sealing order by r.id');
    expect(rows).toEqual([
      { serial: 1, epoch: 1, state: 'retired' },
      { serial: 2, epoch: 2, state: 'retired' },
      { serial: 1, epoch: 3, state: 'serving' },
    ]);
    expect(test.cluster.all().every(({ ready }) => ready)).toBe(true);
    expect(stored(story)).toEqual([1]);
  });
});

it('one of several workloads is woken by a change of the target of any of them', async () => {
  await tell({}, async (story) => {
    const { engine, pool } = story;
    for (const workload of ['chat', 'embed']) await engine.accept(testRelease({ workload, serial: 1 }));
    const revocation = testRevocation({ kind: 'all' });
    await engine.revoke(revocation);
    const { id } = await revokeRun(story, revocation.digest);
    const woken: string[] = [];
    await transaction(pool, (tx) => acceptRelease(tx, testRelease({ workload: 'embed', serial: 2 }), async (_, run) => void woken.push(run)));
    expect(woken).toContain(id);
  });
});

it('evicts at an object that was not there when the holders were listed, too', async () => {
  await tell({}, async (story) => {
    const { engine, test, pool } = story;
    await engine.accept(testRelease({ serial: 1, keepPreviousSeconds: 3600 }));
    await engine.driveTo(1, 'confirm-serving');
    const [first] = test.cluster.all();
    if (first === undefined) throw new Error('no pod');
    const revocation = { ...KEY_1, evict: true };
    await engine.revoke(revocation);
    const run = await readRun(pool, (await revokeRun(story, revocation.digest)).id);
    if (run === null) throw new Error('no run');
    const look = await makeRevokedLook(engine.engine, run);
    const listed = (holders: Readonly<Record<string, readonly string[]>>) => ({
      ...look,
      subject: { ...look.subject, facts: { ...look.subject.facts, holders } },
    });
    expect(await evictPods.observe(listed({ 'east/inference/chat': [] }))).toMatchObject({ kind: 'seen' });
    expect(await evictPods.observe(listed({ 'east/inference/chat': [first.uid] }))).toMatchObject({
      waitingFor: 'PodsNotEvicted',
      about: expect.not.stringContaining('more'),
    });
    expect(await evictPods.observe(listed({}))).toMatchObject({ waitingFor: 'PodsNotEvicted', about: expect.stringContaining('and 2 more') });
    expect(await evictPods.observe(listed({ 'west/inference/chat': [] }))).toMatchObject({ waitingFor: 'PodsNotEvicted' });
  });
});

it('what is held keeps its key until there is a successor, and says so; all else is refused', async () => {
  await tell({}, async (story) => {
    const { engine } = story;
    const revocation = testRevocation({ kind: 'workload', workload: 'chat' });
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'confirm-serving');
    await engine.revoke(revocation);
    await engine.drive(async () => (await revokeRun(story, revocation.digest)).waiting_for === 'Held');
    expect(await stepsOf(story, revocation.digest)).toContain('confirm-refused');
    expect(await stepsOf(story, revocation.digest)).not.toContain('disable-keys');
    expect(stored(story)).toEqual([]);
  });
});

it('a KBS that is down keeps no object from being touched and no proxy from being asked', async () => {
  await tell({}, async (story) => {
    const { engine, test } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'confirm-serving');
    test.kbs.silent = true;
    await engine.revoke(KEY_1);
    await engine.round();
    expect(await stepsOf(story, KEY_1.digest)).toEqual(expect.arrayContaining(['refuse-at-proxies', 'touch-objects']));
  });
});

it('evicts the pods of what was revoked where the document says so, and no other', async () => {
  await tell({}, async (story) => {
    const { engine, test } = story;
    await engine.accept(testRelease({ serial: 1, keepPreviousSeconds: 3600 }));
    await engine.driveTo(1, 'confirm-serving');
    const before = test.cluster.all().map(({ uid }) => uid);
    const evicting = { ...KEY_1, evict: true };
    await engine.revoke(evicting);
    await engine.drive(async () => (await stepsOf(story, KEY_1.digest)).includes('evict-pods'));
    expect(test.cluster.all().filter(({ uid }) => before.includes(uid))).toEqual([]);
  });
});

it('its export says offline who revoked what, why, and when each refusal was seen', async () => {
  await tell({}, async (story) => {
    const { engine, pool, test } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'confirm-serving');
    await engine.revoke(KEY_1);
    await engine.drive(async () => (await stepsOf(story, KEY_1.digest)).includes('confirm-refused'));
    const lines: string[] = [];
    await exportReceipts(pool, test.world.signer, 'test', async (line) => void lines.push(line));
    const bytes = (async function* () {
      yield Buffer.from(lines.join(''));
    })();
    const records = openRevocationRecords();
    expect(await verifyExport(bytes, test.world.signer.publicKeyPem, null, records.hear)).toMatchObject({ kind: 'verified' });
    const [record, ...more] = records.all();
    expect([record, more]).toMatchObject([
      {
        revocation: KEY_1.digest,
        said: { id: KEY_1.id, subject: KEY_1.subject, reason: KEY_1.reason, why: KEY_1.why, approvedBy: ['rex'], recovery: KEY_1.recovery },
        generations: { main: expect.any(Number) },
      },
      [],
    ]);
    const seen = record?.seen.map(({ step }) => step) ?? [];
    expect(seen).toEqual(expect.arrayContaining(['refuse-at-proxies', 'publish-policy', 'delete-resources', 'touch-objects', 'confirm-refused']));
    expect(record?.seen.every(({ at }) => at !== null)).toBe(true);
  });
});

it('a policy writer that freezes between its token and its send un-revokes nothing when it wakes: proxy and broker each refuse by themselves', async () => {
  await tell({}, async (story) => {
    const { engine, test } = story;
    await engine.accept(testRelease({ serial: 1, keepPreviousSeconds: 3600 }));
    await engine.driveTo(1, 'confirm-serving');
    const release = testRelease({ serial: 2 });
    await engine.accept(release);
    await engine.driveTo(2, 'put-resource');
    test.network.befall(/main policy/, 'late');
    await engine.round();
    expect([granted(story), stored(story)]).toEqual([[1], [1, 2]]);
    await engine.revoke(RELEASE_2);
    for (let rounds = 0; rounds < 3; rounds += 1) await engine.round();
    expect(await stepsOf(story, RELEASE_2.digest)).toContain('confirm-refused');
    expect(await test.network.land(/main policy/)).toBe(1);
    // The measurement as well, as if somebody else still listed it: no refusal rests on it.
    test.kbs.referenceValues.set('svn', ['1', '2']);
    expect(granted(story), 'the stale text is in force').toEqual([1, 2]);
    const path = keyPath(test.kbs.repository, await engine.known(2));
    const guest = { tee: 'sample', svn: '2', initData: release.initData.sample ?? null } as const;
    const asked = [...(await test.kbs.ask(path, guest, 'broker')), ...(await test.kbs.ask(path, guest, 'proxy'))];
    expect(asked.map(({ type }) => type)).toEqual(['PluginInternalError', 'ProxyDeny']);
    await keep(engine.engine, 'main');
    expect(granted(story)).toEqual([1]);
  });
});
