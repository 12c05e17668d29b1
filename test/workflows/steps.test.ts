/** Steps: what each waits for, and what it never does. */
import { describe, expect, it } from 'vitest';
import { keyPath } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import { secondsBetween } from '#src/instant.ts';
import { disableKey } from '#workflows/steps/disable-key.ts';
import { encryptWeights } from '#workflows/steps/encrypt-weights.ts';
import { makeResource } from '#workflows/steps/make-resource.ts';
import { publishPolicy } from '#workflows/steps/publish-policy.ts';
import { waitsFor } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { granted, lookOf, tell } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

it('go-live: nothing is live, and nothing is sent to a KBS, that no baseline lets us write to', async () => {
  await tell({}, async ({ pool, test, engine }) => {
    await pool.query('update brokers set baseline = null');
    await engine.accept(testRelease({ serial: 1 }));
    await engine.round();
    expect(await waitsFor(pool, 1)).toBe('BaselineMissing');
    expect(test.network.log.filter(({ system }) => system === 'main')).toEqual([]);
  });
});

describe('publish-reference-values', () => {
  it('refuses the first write while a name holds what nobody named, and leaves it as it is', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      test.kbs.referenceValues.set('svn', ['1', 'somebody else’s']);
      await engine.accept(testRelease({ serial: 1 }));
      await engine.round();
      expect(await waitsFor(pool, 1)).toBe('ForeignReferenceValue');
      expect(test.kbs.referenceValues.get('svn')).toEqual(['1', 'somebody else’s']);
    });
  });

  it('knows its own first write again, whose answer was lost', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      await engine.accept(testRelease({ serial: 1 }));
      await engine.driveTo(1, 'go-live');
      test.network.befall(/main referenceValue/, 'answer-lost');
      await engine.round();
      expect(await waitsFor(pool, 1)).toBe('Unreachable');
      await pool.query('update brokers set generation = generation + 1');
      await engine.driveTo(1, 'publish-reference-values');
      expect(test.kbs.referenceValues.get('svn')).toEqual(['1']);
    });
  });
});

describe('publish-policy', () => {
  it('tells a text that somebody else installed from one that is not there yet', async () => {
    await tell({}, async (story) => {
      const { test, engine } = story;
      await engine.accept(testRelease({ serial: 1 }));
      await engine.driveTo(1, 'put-resource');
      const look = await lookOf(story, 1);
      expect(await publishPolicy.observe(look)).toMatchObject({ kind: 'not-yet', waitingFor: 'PolicyNotInstalled' });
      test.kbs.policy = 'allow';
      expect(await publishPolicy.observe(look)).toMatchObject({ kind: 'not-yet', waitingFor: 'PolicyOverwritten' });
      await engine.driveTo(1, 'publish-policy');
      expect(granted(story)).toEqual([1]);
    });
  });
});

describe('what is stored is checked before it is used', () => {
  it('refuses a row that does not carry our signature', async () => {
    await tell({}, async ({ pool, engine }) => {
      await engine.accept(testRelease({ serial: 1 }));
      await engine.driveTo(1, 'make-resource');
      await pool.query(`update resources set canary = wrapped`);
      await engine.round();
      expect(await waitsFor(pool, 1)).toBe('Tampered');
    });
  });

  it('refuses a row that carries it, and is another revision’s', async () => {
    await tell({}, async (story) => {
      await story.engine.accept(testRelease({ serial: 1 }));
      await story.engine.driveTo(1, 'make-resource');
      const look = await lookOf(story, 1);
      const rotation = 'r-0000000000000000';
      const other: Known = { ...look.subject, rotation, sealing: { ...look.subject.sealing, rotation } };
      const row = await look.ledger.kept(keyPath(story.test.kbs.repository, look.subject));
      const ledger: typeof look.ledger = { ...look.ledger, kept: async () => row };
      await expect(encryptWeights.observe({ ...look, subject: other, ledger })).rejects.toMatchObject({ reason: 'Tampered' });
    });
  });

  it('refuses to keep the bytes of a row that names another key, or another rotation', async () => {
    await tell({}, async (story) => {
      await story.engine.accept(testRelease({ serial: 1, soakSeconds: 0 }));
      await story.engine.drive();
      await story.engine.accept(testRelease({ serial: 2, keep: 1 }));
      const look = await lookOf(story, 2);
      const [row] = await look.ledger.sealed(look.subject.sealing.rotation);
      if (row === undefined || makeResource.kind !== 'decision') throw new Error('release 1 brought a row');
      const foreign = [
        { ...row, keyId: 'another' },
        { ...row, context: { ...row.context, rotation: 'r-0000000000000000' } },
        { ...row, context: { ...row.context, installation: 'another' } },
      ];
      for (const one of foreign) {
        const ledger: typeof look.ledger = { ...look.ledger, sealed: async () => [one] };
        await expect(makeResource.decide({ ...look, ledger })).rejects.toMatchObject({ reason: 'Tampered' });
      }
      expect(await makeResource.decide(look)).toMatchObject({ kind: 'seen' });
    });
  });
});

describe('what takes time', () => {
  it('confirm-serving waits for the soak, to the instant', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      await engine.accept(testRelease({ serial: 1, soakSeconds: 100 }));
      await engine.driveTo(1, 'move-pods');
      const [look] = await engine.round();
      expect(look).toMatchObject({ kind: 'resting', waitingFor: 'Soaking' });
      const { at } = await engine.known(1);
      if (look?.kind !== 'resting' || at['move-pods'] === undefined) throw new Error('it rests');
      expect(secondsBetween(at['move-pods'], look.nextRetryAt)).toBe(100);
      await test.advance(99);
      await engine.round();
      expect(await waitsFor(pool, 1)).toBe('Soaking');
      await test.advance(2);
      await engine.round();
      expect((await engine.known(1)).state).toBe('serving');
    });
  });

  it('close waits for the target’s own keepPreviousSeconds, from the moment it serves', async () => {
    await tell({}, async ({ pool, engine }) => {
      await engine.accept(testRelease({ serial: 1, ...QUICK }));
      await engine.drive();
      await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 500 }));
      await engine.driveTo(2, 'confirm-serving');
      const looks = await engine.round();
      const { at } = await engine.known(2);
      const rest = looks.find((look) => look.kind === 'resting' && look.waitingFor === 'KeepingPrevious');
      if (rest?.kind !== 'resting' || at['confirm-serving'] === undefined) throw new Error('it is kept');
      expect(secondsBetween(at['confirm-serving'], rest.nextRetryAt)).toBe(500);
      expect(await waitsFor(pool, 1, 'retire-revision')).toBe('KeepingPrevious');
    });
  });
});

it('close: nothing is closed before the target serves and every pod of it answers', async () => {
  await tell({}, async ({ pool, test, engine }) => {
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.drive();
    await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 500 }));
    await engine.driveTo(2, 'patch-template');
    await engine.round();
    expect(await waitsFor(pool, 1, 'retire-revision')).toBe('TargetNotServing');
    await engine.driveTo(2, 'confirm-serving');
    await test.advance(600);
    const [pod] = test.cluster.all();
    Object.assign(pod ?? {}, { containerId: 'started-again', startedAt: await test.clock() });
    await engine.round();
    expect(await waitsFor(pool, 1, 'retire-revision')).toBe('PodNotAttested');
    expect((await engine.known(1)).state).toBe('serving');
  });
});

describe('refuse-old-path', () => {
  it('waits for every proxy to acknowledge, or to be silent for so long that it refuses everything', async () => {
    await tell({}, async ({ pool, engine }) => {
      await engine.accept(testRelease({ serial: 1, ...QUICK }));
      await engine.drive();
      await pool.query(`insert into proxies (id, kbs, acknowledged, stale_seconds, seen_at) values ('slow', 'main', 0, 300, instant() + interval '1 hour')`);
      await engine.accept(testRelease({ serial: 2, ...QUICK }));
      await engine.driveTo(1, 'publish-reference-values', 'retire-revision');
      await engine.round();
      expect(await waitsFor(pool, 1, 'retire-revision')).toBe('ProxyNotCaughtUp');
      await engine.drive();
      expect((await pool.query(`select 1 from runs where ended_at is null`)).rowCount).toBe(0);
    });
  });

  it('says so where the broker serves the old path again', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      await engine.accept(testRelease({ serial: 1, ...QUICK }));
      await engine.drive();
      await engine.accept(testRelease({ serial: 2, ...QUICK }));
      await engine.driveTo(1, 'publish-reference-values', 'retire-revision');
      test.kbs.policy = 'allow';
      await engine.round();
      expect(await waitsFor(pool, 1, 'retire-revision')).toBe('OldPathServed');
    });
  });
});

describe('disable-key', () => {
  it('leaves a key alone whose sealing was not taken', async () => {
    await tell({}, async (story) => {
      await story.engine.accept(testRelease({ serial: 1, ...QUICK }));
      await story.engine.drive();
      const look = await lookOf(story, 1);
      await disableKey.act(look);
      expect(await disableKey.observe(look)).toMatchObject({ kind: 'seen', evidence: { sharedWith: [] } });
      expect(story.test.kms.keys().map((key) => key.state)).toEqual(['active']);
    });
  });

  it('disables a key that was made, and that nobody heard of', async () => {
    await tell({}, async (story) => {
      const { test, engine } = story;
      await engine.accept(testRelease({ serial: 1, ...QUICK }));
      await engine.drive();
      test.network.befall(/kms create/, 'late');
      await engine.accept(testRelease({ serial: 2, ...QUICK }));
      await engine.round();
      await engine.accept(testRelease({ serial: 3, ...QUICK }));
      await engine.driveTo(3, 'create-key');
      expect(await test.network.land(/kms create/)).toBe(1);
      await engine.drive();
      const { rotation, sealing, state } = await engine.known(2);
      expect({ state, keyId: sealing.facts.keyId }).toEqual({ state: 'retired', keyId: undefined });
      expect(test.kms.keys(rotation).map((key) => key.state)).toEqual(['deactivated']);
    });
  });
});
