import { expect, it } from 'vitest';
import { tell as tellStatus } from '#src/commands/status.ts';
import { whyOf } from '#src/commands/why.ts';
import { inquiryText } from '#src/commands/why-text.ts';
import type { BootInquiry, Inquiry, PodInquiry, RotationInquiry, WorkloadInquiry } from '#src/domain/inquiry.ts';
import type { Release } from '#src/domain/release.ts';
import { inquire } from '#src/engine/inquiry.ts';
import { readOnly } from '#state/read-only.ts';
import { readStatus } from '#state/status.ts';
import { emergencies, workflows } from '#workflows/index.ts';
import { asIntakeWrites } from '../dashboard/revocation-rows.ts';
import { imageOf, initDataFor, testRelease } from '../world/release.ts';
import { type Story, tell, testRevocation } from '../world/story.ts';
import { allRows, ann, digestAt, keyturn, releaseFiles, SPAWNING_SECONDS, withStand } from './stand.ts';

async function why({ pool, test, engine }: Story, name: string): Promise<Inquiry | null> {
  const before = await allRows(pool);
  const parts = { loaders: engine.engine.loaders, workflows, emergencies, signersOf: async () => test.kbs.attestationSigners, clockBoundOf: () => 1 };
  const inquiry = await readOnly(pool, (db) => inquire(parts, db, name));
  expect(await allRows(pool)).toBe(before);
  return inquiry;
}

async function podInquiry(story: Story, name: string): Promise<PodInquiry & { readonly boot: BootInquiry }> {
  const inquiry = await why(story, name);
  const boot = inquiry?.kind === 'pod' ? inquiry.boots[0] : undefined;
  if (inquiry?.kind !== 'pod' || boot === undefined) throw new Error(`no pod ${name}`);
  return { ...inquiry, boot };
}

async function rotationInquiry(story: Story, serial: number): Promise<RotationInquiry> {
  const inquiry = await why(story, (await story.engine.known(serial)).rotation);
  if (inquiry?.kind !== 'rotation') throw new Error(`no rotation of serial ${serial}`);
  return inquiry;
}

/** A release that demands another measurement than its pods will have. */
function strict(release: Release): Release {
  const guests = Object.fromEntries(Object.entries(release.guests).map(([name, guest]) => [name, { ...guest, referenceValues: { svn: ['9'] } }]));
  return { ...release, guests };
}

/** Rounds with the clock moved on a little after each: what waits for a pod is looked at again. */
async function rounds({ engine, test }: Story, count: number): Promise<void> {
  for (let done = 0; done < count; done += 1) {
    await engine.round();
    await test.advance(60);
  }
}

it('says of a pod that was counted for what, and by which key', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1 }));
    await story.engine.drive();
    const [pod] = story.test.cluster.all();
    const { boot, conclusion } = await podInquiry(story, pod?.name ?? '');
    expect(conclusion).toMatchObject({ kind: 'good', reason: null, help: null });
    expect(boot).toMatchObject({ countedFor: 's1-v1', workload: { name: 'chat', by: 'receipt' }, target: { revision: 's1-v1' }, address: pod?.address });
    expect(boot.fetches.map(({ decision, revision }) => [decision, revision])).toEqual([['released', 's1-v1']]);
    expect(boot.attestations).toMatchObject([{ reason: null, differences: [] }]);
    expect(await podInquiry(story, pod?.uid ?? '')).toMatchObject({ conclusion });
    expect(await podInquiry(story, pod?.address ?? '')).toMatchObject({ conclusion });
    expect((await rotationInquiry(story, 1)).conclusion.kind).toBe('good');
    expect((await why(story, 'chat'))?.conclusion.kind).toBe('good');
  });
});

it('names the claim in which a denied pod differs, with what was expected and what was found', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1 }));
    await story.engine.drive();
    await story.engine.accept(strict(testRelease({ serial: 2 })));
    await rounds(story, 8);
    const wrong = story.test.cluster.all().find(({ ready }) => !ready);
    const { boot, conclusion } = await podInquiry(story, wrong?.name ?? '');
    expect(conclusion).toMatchObject({ kind: 'denied', reason: 'MeasurementMismatch', claim: 'cpu0 status' });
    expect(boot.fetches[0]).toMatchObject({ decision: 'refused', type: 'PolicyDeny', revision: 's2-v2', deniedBecause: null });
    expect(boot.attestations[0]?.differences.filter(({ claim }) => claim === 'sample.svn')).toEqual([{ claim: 'sample.svn', expected: ['9'], found: '2' }]);
    expect([boot.countedFor, conclusion.since !== null, conclusion.help !== null]).toEqual([null, true, true]);
    const rotation = await rotationInquiry(story, 2);
    const [adopt] = rotation.runs;
    expect(rotation.conclusion.kind).toBe('denied');
    expect(adopt?.steps.filter(({ state }) => state === 'here').map(({ name }) => name)).toEqual(['move-pods']);
    expect(adopt?.steps.map(({ name, state }) => [name, state])).toContainEqual(['patch-template', 'done']);
    expect(adopt?.steps.at(-1)).toMatchObject({ name: 'confirm-serving', state: 'to come', at: null });
    expect(rotation.pods.map(({ pod }) => pod)).toContain(wrong?.name);
    expect(inquiryText(rotation).join('\n')).toContain('sample.svn: expected ["9"], found 2');
    const workload = (await why(story, 'chat')) as WorkloadInquiry;
    expect(workload).toMatchObject({ kind: 'workload', target: 's2-v2', conclusion: { kind: 'denied' } });
    expect(workload.rotations.map(({ id }) => id)).toContain(rotation.id);
  });
});

it('names the gate that says no, since when, and what to do', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1, initData: initDataFor(imageOf(7)) }));
    await rounds(story, 2);
    const { conclusion, runs, pods } = await rotationInquiry(story, 1);
    expect(conclusion).toMatchObject({ kind: 'denied', reason: 'ImageNotBound', claim: 'image-is-bound' });
    expect(runs[0]?.waiting).toMatchObject({ step: 'go-live', gate: 'image-is-bound', reason: 'ImageNotBound' });
    expect([conclusion.since !== null, pods]).toEqual([true, []]);
  });
});

it('says of a wait that only takes time that nobody has to act', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1, soakSeconds: 100_000 }));
    await story.engine.driveTo(1, 'move-pods');
    await rounds(story, 1);
    expect((await rotationInquiry(story, 1)).conclusion).toMatchObject({ kind: 'waits', reason: 'Soaking' });
  });
});

it('tells a pod that the proxy refuses which revocation did it', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1 }));
    await story.engine.drive();
    const revocation = testRevocation({ kind: 'release', workload: 'chat', serial: 1 });
    await story.engine.revoke(revocation);
    const [pod] = story.test.cluster.all();
    if (pod === undefined) throw new Error('no pod');
    await story.test.cluster.restart(pod);
    const { conclusion, boot } = await podInquiry(story, pod.name);
    expect(conclusion).toMatchObject({ kind: 'denied', reason: 'Revoked' });
    expect(boot.fetches[0]).toMatchObject({ decision: 'refused', deniedBecause: revocation.path });
    expect(await why(story, 'chat')).toMatchObject({ kind: 'workload', target: null, conclusion: { kind: 'waits', reason: 'Held' } });
  });
});

it('tells of a revocation, by its id, path, digest or run: who, why, each refusal since the webhook, what is undone and why', async () => {
  await tell({}, async (story) => {
    const { engine, pool } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'confirm-serving');
    const revocation = { ...testRevocation({ kind: 'workload', workload: 'chat' }, 'stop-chat'), why: 'found in a log' };
    await engine.revoke(revocation);
    await asIntakeWrites(pool, revocation);
    const { rows: runs } = await pool.query<{ id: string }>(`select id from runs where workflow = 'revoke'`);
    const begun = await why(story, 'stop-chat');
    expect(begun).toMatchObject({ kind: 'revocation', conclusion: { kind: 'waits', reason: null }, undone: { length: 9 } });
    for (const name of [revocation.path, revocation.digest, runs[0]?.id ?? ''])
      expect(await why(story, name)).toMatchObject({ kind: 'revocation', id: 'stop-chat' });
    await engine.drive((looks) => looks.some((look) => look.kind === 'resting' && look.waitingFor === 'Held'));
    const inquiry = await why(story, 'stop-chat');
    if (inquiry?.kind !== 'revocation') throw new Error('no revocation');
    expect(inquiry).toMatchObject({
      subject: 'all of chat',
      reason: 'keyCompromise',
      approvedBy: ['rex'],
      workloads: [{ name: 'chat', target: null }],
      revisions: 1,
    });
    expect(inquiry.conclusion).toMatchObject({ kind: 'waits', reason: 'Held' });
    const status = tellStatus(await readStatus(pool)).map((line) => line.trim().replace(/ {2,}/g, '  '));
    const at = status.indexOf('REVOCATIONS');
    expect(status[at + 1]).toMatch(/^revocations\/stop-chat\.yaml {2}refused, not all is done, accepted 20/);
    expect(status[at + 2]).toMatch(/^of all of chat: 8 of 9 done; not yet: The key store no longer decrypts/);
    expect(status[at + 3]).toMatch(/^Held: /);
    expect(status.find((line) => line.startsWith('chat '))).toContain('held by revocations/stop-chat.yaml');
    expect(inquiry.undone.map(({ step }) => step)).toEqual(['disable-keys']);
    expect(inquiry.moments.map(({ event }) => event)).toEqual(expect.arrayContaining(['hinted', 'accepted', 'refuse-at-proxies', 'confirm-refused']));
    const text = inquiryText(inquiry).join('\n');
    for (const part of [
      'found in a log',
      'TIME LINE since the webhook',
      'Every proxy refuses it.',
      'NOT DONE YET',
      '3 pods may have had it in memory: not told to go',
    ])
      expect(text).toContain(part);
  });
});

it('tells of whoever calls from an address where no pod was sighted, and knows no other names', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1 }));
    await story.engine.drive();
    const { path } = (await podInquiry(story, story.test.cluster.all()[0]?.name ?? '')).boot.fetches[0] ?? { path: '' };
    await story.test.kbs.fetch(path, { tee: 'sample', svn: '1', initData: null }, '10.9.9.9');
    const { boot, conclusion } = await podInquiry(story, '10.9.9.9');
    expect(boot).toMatchObject({ cluster: '', workload: { name: 'chat', by: 'fetch' } });
    expect(conclusion).toMatchObject({ kind: 'denied', claim: 'init_data' });
    expect(await why(story, 'nobody')).toBeNull();
    expect(await why(story, '10.9.9.8')).toBeNull();
  });
});

it(
  'is a command: 3 where a person has to act, 0 where it takes time, 1 for a name that nothing has',
  async () => {
    await withStand(async (stand) => {
      const first = await releaseFiles(1, { previous: null, signers: [ann] });
      await stand.merge(first);
      const waiting = await whyOf(stand.config, 'w');
      expect(waiting).toMatchObject({ kind: 'workload', target: null, conclusion: { kind: 'waits', reason: 'SignaturesMissing' } });
      await stand.merge(await releaseFiles(2, { previous: digestAt(first, 'guests/w/1-cpu.toml') }));
      const [good, bad, none, said] = await Promise.all([
        keyturn('why', 'r-0000000000000000', '--config', stand.config),
        keyturn('why', 'w', '--config', stand.config, '--json'),
        keyturn('why', 'nobody', '--config', stand.config),
        keyturn('why', '--config', stand.config),
      ]);
      expect([good.code, bad.code, none.code, said.code]).toEqual([1, 3, 1, 2]);
      expect(JSON.parse(bad.output)).toMatchObject({ kind: 'workload', conclusion: { kind: 'denied', reason: 'PreviousWrong' } });
    });
  },
  SPAWNING_SECONDS * 1000,
);
