/** One release at several objects, in several clusters, at several KBSs; several workloads at one KBS (R1); a cluster that does not answer. */
import { describe, expect, it } from 'vitest';
import { readPointer } from '#src/domain/pointer.ts';
import { checkDrift } from '#src/engine/drift.ts';
import { keep } from '#src/engine/keeper.ts';
import { sightAll } from '#src/engine/sight.ts';
import { sweep } from '#src/engine/sweep.ts';
import { Fault } from '#src/errors.ts';
import { acknowledge } from '#state/proxies.ts';
import { LATE_WRITE_SECONDS, type TestBroker } from '../world/broker.ts';
import type { TestCluster } from '../world/cluster.ts';
import { hasReceipt, stepsOf, waitsFor } from '../world/engine.ts';
import { type ReleaseOptions, testRelease } from '../world/release.ts';
import { type Story, type StoryOptions, serialOf, tell, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
const HOUR = 3600;
/** Clusters are asked more often than this, so that an outage is one outage. Seconds. */
const BETWEEN_LOOKS = 600;

/** Where `chat` runs in two clusters. */
function withTwoClusters(options: StoryOptions, fn: (story: Story) => Promise<void>): Promise<void> {
  return tell(options, async (story) => {
    story.test.west.cluster.add({ replicas: 2 });
    await fn(story);
  });
}

async function serving(story: Story, options: ReleaseOptions): Promise<void> {
  await story.engine.accept(testRelease({ ...QUICK, ...options }));
  await story.engine.drive();
}

function rotationsOf(cluster: TestCluster): readonly (string | undefined)[] {
  return [...new Set(cluster.all().map((pod) => pod.annotations['keyturn.dev/rotation']))];
}

async function templateAt(cluster: TestCluster, name = 'chat'): Promise<unknown> {
  const found = await cluster.object({ cluster: cluster.name, namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name });
  return found === null ? undefined : readPointer(found.object, '/spec/template/metadata/annotations/keyturn.dev~1rotation');
}

function pathsGranted({ policy }: TestBroker): readonly string[] {
  return typeof policy === 'string' ? [policy] : [...new Set(policy.grants.flatMap(({ paths }) => paths))].sort();
}

/** Looks on for this long, as the loop does: every open run, the pods, the templates. */
async function pass(story: Story, seconds: number): Promise<void> {
  for (let passed = 0; passed < seconds; passed += BETWEEN_LOOKS) {
    await story.test.advance(Math.min(BETWEEN_LOOKS, seconds - passed));
    await story.engine.round();
    await sightAll(story.engine.engine);
  }
}

/** The cluster answers again, and it is time to ask it. */
async function answering({ test }: Story): Promise<void> {
  test.west.cluster.silent = false;
  await test.advance(60);
}

/** The evidence of the last receipt of a step, as text. */
async function evidenceOf({ pool }: Story, serial: number, workflow: string, step: string): Promise<string> {
  const { rows } = await pool.query<{ body: string }>(
    `select c.body from receipts c join runs o on o.id = c.run join revisions r on r.id = o.revision
     where r.serial = $1 and o.workflow = $2 and c.step = $3 order by c.id desc limit 1`,
    [serial, workflow, step],
  );
  return rows[0]?.body ?? '';
}

describe('several targets of one release', () => {
  it('all move before anything of the old is retired, each with its own guest', async () => {
    await withTwoClusters({}, async (story) => {
      const { test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'main', svn: '11' } });
      expect(test.west.cluster.all().map(({ ready }) => ready)).toEqual([true, true]);
      await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 100, west: { kbs: 'main', svn: '12' } }));
      await engine.driveTo(2, 'confirm-serving');
      const { rotation, facts } = await engine.known(2);
      expect([rotationsOf(test.cluster), rotationsOf(test.west.cluster)]).toEqual([[rotation], [rotation]]);
      expect(Object.keys(facts.boots ?? {})).toEqual(['east/inference/chat', 'west/inference/chat']);
      expect((await engine.known(1)).state).toBe('serving');
      await engine.drive();
      expect((await engine.known(1)).state).toBe('retired');
      expect(JSON.parse(await evidenceOf(story, 1, 'retire-revision', 'refuse-old-path'))).toMatchObject({
        evidence: { refusals: [{ guests: 4, control: 'released' }] },
        proof: 'observed',
      });
    });
  });

  it('a pod of one of them that is not moved keeps the old revision for all', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'main' } });
      const [pod] = test.west.cluster.all();
      if (pod === undefined) throw new Error('no pod');
      await engine.accept(testRelease({ serial: 2, ...QUICK, west: { kbs: 'main' } }));
      await engine.driveTo(1, 'close', 'retire-revision');
      const remove = test.west.cluster.inject({ ...pod, uid: 'left-behind', terminating: false, phase: 'Pending' });
      await engine.round();
      expect(await hasReceipt(pool, 1, 'retire-revision', 'retire')).toBe(false);
      remove();
      await engine.drive();
      expect((await engine.known(1)).state).toBe('retired');
    });
  });

  it('a target that the next release leaves out keeps the old revision until nothing of it runs there', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'main' } });
      await engine.accept(testRelease({ serial: 2, ...QUICK }));
      await engine.driveTo(2, 'confirm-serving');
      for (let rounds = 0; rounds < 5; rounds += 1) await engine.round();
      expect(await waitsFor(pool, 1, 'retire-revision')).toBe('OldRevisionInUse');
      test.west.cluster.remove('chat');
      await engine.drive();
      expect((await engine.known(1)).state).toBe('retired');
    });
  });
});

describe('two KBSs', () => {
  it('each holds its own guests’ paths and numbers, and each refuses the old path before the bytes are deleted', async () => {
    await withTwoClusters({ west: true }, async (story) => {
      const { pool, test } = story;
      const { kbs, west } = test;
      await serving(story, { serial: 1, west: { kbs: 'west-kbs' } });
      for (const [broker, repository] of [
        [kbs, 'keyturn-test'],
        [west.kbs, 'keyturn-west'],
      ] as const) {
        expect([...broker.resources.keys()].map((path) => path.split('/')[0])).toEqual([repository]);
        expect(pathsGranted(broker)).toEqual([...broker.resources.keys()]);
      }
      const bytes = [kbs, west.kbs].map((broker) => [...broker.resources.values()][0]?.toString('hex'));
      expect(bytes[0], 'one key, at two paths').toBe(bytes[1]);
      const { rows } = await pool.query<{ name: string; generation: number }>('select name, generation from brokers order by name');
      expect(rows).toEqual([
        { name: 'main', generation: 2 },
        { name: 'west-kbs', generation: 2 },
      ]);
      await serving(story, { serial: 2, west: { kbs: 'west-kbs' } });
      for (const broker of [kbs, west.kbs]) expect([...broker.resources.keys()].map(serialOf)).toEqual([2]);
      for (const broker of [kbs, west.kbs]) expect(pathsGranted(broker).map(serialOf)).toEqual([2]);
      expect(test.kms.keys().filter(({ state }) => state === 'active')).toHaveLength(1);
      const deletions = test.network.log.filter(({ verb }) => verb === 'delete').map(({ system }) => system);
      expect(deletions.sort()).toEqual(['main', 'west-kbs']);
    });
  });

  it('R4: published waits until no older write can land at either', async () => {
    await withTwoClusters({ west: true }, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'west-kbs' } });
      await test.advance(LATE_WRITE_SECONDS + 1);
      test.network.befall(/^west-kbs policy/, 'late');
      test.west.kbs.policy = 'deny';
      await expect(test.west.kbs.publishPolicy(engine.engine.ledger.want(null, 'west-kbs', 'policy'))).rejects.toThrow();
      await engine.accept(testRelease({ serial: 2, ...QUICK, west: { kbs: 'west-kbs' } }));
      await engine.driveTo(2, 'publish-policy');
      for (let rounds = 0; rounds < 3; rounds += 1) await engine.round();
      expect(await waitsFor(pool, 2)).toBe('LateWritesPossible');
      expect(await test.network.land(/^west-kbs policy/)).toBe(1);
      expect(await keep(engine.engine, 'west-kbs')).toBe('published');
      await engine.drive();
      expect((await engine.known(2)).state).toBe('serving');
      expect(pathsGranted(test.west.kbs).map(serialOf)).toEqual([2]);
    });
  });

  it('pods of two clusters that use the same network are told apart by the KBS that they fetch from', async () => {
    await withTwoClusters({ west: true }, async (story) => {
      const { test, engine } = story;
      await engine.accept(testRelease({ serial: 1, ...QUICK, west: { kbs: 'west-kbs' } }));
      await engine.driveTo(1, 'patch-template');
      for (let ticks = 0; ticks < 2; ticks += 1) for (const cluster of [test.cluster, test.west.cluster]) await cluster.tick();
      const [east] = test.cluster.all();
      const [west] = test.west.cluster.all();
      if (east === undefined || west === undefined) throw new Error('no pods');
      west.address = east.address;
      await test.west.cluster.restart(west);
      await engine.drive();
      expect((await engine.known(1)).state).toBe('serving');
    });
  });

  it('a fetch from one is not accounted for by a pod of a cluster whose guests fetch from the other', async () => {
    await withTwoClusters({ west: true }, async (story) => {
      const { pool, test, engine } = story;
      const release = testRelease({ serial: 1, ...QUICK, west: { kbs: 'west-kbs' } });
      await engine.accept(release);
      await engine.drive();
      const [path] = test.west.kbs.resources.keys();
      const address = test.cluster.all()[0]?.address ?? '';
      const guest = { tee: 'sample', svn: '1', initData: release.initData.west ?? null } as const;
      expect(await test.west.kbs.fetch(path ?? '', guest, address)).not.toBeNull();
      await engine.accept(testRelease({ serial: 2, ...QUICK, west: { kbs: 'west-kbs' } }));
      await engine.driveTo(2, 'confirm-serving');
      for (let rounds = 0; rounds < 3; rounds += 1) await engine.round();
      expect(await waitsFor(pool, 1, 'retire-revision')).toBe('OldKeyFetched');
    });
  });

  it('the old path counts as refused when the proxies of both have heard of it', async () => {
    await withTwoClusters({ west: true }, async (story) => {
      const { pool, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'west-kbs' } });
      const proxy = (acknowledged: number) => acknowledge(pool, { id: 'p', kbs: 'west-kbs', acknowledged, staleSeconds: 100 * HOUR });
      await proxy(0);
      await engine.accept(testRelease({ serial: 2, ...QUICK, west: { kbs: 'west-kbs' } }));
      await engine.driveTo(1, 'publish-reference-values', 'retire-revision');
      await engine.round();
      expect(await waitsFor(pool, 1, 'retire-revision')).toBe('ProxyNotCaughtUp');
      const { rows } = await pool.query<{ id: number }>(`select max(id) as id from deny_list where kbs = 'west-kbs'`);
      await proxy(rows[0]?.id ?? 0);
      await engine.drive();
      expect((await engine.known(1)).state).toBe('retired');
    });
  });

  it('a revoked key is deleted from the one that answers while the other does not', async () => {
    await withTwoClusters({ west: true }, async (story) => {
      const { test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'west-kbs' } });
      await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
      const { deleteResource } = test.kbs;
      const silent = async (): Promise<void> => {
        throw new Fault('Unreachable', 'main');
      };
      Object.assign(test.kbs, { deleteResource: silent });
      await sweep(engine.engine);
      expect([test.kbs.resources.size, test.west.kbs.resources.size]).toEqual([1, 0]);
      Object.assign(test.kbs, { deleteResource });
      await sweep(engine.engine);
      expect(test.kbs.resources.size).toBe(0);
    });
  });

  it('an old path is deleted from the one that answers while the other does not', async () => {
    await withTwoClusters({ west: true }, async (story) => {
      const { test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'west-kbs' } });
      await engine.accept(testRelease({ serial: 2, ...QUICK, west: { kbs: 'west-kbs' } }));
      await engine.driveTo(1, 'refuse-old-path', 'retire-revision');
      test.network.befall(/^main delete/, 'late');
      await engine.round();
      expect([...test.west.kbs.resources.keys()].map(serialOf)).toEqual([2]);
      await engine.drive();
      expect([...test.kbs.resources.keys()].map(serialOf)).toEqual([2]);
    });
  });
});

describe('R1: several workloads', () => {
  it('share the policies and reference values of two KBSs, rolled side by side, and neither takes the other’s away', async () => {
    await withTwoClusters({ west: true }, async (story) => {
      const { test, engine } = story;
      test.cluster.add({ name: 'search' });
      test.west.cluster.add({ name: 'search', replicas: 2 });
      const everywhere = { west: { kbs: 'west-kbs' } } as const;
      // They have a measurement in common: the one that retires it must leave it to the other.
      await engine.accept(testRelease({ serial: 1, svn: '7', ...QUICK, ...everywhere }));
      await engine.accept(testRelease({ workload: 'search', serial: 101, svn: '7', ...QUICK, ...everywhere }));
      await engine.drive();
      await engine.accept(testRelease({ serial: 2, svn: '8', ...QUICK, ...everywhere }));
      await engine.driveTo(2, 'publish-reference-values');
      await engine.accept(testRelease({ workload: 'search', serial: 102, svn: '7', ...QUICK, ...everywhere }));
      await engine.drive(async () => {
        for (const cluster of [test.cluster, test.west.cluster]) {
          const ready = cluster.all().filter((pod) => pod.ready && !pod.terminating);
          for (const name of ['chat', 'search'])
            expect(ready.filter(({ deployment }) => deployment === name).length).toBeGreaterThanOrEqual(cluster === test.cluster ? 2 : 1);
        }
        return false;
      });
      for (const broker of [test.kbs, test.west.kbs]) {
        expect(pathsGranted(broker).map(serialOf).sort()).toEqual([102, 2]);
        expect(broker.referenceValues.get('svn')).toEqual(['7', '8']);
      }
      for (const cluster of [test.cluster, test.west.cluster]) {
        for (const pod of cluster.all()) {
          await cluster.restart(pod);
          expect(pod.ready, `${cluster.name} ${pod.name} starts again`).toBe(true);
        }
      }
      expect(await Promise.all([1, 2, 101, 102].map(async (serial) => (await engine.known(serial)).state))).toEqual([
        'retired',
        'serving',
        'retired',
        'serving',
      ]);
    });
  });
});

describe('a cluster that does not answer', () => {
  const PATIENT = { west: { kbs: 'main', retireWithoutSeconds: HOUR } } as const;

  it('keeps none of the others from being patched, and the old revision from being retired, for ever', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'main', retireWithoutSeconds: null } });
      test.west.cluster.silent = true;
      await engine.accept(testRelease({ serial: 2, ...QUICK, west: { kbs: 'main', retireWithoutSeconds: null } }));
      await pass(story, 30 * BETWEEN_LOOKS);
      const { rotation } = await engine.known(2);
      expect(rotationsOf(test.cluster)).toEqual([rotation]);
      expect(await waitsFor(pool, 2)).toBe('Unreachable');
      expect((await engine.known(1)).state).toBe('serving');
      test.west.cluster.silent = false;
      await engine.drive();
      expect(rotationsOf(test.west.cluster)).toEqual([rotation]);
      expect((await engine.known(1)).state).toBe('retired');
    });
  });

  it('is no longer waited for after the release’s `retireWithoutSeconds`, and every receipt that it is missing from names it', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      // The newest release has the last word: those who approved the first would have waited for ever.
      await serving(story, { serial: 1, west: { kbs: 'main', retireWithoutSeconds: null } });
      test.west.cluster.silent = true;
      await engine.accept(testRelease({ serial: 2, ...QUICK, ...PATIENT }));
      await pass(story, HOUR - BETWEEN_LOOKS);
      expect(await hasReceipt(pool, 2, 'adopt-revision', 'patch-template')).toBe(false);
      await pass(story, 2 * BETWEEN_LOOKS);
      await engine.drive();
      expect([(await engine.known(1)).state, (await engine.known(2)).state]).toEqual(['retired', 'serving']);
      for (const [serial, workflow, step] of [
        [2, 'adopt-revision', 'patch-template'],
        [2, 'adopt-revision', 'move-pods'],
        [2, 'adopt-revision', 'confirm-serving'],
        [1, 'retire-revision', 'close'],
        [1, 'retire-revision', 'retire'],
      ] as const) {
        expect(await evidenceOf(story, serial, workflow, step), step).toMatch(/"without":\{"west\/inference\/chat":"20/);
      }
    });
  });

  it.each([
    ['for ever', null, 'closing'],
    ['as long as its own release says', HOUR, 'retired'],
  ])('that the next release leaves out is waited for %s', async (_, retireWithoutSeconds, state) => {
    await withTwoClusters({}, async (story) => {
      const { test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'main', retireWithoutSeconds } });
      test.west.cluster.silent = true;
      await engine.accept(testRelease({ serial: 2, ...QUICK }));
      await engine.driveTo(2, 'confirm-serving');
      await pass(story, HOUR - BETWEEN_LOOKS);
      expect((await engine.known(1)).state).toBe('closing');
      await pass(story, 3 * BETWEEN_LOOKS);
      expect((await engine.known(1)).state).toBe(state);
    });
  });

  it('is patched, moved and confirmed when it comes back, though the adopt run had ended and the old one is retired', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, ...PATIENT });
      const old = await templateAt(test.west.cluster);
      test.west.cluster.silent = true;
      await engine.accept(testRelease({ serial: 2, ...QUICK, ...PATIENT }));
      await pass(story, HOUR + BETWEEN_LOOKS);
      await engine.drive();
      expect(await checkDrift(engine.engine, 'chat'), 'while it is silent nothing is reopened').toBeNull();
      const [pod] = test.west.cluster.all();
      if (pod === undefined) throw new Error('no pod');
      await test.west.cluster.restart(pod);
      expect(pod.ready, 'what the approvers signed: a pod of the old spec finds no key').toBe(false);
      await answering(story);
      expect(await templateAt(test.west.cluster)).toBe(old);
      expect(await checkDrift(engine.engine, 'chat')).toContain('west/inference/chat');
      await engine.drive();
      const { rotation, facts, state } = await engine.known(2);
      expect(state).toBe('serving');
      expect(rotationsOf(test.west.cluster)).toEqual([rotation]);
      expect(test.west.cluster.all().every(({ ready }) => ready)).toBe(true);
      expect(Object.keys(facts.boots ?? {})).toEqual(['east/inference/chat', 'west/inference/chat']);
      expect((await stepsOf(pool, 2, 'adopt-revision')).slice(-5)).toEqual(['reopened', 'patch-template', 'try-first-pods', 'move-pods', 'confirm-serving']);
      expect(await checkDrift(engine.engine, 'chat'), 'once').toBeNull();
    });
  });

  it('that fell silent after it was patched is confirmed too when it comes back', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, ...PATIENT });
      await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 100 * HOUR, ...PATIENT }));
      await engine.driveTo(2, 'patch-template');
      test.west.cluster.silent = true;
      await pass(story, HOUR + 2 * BETWEEN_LOOKS);
      await engine.drive(async () => (await engine.known(2)).state === 'serving');
      expect(Object.keys((await engine.known(2)).facts.boots ?? {})).toHaveLength(1);
      await answering(story);
      expect(await checkDrift(engine.engine, 'chat')).toContain('west/inference/chat');
      await engine.driveTo(2, 'confirm-serving');
      await engine.drive(async () => (await engine.known(2)).state === 'serving');
      expect(Object.keys((await engine.known(2)).facts.boots ?? {})).toHaveLength(2);
      expect(await stepsOf(pool, 2, 'adopt-revision')).toContain('reopened');
    });
  });

  it('one answer begins the wait anew; a restart of the controller does not, and hours in which nobody asked do', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, ...PATIENT });
      test.west.cluster.silent = true;
      await engine.accept(testRelease({ serial: 2, ...QUICK, ...PATIENT }));
      const patched = () => hasReceipt(pool, 2, 'adopt-revision', 'patch-template');
      await pass(story, HOUR - BETWEEN_LOOKS);
      await answering(story);
      await sightAll(engine.engine);
      test.west.cluster.silent = true;
      await pass(story, HOUR - BETWEEN_LOOKS);
      expect(await patched(), 'it answered once').toBe(false);
      await test.advance(5 * HOUR);
      await pass(story, HOUR - BETWEEN_LOOKS);
      expect(await patched(), 'nobody asked for five hours').toBe(false);
      // Nothing of it is kept in a process: another one finds the row.
      const { rows } = await pool.query<{ since: string }>('select since from outages');
      expect(rows).toHaveLength(1);
      await pass(story, 2 * BETWEEN_LOOKS);
      expect(await patched()).toBe(true);
    });
  });

  it('is never the only one: where no target answers, nothing is said to serve', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, ...PATIENT });
      const release = testRelease({ serial: 2, ...QUICK, ...PATIENT });
      await engine.accept({ ...release, targets: release.targets.map((target) => ({ ...target, retireWithoutSeconds: HOUR })) });
      await engine.driveTo(2, 'patch-template');
      test.cluster.silent = true;
      test.west.cluster.silent = true;
      await pass(story, 3 * HOUR);
      expect(await waitsFor(pool, 2)).toBe('Unreachable');
      expect([(await engine.known(1)).state, (await engine.known(2)).state]).toEqual(['serving', 'published']);
    });
  });

  it('whose pods fetch the old key all the same is not waited for, but a stranger who does is', async () => {
    await withTwoClusters({}, async (story) => {
      const { pool, test, engine } = story;
      await serving(story, { serial: 1, ...PATIENT });
      test.west.cluster.silent = true;
      await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 4 * HOUR, ...PATIENT }));
      await pass(story, 2 * HOUR);
      expect((await engine.known(2)).state).toBe('serving');
      const [pod] = test.west.cluster.all();
      if (pod === undefined) throw new Error('no pod');
      await test.west.cluster.restart(pod);
      expect(pod.ready, 'it is still given').toBe(true);
      const address = pod.address;
      pod.address = '127.65.9.9';
      await test.west.cluster.restart(pod);
      await pass(story, 5 * HOUR);
      expect(await waitsFor(pool, 1, 'retire-revision')).toBe('OldKeyFetched');
      await pool.query(`delete from fetches where address = '127.65.9.9'`);
      pod.address = address;
      await pass(story, BETWEEN_LOOKS);
      await engine.drive();
      expect((await engine.known(1)).state).toBe('retired');
    });
  });

  it('does not keep the others on a revoked release: they fall back at once', async () => {
    await withTwoClusters({}, async (story) => {
      const { test, engine } = story;
      await serving(story, { serial: 1, west: { kbs: 'main' } });
      await engine.accept(testRelease({ serial: 2, ...QUICK, keepPreviousSeconds: 100 * HOUR, west: { kbs: 'main' } }));
      await engine.driveTo(2, 'confirm-serving');
      test.west.cluster.silent = true;
      await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 2 }));
      await pass(story, 12 * BETWEEN_LOOKS);
      const { rotation } = await engine.known(1);
      expect(rotationsOf(test.cluster)).toEqual([rotation]);
      expect(test.cluster.all().every(({ ready }) => ready)).toBe(true);
      test.west.cluster.silent = false;
      await engine.drive();
      expect(rotationsOf(test.west.cluster)).toEqual([rotation]);
    });
  });
});
