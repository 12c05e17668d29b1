/** Rules of the protocol (DESIGN §8; the numbers are the model's) on keys, receipts and verdicts. */
import { expect, it } from 'vitest';
import { sweep } from '#src/engine/sweep.ts';
import { parseInstant, secondsBetween } from '#src/instant.ts';
import { workflows } from '#workflows/index.ts';
import { PODS_GOOD_SECONDS } from '#workflows/pods.ts';
import type { Decision, Look } from '#workflows/step.ts';
import { hasReceipt, waitsFor } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { lookOf, type Story, tell, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

/** The production workflows, with something that happens once, right after a decision was made and before it is committed. */
function interrupted(step: string, happens: (look: Look) => Promise<void>) {
  const times = { left: 1 };
  const around = (decision: Decision): Decision => ({
    ...decision,
    decide: async (look) => {
      const seen = await decision.decide(look);
      if (seen.kind === 'seen' && times.left > 0) {
        times.left -= 1;
        await happens(look);
      }
      return seen;
    },
  });
  return workflows.map((workflow) => ({
    ...workflow,
    steps: workflow.steps.map((one) => (one.kind === 'decision' && one.name === step ? around(one) : one)),
  }));
}

function states({ test }: Story, rotation: string): readonly string[] {
  return test.kms.keys(rotation).map((key) => key.state);
}

it('R7: a receipt is not written once the run was fenced, whatever was seen before', async () => {
  const parts = (_: unknown, story: () => Story) => ({
    workflows: interrupted('confirm-published', () => story().engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }))),
  });
  await tell({ parts }, async ({ pool, engine }) => {
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'publish-policy');
    await engine.round();
    expect(await hasReceipt(pool, 1, 'adopt-revision', 'confirm-published')).toBe(false);
    expect(await engine.known(1)).toMatchObject({ state: 'live', revoked: true });
  });
});

it('R11: of two keys the one in the fact is used, and the sweeper disables the other, however late a listing shows it', async () => {
  await tell({ listingLagSeconds: 600 }, async (story) => {
    const { pool, test, engine } = story;
    test.network.befall(/kms create/, 'answer-lost');
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.round();
    expect(await waitsFor(pool, 1)).toBe('Unreachable');
    await engine.drive();
    const { sealing, rotation } = await engine.known(1);
    expect(states(story, rotation), 'the lost one landed, and a second was made').toEqual(['active', 'active']);
    expect(test.kms.keys(rotation)[1]?.keyId).toBe(sealing.facts.keyId);
    await sweep(engine.engine);
    expect(states(story, rotation), 'not listed yet: nothing to sweep').toEqual(['active', 'active']);
    await test.advance(700);
    await sweep(engine.engine);
    expect(states(story, rotation), 'not the oldest: the one in the fact').toEqual(['deactivated', 'active']);
  });
});

it('R11: a creation that may still show up is waited for before another is sent', async () => {
  await tell({ listingLagSeconds: 5 }, async (story) => {
    const { test, engine } = story;
    test.network.befall(/kms create/, 'answer-lost');
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.drive();
    expect(test.network.log.filter(({ verb }) => verb === 'create')).toHaveLength(1);
  });
});

it('R11: once a fact names the key, a disabled one stops the run: no other is taken or made', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'create-key');
    const look = await lookOf(story, 1);
    const { keyId = '' } = look.subject.sealing.facts;
    await test.kms.disable(async () => ({ value: { rotation: look.subject.rotation, keyId }, answered: async () => {} }));
    const step = workflows[0]?.steps[0];
    if (step?.kind !== 'effect') throw new Error('create-key is the first step');
    await step.act(look);
    expect(await step.observe(look)).toMatchObject({ kind: 'not-yet', waitingFor: 'KeyDisabled' });
    expect(test.kms.keys()).toHaveLength(1);
  });
});

it('R14: with no target left, no key is disabled', async () => {
  await tell({}, async (story) => {
    const { pool, engine } = story;
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.drive();
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(1, 'delete-resource', 'retire-revision');
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 2 }));
    for (let rounds = 0; rounds < 5; rounds += 1) await engine.round();
    expect(await waitsFor(pool, 1, 'retire-revision')).toBe('Held');
    expect(states(story, (await engine.known(1)).rotation)).toEqual(['active']);
  });
});

it('R14: a key is disabled only when it opens nothing any more, for as long as its store needs to hear of it', async () => {
  await tell({ disabledProofSeconds: 60, disableLagSeconds: 3 }, async (story) => {
    const { pool, test, engine } = story;
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.drive();
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(1, 'delete-resource', 'retire-revision');
    await engine.round();
    expect(await waitsFor(pool, 1, 'retire-revision'), 'it still decrypts').toBe('KeyStillEnabled');
    await test.advance(4);
    await engine.round();
    expect(await waitsFor(pool, 1, 'retire-revision')).toBe('KeyRefusalProving');
    await test.advance(50);
    await engine.round();
    expect(await hasReceipt(pool, 1, 'retire-revision', 'disable-key')).toBe(false);
    await test.advance(11);
    await engine.round();
    expect(await hasReceipt(pool, 1, 'retire-revision', 'disable-key')).toBe(true);
    expect(test.network.log.filter(({ verb }) => verb === 'disable').length, 'disabled again only while it decrypted').toBeLessThanOrEqual(2);
  });
});

it('R21: what was seen commits only while it is good, on the database’s clock', async () => {
  const parts = (test: Story['test']) => ({ workflows: interrupted('confirm-serving', () => test.advance(PODS_GOOD_SECONDS + 1)) });
  await tell({ parts }, async (story) => {
    const { pool, engine } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.drive();
    const { rows } = await pool.query<{ body: string; at: string }>(`select body, at from receipts where step = 'confirm-serving'`);
    expect(rows).toHaveLength(1);
    const { verdicts } = JSON.parse(rows[0]?.body ?? '') as { verdicts: { gate: string; goodUntil: string | null }[] };
    const attested = verdicts.find(({ gate }) => gate === 'workload-is-attested');
    const leftSeconds = secondsBetween(parseInstant(rows[0]?.at ?? ''), parseInstant(attested?.goodUntil ?? ''));
    expect(leftSeconds, 'the verdict that it was written on').toBeGreaterThan(0);
    expect(leftSeconds).toBeLessThanOrEqual(PODS_GOOD_SECONDS);
  });
});

it('R21: a verdict names the boot it is about, and counts for no other', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'move-pods');
    const { facts } = await engine.known(1);
    const pods = test.cluster.all();
    expect(facts.boots?.['east/inference/chat']).toEqual(pods.map((pod) => `${pod.uid}/${pod.containerId}`));
    const [pod] = pods;
    if (pod === undefined) throw new Error('no pod');
    // Started again, and ready as far as its cluster says, but it has fetched nothing since.
    Object.assign(pod, { containerId: 'c-again', startedAt: await test.clock() });
    await test.advance(20);
    Object.assign(pod, { startedAt: await test.clock() });
    const look = await lookOf(story, 1);
    const gate = workflows[0]?.steps.at(-1)?.gates?.[0];
    expect(await gate?.ask(look)).toMatchObject({ kind: 'no', reason: 'PodNotAttested' });
  });
});
