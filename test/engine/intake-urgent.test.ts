import { expect, it } from 'vitest';
import { takeIn } from '#src/engine/intake.ts';
import { openHints, openUrgency } from '#src/engine/repeat.ts';
import { ann, cid, release, revocation, START, verdicts, withBench } from './intake-parts.ts';

/** Three releases are pushed at once; while the first is accepted a revocation of the third comes, and somebody hints. Gives what each acceptance saw of it. */
async function whilePassing(
  isUrgent: () => boolean,
  given: () => void,
): Promise<{ readonly seen: readonly (string | undefined)[]; readonly end: Record<string, string> }> {
  const seen: (string | undefined)[] = [];
  let end: Record<string, string> = {};
  await withBench(async ({ pool, lab, intake }) => {
    const releases = await Promise.all(['u', 'v', 'w'].map((workload) => release(1, null, [ann, cid], workload)));
    await lab.commit(Object.assign({}, START, ...releases), 'three at once');
    const misfit = async () => {
      seen.push((await verdicts(pool))['revocations/r.yaml']);
      if (seen.length > 1) return null;
      await lab.commit(await revocation('r', { kind: 'workload', workload: 'w' }), 'now');
      given();
      return null;
    };
    await takeIn({ ...intake, misfit }, isUrgent);
    end = await verdicts(pool);
  });
  return { seen, end };
}

it('a revocation that comes in the middle of a pass is accepted before the releases that still wait in it', async () => {
  const hints = openHints();
  const { seen, end } = await whilePassing(openUrgency(hints, 3600), hints.give);
  expect(seen[0]).toBeUndefined();
  expect(
    seen.slice(1).every((verdict) => verdict === 'accepted'),
    String(seen),
  ).toBe(true);
  expect(end['revocations/r.yaml']).toBe('accepted');
  expect(end['releases/v/1.yaml']).toBe('accepted');
});

it('nobody hints, and it is seen all the same once a poll would have been due', async () => {
  const { seen } = await whilePassing(openUrgency(openHints(), 0), () => {});
  expect(
    seen.slice(1).every((verdict) => verdict === 'accepted'),
    String(seen),
  ).toBe(true);
});

it('a hint is urgent once, and one from before the pass is not', () => {
  const hints = openHints();
  hints.give();
  const isUrgent = openUrgency(hints, 3600);
  expect(isUrgent()).toBe(false);
  hints.give();
  hints.give();
  expect([isUrgent(), isUrgent()]).toEqual([true, false]);
});

it('a branch that cannot be read in the middle of a pass ends nothing', async () => {
  await withBench(async ({ pool, lab, intake }) => {
    await lab.commit({ ...START, ...(await release(1, null)), ...(await release(1, null, [ann, cid], 'v')) }, 'two');
    let polls = 0;
    const poll: typeof intake.git.poll = (known) => {
      polls += 1;
      return polls === 1 ? intake.git.poll(known) : lab.close().then(() => intake.git.poll(known));
    };
    const report = await takeIn({ ...intake, git: { ...intake.git, poll } }, () => true);
    expect(polls).toBeGreaterThan(1);
    expect(report.failures).toEqual([]);
    expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'accepted', 'releases/v/1.yaml': 'accepted' });
  });
});

it('a replica that was overtaken by one that had read less looks again at once', async () => {
  await withBench(async ({ pool, lab, intake }) => {
    await lab.commit(START, 'first');
    await takeIn(intake);
    await lab.commit(await release(1, null, [ann, cid]), 'a release');
    const known = (await intake.git.tip()).commit;
    const early = await intake.git.poll('0'.repeat(40));
    await lab.commit(await revocation('r', { kind: 'workload', workload: 'w' }), 'now');
    let polls = 0;
    const poll: typeof intake.git.poll = async (at) => {
      const found = await intake.git.poll(at);
      polls += 1;
      if (polls === 1) await takeIn({ ...intake, git: { ...intake.git, poll: async () => early } });
      return found;
    };
    const report = await takeIn({ ...intake, git: { ...intake.git, poll } });
    expect(report.commit).not.toBe(known);
    expect((await verdicts(pool))['revocations/r.yaml']).toBe('accepted');
  });
});
