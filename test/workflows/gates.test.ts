/** Gates: what each refuses, and that nothing is sent while it does. */
import { describe, expect, it } from 'vitest';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { keyPath } from '#src/domain/paths.ts';
import type { WorkloadObject } from '#src/world.ts';
import { nothingIsRevoked } from '#workflows/gates/nothing-is-revoked.ts';
import { targetHasOwnCiphertext } from '#workflows/gates/target-has-own-ciphertext.ts';
import { sightPods } from '#workflows/pods.ts';
import { waitsFor } from '../world/engine.ts';
import { imageOf, initDataFor, testRelease } from '../world/release.ts';
import { lookOf, type Story, tell, templateRotation, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

it('release-is-signed: a release whose signatures no longer hold does nothing', async () => {
  await tell({}, async ({ pool, test, engine }) => {
    const release = testRelease({ serial: 1 });
    test.git.unsigned.set(release.digest, { reason: 'SignatureInvalid', about: 'ada' });
    await engine.accept(release);
    await engine.round();
    expect(await waitsFor(pool, 1)).toBe('SignatureInvalid');
    expect(test.network.log).toEqual([]);
  });
});

describe('nothing-is-revoked', () => {
  const touching: readonly RevocationSubject[] = [
    { kind: 'all' },
    { kind: 'workload', workload: 'chat' },
    { kind: 'release', workload: 'chat', serial: 1 },
    { kind: 'key', workload: 'chat', epoch: 1 },
    { kind: 'target', cluster: 'east', namespace: 'inference', name: 'chat' },
    { kind: 'reference-value', name: 'svn', value: '1' },
    { kind: 'signer', person: 'ada' },
    { kind: 'device', chipId: 'any' },
  ];
  const others: readonly RevocationSubject[] = [
    { kind: 'workload', workload: 'embed' },
    { kind: 'release', workload: 'chat', serial: 2 },
    { kind: 'key', workload: 'chat', epoch: 2 },
    { kind: 'key', keyId: 'another' },
    { kind: 'target', cluster: 'east', namespace: 'inference', name: 'embed' },
    { kind: 'reference-value', name: 'svn', value: '2' },
    { kind: 'reference-value', name: 'constructor', value: '1' },
    { kind: 'signer', person: 'cy' },
  ];

  it('refuses whatever the branch’s tip forbids, where rows do not know of it', async () => {
    await tell({}, async (story) => {
      await story.engine.accept(testRelease({ serial: 1 }));
      await story.engine.driveTo(1, 'make-resource');
      const look = await lookOf(story, 1);
      const path = keyPath(story.test.kbs.repository, look.subject);
      const own: readonly RevocationSubject[] = [
        { kind: 'key', path },
        { kind: 'key', keyId: look.subject.sealing.facts.keyId ?? '' },
      ];
      for (const subject of [...touching, ...own]) {
        story.test.git.revocations.splice(0, 9, testRevocation(subject));
        expect(await nothingIsRevoked.ask(look), JSON.stringify(subject)).toMatchObject({ kind: 'no', reason: 'Revoked' });
      }
      story.test.git.revocations.splice(0, 9, ...others.map((subject) => testRevocation(subject)));
      expect(await nothingIsRevoked.ask(look)).toMatchObject({ kind: 'yes' });
    });
  });

  it('is a no while Git does not answer', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      test.git.unreachable = true;
      await engine.accept(testRelease({ serial: 1 }));
      await engine.round();
      expect(await waitsFor(pool, 1)).toBe('Unreachable');
      expect(test.network.log).toEqual([]);
    });
  });
});

describe('image-is-bound', () => {
  const image = imageOf(1);
  const bound = initDataFor(image);
  const cases = {
    'another image': initDataFor(imageOf(2)),
    'another KBS': initDataFor(image, 'https://elsewhere.test'),
    'no default to reject': bound.replace('"default":[{"type":"reject"}]', '"default":[{"type":"insecureAcceptAnything"}]'),
    'a policy by URI': bound.replace(/image_security_policy = .*/, 'image_security_policy_uri = "kbs:///default/security-policy/1"'),
    'no policy': bound.replace(/image_security_policy = .*/, ''),
  };
  for (const [name, initData] of Object.entries(cases)) {
    it(`refuses ${name}, before anything is live`, async () => {
      await tell({}, async ({ pool, engine }) => {
        await engine.accept(testRelease({ serial: 1, initData }));
        await engine.round();
        expect(await waitsFor(pool, 1)).toBe('ImageNotBound');
        expect((await engine.known(1)).state).toBe('accepted');
      });
    });
  }
});

describe('preflight-passes', () => {
  const cases = {
    'a surge': { maxSurge: 1 },
    'a percentage': { maxUnavailable: '25%' },
    'more at once than a batch': { maxUnavailable: 2 },
    'a paused Deployment': { paused: true },
  };
  for (const [name, options] of Object.entries(cases)) {
    it(`refuses ${name}, before the template is touched`, async () => {
      await tell({}, async (story) => {
        story.test.cluster.add(options);
        await story.engine.accept(testRelease({ serial: 1 }));
        await story.engine.round();
        expect(await waitsFor(story.pool, 1)).toBe('PreflightFailed');
        expect(await templateRotation(story)).toBeUndefined();
      });
    });
  }

  it('refuses a container whose image the release does not name', async () => {
    await tell({}, async (story) => {
      story.test.cluster.add({ sidecar: 'registry.test/sidecar' });
      await story.engine.accept(testRelease({ serial: 1 }));
      await story.engine.round();
      expect(await waitsFor(story.pool, 1)).toBe('PreflightFailed');
    });
  });
});

describe('fields-are-ours', () => {
  const fields = { 'f:spec': { 'f:template': { 'f:spec': { 'f:containers': { 'k:{"name":"chat"}': { 'f:image': {} } } } } } };
  const entry = (manager: string, operation: string): WorkloadObject['managers'][number] => ({ manager, operation, fields });
  const waits = async (managers: WorkloadObject['managers']): Promise<string | null> => {
    const found: { reason: string | null } = { reason: null };
    await tell({}, async ({ pool, test, engine }) => {
      test.cluster.managedBy('chat', managers);
      await engine.accept(testRelease({ serial: 1 }));
      await engine.round();
      found.reason = await waitsFor(pool, 1);
    });
    return found.reason;
  };

  it('refuses a field that another one applies, or puts back by itself', async () => {
    expect(await waits([entry('flux-anything', 'Apply')])).toBe('FieldOwnedByOther');
    expect(await waits([entry('somebody', 'Apply')])).toBe('FieldOwnedByOther');
    expect(await waits([entry('argocd-controller', 'Update')])).toBe('FieldOwnedByOther');
  });

  it('lets pass who once wrote it by hand, and ourselves', async () => {
    expect(await waits([entry('kubectl-edit', 'Update'), entry('keyturn', 'Update')])).toBe('PodsMissing');
  });
});

describe('nobody-fetches-old', () => {
  async function retiring(story: Story): Promise<{ path: string; initData: string | null }> {
    await story.engine.accept(testRelease({ serial: 1, ...QUICK }));
    await story.engine.drive();
    const { subject } = await lookOf(story, 1);
    return { path: keyPath(story.test.kbs.repository, subject), initData: subject.release.initData.sample ?? null };
  }

  it('refuses while the old key went to somebody who was never seen as a pod', async () => {
    await tell({}, async (story) => {
      const { path, initData } = await retiring(story);
      await story.test.kbs.fetch(path, { tee: 'sample', svn: '1', initData }, '10.9.9.9');
      await story.engine.accept(testRelease({ serial: 2, ...QUICK }));
      await story.engine.driveTo(1, 'close', 'retire-revision');
      for (let rounds = 0; rounds < 3; rounds += 1) await story.engine.round();
      expect(await waitsFor(story.pool, 1, 'retire-revision')).toBe('OldKeyFetched');
      expect((await story.engine.known(1)).state).toBe('closing');
    });
  });

  it('knows a pod that came and went while nobody rolled, when somebody looked meanwhile', async () => {
    await tell({}, async (story) => {
      await retiring(story);
      const [pod] = story.test.cluster.all();
      if (pod === undefined) throw new Error('no pod');
      const target = testRelease({ serial: 1 }).targets[0];
      for (const address of ['127.64.9.1', '127.64.9.2']) {
        Object.assign(pod, { address, containerId: address });
        await story.test.cluster.restart(pod);
        expect(pod.ready).toBe(true);
        if (target !== undefined) await sightPods(story.test.cluster, story.engine.engine.ledger, target);
      }
      await story.engine.accept(testRelease({ serial: 2, ...QUICK }));
      await story.engine.drive();
      expect((await story.engine.known(1)).state).toBe('retired');
    });
  });

  it('refuses whoever fetches it since the target serves, pod or not', async () => {
    await tell({}, async (story) => {
      const { path, initData } = await retiring(story);
      const address = story.test.cluster.all()[0]?.address ?? '';
      await story.engine.accept(testRelease({ serial: 2, ...QUICK }));
      await story.engine.driveTo(1, 'close', 'retire-revision');
      await story.test.kbs.fetch(path, { tee: 'sample', svn: '1', initData }, address);
      for (let rounds = 0; rounds < 3; rounds += 1) await story.engine.round();
      expect(await waitsFor(story.pool, 1, 'retire-revision')).toBe('OldKeyFetched');
    });
  });
});

it('target-has-own-ciphertext: a key that the target’s weights need is never disabled', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1, ...QUICK }));
    await story.engine.drive();
    await story.engine.accept(testRelease({ serial: 2, ...QUICK }));
    await story.engine.driveTo(1, 'delete-resource', 'retire-revision');
    const look = await lookOf(story, 1, 'retire-revision');
    if (look.target === null) throw new Error('no target');
    expect(await targetHasOwnCiphertext.ask(look)).toMatchObject({ kind: 'yes' });
    const ask = (target: typeof look.target) => targetHasOwnCiphertext.ask({ ...look, target });
    expect(await ask({ ...look.target, sealing: look.subject.sealing })).toMatchObject({ kind: 'no', reason: 'TargetSharesCiphertext' });
    expect(await ask({ ...look.target, sealing: { ...look.target.sealing, facts: {} } })).toMatchObject({ kind: 'no', reason: 'TargetSharesCiphertext' });
    expect(await ask({ ...look.target, state: 'published' })).toMatchObject({ kind: 'no', reason: 'TargetNotServing' });
    expect(await targetHasOwnCiphertext.ask({ ...look, target: null })).toMatchObject({ kind: 'no', reason: 'Held' });
  });
});
