/** One object is one workload's: two would patch it in turn for ever. */
import { expect, it } from 'vitest';
import { misfitOf } from '#src/commands/misfit.ts';
import type { Config } from '#src/config.ts';
import type { Release } from '#src/domain/release.ts';
import { transaction } from '#state/database.ts';
import { takenElsewhere } from '#state/objects.ts';
import { lockArriving } from '#state/want.ts';
import { testRelease } from '../world/release.ts';
import { type Story, tell, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

/** A release of another workload that names the Deployment `chat`. */
function intruder(change: Partial<Release['targets'][number]> = {}): Release {
  const release = testRelease({ workload: 'search', serial: 5, ...QUICK });
  return { ...release, targets: release.targets.map((target) => ({ ...target, name: 'chat', ...change })) };
}

function asked({ pool, engine }: Story, release: Release, before: readonly Release[] = []) {
  return takenElsewhere(pool, engine.engine.loaders.release, release, before);
}

it('an object that another workload moves is not free, by whatever version of its API it is named', async () => {
  await tell({}, async (story) => {
    expect(await asked(story, intruder())).toBeNull();
    await story.engine.accept(testRelease({ serial: 1, ...QUICK }));
    expect(await asked(story, intruder()), 'also before it is live').toMatchObject({ reason: 'ObjectTaken' });
    expect(await asked(story, intruder({ apiVersion: 'apps/v1beta1' }))).toMatchObject({ reason: 'ObjectTaken' });
    for (const other of [{ cluster: 'west' }, { namespace: 'other' }, { name: 'search' }]) expect(await asked(story, intruder(other))).toBeNull();
    expect(await asked(story, testRelease({ serial: 2 })), 'its own workload’s').toBeNull();
  });
});

it('an object is free again when whatever named it was retired or revoked', async () => {
  await tell({ west: true }, async (story) => {
    story.test.west.cluster.add({ replicas: 2 });
    await story.engine.accept(testRelease({ serial: 1, ...QUICK, west: { kbs: 'main' } }));
    await story.engine.drive();
    await story.engine.accept(testRelease({ serial: 2, ...QUICK }));
    expect(await asked(story, intruder({ cluster: 'west' })), 'the older one has pods there').toMatchObject({ reason: 'ObjectTaken' });
    story.test.west.cluster.remove('chat');
    await story.engine.drive();
    expect(await asked(story, intruder({ cluster: 'west' }))).toBeNull();
    await story.engine.revoke(testRevocation({ kind: 'workload', workload: 'chat' }));
    expect(await asked(story, intruder())).toBeNull();
  });
});

it('is asked of every release that is about to be accepted, after those that are accepted with it', async () => {
  await tell({}, async ({ pool, engine }) => {
    const there = { clusters: { east: {} }, kbs: { main: {} }, artifactStores: { models: {} }, keyStores: { kms: {} }, installation: 'test' };
    const misfit = misfitOf(there as unknown as Config, engine.engine.loaders);
    const arriving = { kind: 'release', release: intruder() } as const;
    expect(await misfit(pool, arriving)).toBeNull();
    expect(await misfit(pool, arriving, [{ kind: 'release', release: testRelease({ serial: 1 }) }])).toMatchObject({ reason: 'ObjectTaken' });
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    expect(await misfit(pool, arriving)).toMatchObject({ reason: 'ObjectTaken' });
  });
});

it('two releases that are accepted at once come one after the other, though they have no KBS in common', async () => {
  await tell({ west: true }, async ({ pool }) => {
    const first = await pool.connect();
    await first.query('begin');
    await lockArriving(first, { kind: 'release', release: testRelease({ serial: 1 }) });
    const second = transaction(pool, (tx) => lockArriving(tx, { kind: 'release', release: intruder({ kbs: 'west-kbs' }) }));
    await expect
      .poll(async () => (await pool.query(`select 1 from pg_locks where locktype = 'advisory' and not granted`)).rowCount, { timeout: 10_000 })
      .toBe(1);
    await first.query('commit');
    first.release();
    await second;
  });
});
