/** What only a platform's predecessor lists: good while a boot rests on it, and gone for good afterwards. */
import { expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import type { PlatformDocument } from '#src/domain/documents/release.ts';
import type { Json } from '#src/domain/json.ts';
import type { Release } from '#src/domain/release.ts';
import { verifyExport } from '#src/domain/verify-export.ts';
import { keep } from '#src/engine/keeper.ts';
import { letGoPredecessors } from '#src/engine/let-go.ts';
import { Fault } from '#src/errors.ts';
import { acceptPlatform } from '#state/acceptance.ts';
import { brokerRow } from '#state/brokers.ts';
import { transaction } from '#state/database.ts';
import { holdRuns } from '#state/holds.ts';
import { keptPredecessors, letGoValues } from '#state/predecessors.ts';
import { exportReceipts } from '#state/receipts.ts';
import { testRelease } from '../world/release.ts';
import { type Story, tell, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

/** A story of machines, whose accepted platforms grow. */
async function withPlatforms(fn: (story: Story, accept: (serial: number, values: PlatformDocument['referenceValues']) => Promise<void>) => Promise<void>) {
  const platforms: PlatformDocument[] = [];
  await tell({ parts: () => ({ platforms: async () => platforms }) }, (story) =>
    fn(story, async (serial, referenceValues) => {
      const document: PlatformDocument = {
        apiVersion: 'keyturn.dev/v1alpha1',
        kind: 'Platform',
        id: 'rack',
        serial,
        previous: null,
        tee: 'sample',
        referenceValues,
      };
      platforms.push(document);
      await transaction(story.pool, (tx) => acceptPlatform(tx, { ...document, digest: digestOf(JSON.stringify(document)) }, async () => {}));
    }),
  );
}

/** A release whose guests name the platform. */
function named(release: Release): Release {
  const guests = Object.fromEntries(Object.entries(release.guests).map(([name, guest]) => [name, { ...guest, platform: 'rack' }]));
  return { ...release, guests };
}

async function serving(story: Story, release: Release): Promise<void> {
  await story.engine.accept(release);
  await story.engine.drive();
}

/** The values of a name that the KBS holds once its keeper has looked. */
async function held({ engine, test }: Story, name: string): Promise<Json | undefined> {
  await keep(engine.engine, 'main');
  return test.kbs.referenceValues.get(name);
}

async function why({ pool }: Story): Promise<readonly string[]> {
  return (await keptPredecessors(pool)).map(({ name, value, reason }) => `${name} ${String(value)}: ${reason}`);
}

it('a value goes when no boot was last attested on it any more, in every KBS, with a receipt that says what was looked at', async () => {
  await withPlatforms(async (story, accept) => {
    const { pool, test, engine } = story;
    await accept(1, { launch_digest: ['fw1'] });
    test.kbs.launchDigest = 'fw1';
    await serving(story, named(testRelease({ serial: 1, ...QUICK })));
    await accept(2, { launch_digest: ['fw2'] });
    expect(await held(story, 'launch_digest'), 'both at once').toEqual(['abcde', 'fw1', 'fw2']);
    await letGoPredecessors(engine.engine);
    expect(await why(story)).toEqual(['launch_digest fw1: PlatformInUse']);
    const [since] = (await keptPredecessors(pool)).map((kept) => kept.since);
    test.kbs.launchDigest = 'fw2';
    const [first, ...others] = test.cluster.all();
    // Longer than the clocks of its nodes may differ: an attestation is told from the one before by when it was.
    await test.advance(10);
    for (const pod of others) await test.cluster.restart(pod);
    await letGoPredecessors(engine.engine);
    expect(await keptPredecessors(pool), 'one pod still').toMatchObject([
      { reason: 'PlatformInUse', about: `launch_digest fw1: ${first?.name} at ${first?.address}`, since },
    ]);
    if (first === undefined) throw new Error('no pod');
    await test.cluster.restart(first);
    const before = (await brokerRow(pool, 'main'))?.generation ?? 0;
    await letGoPredecessors(engine.engine);
    expect([await why(story), await letGoValues(pool)]).toEqual([[], [{ platform: 'rack', serial: 2, name: 'launch_digest', value: 'fw1' }]]);
    expect((await brokerRow(pool, 'main'))?.generation).toBe(before + 1);
    expect(await held(story, 'launch_digest')).toEqual(['abcde', 'fw2']);
    const { rows } = await pool.query<{ body: string }>(`select body from receipts where step = 'let-go'`);
    const receipt = JSON.parse(rows[0]?.body ?? '{}');
    const boots = Object.values(receipt.evidence.boots).flat() as { uid: string }[];
    expect([receipt.generations.main, receipt.evidence.values]).toEqual([before + 1, [{ name: 'launch_digest', value: 'fw1' }]]);
    expect(boots.map(({ uid }) => uid).sort()).toEqual(
      test.cluster
        .all()
        .map(({ uid }) => uid)
        .sort(),
    );
    await letGoPredecessors(engine.engine);
    expect((await pool.query(`select 1 from receipts where step = 'let-go'`)).rowCount, 'once').toBe(1);
    const lines: string[] = [];
    await exportReceipts(pool, test.world.signer, 'test', async (line) => void lines.push(line));
    const bytes = (async function* () {
      yield Buffer.from(lines.join(''));
    })();
    expect(await verifyExport(bytes, test.world.signer.publicKeyPem)).toMatchObject({ kind: 'verified' });
  });
});

it('what was let go never comes back by a fallback', async () => {
  await withPlatforms(async (story, accept) => {
    const { test, engine } = story;
    test.kbs.launchDigest = 'fw2';
    await accept(1, { launch_digest: ['fw1'] });
    await serving(story, named(testRelease({ serial: 1, ...QUICK, keepPreviousSeconds: 100_000 })));
    await accept(2, { launch_digest: ['fw2'] });
    await letGoPredecessors(engine.engine);
    await engine.accept(named(testRelease({ serial: 2, ...QUICK, keepPreviousSeconds: 100_000 })));
    await engine.driveTo(2, 'confirm-serving');
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 2 }));
    await engine.drive(async () => (await engine.known(1)).state === 'serving');
    expect(await held(story, 'launch_digest')).toEqual(['abcde', 'fw2']);
  });
});

it('a pod that has not attested keeps: nobody knows on which machine it will', async () => {
  await withPlatforms(async (story, accept) => {
    const { test, engine } = story;
    test.kbs.launchDigest = 'fw2';
    await accept(1, { launch_digest: ['fw1'] });
    await serving(story, named(testRelease({ serial: 1, ...QUICK })));
    await accept(2, { launch_digest: ['fw2'] });
    const [pod] = test.cluster.all();
    if (pod === undefined) throw new Error('no pod');
    const { containerId } = pod;
    pod.containerId = null;
    await letGoPredecessors(engine.engine);
    expect(await why(story)).toEqual(['launch_digest fw1: PodNotAttested']);
    pod.containerId = containerId;
    await letGoPredecessors(engine.engine);
    expect(await why(story)).toEqual([]);
  });
});

it('guests of a release that does not name the platform keep its values too', async () => {
  await withPlatforms(async (story, accept) => {
    const { pool, test, engine } = story;
    await accept(1, { launch_digest: ['fw1'] });
    test.kbs.launchDigest = 'fw2';
    await serving(story, named(testRelease({ serial: 1, ...QUICK })));
    test.cluster.add({ name: 'other' });
    test.kbs.launchDigest = 'fw1';
    await serving(story, testRelease({ workload: 'other', serial: 7, ...QUICK }));
    await accept(2, { launch_digest: ['fw2'] });
    await letGoPredecessors(engine.engine);
    expect((await keptPredecessors(pool))[0]?.about).toContain('other-');
  });
});

it('a value of which no token tells stays while a wanted release names the platform, and goes after it', async () => {
  await withPlatforms(async (story, accept) => {
    const { pool, engine } = story;
    await accept(1, { minimum_minor_version: [1] });
    await serving(story, named(testRelease({ serial: 1, ...QUICK })));
    await accept(2, { launch_digest: ['abcde'] });
    await letGoPredecessors(engine.engine);
    expect(await why(story)).toEqual(['minimum_minor_version 1: ClaimUnknown']);
    await serving(story, testRelease({ serial: 2, ...QUICK }));
    await letGoPredecessors(engine.engine);
    expect((await letGoValues(pool)).length).toBe(1);
  });
});

it('nothing goes where a guest attests on it while we look, or where all is on hold', async () => {
  await withPlatforms(async (story, accept) => {
    const { pool, test, engine } = story;
    test.kbs.launchDigest = 'fw2';
    await accept(1, { launch_digest: ['fw1'] });
    await serving(story, named(testRelease({ serial: 1, ...QUICK })));
    await accept(2, { launch_digest: ['fw2'] });
    const { sample: initData = '' } = (await engine.known(1)).release.initData;
    const { pods } = test.cluster;
    const late = async (): Promise<void> => {
      test.kbs.launchDigest = 'fw1';
      await test.kbs.fetch('keyturn-test/chat/none', { tee: 'sample', svn: '1', initData }, '127.64.9.9');
      test.kbs.launchDigest = 'fw2';
    };
    const world = {
      ...engine.engine.world,
      cluster: () => ({
        ...test.cluster,
        pods: async (target: Parameters<typeof pods>[0]) => {
          await late();
          return pods(target);
        },
      }),
    };
    await letGoPredecessors({ ...engine.engine, world });
    expect([await why(story), await letGoValues(pool)], 'nobody keeps it, and it does not go').toEqual([[], []]);
    await transaction(pool, (tx) => holdRuns(tx, { subject: { kind: 'all' }, why: 'wait', by: 'ann' }, async () => {}));
    await letGoPredecessors(engine.engine);
    expect([await why(story), await letGoValues(pool)]).toEqual([['launch_digest fw1: OnHold'], []]);
  });
});

it('a cluster that does not answer keeps what its guests may rest on', async () => {
  await withPlatforms(async (story, accept) => {
    const { test, engine } = story;
    test.kbs.launchDigest = 'fw2';
    await accept(1, { launch_digest: ['fw1'] });
    await serving(story, named(testRelease({ serial: 1, ...QUICK })));
    await accept(2, { launch_digest: ['fw2'] });
    const silent = { ...test.cluster, pods: () => Promise.reject(new Fault('Unreachable', 'east')) };
    await letGoPredecessors({ ...engine.engine, world: { ...engine.engine.world, cluster: () => silent } });
    expect(await why(story)).toEqual(['launch_digest fw1: Unreachable']);
  });
});
