/** The end of a key: only by schedule, after a last look at who still uses it, once, and with a way back while its store has one. */
import type pg from 'pg';
import { expect, it } from 'vitest';
import { startDueDestructions, startDueRotations } from '#src/engine/schedule.ts';
import { transaction } from '#state/database.ts';
import { deactivatedKeys, startDestruction } from '#state/destructions.ts';
import { readStatus } from '#state/status.ts';
import { destroyKey } from '#workflows/destroy-key.ts';
import { stepsOf, waitsFor } from '../world/engine.ts';
import { type ReleaseOptions, testRelease } from '../world/release.ts';
import { lookOf, type Story, type StoryOptions, tell } from '../world/story.ts';

const DAY_SECONDS = 86_400;
const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
const DESTROY_AFTER_DAYS = 10;
/** As long as the key store of the test world waits before it destroys. */
const WINDOW_DAYS = 7;

/** A story in which release 2 has replaced release 1, whose key was disabled. */
async function replaced(first: Partial<ReleaseOptions>, fn: (story: Story) => Promise<void>, options: StoryOptions = {}): Promise<void> {
  await tell(options, async (story) => {
    await story.engine.accept(testRelease({ serial: 1, ...QUICK, ...first }));
    await story.engine.drive();
    await story.engine.accept(testRelease({ serial: 2, ...QUICK }));
    await story.engine.drive();
    await fn(story);
  });
}

async function pass(story: Story, days: number): Promise<void> {
  await story.test.advance(days * DAY_SECONDS);
  await startDueDestructions(story.engine.engine);
}

async function runsOf(pool: pg.Pool): Promise<number> {
  const { rowCount } = await pool.query(`select 1 from runs where workflow = 'destroy-key'`);
  return rowCount ?? 0;
}

async function factsOf(pool: pg.Pool): Promise<Record<string, unknown>> {
  const { rows } = await pool.query<{ facts: Record<string, unknown> }>(
    `select c.body::jsonb -> 'facts' as facts from receipts c join runs r on r.id = c.run where r.workflow = 'destroy-key' order by c.number`,
  );
  return Object.assign({}, ...rows.map(({ facts }) => facts)) as Record<string, unknown>;
}

/** Looks until the destruction of serial 1's key rests at a reason. */
async function restsAt(story: Story, reason: string): Promise<void> {
  await story.engine.round();
  expect(await waitsFor(story.pool, 1, 'destroy-key')).toBe(reason);
}

const rotationOf = async ({ engine }: Story, serial: number): Promise<string> => (await engine.known(serial)).rotation;
const sealedOf = ({ test }: Story, rotation: string): number => test.weights.sealed().filter((name) => name.includes(rotation)).length;

it('a retired key is destroyed after its days, its ciphertext first, and the receipts name what is gone and what may still hold it', async () => {
  await replaced({ destroyAfterDays: DESTROY_AFTER_DAYS }, async (story) => {
    const { pool, test, engine } = story;
    const old = await rotationOf(story, 1);
    await pass(story, DESTROY_AFTER_DAYS - 1);
    expect(await runsOf(pool)).toBe(0);
    await pass(story, 1);
    await restsAt(story, 'DestructionPending');
    expect(sealedOf(story, old), 'its ciphertext').toBe(0);
    expect(sealedOf(story, await rotationOf(story, 2)), 'the target’s').toBe(1);
    expect(test.kms.keys(old)).toMatchObject([{ state: 'deactivated', destruction: { at: (await factsOf(pool)).destructionAt } }]);
    await engine.drive();
    expect(test.kms.keys(old)).toEqual([]);
    expect(await stepsOf(pool, 1, 'destroy-key')).toEqual(destroyKey.steps.map(({ name }) => name));
    expect(await factsOf(pool)).toMatchObject({ destruction: 'destroyed' });
    const { rows } = await pool.query<{ evidence: { mayStillHold?: string[] } }>(
      `select c.body::jsonb -> 'evidence' as evidence from receipts c join runs r on r.id = c.run where r.workflow = 'destroy-key' order by c.number limit 2`,
    );
    expect(rows.map(({ evidence }) => evidence.mayStillHold)).toEqual([[expect.stringContaining('models')], [expect.stringContaining('/s1-v1-')]]);
  });
});

it('is never destroyed by schedule where the release names no days, or was never disabled', async () => {
  await replaced({}, async (story) => {
    await pass(story, 4000);
    expect(await runsOf(story.pool)).toBe(0);
  });
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1, ...QUICK, destroyAfterDays: DESTROY_AFTER_DAYS }));
    await story.engine.drive();
    await pass(story, 4000);
    expect(await runsOf(story.pool), 'the key in service').toBe(0);
  });
});

it('a key that nothing was ever wrapped by is not destroyed', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1, ...QUICK, destroyAfterDays: DESTROY_AFTER_DAYS }));
    await story.engine.accept(testRelease({ serial: 2, ...QUICK }));
    await story.engine.drive();
    expect((await story.engine.known(1)).state).toBe('retired');
    await pass(story, 4000);
    expect(await runsOf(story.pool)).toBe(0);
  });
});

it('a destruction that another replica began since the key was looked at is not begun again', async () => {
  await replaced({ destroyAfterDays: DESTROY_AFTER_DAYS }, async (story) => {
    const { pool, engine } = story;
    const [key] = await deactivatedKeys(pool);
    if (key === undefined) throw new Error('no key was disabled');
    const { digest: release } = (await engine.known(1)).release;
    const begin = (because = release) =>
      transaction(pool, (tx) => startDestruction(tx, key, { release: because, dueAt: key.disabledAt }, async () => undefined));
    expect(await begin(testRelease({ serial: 2, ...QUICK }).digest), 'its release is another one by now').toBeNull();
    expect(await begin()).not.toBeNull();
    await engine.drive();
    expect(await begin(), 'ended already').toBeNull();
  });
});

it('many that look at once begin it once, and a key whose destruction has begun is never due again', async () => {
  await replaced({ destroyAfterDays: DESTROY_AFTER_DAYS }, async (story) => {
    await story.test.advance(DESTROY_AFTER_DAYS * DAY_SECONDS);
    await Promise.all([1, 2, 3, 4].map(() => startDueDestructions(story.engine.engine)));
    expect(await runsOf(story.pool)).toBe(1);
    await story.engine.drive();
    await pass(story, 400);
    expect(await runsOf(story.pool)).toBe(1);
  });
});

it('a destruction that its operator takes back in time is told, leaves the key disabled, and is not scheduled again', async () => {
  await replaced({ destroyAfterDays: DESTROY_AFTER_DAYS }, async (story) => {
    const { pool, test, engine } = story;
    await pass(story, DESTROY_AFTER_DAYS);
    await restsAt(story, 'DestructionPending');
    await test.advance((WINDOW_DAYS - 1) * DAY_SECONDS);
    const [key] = test.kms.keys(await rotationOf(story, 1));
    test.kms.callBack(key?.keyId ?? '');
    await restsAt(story, 'DestructionCalledBack');
    await engine.drive();
    expect(await factsOf(pool)).toMatchObject({ destruction: 'called-back' });
    const status = (await readStatus(pool)).workloads[0]?.revisions.find(({ serial }) => serial === 1);
    expect(status?.destruction?.end).toBe('called-back');
    await pass(story, 400);
    await engine.drive();
    expect(test.kms.keys(key?.rotation)).toMatchObject([{ state: 'deactivated', destruction: null }]);
    expect(await runsOf(pool)).toBe(1);
  });
});

it('one that is taken back before anybody saw it is not sent a second time', async () => {
  await replaced({ destroyAfterDays: DESTROY_AFTER_DAYS }, async (story) => {
    const { test, engine } = story;
    await pass(story, DESTROY_AFTER_DAYS);
    test.network.befall(/kms destroy/, 'after-record');
    await expect(engine.round()).rejects.toThrow();
    const [key] = test.kms.keys(await rotationOf(story, 1));
    test.kms.callBack(key?.keyId ?? '');
    await engine.drive();
    expect(test.network.log.filter(({ verb }) => verb === 'destroy')).toHaveLength(1);
    expect(await factsOf(story.pool)).toMatchObject({ destructionAt: null, destruction: 'called-back' });
    expect(test.kms.keys(key?.rotation)).toMatchObject([{ state: 'deactivated', destruction: null }]);
  });
});

it('the ledger gives leave to destroy only what was taken and is known to be disabled, and gives it once', async () => {
  await tell({}, async (story) => {
    const { engine, test } = story;
    await engine.accept(testRelease({ serial: 1, ...QUICK, destroyAfterDays: DESTROY_AFTER_DAYS }));
    await engine.driveTo(1, 'confirm-serving');
    const { sealing } = await engine.known(1);
    const order = { rotation: sealing.rotation, keyId: sealing.facts.keyId ?? '' };
    const leave = async (asked = order) => (await engine.engine.ledger.key(null, 'kms', 'destroy', asked)()) !== null;
    expect(await leave(), 'in service').toBe(false);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(1, 'delete-resource', 'retire-revision');
    expect(await leave(), 'taken, not disabled').toBe(false);
    await engine.drive();
    expect(await leave({ ...order, keyId: 'key-of-nobody' }), 'another key').toBe(false);
    expect(await leave({ ...order, rotation: await rotationOf(story, 2) }), 'the target’s').toBe(false);
    await story.pool.query('update sealings set taken = false where id = $1', [sealing.id]);
    expect(await leave(), 'disabled, and in use again').toBe(false);
    await story.pool.query('update sealings set taken = true where id = $1', [sealing.id]);
    await pass(story, DESTROY_AFTER_DAYS);
    await engine.drive();
    expect(test.network.log.filter(({ verb }) => verb === 'destroy')).toHaveLength(1);
    expect(await leave(), 'done already').toBe(false);
  });
});

it('R14: nothing is deleted while the target does not serve from a ciphertext of its own', async () => {
  await replaced({ destroyAfterDays: DESTROY_AFTER_DAYS }, async (story) => {
    await story.engine.accept(testRelease({ serial: 3, ...QUICK }));
    await pass(story, DESTROY_AFTER_DAYS);
    await restsAt(story, 'TargetNotServing');
    expect(sealedOf(story, await rotationOf(story, 1))).toBe(1);
    await story.engine.drive();
    expect(sealedOf(story, await rotationOf(story, 1))).toBe(0);
  });
});

/** What somebody does who still uses the key, and what takes it away again. */
interface User {
  readonly what: string;
  readonly reason: string;
  readonly use: (story: Story) => Promise<() => Promise<void>>;
}

const USERS: readonly User[] = [
  {
    what: 'an operator has enabled it again',
    reason: 'KeyInUse',
    use: async (story) => {
      const { kms } = story.test;
      const rotation = await rotationOf(story, 1);
      const [key] = kms.keys(rotation);
      const tell = async (verb: 'enable' | 'disable') => kms[verb](async () => ({ value: { rotation, keyId: key?.keyId ?? '' }, answered: async () => {} }));
      await tell('enable');
      return () => tell('disable');
    },
  },
  {
    what: 'a pod of its revision stands in some phase',
    reason: 'KeyInUse',
    use: async (story) => {
      const rotation = await rotationOf(story, 1);
      const [pod] = story.test.cluster.all();
      if (pod === undefined) throw new Error('no pods');
      const gone = story.test.cluster.inject({
        ...pod,
        uid: 'old',
        name: 'old',
        phase: 'Pending',
        ready: false,
        annotations: { 'keyturn.dev/rotation': rotation },
      });
      return async () => gone();
    },
  },
  {
    what: 'an attested guest asked for it in the last day',
    reason: 'OldKeyFetched',
    use: async (story) => {
      const { kbs } = story.test;
      const { rows } = await story.pool.query<{ path: string }>(`select path from resources where path like '%/s1-%'`);
      await kbs.fetch(rows[0]?.path ?? '', { tee: 'sample', svn: '1', initData: null }, '127.64.9.9');
      return async () => story.test.advance(DAY_SECONDS);
    },
  },
  {
    what: 'a template names it',
    reason: 'KeyInUse',
    use: async (story) => {
      story.test.cluster.undo('chat');
      return async () => {
        await story.pool.query(`update runs set next_retry_at = instant()`);
      };
    },
  },
];

for (const { what, reason, use } of USERS) {
  it(`the last look holds it up while ${what}`, async () => {
    await replaced({ destroyAfterDays: DESTROY_AFTER_DAYS }, async (story) => {
      await story.test.advance(DESTROY_AFTER_DAYS * DAY_SECONDS);
      const over = await use(story);
      await startDueDestructions(story.engine.engine);
      const look = await lookOf(story, 1, 'destroy-key');
      const verdicts = await Promise.all((destroyKey.steps[0]?.gates ?? []).map((gate) => gate.ask(look)));
      expect(verdicts.flatMap((verdict) => (verdict.kind === 'no' ? [verdict.reason] : []))).toEqual([reason]);
      await story.engine.round();
      expect(sealedOf(story, await rotationOf(story, 1)), 'nothing was deleted').toBe(1);
      expect(story.test.network.log.filter(({ verb }) => verb === 'destroy')).toEqual([]);
      await over();
      if (what !== 'a template names it') {
        await story.engine.drive();
        expect(sealedOf(story, await rotationOf(story, 1)), 'afterwards').toBe(0);
      }
    });
  });
}

it('a key from which another is still being re-encrypted is not destroyed', async () => {
  await tell({}, async (story) => {
    const { engine, test, pool } = story;
    await engine.accept(testRelease({ serial: 1, ...QUICK, rotateAfterDays: 1, destroyAfterDays: DESTROY_AFTER_DAYS }));
    await engine.drive();
    await test.advance(DAY_SECONDS);
    await startDueRotations(engine.engine);
    const { sealing } = await engine.known(1);
    expect(await engine.engine.ledger.madeFrom(sealing.id)).toEqual(['chat v2']);
    await pool.query('update sealings set taken = true where epoch = 2');
    expect(await engine.engine.ledger.madeFrom(sealing.id), 'given up').toEqual([]);
  });
});
