import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cluster, Pod, TargetRef } from '#src/world.ts';

/** A cluster under test with an object that has at least two pods. */
export interface EvictionStand {
  readonly cluster: Cluster;
  readonly target: TargetRef;
  /** Lets whoever runs the pods do what is due; nothing where they do it by themselves. */
  readonly tick: () => Promise<void>;
  readonly close: () => Promise<void>;
}

/** For controllers and kubelets to do what they were told, on a loaded machine. Milliseconds. */
const PATIENCE_MILLISECONDS = 30_000;

/** What every implementer of `evict` has to do. `open` is called once. */
export function evictionContract(name: string, open: () => Promise<EvictionStand>): void {
  describe(`${name} evicts`, () => {
    let stand: EvictionStand;
    const yes = async (): Promise<boolean> => true;
    const pods = async (): Promise<readonly Pod[]> => {
      await stand.tick();
      return stand.cluster.pods(stand.target);
    };
    const staying = async (): Promise<readonly string[]> => (await stand.cluster.pods(stand.target)).filter((pod) => !pod.terminating).map(({ uid }) => uid);
    const two = async (): Promise<readonly [Pod, Pod]> => {
      await expect.poll(async () => (await pods()).filter((pod) => !pod.terminating).length, { timeout: PATIENCE_MILLISECONDS }).toBeGreaterThanOrEqual(2);
      const [first, second] = (await stand.cluster.pods(stand.target)).filter((pod) => !pod.terminating);
      if (first === undefined || second === undefined) throw new Error('less than two pods');
      return [first, second];
    };

    beforeAll(async () => {
      stand = await open();
    });
    afterAll(() => stand.close());

    it('that very pod, and another takes its place', { timeout: 2 * PATIENCE_MILLISECONDS }, async () => {
      const [meant, other] = await two();
      await stand.cluster.evict(stand.target, meant, yes);
      await expect.poll(async () => (await pods()).map(({ uid }) => uid), { timeout: PATIENCE_MILLISECONDS }).not.toContain(meant.uid);
      expect(await staying()).toContain(other.uid);
      await two();
    });

    it('nothing where a pod of that name is another one', { timeout: PATIENCE_MILLISECONDS }, async () => {
      const [pod] = await two();
      await stand.cluster.evict(stand.target, { name: pod.name, uid: '00000000-0000-4000-8000-000000000000' }, yes);
      expect(await staying()).toContain(pod.uid);
    });

    it('nothing, and says nothing, where the pod is gone', async () => {
      const before = await staying();
      await stand.cluster.evict(stand.target, { name: 'gone', uid: '00000000-0000-4000-8000-000000000001' }, yes);
      expect(await staying()).toEqual(before);
    });

    it('nothing once the claim is somebody else’s', { timeout: PATIENCE_MILLISECONDS }, async () => {
      const [pod] = await two();
      await stand.cluster.evict(stand.target, pod, async () => false);
      expect(await staying()).toContain(pod.uid);
    });
  });
}
