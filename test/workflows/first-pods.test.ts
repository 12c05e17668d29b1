/** What came back from a revocation proves itself on its first pods, while the rest of its roll is held (Table 15, row 1). */
import { expect, it } from 'vitest';
import type { Json } from '#src/domain/json.ts';
import { readPointer } from '#src/domain/pointer.ts';
import { runReceipts } from '#state/receipts.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { waitsFor } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { type Story, tell, testReinstatement, testRevocation, testSuspension } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
const RELEASE_1 = testSuspension({ kind: 'release', workload: 'chat', serial: 1 }, 'suspected');
/** A story of three rolls, on a machine that does other things beside. */
const SLOW = { timeout: 120_000 };

/** Release 1 served, was suspended, and comes back; its pods still run what it was before. */
async function withLifted(fn: (story: Story) => Promise<void>): Promise<void> {
  await tell({}, async (story) => {
    const { engine, test } = story;
    test.cluster.edit('chat', { '/spec/minReadySeconds': 7, '/spec/progressDeadlineSeconds': 900 });
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.drive();
    await engine.revoke(RELEASE_1);
    await engine.reinstate(testReinstatement(RELEASE_1), RELEASE_1);
    await fn(story);
  });
}

async function pace({ test }: Story): Promise<readonly (Json | undefined)[]> {
  const found = await test.cluster.object({ cluster: 'east', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name: 'chat' });
  return ['minReadySeconds', 'progressDeadlineSeconds'].map((field) => readPointer(found?.object ?? null, `/spec/${field}`));
}

/** The pods whose template names the key at release 1's second path. */
function moved({ test }: Story): ReturnType<Story['test']['cluster']['all']> {
  return test.cluster.all().filter(({ template }) => /\/s1-v1-1-/.test(String(readPointer(template, '/spec/containers/name=chat/env/name=KEY_URI/value'))));
}

function firstPod(story: Story): ReturnType<typeof moved>[number] {
  const [first] = moved(story);
  if (first === undefined) throw new Error('no pod was moved');
  return first;
}

/** Until the first pod is ready. What the proxy saw at the new path is forgotten at every look, as if it had been asked past it. */
async function driveUnseen(story: Story): Promise<void> {
  await story.engine.drive(async () => {
    await forget(story);
    return (await waitsFor(story.pool, 1)) === 'FirstPodsNotAttested' && moved(story).some(({ ready }) => ready);
  });
}

async function forget({ pool }: Story): Promise<void> {
  await pool.query(`delete from fetches where path like '%/s1-v1-1-%'`);
}

it('one pod of the new path, and no second, until the proxy has seen it attest and fetch; then the rest follows, at the pace that was there', SLOW, () =>
  withLifted(async (story) => {
    const { engine, test, pool } = story;
    await driveUnseen(story);
    const patches = test.network.log.filter(({ verb }) => verb === 'patch').map(({ what }) => what);
    const { rotation } = await engine.known(1);
    expect(patches.at(-1), 'the patch that names the path holds the roll, and not a second one that may come late').toBe(rotation);
    for (let rounds = 0; rounds < 5; rounds += 1) {
      await forget(story);
      await engine.round();
      await test.advance(60);
    }
    expect(moved(story), 'ready is not attested').toHaveLength(1);
    expect(await waitsFor(pool, 1)).toBe('FirstPodsNotAttested');
    const first = firstPod(story);
    await test.cluster.restart(first);
    await engine.drive(async () => (await trials(story)).length === 2);
    expect(moved(story), 'the receipt is older than the second pod').toHaveLength(1);
    await engine.drive(async () => (await engine.known(1)).state === 'serving');
    expect(moved(story)).toHaveLength(3);
    expect(await pace(story)).toEqual([7, 900]);
    expect(await trials(story)).toMatchObject([
      { reinstated: false },
      { reinstated: true, pathNumber: 1, first: { 'east/inference/chat': [{ uid: first.uid, address: first.address }] } },
    ]);
  }),
);

async function trials({ engine, pool }: Story): Promise<readonly Json[]> {
  const { rotation } = await engine.known(1);
  return (await runReceipts(pool, rotation)).filter(({ step }) => step === 'try-first-pods').map(({ evidence }) => evidence);
}

it('a hold that somebody lets go is put back before the first pods have proven anything', SLOW, () =>
  withLifted(async (story) => {
    const { engine, test } = story;
    await driveUnseen(story);
    test.cluster.edit('chat', { '/spec/minReadySeconds': 0 });
    await forget(story);
    await engine.round();
    expect((await pace(story))[0]).toBeGreaterThan(86_400 * 365);
    await test.cluster.restart(firstPod(story));
    await engine.drive(async () => (await engine.known(1)).state === 'serving');
    expect(await pace(story), 'and what was there first is not forgotten').toEqual([7, 900]);
  }),
);

it('pods that prove themselves while nothing holds the roll count once it is held again', SLOW, () =>
  withLifted(async (story) => {
    const { engine, test } = story;
    await driveUnseen(story);
    test.cluster.edit('chat', { '/spec/minReadySeconds': 0 });
    await test.cluster.restart(firstPod(story));
    const before = test.network.log.length;
    await engine.drive(async () => (await trials(story)).length === 2);
    const patches = test.network.log.slice(before).filter(({ verb }) => verb === 'patch');
    expect(patches, 'held, and let go').toHaveLength(2);
  }),
);

it('a second revocation while the first pods are tried wins, and the next release finds no hold', SLOW, () =>
  withLifted(async (story) => {
    const { engine } = story;
    await driveUnseen(story);
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }, 'for-good'));
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.drive(async () => (await engine.known(2)).state === 'serving');
    expect([moved(story), await pace(story)]).toEqual([[], [7, 900]]);
  }),
);

it('is not rolled where somebody else applies the fields of the hold: nobody could say that it stands', SLOW, () =>
  withLifted(async (story) => {
    const { engine, test, pool } = story;
    test.cluster.managedBy('chat', [{ manager: 'argocd-controller', operation: 'Apply', fields: { 'f:spec': { 'f:minReadySeconds': {} } } }]);
    await engine.drive(async () => (await waitsFor(pool, 1)) === 'PreflightFailed');
    expect(moved(story)).toEqual([]);
  }),
);

it('an ordinary release is held by nobody', () =>
  tell({}, async (story) => {
    const { engine, test, pool } = story;
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.drive(async () => {
      expect(await pace(story)).toEqual([undefined, 600]);
      return (await engine.known(1)).state === 'serving';
    });
    expect(test.network.log.filter(({ verb }) => verb === 'patch')).toHaveLength(1);
    const { rotation } = await engine.known(1);
    expect((await runReceipts(pool, rotation)).map(({ step }) => step)).toEqual(adoptRevision.steps.map(({ name }) => name));
  }));
