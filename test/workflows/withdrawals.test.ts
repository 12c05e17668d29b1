/** A release is taken back, or followed by another, in the middle of its adoption (R19; §9 of the protocol). */
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import type { Json } from '#src/domain/json.ts';
import { readPointer } from '#src/domain/pointer.ts';
import type { Release } from '#src/domain/release.ts';
import { keepAll } from '#src/engine/keeper.ts';
import type { Withdrawal } from '#state/withdrawals.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import type { TestPod } from '../world/cluster.ts';
import { hasReceipt, stepsOf, waitsFor } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { granted, type Story, stored, tell, templateRotation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
/** Long enough that what it replaces stands until a test is done with it. */
const KEEPING = { soakSeconds: 0, keepPreviousSeconds: 600 };
const STEPS = adoptRevision.steps.map(({ name }) => name);

function testWithdrawal(release: Release, id = `take-back-${release.serial}`): Withdrawal {
  const document = {
    apiVersion: 'keyturn.dev/v1alpha1' as const,
    kind: 'Withdrawal' as const,
    id,
    workload: release.workload,
    release: release.digest,
    why: 'a test',
  };
  return { ...document, digest: digestOf(JSON.stringify(document)), path: `withdrawals/${id}.yaml`, approvedBy: ['ada', 'bo'], signatures: [] };
}

async function serving(story: Story, serial: number): Promise<Release> {
  const release = testRelease({ serial, ...QUICK });
  await story.engine.accept(release);
  await story.engine.drive();
  return release;
}

/** Whether a guest that starts from this pod's template now gets its key, and opens the weights with it. */
async function canStart({ test }: Story, { template }: TestPod): Promise<boolean> {
  const path = textAt(template, '/spec/containers/name=chat/env/name=KEY_URI/value').replace('kbs:///', '');
  if (path === '') return true;
  const key = test.kbs.resources.get(path);
  const denied = await test.kbs.ask(
    path,
    { tee: 'sample', svn: textAt(template, '/spec/runtimeClassName').replace('kata-lab-', ''), initData: initDataOf(template) },
    'proxy',
  );
  const opens = key !== undefined && test.weights.opens(textAt(template, '/spec/containers/name=chat/env/name=ARTIFACT/value'), key);
  return opens && denied.every(({ status }) => status === 200);
}

function textAt(template: Json, pointer: string): string {
  return String(readPointer(template, pointer) ?? '');
}

function initDataOf(template: Json): string {
  const annotation = textAt(template, '/metadata/annotations/io.katacontainers.config.hypervisor.cc_init_data');
  return gunzipSync(Buffer.from(annotation, 'base64')).toString();
}

/** Drives to the end; at every round each pod, old or new, could start again (I2), and more than all but one serve. */
async function driveWithoutLoss(story: Story): Promise<void> {
  await story.engine.drive(async () => {
    const pods = story.test.cluster.all();
    for (const pod of pods) expect(await canStart(story, pod), `${pod.name} could not start again`).toBe(true);
    expect(pods.filter(({ ready, terminating }) => ready && !terminating).length, 'one is replaced at a time').toBeGreaterThanOrEqual(2);
    return false;
  });
}

/** Only this serial is left: served, stored, granted, named, and running everywhere. */
async function expectOnly(story: Story, serial: number): Promise<void> {
  const { test, engine } = story;
  const known = await engine.known(serial);
  expect(known.state).toBe('serving');
  expect(await templateRotation(story)).toBe(known.rotation);
  expect(stored(story)).toEqual([serial]);
  expect(granted(story)).toEqual([serial]);
  expect(test.cluster.all().every((pod) => pod.ready && pod.annotations['keyturn.dev/rotation'] === known.rotation)).toBe(true);
  const active = test.kms.keys().filter(({ state }) => state === 'active');
  expect(
    active.map(({ rotation }) => rotation),
    'one key is enabled',
  ).toEqual([known.rotation]);
}

describe('a release that is withdrawn in the middle of its adoption', () => {
  it.each(STEPS)('after %s: the older one comes back without loss, and the newer is retired', async (step) => {
    await tell({}, async (story) => {
      const { engine } = story;
      await serving(story, 1);
      const two = testRelease({ serial: 2, ...KEEPING });
      await engine.accept(two);
      await engine.driveTo(2, step);
      expect(await engine.withdraw(testWithdrawal(two))).toBeNull();
      await driveWithoutLoss(story);
      await expectOnly(story, 1);
      expect(await engine.known(2)).toMatchObject({ state: 'retired', withdrawn: true });
    });
  });
});

describe('a release that is followed by another in the middle of its adoption', () => {
  /** How far the third comes before it is withdrawn: each of its steps meets one of the second's. */
  const pairs = STEPS.map((step, place) => [step, STEPS[(place * 4 + 7) % STEPS.length] ?? step] as const);

  it.each(pairs)('after %s, withdrawn itself after %s: what is live still comes back, and then the first', async (second, third) => {
    await tell({}, async (story) => {
      const { pool, engine } = story;
      await serving(story, 1);
      const [two, three] = [2, 3].map((serial) => testRelease({ serial, ...KEEPING }));
      if (two === undefined || three === undefined) throw new Error('two releases');
      await engine.accept(two);
      await engine.driveTo(2, second);
      await engine.accept(three);
      await engine.driveTo(3, third);
      expect(await engine.withdraw(testWithdrawal(three))).toBeNull();
      // As a resync does: the third has raised a generation that no run publishes whole any more.
      await keepAll(engine.engine);
      const wentLive = STEPS.indexOf(second) >= STEPS.indexOf('go-live');
      // A release that was never live cannot be fallen back to: the first comes back at once.
      if (wentLive) {
        await engine.driveTo(2, 'confirm-serving');
        expect((await engine.known(2)).state).toBe('serving');
        expect(await stepsOf(pool, 2, 'adopt-revision')).toContain('reopened');
        expect(await engine.withdraw(testWithdrawal(two)), 'the first is live still').toBeNull();
      }
      await driveWithoutLoss(story);
      await expectOnly(story, 1);
      expect([(await engine.known(2)).state, (await engine.known(3)).state]).toEqual(['retired', 'retired']);
    });
  });
});

describe('the commit point', () => {
  it('until the older one is retired a withdrawal falls back at once, also while it is closed', async () => {
    await tell({}, async (story) => {
      const { pool, engine } = story;
      await serving(story, 1);
      const two = testRelease({ serial: 2, ...QUICK });
      await engine.accept(two);
      await engine.driveTo(1, 'close', 'retire-revision');
      expect((await engine.known(1)).state).toBe('closing');
      expect(await engine.withdraw(testWithdrawal(two))).toBeNull();
      expect((await engine.known(1)).state).toBe('published');
      await driveWithoutLoss(story);
      await expectOnly(story, 1);
      expect(await hasReceipt(pool, 1, 'retire-revision', 'retire')).toBe(false);
    });
  });

  it('is where a withdrawal is refused from, and what was retired stays so', async () => {
    await tell({}, async (story) => {
      const { engine } = story;
      await serving(story, 1);
      const two = testRelease({ serial: 2, ...QUICK });
      await engine.accept(two);
      await engine.driveTo(1, 'retire', 'retire-revision');
      expect(await engine.withdraw(testWithdrawal(two))).toMatchObject({ kind: 'refused', reason: 'NothingToFallBackTo' });
      expect((await engine.known(2)).withdrawn).toBe(false);
      await driveWithoutLoss(story);
      await expectOnly(story, 2);
    });
  });

  it('is passed before a withdrawal or after it, never with it: one of the two finds the other', async () => {
    await tell({}, async (story) => {
      const { engine } = story;
      await serving(story, 1);
      const two = testRelease({ serial: 2, ...QUICK });
      await engine.accept(two);
      await engine.driveTo(1, 'close', 'retire-revision');
      const [, bar] = await Promise.all([engine.round(), engine.withdraw(testWithdrawal(two))]);
      await driveWithoutLoss(story);
      await expectOnly(story, bar === null ? 1 : 2);
    });
  });
});

it('a withdrawn revision stays wanted until it is retired: a pod of it that restarts while it is moved off finds its key', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serving(story, 1);
    const two = testRelease({ serial: 2, ...KEEPING });
    await engine.accept(two);
    await engine.driveTo(2, 'confirm-serving');
    expect(await engine.withdraw(testWithdrawal(two))).toBeNull();
    const [pod] = test.cluster.all();
    if (pod === undefined) throw new Error('no pod');
    await test.cluster.restart(pod);
    expect(pod.ready).toBe(true);
    expect([stored(story), granted(story)]).toEqual([
      [1, 2],
      [1, 2],
    ]);
    await driveWithoutLoss(story);
    await expectOnly(story, 1);
  });
});

it('a slow patch to a withdrawn release conflicts with the write that falls back, though the template named the older one all along', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serving(story, 1);
    const two = testRelease({ serial: 2, ...KEEPING });
    await engine.accept(two);
    await engine.driveTo(2, 'confirm-published');
    test.network.befall(/east patch/, 'late');
    await engine.round();
    expect(await engine.withdraw(testWithdrawal(two))).toBeNull();
    await engine.driveTo(1, 'patch-template');
    expect(await test.network.land(/east patch/)).toBe(0);
    await driveWithoutLoss(story);
    await expectOnly(story, 1);
  });
});

it('two withdrawals fall back twice, and a third has nothing left', async () => {
  await tell({}, async (story) => {
    const { pool, engine } = story;
    const one = await serving(story, 1);
    const [two, three] = [2, 3].map((serial) => testRelease({ serial, ...KEEPING }));
    if (two === undefined || three === undefined) throw new Error('two releases');
    await engine.accept(two);
    await engine.driveTo(2, 'confirm-serving');
    await engine.accept(three);
    await engine.driveTo(3, 'confirm-serving');
    expect(await engine.withdraw(testWithdrawal(two)), 'not the target: it is only not fallen back to').toBeNull();
    await engine.round();
    expect(await waitsFor(pool, 3), 'the target goes on').toBeNull();
    expect(await engine.withdraw(testWithdrawal(three))).toBeNull();
    expect(await engine.withdraw(testWithdrawal(one))).toMatchObject({ kind: 'refused', reason: 'NothingToFallBackTo' });
    await driveWithoutLoss(story);
    await expectOnly(story, 1);
    expect(await engine.withdraw(testWithdrawal(three, 'again'))).toMatchObject({ kind: 'refused', reason: 'AlreadyRetired' });
  });
});

it('the next release starts from what was withdrawn as from any other, and replaces what came back', async () => {
  await tell({}, async (story) => {
    const { engine } = story;
    await serving(story, 1);
    const two = testRelease({ serial: 2, ...KEEPING });
    await engine.accept(two);
    await engine.driveTo(2, 'move-pods');
    expect(await engine.withdraw(testWithdrawal(two))).toBeNull();
    await engine.driveTo(1, 'patch-template');
    await engine.accept(testRelease({ serial: 3, ...QUICK }));
    await driveWithoutLoss(story);
    await expectOnly(story, 3);
  });
});
