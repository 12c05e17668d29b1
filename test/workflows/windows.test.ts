/** A cluster's windows: what waits for one, and what never does. */
import { expect, it } from 'vitest';
import { checkDrift } from '#src/engine/drift.ts';
import { type Instant, later, millisecondsOf, secondsBetween } from '#src/instant.ts';
import { transaction } from '#state/database.ts';
import { changeTarget } from '#state/targets.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { windowIsOpen } from '#workflows/gates/window-is-open.ts';
import { type Effect, notYet } from '#workflows/step.ts';
import { patchTemplate } from '#workflows/steps/patch-template.ts';
import { type EngineParts, hasReceipt, waitsFor } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { lookOf, type Story, tell, templateRotation, testRevocation } from '../world/story.ts';
import type { TestWorld } from '../world.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
const HOUR = 3600;
/** The rest of an hour, and two hours more: no test takes a day. */
const WINDOW_MINUTES = 120;

/** Sets one daily window that opens some hours from now, at the start of an hour; gives when. */
async function opensInHours({ test }: Story, hours: number): Promise<Instant> {
  const soon = later(await test.clock(), hours * HOUR);
  const opensAt = later(soon, HOUR - ((millisecondsOf(soon) / 1000) % HOUR));
  test.cluster.windows = [{ cron: `0 ${new Date(opensAt).getUTCHours()} * * *`, minutes: WINDOW_MINUTES, timeZone: 'UTC' }];
  return opensAt;
}

async function serving(story: Story, serial: number): Promise<void> {
  await story.engine.accept(testRelease({ serial, ...QUICK }));
  await story.engine.drive();
}

/** What a withdrawal does to the target. */
async function withdraw({ pool, engine }: Story, serial: number): Promise<void> {
  const { id } = await engine.known(serial);
  await transaction(pool, (tx) =>
    changeTarget(
      tx,
      'chat',
      async () => {},
      async () => {
        await tx.query(`update revisions set withdrawn_by = 'sha256:00' where id = $1`, [id]);
      },
    ),
  );
}

async function rotationOf({ engine }: Story, serial: number): Promise<string> {
  return (await engine.known(serial)).rotation;
}

/** Lets the time come. */
async function until({ test }: Story, at: Instant): Promise<void> {
  await test.advance(secondsBetween(await test.clock(), at));
}

/** Rounds until the run of this serial waits for a window, without the clock being moved to its opening. */
async function waitsForWindow(story: Story, serial: number): Promise<void> {
  await story.engine.drive(async () => (await waitsFor(story.pool, serial)) === 'WindowClosed');
}

it('a release is published at once, and moves no pod before the window opens', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    const opensAt = await opensInHours(story, 5);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await waitsForWindow(story, 2);
    expect(await hasReceipt(pool, 2, 'adopt-revision', 'confirm-published')).toBe(true);
    expect(await templateRotation(story)).toBe(await rotationOf(story, 1));
    // Two runs that were opened in the same millisecond are looked at in either order.
    const looked = (await engine.round()).find((one) => one.kind === 'resting' && one.workflow === 'adopt-revision');
    expect(looked).toMatchObject({ kind: 'resting', step: 'patch-template', about: `east opens at ${opensAt}`, nextRetryAt: opensAt });
    await until(story, opensAt);
    await engine.drive(() => hasReceipt(pool, 2, 'adopt-revision', 'patch-template'));
    const patchedAt = (await engine.known(2)).at['patch-template'] ?? '';
    expect([patchedAt >= opensAt, patchedAt < later(opensAt, WINDOW_MINUTES * 60)]).toEqual([true, true]);
    await engine.drive();
    expect((await engine.known(2)).state).toBe('serving');
    expect(test.cluster.all().every(({ ready }) => ready)).toBe(true);
  });
});

it('a window that closes during a roll stops nothing that is patched', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'patch-template');
    await opensInHours(story, 5);
    const before = await test.clock();
    await engine.drive(() => hasReceipt(pool, 2, 'adopt-revision', 'confirm-serving'));
    expect((await test.clock()) < later(before, HOUR), 'not in the next window').toBe(true);
    expect((await engine.known(2)).state).toBe('serving');
  });
});

it('the act asks the windows again: what closed since the gate was asked is not patched', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.driveTo(1, 'confirm-published');
    const look = await lookOf(story, 1);
    expect((await windowIsOpen.ask(look)).kind).toBe('yes');
    await opensInHours(story, 5);
    await patchTemplate.act({ ...look, now: await test.clock() });
    expect(await templateRotation(story)).toBeUndefined();
  });
});

it('the clock of an act is not that of the gates before it', async () => {
  const told: { gates: Instant | null; act: Instant | null } = { gates: null, act: null };
  const parts = (test: TestWorld): EngineParts => {
    const slow: Effect = {
      kind: 'effect',
      name: 'slow',
      observe: async (look) => {
        told.gates ??= look.now;
        await test.advance(HOUR);
        return notYet('KeyMissing', 'the test');
      },
      act: async (look) => {
        told.act = look.now;
      },
    };
    return { workflows: [{ ...adoptRevision, gates: [], steps: [slow] }] };
  };
  await tell({ parts }, async ({ engine }) => {
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.round();
    if (told.gates === null || told.act === null) throw new Error('it did not act');
    expect(secondsBetween(told.gates, told.act)).toBeGreaterThanOrEqual(HOUR);
  });
});

it('clusters whose windows do not overlap are moved one after the other', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    test.cluster.add({ name: 'far' });
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.driveTo(1, 'confirm-published');
    const opensAt = await opensInHours(story, 5);
    const { windows } = test.cluster;
    test.cluster.windows = [];
    const one = await lookOf(story, 1);
    const [target] = one.subject.release.targets;
    if (target === undefined) throw new Error('a release without a target');
    const release = { ...one.subject.release, targets: [target, { ...target, cluster: 'west', name: 'far' }] };
    const world = { ...one.world, cluster: (name: string) => (name === 'west' ? { ...test.cluster, name, windows } : one.world.cluster(name)) };
    const look = { ...one, subject: { ...one.subject, release }, world, ledger: { ...one.ledger, mine: () => async () => true } };
    expect((await windowIsOpen.ask(look)).kind).toBe('yes');
    await patchTemplate.act(look);
    expect([await templateRotation(story), await templateRotation(story, 'far')]).toEqual([one.subject.rotation, undefined]);
    expect(await windowIsOpen.ask(look)).toEqual({ kind: 'no', reason: 'WindowClosed', about: `west opens at ${opensAt}`, lookAt: opensAt });
    await patchTemplate.act({ ...look, now: opensAt });
    expect(await templateRotation(story, 'far')).toBe(one.subject.rotation);
  });
});

it('a withdrawal waits for a window, since what it leaves can still start', async () => {
  await tell({}, async (story) => {
    const { engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'patch-template');
    const opensAt = await opensInHours(story, 5);
    await withdraw(story, 2);
    await waitsForWindow(story, 1);
    expect(await templateRotation(story)).toBe(await rotationOf(story, 2));
    await until(story, opensAt);
    await engine.drive();
    expect(await templateRotation(story)).toBe(await rotationOf(story, 1));
  });
});

it('the way back from a revoked release waits for no window', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'patch-template');
    const opensAt = await opensInHours(story, 5);
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 2 }));
    await engine.drive(() => hasReceipt(pool, 1, 'adopt-revision', 'reopened').then(async () => (await engine.known(1)).at['patch-template'] !== undefined));
    expect(await templateRotation(story)).toBe(await rotationOf(story, 1));
    expect((await test.clock()) < opensAt).toBe(true);
  });
});

it('the successor of a revoked release waits for no window', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    const opensAt = await opensInHours(story, 5);
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.drive(() => hasReceipt(pool, 2, 'adopt-revision', 'patch-template'));
    expect((await test.clock()) < opensAt).toBe(true);
  });
});

it('a write that moves no pod waits for no window: what is still on its way has to conflict', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    const opensAt = await opensInHours(story, 5);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await waitsForWindow(story, 2);
    await withdraw(story, 2);
    await engine.drive(async () => (await engine.known(1)).at['confirm-serving'] !== undefined && (await engine.known(1)).state === 'serving');
    expect(await hasReceipt(pool, 1, 'adopt-revision', 'reopened')).toBe(true);
    expect((await test.clock()) < opensAt).toBe(true);
  });
});

it('a template that somebody changed is put back at once where its pods get no key, and in the window where they do', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serving(story, 1);
    const opensAt = await opensInHours(story, 5);
    const patched = async (): Promise<boolean> => (await engine.known(1)).state === 'serving';
    test.cluster.edit('chat', { '/spec/template/spec/containers/name=chat/image': 'registry.test/other' });
    expect(await checkDrift(engine.engine, 'chat')).not.toBeNull();
    await engine.drive(patched);
    expect((await test.clock()) < opensAt, 'the image was changed').toBe(true);
    test.cluster.edit('chat', { '/spec/template/metadata/annotations/keyturn.dev~1rotation': 'nobody' });
    expect(await checkDrift(engine.engine, 'chat')).not.toBeNull();
    await engine.drive(patched);
    expect((await test.clock()) < opensAt, 'the rotation’s name was taken away').toBe(true);
    test.cluster.windows = [];
    await engine.accept(testRelease({ serial: 2, ...QUICK, keepPreviousSeconds: 100 * HOUR }));
    await engine.driveTo(2, 'confirm-serving');
    const nextOpensAt = await opensInHours(story, 5);
    test.cluster.undo('chat');
    await checkDrift(engine.engine, 'chat');
    await waitsForWindow(story, 2);
    expect(await templateRotation(story), 'still wanted: it can start').toBe(await rotationOf(story, 1));
    await until(story, nextOpensAt);
    await engine.drive(async () => (await engine.known(2)).state === 'serving');
    expect(await templateRotation(story)).toBe(await rotationOf(story, 2));
  });
});
