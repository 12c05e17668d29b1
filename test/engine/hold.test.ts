/** What a person stops, and what no person stops. */
import { expect, it } from 'vitest';
import { verifyExport } from '#src/domain/verify-export.ts';
import { keep } from '#src/engine/keeper.ts';
import { lookAt } from '#src/engine/run.ts';
import { sweep } from '#src/engine/sweep.ts';
import { transaction } from '#state/database.ts';
import { type HoldSubject, holdRuns, openHolds, resumeRuns } from '#state/holds.ts';
import { exportReceipts } from '#state/receipts.ts';
import { openRuns } from '#state/runs.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { type Effect, notYet, type Seen, seen } from '#workflows/step.ts';
import { hasReceipt, waitsFor } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { granted, type Story, stored, tell, templateRotation, testRevocation } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
const CHAT: HoldSubject = { kind: 'workload', workload: 'chat' };
const ALL: HoldSubject = { kind: 'all' };

/** Holds, and gives the runs that were woken for it. */
async function hold({ pool }: Pick<Story, 'pool'>, subject: HoldSubject): Promise<readonly string[]> {
  const woken: string[] = [];
  const wakeAll = async (_: unknown, runs: readonly string[]) => void woken.push(...runs);
  await transaction(pool, (tx) => holdRuns(tx, { subject, why: 'the pager rang', by: 'ann' }, wakeAll));
  return woken;
}

async function resume({ pool }: Story, subject: HoldSubject): Promise<readonly string[]> {
  const woken: string[] = [];
  const wakeAll = async (_: unknown, runs: readonly string[]) => void woken.push(...runs);
  await transaction(pool, (tx) => resumeRuns(tx, { subject, why: 'all is well', by: 'ben' }, wakeAll));
  return woken;
}

async function serving(story: Story, serial: number, workload = 'chat'): Promise<void> {
  await story.engine.accept(testRelease({ workload, serial, ...QUICK }));
  await story.engine.drive();
}

it('a held workload rests where it is, with who, since when and why; resuming wakes it, and it finishes', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'confirm-published');
    const open = await openRuns(pool);
    expect(await hold(story, CHAT)).toEqual([...open].sort());
    const [held] = await openHolds(pool);
    const before = test.network.log.length;
    for (const looked of await engine.round())
      expect(looked).toMatchObject({ kind: 'resting', waitingFor: 'OnHold', about: `chat, by ann since ${held?.at}: the pager rang` });
    expect(test.network.log.length).toBe(before);
    expect(await templateRotation(story)).toBe((await engine.known(1)).rotation);
    expect(await resume(story, CHAT)).toEqual([...open].sort());
    await engine.drive();
    expect([(await engine.known(2)).state, (await engine.known(1)).state]).toEqual(['serving', 'retired']);
  });
});

it('a release that is accepted meanwhile rests too', async () => {
  await tell({}, async (story) => {
    const { pool, engine } = story;
    await serving(story, 1);
    await hold(story, ALL);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.round();
    expect(await waitsFor(pool, 2)).toBe('OnHold');
    expect(await hasReceipt(pool, 2, 'adopt-revision', 'create-key')).toBe(false);
  });
});

it('what a look has in hand when the hold commits does not act any more', async () => {
  const outside = { writes: 0 };
  const during: { now: (() => Promise<unknown>) | null } = { now: null };
  const there = (): Seen | ReturnType<typeof notYet> => (outside.writes > 0 ? seen(null) : notYet('KeyMissing', 'the test'));
  const effect: Effect = {
    kind: 'effect',
    name: 'write-once',
    observe: async () => {
      await during.now?.();
      return there();
    },
    act: async () => {
      outside.writes += 1;
    },
  };
  await tell({ parts: () => ({ workflows: [{ ...adoptRevision, steps: [effect, ...adoptRevision.steps] }] }) }, async (story) => {
    const { engine } = story;
    for (const subject of ['run', 'workload', 'all'] as const) {
      outside.writes = 0;
      const serial = { run: 1, workload: 2, all: 3 }[subject];
      await engine.accept(testRelease({ serial }));
      const { rotation } = await engine.known(serial);
      const held: HoldSubject = { run: { kind: 'run' as const, run: rotation }, workload: CHAT, all: ALL }[subject];
      during.now = async () => {
        during.now = null;
        await hold(story, held);
      };
      expect(await lookAt(engine.engine, rotation), subject).toEqual({ kind: 'fenced' });
      expect(await lookAt(engine.engine, rotation), subject).toMatchObject({ kind: 'resting', waitingFor: 'OnHold' });
      expect(outside.writes, subject).toBe(0);
      await resume(story, held);
    }
  });
});

it('a write that is about to be sent when the hold commits is not sent', async () => {
  await tell({}, async (story) => {
    const { test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'put-resource');
    test.kbs.whileMinting = async () => {
      test.kbs.whileMinting = null;
      await hold(story, CHAT);
    };
    await engine.round();
    expect(test.kbs.whileMinting, 'it was about to').toBeNull();
    expect(granted(story)).toEqual([1]);
  });
});

it('everything is held with what another transaction is just bringing', async () => {
  await tell({}, async (story) => {
    const { pool, engine } = story;
    await engine.accept(testRelease({ serial: 1 }));
    const { id, rotation } = await engine.known(1);
    const client = await pool.connect();
    try {
      await client.query('begin');
      await client.query(`insert into runs (id, workflow, revision, workload, cause) values ('r-late', 'retire-revision', $1, 'chat', null)`, [id]);
      const holding = hold(story, ALL);
      const waits = `select 1 from pg_locks where relation = 'runs'::regclass and mode = 'ExclusiveLock' and not granted`;
      await expect.poll(async () => (await client.query(waits)).rowCount, { timeout: 8000 }).toBe(1);
      await client.query('commit');
      expect(await holding).toEqual([rotation, 'r-late'].sort());
    } finally {
      client.release();
    }
  });
});

it('one rotation is held with the runs that it caused, and no other', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    const { rotation } = await engine.known(2);
    test.cluster.add({ name: 'other' });
    await engine.accept(testRelease({ workload: 'other', serial: 7, ...QUICK }));
    await hold(story, { kind: 'run', run: rotation });
    await engine.drive(() => hasReceipt(pool, 7, 'adopt-revision', 'confirm-serving'));
    expect([await waitsFor(pool, 2), await waitsFor(pool, 1, 'retire-revision')]).toEqual(['OnHold', 'OnHold']);
  });
});

it('a revocation is carried out under a hold of everything: refused, deleted, and taken away when a good one serves', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await serving(story, 1);
    await engine.accept(testRelease({ serial: 2, soakSeconds: 0, keepPreviousSeconds: 100_000 }));
    await engine.driveTo(2, 'confirm-serving');
    await hold(story, ALL);
    await engine.round();
    expect(await waitsFor(pool, 1, 'retire-revision')).toBe('OnHold');
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
    expect((await pool.query(`select 1 from deny_list where kbs = 'main'`)).rowCount).toBe(1);
    expect(await keep(engine.engine, 'main')).toBe('published');
    expect(granted(story)).toEqual([2]);
    await sweep(engine.engine);
    expect(stored(story)).toEqual([2]);
    await test.advance(100_000);
    await engine.drive(async () => (await engine.known(1)).state === 'retired');
    await engine.drive(() => hasReceipt(pool, 1, 'retire-revision', 'disable-key'));
    expect((await openHolds(pool)).length).toBe(1);
  });
});

it('holding and resuming are receipts of a chain of their own, and the whole log verifies', async () => {
  await tell({}, async (story) => {
    const { pool, test, engine } = story;
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await hold(story, CHAT);
    const again = await transaction(pool, (tx) => holdRuns(tx, { subject: CHAT, why: 'once more', by: 'cem' }, async () => {}));
    expect(again).toMatchObject({ kind: 'already', hold: { why: 'the pager rang', by: 'ann' } });
    await resume(story, CHAT);
    expect(await resume(story, CHAT)).toEqual([]);
    const { rows } = await pool.query<{ steps: string[]; evidence: { why: string; by: string }[] }>(
      `select array_agg(c.step order by c.number) as steps, array_agg(c.body::jsonb -> 'evidence' order by c.number) as evidence
       from receipts c join holds h on h.chain = c.run`,
    );
    expect(rows[0]).toMatchObject({
      steps: ['hold', 'resume'],
      evidence: [
        { why: 'the pager rang', by: 'ann' },
        { why: 'all is well', by: 'ben' },
      ],
    });
    await engine.drive();
    const lines: string[] = [];
    await exportReceipts(pool, test.world.signer, 'test', async (line) => void lines.push(line));
    const bytes = (async function* () {
      yield Buffer.from(lines.join(''));
    })();
    expect(await verifyExport(bytes, test.world.signer.publicKeyPem)).toMatchObject({ kind: 'verified' });
  });
});
