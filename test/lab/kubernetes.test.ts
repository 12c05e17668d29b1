import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Kubernetes, openKubernetes } from '#src/adapters/kubernetes/index.ts';
import { readPointer } from '#src/domain/pointer.ts';
import { type LabKubernetes, openLabKubernetes } from '#src/lab/kubernetes.ts';
import type { Change, Pod, TargetRef } from '#src/world.ts';
import { ALLOW, DENY, type GuestStand, openGuestStand, workload } from './guest-stand.ts';

const target: TargetRef = { cluster: 'lab', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name: 'chat' };
const patience = { timeout: 15_000, interval: 20 };

describe('a lab cluster', () => {
  let stand: GuestStand;
  let lab: LabKubernetes;
  let cluster: Kubernetes;
  let folder: string;
  beforeEach(async () => {
    [stand, lab, folder] = await Promise.all([
      openGuestStand(),
      openLabKubernetes({ startSeconds: 0.02, stopSeconds: 0.02, guestPauseSeconds: 0.01 }),
      mkdtemp(join(tmpdir(), 'lab-kubernetes-')),
    ]);
    await stand.setPolicy(ALLOW);
    await writeFile(join(folder, 'kubeconfig'), lab.kubeconfig);
    cluster = openKubernetes('lab', { kubeconfig: { file: join(folder, 'kubeconfig') }, clockBoundSeconds: 5, windows: [] });
  });
  afterEach(async () => {
    await cluster.close();
    await lab.close();
    await stand.close();
    await rm(folder, { recursive: true, force: true });
  });
  const ready = async (): Promise<readonly Pod[]> => (await cluster.pods(target)).filter((pod) => pod.ready && !pod.terminating);
  const status = async (): Promise<unknown> => readPointer((await cluster.object(target))?.object ?? null, '/status');
  const change = (fields: Change['fields']): Change => ({ fields, annotations: {}, templateAnnotations: { 'keyturn.dev/rotation': 'r-0000000000000002' } });

  it('has pods that serve once each of them opened the weights, from an address of its own', async () => {
    lab.create(workload(stand));
    await expect.poll(async () => (await ready()).length, patience).toBe(3);
    const pods = await cluster.pods(target);
    const fetches = stand.calls.filter(({ method, status: code }) => method === 'GET' && code === 200).map(({ address }) => address);
    expect(fetches.toSorted()).toEqual(pods.map(({ address }) => address).toSorted());
    expect(pods.every(({ address }) => address?.startsWith('127.64.'))).toBe(true);
    expect(pods.every(({ startedAt, containerId }) => startedAt !== null && containerId !== null)).toBe(true);
    await expect.poll(status, patience).toMatchObject({ replicas: 3, updatedReplicas: 3, readyReplicas: 3, availableReplicas: 3, terminatingReplicas: 0 });
  });

  it('leaves pods not ready whose template names no key, and asks no KBS for them', async () => {
    lab.create(workload(stand, { keyUri: '' }));
    await expect.poll(async () => (await cluster.pods(target)).filter(({ phase }) => phase === 'Running').length, patience).toBe(3);
    expect(await ready()).toEqual([]);
    expect(stand.calls).toEqual([]);
  });

  it('rolls one pod at a time, from the first key to the next', async () => {
    lab.create(workload(stand));
    await expect.poll(async () => (await ready()).length, patience).toBe(3);
    const before = new Set((await cluster.pods(target)).map(({ uid }) => uid));
    const addresses = new Set((await cluster.pods(target)).map(({ address }) => address));
    await cluster.patch(target, change({ '/spec/template/spec/runtimeClassName': 'kata-lab-2' }), async () => true);
    let fewest = 3;
    const moved = async (): Promise<number> => {
      const serving = await ready();
      fewest = Math.min(fewest, serving.length);
      return serving.filter(({ uid, annotations }) => !before.has(uid) && annotations['keyturn.dev/rotation'] === 'r-0000000000000002').length;
    };
    await expect.poll(moved, patience).toBe(3);
    expect(fewest).toBe(2);
    await expect.poll(async () => (await cluster.pods(target)).length, patience).toBe(3);
    expect((await cluster.pods(target)).filter(({ address }) => addresses.has(address))).toEqual([]);
    await expect.poll(status, patience).toMatchObject({ observedGeneration: 2, replicas: 3, updatedReplicas: 3, readyReplicas: 3, terminatingReplicas: 0 });
  });

  it('stops a roll at its first pod while the key is refused, and goes on when it is given', async () => {
    lab.create(workload(stand));
    await expect.poll(async () => (await ready()).length, patience).toBe(3);
    await stand.setPolicy(DENY);
    await cluster.patch(target, change({}), async () => true);
    const crashed = async (): Promise<number> =>
      (await cluster.pods(target)).filter(({ name }) => lab.logOf('inference', name)?.includes('request unauthorized')).length;
    await expect.poll(crashed, patience).toBe(1);
    expect(await ready()).toHaveLength(2);
    await stand.setPolicy(ALLOW);
    await expect.poll(async () => (await ready()).filter(({ annotations }) => annotations['keyturn.dev/rotation'] !== undefined).length, patience).toBe(3);
  });

  it('replaces no second pod while the first of the new template has to be ready for longer than anybody waits', async () => {
    lab.create(workload(stand));
    await expect.poll(async () => (await ready()).length, patience).toBe(3);
    const numbers = { '/spec/minReadySeconds': 2_147_483_646, '/spec/progressDeadlineSeconds': 2_147_483_647 };
    await cluster.patch(target, { ...change({}), numbers }, async () => true);
    const isNew = ({ annotations }: Pod): boolean => annotations['keyturn.dev/rotation'] !== undefined;
    // Ready, and not available: what its controller has seen when it stops.
    await expect.poll(status, patience).toMatchObject({ observedGeneration: 2, readyReplicas: 3, availableReplicas: 2, updatedReplicas: 1 });
    expect((await ready()).filter(isNew)).toHaveLength(1);
    const go = { '/spec/minReadySeconds': 0, '/spec/progressDeadlineSeconds': 600 };
    await cluster.patch(target, { fields: {}, numbers: go, annotations: {}, templateAnnotations: {} }, async () => true);
    await expect.poll(async () => (await ready()).filter(isNew).length, patience).toBe(3);
  });

  it('restarts a pod in place: the same pod at the same address, another container, another fetch', async () => {
    lab.create(workload(stand));
    await expect.poll(async () => (await ready()).length, patience).toBe(3);
    const [pod] = await ready();
    const fetched = (): number => stand.calls.filter(({ address, method }) => method === 'GET' && address === pod?.address).length;
    expect(fetched()).toBe(1);
    expect(lab.restart('inference', pod?.name ?? '')).toBe(true);
    await expect.poll(fetched, patience).toBe(2);
    await expect.poll(async () => (await ready()).length, patience).toBe(3);
    const again = (await cluster.pods(target)).find(({ uid }) => uid === pod?.uid);
    expect(again?.address).toBe(pod?.address);
    expect(again?.containerId).not.toBe(pod?.containerId);
  });

  it('makes no pod of a runtime class that is not there, and says so as the real one does', async () => {
    lab.create(workload(stand, { runtimeClass: 'kata-missing' }));
    const failure = async (): Promise<unknown> => {
      const conditions = readPointer((await cluster.object(target))?.object ?? null, '/status/conditions');
      return Array.isArray(conditions) ? conditions.find((condition) => readPointer(condition, '/type') === 'ReplicaFailure') : null;
    };
    await expect.poll(failure, patience).toMatchObject({
      status: 'True',
      reason: 'FailedCreate',
      message: expect.stringMatching(/^pods "chat-[a-z0-9]+-" is forbidden: pod rejected: RuntimeClass "kata-missing" not found$/),
    });
    expect(await cluster.pods(target)).toEqual([]);
  });
});
