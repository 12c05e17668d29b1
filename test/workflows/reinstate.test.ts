/** A suspension is lifted: the same key and ciphertext at a new path, and the revocation wins wherever both come (DESIGN §8, protocol §9). */
import { describe, expect, it } from 'vitest';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Revocation } from '#src/domain/release.ts';
import { lookAt } from '#src/engine/run.ts';
import { runReceipts } from '#state/receipts.ts';
import { emergencies } from '#workflows/index.ts';
import { reinstate } from '#workflows/reinstate.ts';
import { waitsFor } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { granted, type Story, stored, tell, templateRotation, testReinstatement, testRevocation, testSuspension } from '../world/story.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
const KEEPING = { soakSeconds: 0, keepPreviousSeconds: 3600 };

function suspension(subject: RevocationSubject, id = 'suspected'): Revocation {
  return testSuspension(subject, id);
}

const RELEASE_1 = suspension({ kind: 'release', workload: 'chat', serial: 1 });
const RELEASE_2 = suspension({ kind: 'release', workload: 'chat', serial: 2 });
const KEY_1 = suspension({ kind: 'key', workload: 'chat', epoch: 1 });
const KEY_2 = suspension({ kind: 'key', workload: 'chat', epoch: 2 });

async function lifted(story: Story, revocation: Revocation): Promise<void> {
  await story.engine.reinstate(testReinstatement(revocation), revocation);
}

interface RunRow {
  readonly id: string;
  readonly waiting_for: string | null;
  readonly ended: boolean;
}

async function runOf({ pool }: Story, workflow: 'revoke' | 'reinstate', { digest }: Revocation): Promise<RunRow> {
  const { rows } = await pool.query<RunRow>(
    `select id, waiting_for, ended_at is not null as ended from runs where workflow = $1 and revocation = $2 order by created_at desc`,
    [workflow, digest],
  );
  const [row] = rows;
  if (row === undefined) throw new Error(`no ${workflow} run`);
  return row;
}

async function stepsOf(story: Story, workflow: 'revoke' | 'reinstate', revocation: Revocation): Promise<readonly string[]> {
  const { id } = await runOf(story, workflow, revocation);
  return (await runReceipts(story.pool, id)).map(({ step }) => step);
}

/** Accepts and rolls releases 1 and 2, of which the first is kept to fall back to. */
async function withTwo(fn: (story: Story) => Promise<void>, options: Parameters<typeof tell>[0] = {}): Promise<void> {
  await tell(options, async (story) => {
    for (const serial of [1, 2]) {
      await story.engine.accept(testRelease({ serial, ...KEEPING }));
      await story.engine.driveTo(serial, 'confirm-serving');
    }
    await fn(story);
  });
}

/** The KBS paths that the deny-list names, oldest first. */
async function deniedPaths({ pool }: Story): Promise<readonly string[]> {
  const { rows } = await pool.query<{ path: string }>('select path from deny_list where path is not null order by id');
  return rows.map(({ path }) => path);
}

function paths({ test }: Story): readonly string[] {
  return [...test.kbs.resources.keys()].sort();
}

/** The target serves with this path number on all its pods, and its key alone decides nothing more. */
async function expectServing(story: Story, serial: number, pathNumber: number): Promise<void> {
  const known = await story.engine.known(serial);
  expect(known).toMatchObject({ state: 'serving', revoked: false, pathNumber });
  expect(await templateRotation(story)).toBe(known.rotation);
  expect(story.test.cluster.all().every((pod) => pod.ready && pod.annotations['keyturn.dev/rotation'] === known.rotation)).toBe(true);
  expect(story.test.kms.keys(known.sealing.rotation).map(({ state }) => state)).toEqual(['active']);
  expect(paths(story).filter((path) => path.includes(`/s${serial}-`))).toEqual([expect.stringContaining(`-${pathNumber}-`)]);
}

describe('a suspended release that is reinstated', () => {
  it('comes back with the same key and weights at its next path, and the old one stays refused and empty', () =>
    withTwo(async (story) => {
      const { engine, test } = story;
      const before = await engine.known(2);
      const [old] = paths(story).filter((path) => path.includes('/s2-'));
      const bytes = test.kbs.resources.get(old ?? '');
      await engine.revoke(RELEASE_2);
      await engine.driveTo(1, 'confirm-serving');
      await engine.drive(
        async () => (await runOf(story, 'revoke', RELEASE_2)).ended || (await stepsOf(story, 'revoke', RELEASE_2)).includes('confirm-refused'),
      );
      const sealed = test.weights.sealed();
      await lifted(story, RELEASE_2);
      await engine.drive(async () => (await engine.known(2)).state === 'serving' && (await runOf(story, 'reinstate', RELEASE_2)).ended);
      await expectServing(story, 2, before.pathNumber + 1);
      const [now] = paths(story).filter((path) => path.includes('/s2-'));
      expect(test.kbs.resources.get(now ?? '')).toEqual(bytes);
      expect(test.weights.sealed(), 'no weights move').toEqual(sealed);
      expect(await deniedPaths(story)).toContain(old);
      expect(await deniedPaths(story)).not.toContain(now);
      const { id } = await runOf(story, 'reinstate', RELEASE_2);
      const receipts = await runReceipts(story.pool, id);
      expect(receipts.map(({ step }) => step)).toEqual(reinstate.steps.map(({ name }) => name));
      expect(receipts.find(({ step }) => step === 'lift-revocation')?.evidence).toMatchObject({
        ...{ revocation: RELEASE_2.id, reason: 'certificateHold', justification: 'a false alarm', approvedBy: ['ada', 'bo'] },
        freed: [{ rotation: before.rotation, pathNumber: before.pathNumber + 1 }],
      });
    }));

  it('is published anew from go-live on, whatever its run had done before', () =>
    withTwo(async (story) => {
      const { engine, pool } = story;
      const { rotation } = await engine.known(2);
      const numbers = async (step: string) => (await runReceipts(pool, rotation)).filter((receipt) => receipt.step === step).length;
      await engine.revoke(RELEASE_2);
      await engine.round();
      await lifted(story, RELEASE_2);
      await engine.drive(async () => (await engine.known(2)).state === 'serving');
      for (const step of ['put-resource', 'publish-policy', 'confirm-published', 'patch-template', 'move-pods', 'confirm-serving'])
        expect(await numbers(step), step).toBe(2);
      for (const step of ['create-key', 'make-resource', 'encrypt-weights', 'go-live']) expect(await numbers(step), step).toBe(1);
      const { rows } = await pool.query<{ own: number; broker: number }>(
        `select (o.generations ->> 'main')::int as own, b.generation as broker from runs o cross join brokers b where o.id = $1 and b.name = 'main'`,
        [rotation],
      );
      expect(rows[0]?.own, 'and believes no policy that is older than its new path').toBe(rows[0]?.broker);
    }));

  it('leaves nothing at its old path, also where the revocation’s own run came to no deletion', () =>
    withTwo(async (story) => {
      const { engine, test } = story;
      const [old = ''] = paths(story).filter((path) => path.includes('/s2-'));
      await engine.revoke(RELEASE_2);
      await lifted(story, RELEASE_2);
      const { id } = await runOf(story, 'reinstate', RELEASE_2);
      for (let looks = 0; looks < 20 && (await lookAt(engine.engine, id)).kind !== 'ended'; looks += 1) await test.advance(10);
      expect(await stepsOf(story, 'revoke', RELEASE_2)).toEqual(['reinstated']);
      expect(test.kbs.resources.has(old)).toBe(false);
    }));

  it('that was never live goes on where it was, at its next path', () =>
    tell({}, async (story) => {
      const { engine, pool } = story;
      await engine.accept(testRelease({ serial: 1, ...QUICK }));
      await engine.driveTo(1, 'make-resource');
      await engine.revoke(RELEASE_1);
      await engine.drive(async () => (await stepsOf(story, 'revoke', RELEASE_1)).includes('confirm-refused'));
      await lifted(story, RELEASE_1);
      await engine.drive();
      await expectServing(story, 1, 1);
      const { rotation } = await engine.known(1);
      expect((await runReceipts(pool, rotation)).filter(({ step }) => step === 'make-resource')).toHaveLength(1);
    }));

  it('that was never live and is the target again is not retired by what its revocation had begun', () =>
    tell({}, async (story) => {
      const { engine } = story;
      await engine.accept(testRelease({ serial: 1, ...KEEPING }));
      await engine.driveTo(1, 'confirm-serving');
      await engine.accept(testRelease({ serial: 2, ...KEEPING }));
      await engine.revoke(RELEASE_2);
      await lifted(story, RELEASE_2);
      const { id } = await runOf(story, 'reinstate', RELEASE_2);
      for (let looks = 0; looks < 20 && (await lookAt(engine.engine, id)).kind !== 'ended'; looks += 1) await story.test.advance(10);
      await engine.drive(async () => (await engine.known(2)).state === 'serving');
      await expectServing(story, 2, 1);
      const { rowCount } = await story.pool.query(
        `select 1 from runs o join revisions r on r.id = o.revision where r.serial = 2 and o.workflow = 'retire-revision' and o.ended_at is null`,
      );
      expect(rowCount).toBe(0);
    }));

  it('that is not the target is live again by a reopened, and is retired like any other', () =>
    withTwo(async (story) => {
      const { engine, pool } = story;
      await engine.revoke(RELEASE_2);
      await engine.accept(testRelease({ serial: 3, ...QUICK }));
      await engine.driveTo(3, 'patch-template');
      expect((await engine.known(2)).state).not.toBe('retired');
      await lifted(story, RELEASE_2);
      await engine.drive(async () => (await stepsOf(story, 'reinstate', RELEASE_2)).includes('lift-revocation'));
      expect(await engine.known(2)).toMatchObject({ state: 'live', revoked: false, pathNumber: 1 });
      const { rotation } = await engine.known(2);
      expect((await runReceipts(pool, rotation)).slice(-2).map(({ step, moves }) => [step, moves])).toEqual([
        ['reinstated', null],
        ['reopened', 'live'],
      ]);
      await engine.drive(async () => (await engine.known(2)).state === 'retired' && (await engine.known(3)).state === 'serving');
    }));

  it('may be suspended and reinstated again: every path is used once', () =>
    withTwo(async (story) => {
      const { engine } = story;
      for (const round of [1, 2]) {
        const revocation = suspension({ kind: 'release', workload: 'chat', serial: 2 }, `suspected-${round}`);
        await engine.revoke(revocation);
        await engine.round();
        await lifted(story, revocation);
        await engine.drive(async () => (await engine.known(2)).state === 'serving' && (await runOf(story, 'reinstate', revocation)).ended);
        await expectServing(story, 2, round);
      }
      expect(new Set((await deniedPaths(story)).filter((path) => path.includes('/s2-'))).size).toBe(2);
    }));
});

describe('a suspended key that is reinstated', () => {
  it('is enabled first, and everything under it comes back', () =>
    withTwo(async (story) => {
      const { engine, test } = story;
      await engine.revoke(KEY_2);
      await engine.drive(async () => (await stepsOf(story, 'revoke', KEY_2)).includes('disable-keys'));
      const { rotation } = await engine.known(2);
      expect(test.kms.keys(rotation).map(({ state }) => state)).toEqual(['deactivated']);
      await lifted(story, KEY_2);
      await engine.drive(async () => (await engine.known(2)).state === 'serving');
      await expectServing(story, 2, 1);
      expect((await engine.known(2)).sealing.taken).toBe(false);
    }));

  it('of a workload that is held lets it serve again', () =>
    tell({}, async (story) => {
      const { engine } = story;
      await engine.accept(testRelease({ serial: 1, ...QUICK }));
      await engine.drive();
      await engine.revoke(KEY_1);
      await engine.drive(async () => (await runOf(story, 'revoke', KEY_1)).waiting_for === 'Held');
      await lifted(story, KEY_1);
      await engine.drive();
      await expectServing(story, 1, 1);
      expect(await stepsOf(story, 'revoke', KEY_1), 'its chain says why it ended').toContain('reinstated');
    }));

  it('brings back every revision that shares it, each at a path of its own', () =>
    tell({}, async (story) => {
      const { engine } = story;
      await engine.accept(testRelease({ serial: 1, ...KEEPING }));
      await engine.driveTo(1, 'confirm-serving');
      expect(await engine.accept(testRelease({ serial: 2, keep: 1, ...KEEPING }))).toBeNull();
      await engine.driveTo(2, 'confirm-serving');
      await engine.revoke(KEY_1);
      await engine.round();
      await lifted(story, KEY_1);
      await engine.drive(async () => (await engine.known(2)).state === 'serving');
      await expectServing(story, 2, 1);
      expect(await engine.known(1)).toMatchObject({ revoked: false, pathNumber: 1 });
    }));

  it('waits for every disabling that has no answer: a late one would take the key from under the target', () =>
    withTwo(async (story) => {
      const { engine, test } = story;
      test.network.befall(/kms disable/, 'late');
      await engine.revoke(KEY_2);
      await engine.drive(async () => (await story.pool.query(`select 1 from sends where verb = 'disable'`)).rowCount !== 0);
      await lifted(story, KEY_2);
      await engine.drive(async () => (await runOf(story, 'reinstate', KEY_2)).waiting_for === 'KeyWriteUnanswered');
      for (let round = 0; round < 5; round += 1) await engine.round();
      expect(await engine.known(2)).toMatchObject({ revoked: true, pathNumber: 0 });
      expect(granted(story)).toEqual([1]);
    }));

  it('from the acceptance on gets no leave to be disabled, and the leave to be enabled', () =>
    withTwo(async (story) => {
      const { engine } = story;
      const { rotation, sealing } = await engine.known(2);
      const leave = async (verb: 'disable' | 'enable') =>
        (await engine.engine.ledger.key(null, 'kms', verb, { rotation, keyId: sealing.facts.keyId ?? null })()) !== null;
      await engine.revoke(KEY_2);
      expect([await leave('disable'), await leave('enable')]).toEqual([true, false]);
      await lifted(story, KEY_2);
      expect([await leave('disable'), await leave('enable')]).toEqual([false, true]);
      await engine.revoke(testRevocation({ kind: 'key', workload: 'chat', epoch: 2 }, 'for-good'));
      expect([await leave('disable'), await leave('enable')], 'a second revocation turns it round again').toEqual([true, false]);
    }));
});

describe('a second revocation', () => {
  const SECOND = testRevocation({ kind: 'release', workload: 'chat', serial: 2 }, 'for-good');

  it('that came before the reinstatement holds what both name', () =>
    withTwo(async (story) => {
      const { engine, pool } = story;
      await engine.revoke(RELEASE_2);
      await engine.revoke(SECOND);
      await lifted(story, RELEASE_2);
      await engine.drive(async () => (await runOf(story, 'reinstate', RELEASE_2)).ended && (await runOf(story, 'revoke', SECOND)).ended);
      expect(await engine.known(2)).toMatchObject({ revoked: true, pathNumber: 0 });
      expect(granted(story)).toEqual([1]);
      const { rows } = await pool.query<{ revoked_by: string }>('select revoked_by from revisions where serial = 2');
      expect(rows, 'it is the second that holds it now').toEqual([{ revoked_by: SECOND.digest }]);
    }));

  it('that comes while the key is being enabled takes the key away again', () =>
    withTwo(async (story) => {
      const { engine, test } = story;
      const second = testRevocation({ kind: 'key', workload: 'chat', epoch: 2 }, 'for-good');
      await engine.revoke(KEY_2);
      await engine.drive(async () => (await stepsOf(story, 'revoke', KEY_2)).includes('disable-keys'));
      await lifted(story, KEY_2);
      const { rotation } = await engine.known(2);
      test.git.unreachable = true;
      await engine.drive(async () => (await stepsOf(story, 'reinstate', KEY_2)).includes('enable-keys'));
      test.git.unreachable = false;
      expect(test.kms.keys(rotation).map(({ state }) => state)).toEqual(['active']);
      await engine.revoke(second);
      await engine.drive(async () => (await runOf(story, 'revoke', second)).ended && (await runOf(story, 'reinstate', KEY_2)).ended);
      expect(test.kms.keys(rotation).map(({ state }) => state)).toEqual(['deactivated']);
      expect(await engine.known(2)).toMatchObject({ revoked: true, pathNumber: 0 });
      expect(granted(story)).toEqual([1]);
    }));

  it('that is accepted between the look and its commit is seen under the locks: nothing is lifted on what was known before', async () => {
    const box: { story: Story | null; revoked: boolean } = { story: null, revoked: false };
    const overtaken = emergencies.map((workflow) => ({
      ...workflow,
      steps: workflow.steps.map((step) =>
        step.kind === 'effect' || step.name !== 'lift-revocation'
          ? step
          : {
              ...step,
              decide: async (look: Parameters<typeof step.decide>[0]) => {
                const seen = await step.decide(look);
                if (seen.kind === 'seen' && !box.revoked) {
                  box.revoked = true;
                  await box.story?.engine.revoke(SECOND);
                }
                return seen;
              },
            },
      ),
    }));
    await withTwo(
      async (story) => {
        box.story = story;
        const { engine, pool } = story;
        // Of two workloads, so that the second revocation does not fence the run.
        await engine.accept(testRelease({ workload: 'embed', serial: 1 }));
        const everything = suspension({ kind: 'all' });
        await engine.revoke(everything);
        await engine.round();
        await lifted(story, everything);
        await engine.drive(async () => (await runOf(story, 'reinstate', everything)).ended);
        expect(box.revoked).toBe(true);
        expect(await engine.known(2)).toMatchObject({ revoked: true, pathNumber: 0 });
        expect((await pool.query(`select 1 from resources where path like '%-1-%'`)).rowCount, 'nothing is left of the look').toBe(1);
      },
      { parts: () => ({ emergencies: overtaken }) },
    );
  });

  it('that no row knows yet stops the lifting while it lies at the branch’s tip', () =>
    withTwo(async (story) => {
      const { engine, test } = story;
      await engine.revoke(RELEASE_2);
      await engine.round();
      test.git.revocations.push(SECOND);
      await lifted(story, RELEASE_2);
      await engine.drive(async () => (await runOf(story, 'reinstate', RELEASE_2)).waiting_for === 'Revoked');
      expect(await engine.known(2)).toMatchObject({ revoked: true, pathNumber: 0 });
    }));

  it('that comes after it is refused nothing: the new path goes too', () =>
    withTwo(async (story) => {
      const { engine } = story;
      await engine.revoke(RELEASE_2);
      await engine.round();
      await lifted(story, RELEASE_2);
      await engine.driveTo(2, 'confirm-published');
      await engine.revoke(SECOND);
      await engine.drive(async () => (await runOf(story, 'revoke', SECOND)).ended);
      expect(stored(story)).toEqual([1]);
      expect(granted(story)).toEqual([1]);
      expect((await deniedPaths(story)).filter((path) => path.includes('/s2-'))).toHaveLength(2);
    }));

  it('a late enabling of an overtaken reinstatement is waited for before the key counts as disabled', () =>
    withTwo(async (story) => {
      const { engine, test } = story;
      const second = testRevocation({ kind: 'key', workload: 'chat', epoch: 2 }, 'for-good');
      await engine.revoke(KEY_2);
      await engine.drive(async () => (await stepsOf(story, 'revoke', KEY_2)).includes('disable-keys'));
      test.network.befall(/kms enable/, 'late');
      await lifted(story, KEY_2);
      await engine.round();
      await engine.revoke(second);
      await engine.drive(async () => (await runOf(story, 'revoke', second)).waiting_for === 'KeyWriteUnanswered');
      expect(await test.network.land(/kms enable/)).toBe(1);
      await engine.drive(async () => (await runOf(story, 'revoke', second)).ended);
      const { rotation } = await engine.known(2);
      expect(test.kms.keys(rotation).map(({ state }) => state)).toEqual(['deactivated']);
    }));
});

describe('what can not come back', () => {
  it('a revision that was retired stays so, though its revocation is lifted', () =>
    withTwo(async (story) => {
      const { engine, pool } = story;
      await engine.revoke(RELEASE_2);
      await engine.accept(testRelease({ serial: 3, ...QUICK }));
      await engine.drive();
      expect((await engine.known(2)).state).toBe('retired');
      await lifted(story, RELEASE_2);
      await engine.drive();
      expect(await engine.known(2)).toMatchObject({ state: 'retired', pathNumber: 0 });
      const { rowCount } = await pool.query(`select 1 from documents where digest = $1 and lifted_by is not null`, [RELEASE_2.digest]);
      expect(rowCount).toBe(1);
    }));

  it('a release that only comes after the lifting is not revoked by what was lifted', () =>
    tell({}, async (story) => {
      const { engine, pool } = story;
      await engine.accept(testRelease({ serial: 1, ...KEEPING }));
      await engine.driveTo(1, 'confirm-serving');
      await engine.revoke(RELEASE_2);
      await lifted(story, RELEASE_2);
      await engine.drive(async () => (await runOf(story, 'reinstate', RELEASE_2)).ended);
      await engine.accept(testRelease({ serial: 2, ...KEEPING }));
      expect((await engine.known(2)).revoked).toBe(false);
      await engine.driveTo(2, 'confirm-serving');
      expect(await waitsFor(pool, 2)).not.toBe('Revoked');
    }));
});

it('a device that was let in again has its own lift, which each proxy has to acknowledge; paths have none', () =>
  withTwo(async (story) => {
    const { engine, pool } = story;
    const device = suspension({ kind: 'device', chipId: 'chip-1' });
    await engine.revoke(device);
    await engine.drive(async () => (await runOf(story, 'revoke', device)).ended);
    const denied = (): readonly string[] => (typeof story.test.kbs.policy === 'string' ? ['no policy of ours'] : story.test.kbs.policy.denied.devices);
    expect(denied()).toEqual(['chip-1']);
    await pool.query(`insert into proxies (id, kbs, acknowledged, stale_seconds) values ('p', 'main', 1, 3600)`);
    await lifted(story, device);
    await engine.drive(async () => (await runOf(story, 'reinstate', device)).waiting_for === 'ProxyNotCaughtUp');
    const { rows } = await pool.query(`select l.kbs, d.device from deny_list l join deny_list d on d.id = l.lifts`);
    expect(rows).toEqual([{ kbs: 'main', device: 'chip-1' }]);
    await pool.query(`update proxies set acknowledged = (select max(id) from deny_list)`);
    await engine.drive(async () => (await runOf(story, 'reinstate', device)).ended);
    expect(denied()).toEqual([]);
  }));
