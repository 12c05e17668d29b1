/** Ready is not attested: what a look at pods counts, and what it does not (DESIGN §7). */
import { expect, it } from 'vitest';
import { keyPath } from '#src/domain/paths.ts';
import { makeAuthority } from '#src/lab/certificates.ts';
import { lookAtPods, type PodsLook } from '#workflows/pods.ts';
import type { TestPod } from '../world/cluster.ts';
import { testRelease } from '../world/release.ts';
import { lookOf, type Story, tell } from '../world/story.ts';

interface Pods extends Story {
  readonly pods: readonly [TestPod, TestPod, TestPod];
  readonly look: () => Promise<PodsLook>;
  /** Forgets what was fetched from a pod's address, and lets a guest of this measurement fetch from there, released whoever it is. */
  readonly refetch: (pod: TestPod, svn: string) => Promise<void>;
}

/** Three pods that run release 1, ready, each having fetched its key; nothing counted yet. */
async function withPods(fn: (pods: Pods) => Promise<void>): Promise<void> {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'patch-template');
    await test.cluster.tick();
    await test.cluster.tick();
    const [first, second, third] = test.cluster.all();
    if (first === undefined || second === undefined || third === undefined) throw new Error('three pods');
    const look = async () => {
      const made = await lookOf(story, 1);
      return lookAtPods(made, made.subject);
    };
    const refetch = async (pod: TestPod, svn: string) => {
      await pool.query('delete from fetches where address = $1', [pod.address]);
      test.kbs.policy = 'allow';
      const { subject } = await lookOf(story, 1);
      const initData = subject.release.initData.sample ?? null;
      await test.kbs.fetch(keyPath(test.kbs.repository, subject), { tee: 'sample', svn, initData }, pod.address ?? '');
    };
    await fn({ ...story, pods: [first, second, third], look, refetch });
  });
}

const bad = (reason: string) => ({ kind: 'bad', reason });

it('counts every pod by its boot, with the fetch, the key and the attestation result that answer for it', async () => {
  await withPods(async ({ pods, look }) => {
    const found = await look();
    expect(found).toMatchObject({ kind: 'good', boots: { 'east/inference/chat': pods.map((pod) => `${pod.uid}/${pod.containerId}`) } });
    expect(await look(), 'a second look takes the same fetches').toMatchObject({ evidence: found.kind === 'good' ? found.evidence : null });
  });
});

it('counts no pod that does not serve, cannot be told by its address, or runs another image', async () => {
  await withPods(async ({ pods: [pod, other], look }) => {
    const with_ = async (change: Partial<TestPod>): Promise<PodsLook> => {
      const before = { ...pod };
      Object.assign(pod, change);
      const found = await look();
      Object.assign(pod, before);
      return found;
    };
    expect(await with_({ ready: false })).toMatchObject(bad('PodNotReady'));
    expect(await with_({ terminating: true })).toMatchObject(bad('PodNotReady'));
    expect(await with_({ phase: 'Failed' }), 'it does not start again').toMatchObject(bad('PodsMissing'));
    expect(await with_({ hostNetwork: true })).toMatchObject(bad('PodNotAttested'));
    expect(await with_({ address: null })).toMatchObject(bad('PodNotAttested'));
    expect(await with_({ containerId: null })).toMatchObject(bad('PodNotAttested'));
    expect(await with_({ address: other.address })).toMatchObject(bad('PodNotAttested'));
    expect(await with_({ images: ['registry.test/another'] })).toMatchObject(bad('MeasurementMismatch'));
    expect(await with_({ images: [] })).toMatchObject(bad('MeasurementMismatch'));
    expect(await with_({ annotations: {} })).toMatchObject(bad('PodsNotMoved'));
    expect(await with_({})).toMatchObject({ kind: 'good' });
  });
});

it('counts no pod twice: neither one that is listed twice, nor one whose address another cluster’s pod has', async () => {
  await withPods(async ({ test, pods: [pod, second, third], look, ...story }) => {
    const before = [{ ...second }, { ...third }];
    for (const copy of [second, third]) Object.assign(copy, { ...pod, name: copy.name });
    expect(await look()).toMatchObject(bad('PodNotAttested'));
    for (const copy of [second, third]) copy.address = `${copy.address}${copy.name}`;
    expect(await look(), 'one pod at three addresses').toMatchObject(bad('PodNotAttested'));
    Object.assign(second, before[0]);
    Object.assign(third, before[1]);
    expect(await look()).toMatchObject({ kind: 'good' });
    const made = await lookOf({ test, ...story }, 1);
    const [target] = made.subject.release.targets;
    if (target === undefined) throw new Error('a release has targets');
    const west = { ...test.cluster, name: 'west', pods: async () => test.cluster.all().map((one) => ({ ...one, uid: `west-${one.uid}` })) };
    const world = { ...made.world, cluster: (name: string) => (name === 'west' ? west : made.world.cluster(name)) };
    const release = { ...made.subject.release, targets: [target, { ...target, cluster: 'west' }] };
    await test.cluster.tick();
    expect(await lookAtPods({ ...made, world }, { ...made.subject, release })).toMatchObject({
      ...bad('PodNotAttested'),
      about: expect.stringContaining(pod.address ?? ''),
    });
  });
});

it('counts no pod that has fetched nothing, or before it started', async () => {
  await withPods(async ({ pool, test, pods: [pod], look }) => {
    await test.advance(30);
    Object.assign(pod, { containerId: 'again', startedAt: await test.clock() });
    expect(await look()).toMatchObject(bad('PodNotAttested'));
    await pool.query('update fetches set at = instant()');
    expect(await look(), 'with the session of the boot before').toMatchObject(bad('PodNotAttested'));
    await pool.query('delete from fetches');
    expect(await look()).toMatchObject(bad('PodNotAttested'));
  });
});

it('counts a fetch whose guest was another machine as a wrong measurement', async () => {
  await withPods(async ({ pods: [pod], look, refetch, test }) => {
    test.kbs.referenceValues.set('svn', ['1', '9']);
    await refetch(pod, '9');
    expect(await look()).toMatchObject(bad('MeasurementMismatch'));
    await refetch(pod, '1');
    expect(await look()).toMatchObject({ kind: 'good' });
  });
});

it('counts no fetch that was refused, however well its guest attested', async () => {
  await withPods(async ({ pool, look }) => {
    await pool.query(`update fetches set decision = 'refused'`);
    expect(await look()).toMatchObject(bad('PodNotAttested'));
  });
});

it('counts no attestation that is older at the fetch than the release allows', async () => {
  await withPods(async ({ pool, test, pods: [pod], look }) => {
    await test.advance(301);
    await pool.query('update fetches set at = instant() where address = $1', [pod.address]);
    expect(await look()).toMatchObject(bad('PodNotAttested'));
  });
});

it('counts no attestation that somebody else signed', async () => {
  await withPods(async ({ test, look }) => {
    const { certificatePem } = await makeAuthority('somebody else');
    Object.assign(test.kbs, { attestationSigners: [certificatePem] });
    expect(await look()).toMatchObject(bad('AttestationInvalid'));
  });
});

it('counts one TEE key for one boot: a token that is passed on answers for nobody else', async () => {
  await withPods(async ({ pool, pods: [first, second], look }) => {
    const { rows } = await pool.query<{ token: string; tee_key: string }>('select token, tee_key from handshakes where address = $1', [first.address]);
    await pool.query('update handshakes set token = $2, tee_key = $3 where address = $1', [second.address, rows[0]?.token, rows[0]?.tee_key]);
    expect(await look()).toMatchObject({ kind: 'bad', reason: 'PodNotAttested', about: expect.stringContaining(second.name) });
  });
});

it('needs as many pods as the release says and the workload has, none of them more than a template’s word', async () => {
  await withPods(async ({ test, look }) => {
    test.cluster.edit('chat', { '/spec/template/metadata/annotations/keyturn.dev~1rotation': 'r-0000000000000000' });
    expect(await look()).toMatchObject(bad('TemplateOutdated'));
  });
  await withPods(async ({ engine, pods, look }) => {
    pods[0].phase = 'Succeeded';
    expect(await look()).toMatchObject(bad('PodsMissing'));
    expect((await engine.known(1)).release.targets[0]?.minimumAttested).toBe(3);
  });
});
