/** What holds the outside world to the rows between two looks: keeper, sweeper, drift, and the wakes of acceptance. */
import { expect, it } from 'vitest';
import { checkDrifts } from '#src/engine/drift.ts';
import { keepAll } from '#src/engine/keeper.ts';
import { sweep } from '#src/engine/sweep.ts';
import { Fault } from '#src/errors.ts';
import { acceptBaseline } from '#state/acceptance.ts';
import { transaction } from '#state/database.ts';
import { waitsFor } from '../world/engine.ts';
import { BASELINE, testRelease } from '../world/release.ts';
import { granted, type Story, stored, tell, templateRotation, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

async function serving({ engine }: Story, workload: string, serial: number): Promise<void> {
  await engine.accept(testRelease({ workload, serial, ...QUICK }));
  await engine.drive();
}

it('the keeper takes a revoked grant out of the policy although the service of reference values is down', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    test.cluster.add({ name: 'embed' });
    await serving(story, 'chat', 1);
    await serving(story, 'embed', 7);
    await engine.revoke(testRevocation({ kind: 'release', workload: 'embed', serial: 7 }));
    const referenceValue = async () => {
      throw new Fault('ServerError', 'the reference value service');
    };
    await keepAll({ ...engine.engine, world: { ...test.world, broker: () => ({ ...test.kbs, referenceValue }) } });
    expect(granted(story)).toEqual([1]);
  });
});

it('the keeper puts a policy with a later number than any of ours right: the database was set back since', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    test.cluster.add({ name: 'embed' });
    await serving(story, 'chat', 1);
    await serving(story, 'embed', 7);
    const { policy } = test.kbs;
    if (typeof policy === 'string') throw new Error('no policy was published');
    test.kbs.policy = { ...policy, generation: policy.generation + 30 };
    await engine.revoke(testRevocation({ kind: 'release', workload: 'embed', serial: 7 }));
    await keepAll(engine.engine);
    expect(granted(story)).toEqual([1]);
  });
});

it('R5: the sweeper deletes the bytes of a revoked path until no write of it can land any more', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.driveTo(1, 'publish-reference-values');
    test.network.befall(/main resource/, 'late');
    await engine.round();
    expect(await waitsFor(pool, 1)).toBe('Unreachable');
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
    await sweep(engine.engine);
    expect(await test.network.land(/main resource/), 'after a deletion that was answered').toBe(1);
    expect(stored(story)).toEqual([1]);
    await test.advance(test.kbs.lateWriteSeconds.resource + 1);
    await sweep(engine.engine);
    expect(stored(story)).toEqual([]);
    const deletions = () => test.network.log.filter(({ verb }) => verb === 'delete').length;
    const before = deletions();
    await sweep(engine.engine);
    expect(deletions(), 'and not for ever').toBe(before);
  });
});

it('a template that was changed is found although the object of another workload cannot be read', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    test.cluster.add({ name: 'alpha' });
    await serving(story, 'alpha', 1);
    await serving(story, 'chat', 2);
    const { rotation } = await engine.known(2);
    test.cluster.undo('chat');
    const cluster: typeof test.cluster = {
      ...test.cluster,
      object: async (target) => {
        if (target.name === 'alpha') throw new Fault('Unreachable', 'the cluster of alpha');
        return test.cluster.object(target);
      },
    };
    await checkDrifts({ ...engine.engine, world: { ...test.world, cluster: () => cluster } });
    await engine.drive();
    expect(await templateRotation(story)).toBe(rotation);
  });
});

it('a run that waits for a baseline is woken by its acceptance', async () => {
  await tell({}, async ({ pool, engine }) => {
    const { rows } = await pool.query<{ baseline: string }>('select baseline from brokers');
    await pool.query('update brokers set baseline = null');
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.round();
    expect(await waitsFor(pool, 1)).toBe('BaselineMissing');
    const woken: string[] = [];
    const digest = (rows[0]?.baseline ?? '') as Parameters<typeof acceptBaseline>[1]['digest'];
    await transaction(pool, (tx) => acceptBaseline(tx, { ...BASELINE, digest }, async (_, run) => void woken.push(run)));
    expect(woken).toEqual([(await engine.known(1)).rotation]);
  });
});
