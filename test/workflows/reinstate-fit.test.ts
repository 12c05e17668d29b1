/** What comes back has to fit what was accepted while it was away: then nobody had to fit it. */
import { expect, it } from 'vitest';
import type { Release, Revocation } from '#src/domain/release.ts';
import { testRelease } from '../world/release.ts';
import { type Story, tell, templateRotation, testReinstatement, testRevocation, testSuspension } from '../world/story.ts';

const KEEP = { soakSeconds: 0, keepPreviousSeconds: 3600 };
const CHAT = testSuspension({ kind: 'workload', workload: 'chat' }, 'chat');
const OTHER = testRevocation({ kind: 'workload', workload: 'other' }, 'other');

async function lifting({ pool }: Story): Promise<{ readonly waits: string | null; readonly ended: boolean }> {
  const { rows } = await pool.query<{ waits: string | null; ended: boolean }>(
    `select waiting_for as waits, ended_at is not null as ended from runs where workflow = 'reinstate'`,
  );
  const [row] = rows;
  if (row === undefined) throw new Error('no reinstate run');
  return row;
}

/** The first release serves, is suspended, and its reinstatement is carried out once another workload's was accepted meanwhile. */
async function backAfter(story: Story, first: Release, meanwhile: Release, suspension: Revocation): Promise<void> {
  const { engine } = story;
  await engine.accept(first);
  await engine.driveTo(1, 'confirm-serving');
  await engine.revoke(suspension);
  await engine.drive(async () => (await templateRotation(story)) !== undefined);
  expect(await engine.accept(meanwhile)).toBeNull();
  await engine.reinstate(testReinstatement(suspension), suspension);
  for (let rounds = 0; rounds < 5; rounds += 1) await engine.round();
}

it('a workload stays suspended while another one moves its objects, and comes back when that one is gone', () =>
  tell({}, async (story) => {
    const { engine } = story;
    const [target] = testRelease({ serial: 1 }).targets;
    if (target === undefined) throw new Error('the release has no target');
    const taking = testRelease({ workload: 'other', serial: 2, ...KEEP });
    await backAfter(story, testRelease({ serial: 1, ...KEEP }), { ...taking, targets: [{ ...target, set: taking.targets[0]?.set ?? {} }] }, CHAT);
    expect(await lifting(story)).toEqual({ waits: 'ObjectTaken', ended: false });
    expect(await engine.known(1)).toMatchObject({ revoked: true, pathNumber: 0 });
    await engine.revoke(OTHER);
    await engine.drive(async () => (await lifting(story)).ended);
    expect(await engine.known(1)).toMatchObject({ revoked: false, pathNumber: 1 });
  }));

it('a workload stays suspended while a KBS could not be told of it beside what it holds by now', () =>
  tell({}, async (story) => {
    const { engine } = story;
    const name = 'n'.repeat(200);
    // Each policy by itself is good; a text of both is longer than the engine of a KBS takes.
    const wide = (release: Release): Release => {
      const { sample } = release.guests;
      if (sample === undefined) throw new Error('the release has no guest');
      const kbsResources = Array.from({ length: 3000 }, (_, index) => `${release.workload}/${name}/${index}`);
      return { ...release, guests: { sample: { ...sample, kbsResources } } };
    };
    await backAfter(story, wide(testRelease({ serial: 1, ...KEEP })), wide(testRelease({ workload: 'other', serial: 2, ...KEEP })), CHAT);
    expect(await lifting(story)).toEqual({ waits: 'LimitExceeded', ended: false });
    expect(await engine.known(1)).toMatchObject({ revoked: true, pathNumber: 0 });
    await engine.revoke(OTHER);
    await engine.drive(async () => (await lifting(story)).ended);
    expect(await engine.known(1)).toMatchObject({ revoked: false, pathNumber: 1 });
  }));
