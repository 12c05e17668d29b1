import { expect, it } from 'vitest';
import { takeIn } from '#src/engine/intake.ts';
import { Fault, isFault } from '#src/errors.ts';
import { readStatus } from '#state/status.ts';
import { withBench } from './intake-parts.ts';

it('says since when the branch cannot be read, and no longer when it can', async () => {
  await withBench(async ({ pool, lab, intake }) => {
    await lab.commit({ 'README.md': 'a branch' }, 'a commit');
    await takeIn(intake);
    expect((await readStatus(pool)).polls).toMatchObject([{ branch: 'main', failingSince: null, reason: null }]);
    const poll = async () => Promise.reject(new Fault('ServerError', 'git: 500'));
    const failing = { ...intake, git: { ...intake.git, poll } };
    await expect(takeIn(failing)).rejects.toSatisfy(isFault);
    const [first] = (await readStatus(pool)).polls;
    await expect(takeIn(failing)).rejects.toSatisfy(isFault);
    const [second] = (await readStatus(pool)).polls;
    expect(second).toMatchObject({ reason: 'ServerError', failingSince: first?.failingSince });
    expect(second?.help).not.toBeNull();
    await takeIn(intake);
    expect((await readStatus(pool)).polls).toMatchObject([{ failingSince: null, reason: null, help: null }]);
  });
});
