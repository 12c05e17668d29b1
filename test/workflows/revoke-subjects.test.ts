/** The run of a revocation, for the subjects that name no key: what it refuses, and what goes on. */
import { expect, it } from 'vitest';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { initDataClaim } from '#src/domain/init-data.ts';
import { keyPath } from '#src/domain/paths.ts';
import type { Known, Revocation } from '#src/domain/release.ts';
import { runReceipts } from '#state/receipts.ts';
import { nothingIsRevoked } from '#workflows/gates/nothing-is-revoked.ts';
import { revoke } from '#workflows/revoke.ts';
import { testRelease } from '../world/release.ts';
import { granted, lookOf, type Story, stored, tell, testRevocation } from '../world/story.ts';

const KEEP = { keepPreviousSeconds: 3600 };
const STEPS = new Set(revoke.steps.map(({ name }) => name));
const NOBODY: RevocationSubject = { kind: 'target', cluster: 'east', namespace: 'inference', name: 'nobody' };

async function runOf({ pool }: Story, { digest }: Revocation): Promise<{ readonly id: string; readonly waits: string | null; readonly ended: boolean }> {
  const { rows } = await pool.query<{ id: string; waits: string | null; ended: boolean }>(
    'select id, waiting_for as waits, ended_at is not null as ended from runs where revocation = $1',
    [digest],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('no run');
  return row;
}

async function stepsOf(story: Story, revocation: Revocation): Promise<ReadonlySet<string>> {
  return new Set((await runReceipts(story.pool, (await runOf(story, revocation)).id)).map(({ step }) => step));
}

/** Two releases that serve, the first one kept to fall back to. */
async function twoServing({ engine }: Story): Promise<void> {
  for (const serial of [1, 2]) {
    await engine.accept(testRelease({ serial, ...KEEP }));
    await engine.driveTo(serial, 'confirm-serving');
  }
}

/** What the KBS, then a proxy, says to a revision's own guest; null: it gave the key. */
async function answersTo({ test }: Story, known: Known): Promise<readonly (string | null | undefined)[]> {
  const guest = { tee: 'sample', svn: String(known.release.guests.sample?.referenceValues.svn?.[0]), initData: known.release.initData.sample ?? null } as const;
  const path = keyPath(test.kbs.repository, known);
  const asked = await Promise.all((['broker', 'proxy'] as const).map((at) => test.kbs.ask(path, guest, at)));
  return asked.map(([answer]) => answer?.type);
}

it('a reference value: the revision that has no other is refused, and the one before serves again', async () => {
  await tell({}, async (story) => {
    await twoServing(story);
    const revocation = testRevocation({ kind: 'reference-value', name: 'svn', value: '2' });
    await story.engine.revoke(revocation);
    await story.engine.drive(async () => (await runOf(story, revocation)).ended);
    expect(await stepsOf(story, revocation)).toEqual(STEPS);
    expect([granted(story), stored(story)]).toEqual([[1], [1]]);
    expect(story.test.kbs.referenceValues.get('svn')).toEqual(['1']);
    expect(await answersTo(story, await story.engine.known(2))).toEqual(['PolicyDeny', 'ProxyDeny']);
    expect(await answersTo(story, await story.engine.known(1))).toEqual([null, null]);
  });
});

it('a target: no guest with its init-data is given a key, by the policy or by a proxy', async () => {
  await tell({}, async (story) => {
    await twoServing(story);
    const revocation = testRevocation({ kind: 'target', cluster: 'east', namespace: 'inference', name: 'chat' });
    await story.engine.revoke(revocation);
    await story.engine.drive(async () => (await runOf(story, revocation)).waits === 'Held');
    const both = await Promise.all([1, 2].map((serial) => story.engine.known(serial)));
    const claims = both.map(({ release }) => initDataClaim(release.initData.sample ?? '', 'sample')).sort();
    expect(story.test.kbs.policy).toMatchObject({ grants: [], denied: { initData: claims } });
    for (const known of both) expect(await answersTo(story, known)).toEqual(['PolicyDeny', 'ProxyDeny']);
    expect([...(await stepsOf(story, revocation))]).toContain('confirm-refused');
  });
});

it('a target that others serve without: its own guests alone are refused, at both layers, and nothing is held', async () => {
  await tell({ west: true }, async (story) => {
    const { engine, test } = story;
    test.west.cluster.add();
    await engine.accept(testRelease({ serial: 1, west: { kbs: 'west-kbs' }, ...KEEP }));
    await engine.driveTo(1, 'confirm-serving');
    const revocation = testRevocation({ kind: 'target', cluster: 'west', namespace: 'inference', name: 'chat' });
    await engine.revoke(revocation);
    await engine.drive(async () => (await runOf(story, revocation)).ended);
    const known = await engine.known(1);
    expect([known.revoked, known.state]).toEqual([false, 'serving']);
    expect(await answersTo(story, known)).toEqual([null, null]);
    const guest = { tee: 'sample', svn: '1', initData: known.release.initData.west ?? null } as const;
    const path = keyPath(test.west.kbs.repository, known);
    expect(await test.west.kbs.ask(path, guest, 'broker')).toMatchObject([{ type: 'PolicyDeny' }]);
    expect(await test.west.kbs.ask(path, guest, 'proxy')).toMatchObject([{ type: 'ProxyDeny' }]);
  });
});

it.each<[string, RevocationSubject]>([
  ['a device', { kind: 'device', chipId: 'AB12' }],
  ['a path of others', { kind: 'key', path: 'default/credential/registry' }],
  ['a target that is not there', NOBODY],
])('%s: nothing of ours is touched, the policy says it, and the receipt claims no more than it has', async (_, subject) => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1 }));
    await story.engine.driveTo(1, 'confirm-serving');
    const revocation = testRevocation(subject);
    await story.engine.revoke(revocation);
    await story.engine.drive(async () => (await runOf(story, revocation)).ended);
    expect(await stepsOf(story, revocation)).toEqual(STEPS);
    const denied = { paths: 'path' in subject ? [subject.path] : [], initData: [], devices: subject.kind === 'device' ? ['AB12', 'ab12'] : [] };
    expect(story.test.kbs.policy).toMatchObject({ denied });
    const receipts = await runReceipts(story.pool, (await runOf(story, revocation)).id);
    expect(receipts.find(({ step }) => step === 'confirm-refused')?.proof).toBe('accepted');
    expect(await answersTo(story, await story.engine.known(1))).toEqual([null, null]);
  });
});

it('a signer: what has too few signatures left is suspended; what was accepted before `since` goes on, and its runs with it', async () => {
  await tell({}, async (story) => {
    const { engine } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'make-resource');
    await engine.revoke(testRevocation({ kind: 'signer', person: 'ada', since: '2090-01-01T00:00:00Z' }));
    expect(await nothingIsRevoked.ask(await lookOf(story, 1))).toMatchObject({ kind: 'yes' });
    await engine.driveTo(1, 'confirm-serving');
    const ever = testRevocation({ kind: 'signer', person: 'ada' });
    await engine.revoke(ever);
    await engine.drive(async () => (await runOf(story, ever)).waits === 'Held');
    expect([granted(story), stored(story)]).toEqual([[], []]);
  });
});

it('two that name the same revision are each carried out to the end', async () => {
  await tell({}, async (story) => {
    await twoServing(story);
    const revocations = [
      testRevocation({ kind: 'reference-value', name: 'svn', value: '2' }),
      testRevocation({ kind: 'release', workload: 'chat', serial: 2 }),
    ];
    for (const one of revocations) await story.engine.revoke(one);
    await story.engine.drive(async () => (await Promise.all(revocations.map((one) => runOf(story, one)))).every(({ ended }) => ended));
    for (const one of revocations) expect(await stepsOf(story, one)).toEqual(STEPS);
    expect(granted(story)).toEqual([1]);
  });
});

it('what only an acceptance can work out holds until it is accepted, and not after it', async () => {
  await tell({}, async (story) => {
    const { engine, test } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'make-resource');
    for (const subject of [
      { kind: 'device', chipId: 'ab' },
      { kind: 'signer', person: 'ada', since: '2090-01-01T00:00:00Z' },
    ] as const) {
      const revocation = testRevocation(subject);
      test.git.revocations.push(revocation);
      expect(await nothingIsRevoked.ask(await lookOf(story, 1))).toMatchObject({ kind: 'no', about: revocation.path });
      test.git.revocations.pop();
      await engine.revoke(revocation);
      expect(await nothingIsRevoked.ask(await lookOf(story, 1))).toMatchObject({ kind: 'yes' });
    }
  });
});
