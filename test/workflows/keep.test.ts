/** Releases that keep a key, re-encrypt a ciphertext, amend a revision, or go back to an older one; and keys that fall due. */
import { expect, it } from 'vitest';
import { transaction } from '#state/database.ts';
import { startEpoch } from '#state/targets.ts';
import { hasReceipt, stepsOf, waitsFor } from '../world/engine.ts';
import { imageOf, testRelease } from '../world/release.ts';
import { granted, type Story, stored, tell, templateRotation, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

async function serve(story: Story, ...releases: readonly Parameters<typeof testRelease>[0][]): Promise<void> {
  for (const release of releases) {
    expect(await story.engine.accept(testRelease({ ...QUICK, ...release }))).toBeNull();
    await story.engine.drive();
  }
}

/** The state of every key of the store, in the order in which they were made. */
function keys({ test }: Story): readonly string[] {
  return test.kms.keys().map(({ state }) => state);
}

it('keep: a new path and a roll, the same key and the same ciphertext; the old path is refused and the key stays', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serve(story, { serial: 1 });
    const sealed = test.weights.sealed();
    await serve(story, { serial: 2, keep: null });
    const [one, two] = [await engine.known(1), await engine.known(2)];
    expect([one.state, two.state]).toEqual(['retired', 'serving']);
    expect(two.sealing).toMatchObject({ rotation: one.rotation, epoch: 1, taken: false });
    expect(test.weights.sealed()).toEqual(sealed);
    expect(keys(story)).toEqual(['active']);
    expect([stored(story), granted(story)]).toEqual([[2], [2]]);
    expect(await templateRotation(story)).toBe(two.rotation);
    expect(test.cluster.all().every(({ ready }) => ready)).toBe(true);
  });
});

it('keep, and keep again, then new weights: only then is the one key that all of them had disabled', async () => {
  await tell({}, async (story) => {
    await serve(story, { serial: 1 }, { serial: 2, keep: null }, { serial: 3, keep: 1 });
    expect(keys(story)).toEqual(['active']);
    await serve(story, { serial: 4 });
    expect(keys(story)).toEqual(['deactivated', 'active']);
    expect([stored(story), granted(story)]).toEqual([[4], [4]]);
  });
});

it('a rollback is a new serial that keeps an older ciphertext, while that one’s key stands', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serve(story, { serial: 1 });
    await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 600 }));
    await engine.driveTo(2, 'confirm-serving');
    await serve(story, { serial: 3, keep: 1, svn: '1', image: imageOf(1) });
    expect((await engine.known(3)).sealing.epoch).toBe(1);
    expect((await engine.known(2)).state).toBe('retired');
    expect(keys(story)).toEqual(['active', 'deactivated']);
    expect(test.cluster.all().every(({ ready }) => ready)).toBe(true);
  });
});

it('a sealing that is taken is neither kept nor re-encrypted, and one that is not sealed yet is waited for', async () => {
  await tell({}, async (story) => {
    const { engine } = story;
    expect(await engine.accept(testRelease({ serial: 1, keep: null }))).toBe('NotFound');
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    expect(await engine.accept(testRelease({ serial: 2, keep: null }))).toBe('CiphertextMissing');
    await engine.drive();
    await serve(story, { serial: 2 });
    expect(await engine.accept(testRelease({ serial: 3, keep: 1 }))).toBe('SealingRetired');
    expect(await engine.accept(testRelease({ serial: 3, reencrypt: 1 }))).toBe('SealingRetired');
  });
});

it('reencrypt: the plaintext of the old ciphertext under a new key, in new objects; then the old key is disabled', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serve(story, { serial: 1 }, { serial: 2, reencrypt: 1 });
    const [one, two] = [await engine.known(1), await engine.known(2)];
    expect(two.sealing.source).toMatchObject({ rotation: one.rotation, epoch: 1 });
    expect(two.sealing.facts.plaintextManifest).toBe(one.sealing.facts.plaintextManifest);
    expect(two.sealing.facts.ciphertextDigest).not.toBe(one.sealing.facts.ciphertextDigest);
    expect(test.weights.sealed()).toHaveLength(2);
    expect(keys(story)).toEqual(['deactivated', 'active']);
    expect(test.cluster.all().every(({ ready }) => ready)).toBe(true);
  });
});

it('a key that falls due: the same release under the next epoch, re-encrypted; nothing is done while a rotation is open', async () => {
  await tell({}, async (story) => {
    const { pool, engine } = story;
    await serve(story, { serial: 1 });
    const { id } = await engine.known(1);
    const start = (): Promise<string | null> => transaction(pool, (tx) => startEpoch(tx, 'chat', id, async () => undefined));
    const rotation = await start();
    expect(rotation).not.toBeNull();
    expect(await start()).toBeNull();
    await engine.drive();
    expect(await start()).toBeNull();
    const { rows } = await pool.query('select serial, state, rotation = $1 as due from revisions order by id', [rotation]);
    expect(rows).toEqual([
      { serial: 1, state: 'retired', due: false },
      { serial: 1, state: 'serving', due: true },
    ]);
    expect(keys(story)).toEqual(['deactivated', 'active']);
    expect([stored(story), granted(story)]).toEqual([[1], [1]]);
  });
});

it('an amendment changes settings and moves nothing: no revision, no roll, a receipt', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serve(story, { serial: 1 });
    const before = await engine.known(1);
    const pods = test.cluster.all().map(({ uid }) => uid);
    await serve(story, { serial: 2, keep: null, svn: '1', image: imageOf(1), keepPreviousSeconds: 600 });
    const after = await engine.known(2);
    expect(after).toMatchObject({ id: before.id, rotation: before.rotation, serials: [1, 2], madeBy: before.madeBy, state: 'serving' });
    expect(after.release.rollout.keepPreviousSeconds).toBe(600);
    expect(test.cluster.all().map(({ uid }) => uid)).toEqual(pods);
    expect((await stepsOf(pool, 2, 'adopt-revision')).at(-1)).toBe('amended');
    expect([stored(story), granted(story)]).toEqual([[1], [1]]);
    await serve(story, { serial: 3, keepPreviousSeconds: 0 });
    expect(keys(story)).toEqual(['deactivated', 'active']);
  });
});

it('an amendment that adds a target patches that one; the pods that are there stay', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serve(story, { serial: 1 });
    test.cluster.add({ name: 'more' });
    const there = test.cluster.all().filter(({ name }) => name.startsWith('chat'));
    const next = testRelease({ serial: 2, keep: 1, svn: '1', image: imageOf(1), ...QUICK });
    const [target] = next.targets;
    if (target === undefined) throw new Error('no target');
    expect(await engine.accept({ ...next, targets: [target, { ...target, name: 'more' }] })).toBeNull();
    await engine.drive();
    const { rotation, state } = await engine.known(2);
    expect(state).toBe('serving');
    expect([await templateRotation(story), await templateRotation(story, 'more')]).toEqual([rotation, rotation]);
    const now = test.cluster.all();
    expect(there.every(({ uid }) => now.some((pod) => pod.uid === uid))).toBe(true);
    expect(now.every(({ ready }) => ready)).toBe(true);
  });
});

it('a revocation of the first serial takes the revision that was amended since', async () => {
  await tell({}, async (story) => {
    const { engine } = story;
    await serve(story, { serial: 1 }, { serial: 2, keep: null, svn: '1', image: imageOf(1) });
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
    expect((await engine.known(2)).revoked).toBe(true);
  });
});

it('a key that was revoked while a re-encryption of it runs: the workload recovers by it', async () => {
  await tell({}, async (story) => {
    const { pool, engine } = story;
    await serve(story, { serial: 1 });
    await engine.accept(testRelease({ serial: 2, reencrypt: null, ...QUICK }));
    await engine.driveTo(2, 'make-resource');
    await engine.revoke(testRevocation({ kind: 'key', workload: 'chat', epoch: 1 }));
    await engine.drive();
    expect((await engine.known(2)).state).toBe('serving');
    expect(await hasReceipt(pool, 1, 'retire-revision', 'disable-key')).toBe(true);
    expect(await waitsFor(pool, 2)).toBeNull();
    expect(keys(story)).toEqual(['deactivated', 'active']);
  });
});
