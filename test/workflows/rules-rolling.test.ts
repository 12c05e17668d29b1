/** Rules of the protocol (DESIGN §8; the numbers are the model's) on templates, pods, and what replaces what. */
import { expect, it } from 'vitest';
import { checkDrift } from '#src/engine/drift.ts';
import { retireRevision } from '#workflows/retire-revision.ts';
import type { Decision } from '#workflows/step.ts';
import { hasReceipt, stepsOf, waitsFor } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { granted, lookOf, type Story, stored, tell, templateRotation, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

async function serving(story: Story, serial: number): Promise<void> {
  await story.engine.accept(testRelease({ serial, ...QUICK }));
  await story.engine.drive();
}

function retireStep(): Decision {
  const step = retireRevision.steps.find(({ name }) => name === 'retire');
  if (step?.kind !== 'decision') throw new Error('retire is a decision');
  return step;
}

it('R13: a pod of the old spec keeps its revision, in whatever phase it is', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    const { rotation } = await engine.known(1);
    const [old] = test.cluster.all();
    if (old === undefined) throw new Error('no pod');
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(1, 'close', 'retire-revision');
    for (const phase of ['Pending', 'Failed', 'Unknown']) {
      const down = {
        ...old,
        uid: `down-${phase}`,
        phase,
        ready: false,
        terminating: false,
        containerId: null,
        annotations: { 'keyturn.dev/rotation': rotation },
      };
      const remove = test.cluster.inject(down);
      expect(await retireStep().decide(await lookOf(story, 1, 'retire-revision'))).toMatchObject({ kind: 'not-yet', waitingFor: 'OldRevisionInUse' });
      await engine.round();
      expect(await hasReceipt(pool, 1, 'retire-revision', 'retire')).toBe(false);
      remove();
    }
    await engine.drive();
    expect((await engine.known(1)).state).toBe('retired');
  });
});

it('R15: a patch that is on its way conflicts once another was made', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'confirm-published');
    test.network.befall(/east patch/, 'late');
    await engine.round();
    await engine.accept(testRelease({ serial: 3, ...QUICK }));
    await engine.driveTo(3, 'patch-template');
    expect(await test.network.land(/east patch/)).toBe(0);
    expect(await templateRotation(story)).toBe((await engine.known(3)).rotation);
    await engine.drive();
  });
});

it('R17: what a human does between closing and retiring is found by the second look', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(1, 'close', 'retire-revision');
    test.cluster.undo('chat');
    expect(await retireStep().decide(await lookOf(story, 1, 'retire-revision'))).toMatchObject({ kind: 'not-yet', waitingFor: 'TemplateOutdated' });
    await engine.round();
    expect(await waitsFor(pool, 1, 'retire-revision')).toBe('TemplateOutdated');
    expect((await engine.known(1)).state, 'still wanted: what was brought back can start').toBe('closing');
    expect(granted(story)).toEqual([1, 2]);
    expect(await checkDrift(engine.engine, 'chat')).toContain('patch-template');
    await engine.drive();
    expect(await templateRotation(story)).toBe((await engine.known(2)).rotation);
    expect((await engine.known(1)).state).toBe('retired');
  });
});

it('R17: a pod of the target that has not answered since the first look holds the second up', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(1, 'close', 'retire-revision');
    const [pod] = test.cluster.all();
    await test.advance(30);
    Object.assign(pod ?? {}, { containerId: 'started-again', startedAt: await test.clock() });
    await engine.round();
    expect(await waitsFor(pool, 1, 'retire-revision')).toBe('PodNotAttested');
    expect((await engine.known(1)).state).toBe('closing');
  });
});

it('R18: what was retired never comes back, even where its successor is revoked', async () => {
  await tell({}, async (story) => {
    const { engine } = story;
    await serving(story, 1);
    await serving(story, 2);
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 2 }));
    for (let rounds = 0; rounds < 5; rounds += 1) await engine.round();
    expect((await engine.known(1)).state).toBe('retired');
    expect(await templateRotation(story)).toBe((await engine.known(2)).rotation);
    await engine.accept(testRelease({ serial: 3, ...QUICK }));
    await engine.drive();
    expect(await templateRotation(story)).toBe((await engine.known(3)).rotation);
  });
});

it('R19: superseding takes nothing away; whatever is not the target is retired when the target serves', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'patch-template');
    await test.cluster.tick();
    await engine.accept(testRelease({ serial: 3, ...QUICK }));
    await engine.driveTo(3, 'patch-template');
    expect(stored(story), 'pods of all three can start').toEqual([1, 2, 3]);
    expect(granted(story)).toEqual([1, 2, 3]);
    expect(await waitsFor(pool, 2)).toBe('Superseded');
    await engine.drive();
    expect([(await engine.known(1)).state, (await engine.known(2)).state, (await engine.known(3)).state]).toEqual(['retired', 'retired', 'serving']);
    expect(stored(story)).toEqual([3]);
    expect(test.kms.keys().map((key) => key.state)).toEqual(['deactivated', 'deactivated', 'active']);
  });
});

it('§9: a revision that never went live is retired without anything to close, refuse or delete', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'encrypt-weights');
    await engine.accept(testRelease({ serial: 3, ...QUICK }));
    await engine.drive();
    expect((await engine.known(2)).state).toBe('retired');
    expect(await stepsOf(pool, 2, 'adopt-revision')).not.toContain('go-live');
    expect(test.network.log.filter(({ verb, what }) => verb === 'delete' && what.includes('/s2-'))).toEqual([]);
    expect(test.kms.keys((await engine.known(2)).rotation).map((key) => key.state)).toEqual(['deactivated']);
  });
});

it('§9: what is live still is fallen back to, reopened, and patched, moved and confirmed again', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    const published = test.network.log.filter(({ verb }) => verb === 'resource').length;
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'patch-template');
    await test.cluster.tick();
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 2 }));
    await engine.drive();
    expect(await templateRotation(story)).toBe((await engine.known(1)).rotation);
    expect([(await engine.known(1)).state, (await engine.known(2)).state]).toEqual(['serving', 'retired']);
    expect((await stepsOf(pool, 1, 'adopt-revision')).slice(-5)).toEqual(['reopened', 'patch-template', 'try-first-pods', 'move-pods', 'confirm-serving']);
    expect(
      test.network.log.filter(({ verb }) => verb === 'resource'),
      'it never left what its KBS holds',
    ).toHaveLength(published + 1);
    expect(stored(story)).toEqual([1]);
    expect(test.cluster.all().every((pod) => pod.ready)).toBe(true);
  });
});

it('§9: a patch that is slow lands nowhere after the target fell back, although the template named it all along', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'confirm-published');
    test.network.befall(/east patch/, 'late');
    await engine.round();
    const { rotation } = await engine.known(1);
    expect(await templateRotation(story), 'nothing has landed yet').toBe(rotation);
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 2 }));
    await engine.driveTo(1, 'reopened');
    await engine.round();
    expect(
      test.network.log.filter(({ verb, what }) => verb === 'patch' && what === rotation),
      'a touch of ours',
    ).toHaveLength(2);
    expect(await test.network.land(/east patch/)).toBe(0);
    await engine.drive();
    expect(await templateRotation(story)).toBe(rotation);
  });
});

it('§9: a template that was changed after its receipt reopens its revision, which patches it again', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    const { rotation } = await engine.known(1);
    test.cluster.undo('chat');
    expect(await templateRotation(story)).toBeUndefined();
    expect(await checkDrift(engine.engine, 'chat')).not.toBeNull();
    await engine.drive();
    expect(await templateRotation(story)).toBe(rotation);
    expect(await stepsOf(pool, 1, 'adopt-revision')).toContain('reopened');
    expect((await engine.known(1)).state).toBe('serving');
  });
});
