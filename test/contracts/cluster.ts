import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ownersOf, readPointer } from '#src/domain/pointer.ts';
import { isFault } from '#src/errors.ts';
import type { Change, Cluster, TargetRef } from '#src/world.ts';

/** A cluster under test, with somebody else at its keyboard. */
export interface ClusterStand {
  readonly cluster: Cluster;
  /** Creates an object, and its namespace. */
  readonly create: (object: object) => Promise<void>;
  /** Somebody else's merge patch of a Deployment. */
  readonly meddle: (target: TargetRef, patch: object, manager: string) => Promise<void>;
  /** Whether controllers make pods there. */
  readonly makesPods: boolean;
  readonly close: () => Promise<void>;
}

const CHAT = '/spec/template/spec/containers/name=chat';
const INIT_DATA = 'io.katacontainers.config.hypervisor.cc_init_data';

/** A workload whose template names no key yet. */
export function deployment(name: string, namespace: string, replicas: number): object {
  const labels = { app: name };
  const containers = [
    { name: 'sidecar', image: `registry.example/sidecar@sha256:${'1'.repeat(64)}` },
    { name: 'chat', image: `registry.example/chat@sha256:${'1'.repeat(64)}`, env: [{ name: 'KEY_URI', value: '' }] },
  ];
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace, labels },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
      template: { metadata: { labels }, spec: { containers } },
    },
  };
}

async function reasonOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: unknown) => (isFault(error) ? error.reason : `not a fault: ${String(error)}`),
  );
}

/** What every implementer of the port has to do. `open` is called once. */
export function clusterContract(name: string, open: () => Promise<ClusterStand>): void {
  describe(`${name} is a cluster`, () => {
    let stand: ClusterStand;
    let cluster: Cluster;
    const namespace = `contract-${Date.now()}`;
    const ref = (object: string): TargetRef => ({ cluster: 'lab', namespace, apiVersion: 'apps/v1', kind: 'Deployment', name: object });
    const image = `registry.example/chat@sha256:${'2'.repeat(64)}`;
    const change: Change = {
      fields: { [`${CHAT}/image`]: image, [`${CHAT}/env/name=KEY_URI/value`]: 'kbs:///a/b/c', [`/spec/template/metadata/annotations/${INIT_DATA}`]: 'x' },
      annotations: { 'keyturn.dev/target': 'r-0000000000000001' },
      templateAnnotations: { 'keyturn.dev/rotation': 'r-0000000000000001' },
    };
    const yes = async (): Promise<boolean> => true;

    beforeAll(async () => {
      stand = await open();
      cluster = stand.cluster;
    });
    afterAll(() => stand.close());

    it('shows an object as it stands, and null for one that is not there', async () => {
      await stand.create(deployment('shown', namespace, 3));
      const shown = await cluster.object(ref('shown'));
      expect(shown).toMatchObject({ replicas: 3 });
      expect(shown?.generation).toBeGreaterThanOrEqual(1);
      expect(readPointer(shown?.object ?? null, `${CHAT}/image`)).toBe(`registry.example/chat@sha256:${'1'.repeat(64)}`);
      expect(await cluster.object(ref('absent'))).toBeNull();
    });

    it('sets fields and annotations, all or none, under a name of our own', async () => {
      await stand.create(deployment('patched', namespace, 1));
      await cluster.patch(ref('patched'), change, yes);
      const now = await cluster.object(ref('patched'));
      const object = now?.object ?? null;
      expect(readPointer(object, `${CHAT}/image`)).toBe(image);
      expect(readPointer(object, `${CHAT}/env/name=KEY_URI/value`)).toBe('kbs:///a/b/c');
      expect(readPointer(object, `/spec/template/metadata/annotations/${INIT_DATA}`)).toBe('x');
      expect(readPointer(object, '/spec/template/metadata/annotations/keyturn.dev~1rotation')).toBe('r-0000000000000001');
      expect(now?.annotations['keyturn.dev/target']).toBe('r-0000000000000001');
      expect(ownersOf(now?.managers ?? [], object, `${CHAT}/image`)).toEqual([{ manager: 'keyturn', operation: 'Update' }]);
      expect(readPointer(object, '/spec/template/spec/containers/name=sidecar/image')).toBe(`registry.example/sidecar@sha256:${'1'.repeat(64)}`);
    });

    it('sets whole numbers, one that is there and one that is not, and refuses text in their place', async () => {
      await stand.create(deployment('paced', namespace, 0));
      const pace = { '/spec/minReadySeconds': 5, '/spec/replicas': 1 };
      const nothing = { fields: {}, annotations: {}, templateAnnotations: {} };
      await cluster.patch(ref('paced'), { ...nothing, numbers: pace }, yes);
      const object = (await cluster.object(ref('paced')))?.object ?? null;
      expect([readPointer(object, '/spec/minReadySeconds'), readPointer(object, '/spec/replicas')]).toEqual([5, 1]);
      expect(await reasonOf(cluster.patch(ref('paced'), { ...nothing, fields: { '/spec/replicas': '2' } }, yes))).toBe('PreflightFailed');
    });

    it('touches an object by an annotation alone, without rolling it', async () => {
      await stand.create(deployment('touched', namespace, 1));
      const before = await cluster.object(ref('touched'));
      await cluster.patch(
        ref('touched'),
        { fields: {}, annotations: { 'keyturn.dev/target': 'r-0000000000000001@2026-11-23T00:00:00.000Z' }, templateAnnotations: {} },
        yes,
      );
      const after = await cluster.object(ref('touched'));
      // The generation may go up: a real API server counts the annotations of a Deployment, too.
      expect(readPointer(after?.object ?? null, '/spec')).toEqual(readPointer(before?.object ?? null, '/spec'));
      expect(after?.annotations['keyturn.dev/target']).toBe('r-0000000000000001@2026-11-23T00:00:00.000Z');
    });

    it('sends nothing where the claim is not ours any more', async () => {
      await stand.create(deployment('fenced', namespace, 0));
      const before = await cluster.object(ref('fenced'));
      await cluster.patch(ref('fenced'), change, async () => false);
      expect(readPointer((await cluster.object(ref('fenced')))?.object ?? null, '/spec')).toEqual(readPointer(before?.object ?? null, '/spec'));
    });

    it('is a conflict where the object moved after it was read, and changes nothing', async () => {
      await stand.create(deployment('moved', namespace, 0));
      const meddler = async (): Promise<boolean> => {
        await stand.meddle(ref('moved'), { metadata: { labels: { somebody: 'else' } } }, 'somebody');
        return true;
      };
      expect(await reasonOf(cluster.patch(ref('moved'), change, meddler))).toBe('Conflict');
      expect((await cluster.object(ref('moved')))?.annotations['keyturn.dev/target']).toBeUndefined();
    });

    it('is a conflict where another container took the place of ours', async () => {
      await stand.create(deployment('reordered', namespace, 0));
      const front = { name: 'front', image: 'registry.example/front@sha256:1' };
      const others = ['sidecar', 'chat'].map((each) => ({ name: each, image: 'registry.example/x@sha256:1', env: [{ name: 'KEY_URI', value: 'y' }] }));
      const meddler = async (): Promise<boolean> => {
        await stand.meddle(ref('reordered'), { spec: { template: { spec: { containers: [front, ...others] } } } }, 'somebody');
        return true;
      };
      expect(await reasonOf(cluster.patch(ref('reordered'), change, meddler))).toBe('Conflict');
    });

    it('rehearses a change without making it', async () => {
      await stand.create(deployment('rehearsed', namespace, 0));
      const rehearsed = await cluster.rehearse(ref('rehearsed'), change);
      expect(readPointer(rehearsed.object, `${CHAT}/image`)).toBe(image);
      expect(readPointer((await cluster.object(ref('rehearsed')))?.object ?? null, `${CHAT}/image`)).not.toBe(image);
    });

    it.each([
      ['a field that the kind does not have', '/spec/template/spec/runtimeClass'],
      ['a container that is not there', '/spec/template/spec/containers/name=nobody/image'],
      ['a parent that is not there', '/spec/template/spec/affinity/nodeAffinity/x'],
      ['an index', '/spec/template/spec/containers/0/image'],
      ['a number', '/spec/replicas'],
    ])('refuses to rehearse %s', async (_, pointer) => {
      const target = ref(`refused-${pointer.length}`);
      await stand.create(deployment(target.name, namespace, 0));
      expect(await reasonOf(cluster.rehearse(target, { ...change, fields: { [pointer]: 'x' } }))).toBe('PreflightFailed');
    });

    it('tells who else owns a field', async () => {
      await stand.create(deployment('owned', namespace, 0));
      await stand.meddle(ref('owned'), { spec: { template: { spec: { runtimeClassName: 'kata-lab-1' } } } }, 'argocd-controller');
      const now = await cluster.object(ref('owned'));
      expect(ownersOf(now?.managers ?? [], now?.object ?? null, '/spec/template/spec/runtimeClassName')).toEqual([
        { manager: 'argocd-controller', operation: 'Update' },
      ]);
    });

    it('lists the pods of the object, and refuses to list those of one that is not there', async () => {
      expect(await reasonOf(cluster.pods(ref('absent')))).toBe('NotFound');
      expect(await reasonOf(cluster.patch(ref('absent'), change, yes))).toBe('NotFound');
      await stand.create(deployment('empty', namespace, 0));
      expect(await cluster.pods(ref('empty'))).toEqual([]);
      if (!stand.makesPods) return;
      await stand.create(deployment('crowd', namespace, 3));
      await expect.poll(async () => (await cluster.pods(ref('crowd'))).length, { timeout: 10_000 }).toBe(3);
    });

    it('says what it cannot move yet', async () => {
      expect(await reasonOf(cluster.object({ ...ref('set'), kind: 'StatefulSet' }))).toBe('NotSupportedYet');
    });
  });
}
