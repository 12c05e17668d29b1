/** Rules of the protocol (DESIGN §8; the numbers are the model's) on what is sent to a KBS. */
import { expect, it } from 'vitest';
import { keyPath } from '#src/domain/paths.ts';
import { keep } from '#src/engine/keeper.ts';
import { LATE_WRITE_SECONDS } from '../world/broker.ts';
import { hasReceipt, waitsFor } from '../world/engine.ts';
import { isCrash } from '../world/hazards.ts';
import { testRelease } from '../world/release.ts';
import { granted, lookOf, type Story, stored, tell, templateRotation, testRevocation } from '../world/story.ts';

async function serving(story: Story, serial: number): Promise<void> {
  await story.engine.accept(testRelease({ serial, soakSeconds: 0, keepPreviousSeconds: 0 }));
  await story.engine.drive();
}

it('R1: one workload’s rotation never takes another’s grant or measurement away', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    test.cluster.add({ name: 'embed' });
    await serving(story, 1);
    await engine.accept(testRelease({ workload: 'embed', serial: 7 }));
    await engine.drive();
    await serving(story, 2);
    expect(granted(story)).toEqual([2, 7]);
    expect(test.kbs.referenceValues.get('svn')).toEqual(['2', '7']);
    expect(test.kbs.referenceValues.get('launch_digest'), 'the baseline’s').toEqual(['abcde']);
  });
});

it('R2: what is sent is read when the token is there: what was revoked meanwhile is not in it', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    test.cluster.add({ name: 'embed' });
    await engine.accept(testRelease({ workload: 'embed', serial: 7 }));
    await engine.drive();
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'put-resource');
    test.kbs.whileMinting = async () => {
      test.kbs.whileMinting = null;
      await engine.revoke(testRevocation({ kind: 'release', workload: 'embed', serial: 7 }));
    };
    await engine.driveTo(1, 'publish-policy');
    expect(granted(story)).toEqual([1]);
  });
});

it('R2: a write whose claim was lost while the token was made is not sent', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'put-resource');
    test.kbs.whileMinting = async () => {
      test.kbs.whileMinting = null;
      await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
    };
    await engine.round();
    expect(test.network.log.filter(({ verb }) => verb === 'policy')).toEqual([]);
  });
});

it('R4: published waits until no older write can land, and is not said while one has', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    test.cluster.add({ name: 'embed' });
    await serving(story, 1);
    await engine.accept(testRelease({ workload: 'embed', serial: 7 }));
    await engine.driveTo(7, 'put-resource');
    test.network.befall(/main policy/, 'late');
    await engine.round();
    expect(await waitsFor(pool, 7)).toBe('Unreachable');
    await engine.accept(testRelease({ serial: 2 }));
    await engine.driveTo(2, 'publish-policy');
    await engine.round();
    expect(await waitsFor(pool, 2)).toBe('LateWritesPossible');
    expect(await test.network.land(/main policy/)).toBe(1);
    expect(granted(story), 'the older text landed over the newer').toEqual([1, 7]);
    await test.advance(LATE_WRITE_SECONDS + 1);
    await engine.round();
    expect(await waitsFor(pool, 2)).toBe('PolicyNotInstalled');
    expect(await keep(engine.engine, 'main')).toBe('published');
    await engine.driveTo(2, 'confirm-published');
    expect(granted(story)).toEqual([1, 2, 7]);
  });
});

it('R4: a write that was sent before cannot land after its token has expired', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    test.cluster.add({ name: 'embed' });
    await engine.accept(testRelease({ workload: 'embed', serial: 7 }));
    await engine.driveTo(7, 'put-resource');
    test.network.befall(/main policy/, 'late');
    await engine.round();
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'confirm-published');
    expect(await test.network.land(/main policy/)).toBe(0);
    expect(granted(story)).toEqual([1, 7]);
  });
});

it('R1: what a write of ours without an answer brought is not taken for somebody else’s, once its release is revoked', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    test.network.befall(/main referenceValue/, 'answer-lost');
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'go-live');
    await engine.round();
    expect(test.kbs.referenceValues.get('svn')).toEqual(['1']);
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
    await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 0 }));
    await engine.drive();
    expect(test.kbs.referenceValues.get('svn')).toEqual(['2']);
    expect((await engine.known(2)).state).toBe('serving');
  });
});

it('R5: a path is gone only after every write of it was answered or can no longer land', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 0 }));
    await engine.driveTo(1, 'close', 'retire-revision');
    const look = await lookOf(story, 1);
    const path = keyPath(test.kbs.repository, look.subject);
    test.network.befall(/main resource/, 'late');
    const putAgain = test.kbs.putResource(look.ledger.bytes(null, 'main', path), () => Promise.resolve(test.weights.newKey('kserve-jwe')));
    await expect(putAgain).rejects.toMatchObject({ reason: 'Unreachable' });
    await engine.drive(async () => (await waitsFor(pool, 1, 'retire-revision')) === 'LateWritesPossible');
    await test.kbs.deleteResource(look.ledger.gone(null, 'main', path));
    expect(await test.network.land(/main resource/), 'over a deletion that was answered').toBe(1);
    expect(stored(story)).toEqual([1, 2]);
    await engine.round();
    expect(await hasReceipt(pool, 1, 'retire-revision', 'delete-resource')).toBe(false);
    await engine.drive();
    expect(stored(story)).toEqual([2]);
  });
});

it('R5: where every write was answered, the deletion waits for nothing', async () => {
  await tell({}, async (story) => {
    const { pool } = story;
    await serving(story, 1);
    await serving(story, 2);
    const { rows } = await pool.query(`select 1 from events where body ->> 'step' = 'delete-resource' and body ->> 'waitingFor' = 'LateWritesPossible'`);
    expect(rows).toEqual([]);
    expect(stored(story)).toEqual([2]);
  });
});

it('R6: a revocation raises the generation and fences every run it touches, in its own transaction', async () => {
  await tell({}, async ({ pool, engine }) => {
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'go-live');
    const read = async () => {
      const { rows } = await pool.query<{ generation: number; claim: number }>('select b.generation, r.claim from brokers b, runs r');
      return rows[0] ?? { generation: 0, claim: 0 };
    };
    const before = await read();
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
    const after = await read();
    expect(after.generation).toBe(before.generation + 1);
    expect(after.claim).toBeGreaterThan(before.claim);
  });
});

it('R8: a retired path is empty and is never written again, even where the KBS has lost its policy', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serving(story, 1);
    await serving(story, 2);
    test.kbs.policy = 'allow';
    const look = await lookOf(story, 1);
    const path = keyPath(test.kbs.repository, look.subject);
    const answers = await test.kbs.ask(path, { tee: 'sample', svn: '1', initData: look.subject.release.initData.sample ?? null }, 'broker');
    expect(answers.map(({ type }) => type)).toEqual(['PluginInternalError']);
    expect(await engine.engine.ledger.bytes(null, 'main', path)()).toBeNull();
  });
});

it('R9: a rotation brings a path, a ciphertext and a measurement of its own, beside the old ones', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2 }));
    await engine.driveTo(2, 'patch-template');
    expect(stored(story)).toEqual([1, 2]);
    expect(granted(story)).toEqual([1, 2]);
    expect(test.kbs.referenceValues.get('svn')).toEqual(['1', '2']);
    expect(test.weights.sealed()).toHaveLength(2);
    const written = test.network.log.filter(({ verb }) => verb === 'resource' || verb === 'seal').map(({ what }) => what);
    expect(new Set(written).size, 'nothing was written twice').toBe(written.length);
  });
});

it('R10: the bytes of a path are drawn once, and stored before the first of them is sent', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'publish-reference-values');
    const read = async () => (await pool.query('select * from resources')).rows;
    const before = await read();
    expect(before).toHaveLength(1);
    for (const hazard of ['before', 'after-effect', 'answer-lost'] as const) {
      test.network.befall(/main resource/, hazard);
      await engine.round().catch((thrown: unknown) => expect(isCrash(thrown)).toBe(true));
    }
    await engine.drive();
    expect(await read()).toEqual(before);
    expect(
      test.cluster.all().every((pod) => pod.ready),
      'every guest opened the weights',
    ).toBe(true);
  });
});

it('R20: no template names a revision before it is published', async () => {
  await tell({}, async (story) => {
    const { pool, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2 }));
    const { rotation } = await engine.known(2);
    await engine.drive(async () => {
      const published = await hasReceipt(pool, 2, 'adopt-revision', 'confirm-published');
      if ((await templateRotation(story)) === rotation) expect(published).toBe(true);
      return false;
    });
    expect(await templateRotation(story)).toBe(rotation);
  });
});
