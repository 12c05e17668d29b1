/** The suspension of a signer, or of a reference value, is lifted: what it took away counts again from then on, and comes back by its own run. */
import { describe, expect, it } from 'vitest';
import type { Revocation } from '#src/domain/release.ts';
import { lookAt } from '#src/engine/run.ts';
import { runReceipts } from '#state/receipts.ts';
import { standingRevocations } from '#state/revocations.ts';
import { reinstate } from '#workflows/reinstate.ts';
import { testRelease } from '../world/release.ts';
import { granted, type Story, stored, tell, templateRotation, testReinstatement, testRevocation, testSuspension } from '../world/story.ts';

const KEEP = { soakSeconds: 0, keepPreviousSeconds: 3600 };
const VALUE_2 = testSuspension({ kind: 'reference-value', name: 'svn', value: '2' }, 'value-2');
const ADA = testSuspension({ kind: 'signer', person: 'ada' }, 'ada');

interface RunRow {
  readonly id: string;
  readonly waits: string | null;
  readonly ended: boolean;
}

async function runOf({ pool }: Story, workflow: 'revoke' | 'reinstate', { digest }: Revocation): Promise<RunRow> {
  const { rows } = await pool.query<RunRow>(
    'select id, waiting_for as waits, ended_at is not null as ended from runs where workflow = $1 and revocation = $2 order by created_at desc',
    [workflow, digest],
  );
  const [row] = rows;
  if (row === undefined) throw new Error(`no ${workflow} run`);
  return row;
}

async function lifted(story: Story, revocation: Revocation): Promise<void> {
  await story.engine.reinstate(testReinstatement(revocation), revocation);
  await story.engine.drive(async () => (await runOf(story, 'reinstate', revocation)).ended);
}

async function serving(story: Story, serials: readonly number[]): Promise<void> {
  for (const serial of serials) {
    await story.engine.accept(testRelease({ serial, ...KEEP }));
    await story.engine.driveTo(serial, 'confirm-serving');
  }
}

async function expectServing(story: Story, serial: number, pathNumber: number): Promise<void> {
  const known = await story.engine.known(serial);
  expect(known).toMatchObject({ state: 'serving', revoked: false, pathNumber });
  expect(await templateRotation(story)).toBe(known.rotation);
  expect(story.test.cluster.all().every((pod) => pod.ready && pod.annotations['keyturn.dev/rotation'] === known.rotation)).toBe(true);
  const paths = [...story.test.kbs.resources.keys()].filter((path) => path.includes(`/s${serial}-`));
  expect(paths, 'nothing is left, or fetched, at an older path').toEqual([expect.stringContaining(`-${pathNumber}-`)]);
}

describe('a reference value', () => {
  it('is good again, told to the KBS under a new number, and the revision that it held comes back at its next path', () =>
    tell({}, async (story) => {
      const { engine, test, pool } = story;
      await serving(story, [1, 2]);
      await engine.revoke(VALUE_2);
      await engine.drive(async () => (await runOf(story, 'revoke', VALUE_2)).ended);
      expect([granted(story), test.kbs.referenceValues.get('svn')]).toEqual([[1], ['1']]);
      const { rotation, sealing } = await engine.known(2);
      const sealed = test.weights.sealed();
      await lifted(story, VALUE_2);
      await engine.drive(async () => (await engine.known(2)).state === 'serving');
      await expectServing(story, 2, 1);
      expect(test.kbs.referenceValues.get('svn')).toEqual(['1', '2']);
      expect(granted(story)).toEqual([1, 2]);
      expect(test.weights.sealed(), 'no weights move').toEqual(sealed);
      expect((await engine.known(2)).sealing.facts.keyId).toBe(sealing.facts.keyId);
      const receipts = await runReceipts(pool, (await runOf(story, 'reinstate', VALUE_2)).id);
      expect(receipts.map(({ step }) => step)).toEqual(reinstate.steps.map(({ name }) => name));
      expect(receipts.find(({ step }) => step === 'lift-revocation')?.evidence).toMatchObject({ freed: [{ rotation, pathNumber: 1 }] });
    }));

  it('that nobody was held by is told to every KBS all the same', () =>
    tell({}, async (story) => {
      const { engine, test, pool } = story;
      const wide = testRelease({ serial: 1, ...KEEP });
      const { sample } = wide.guests;
      if (sample === undefined) throw new Error('the release has no guest');
      await engine.accept({ ...wide, guests: { sample: { ...sample, referenceValues: { svn: ['1', '7'] } } } });
      await engine.driveTo(1, 'confirm-serving');
      const spare = testSuspension({ kind: 'reference-value', name: 'svn', value: '7' }, 'value-7');
      await engine.revoke(spare);
      await engine.drive(async () => (await runOf(story, 'revoke', spare)).ended);
      expect(test.kbs.referenceValues.get('svn')).toEqual(['1']);
      const generation = async () => (await pool.query<{ generation: number }>(`select generation from brokers where name = 'main'`)).rows[0]?.generation ?? 0;
      const before = await generation();
      await lifted(story, spare);
      expect(await generation()).toBe(before + 1);
      expect(test.kbs.referenceValues.get('svn')).toEqual(['1', '7']);
      expect(test.kbs.policy).toMatchObject({ generation: before + 1, grants: [{ claims: { 'sample.svn': ['1', '7'] } }] });
      expect(await engine.known(1)).toMatchObject({ state: 'serving', revoked: false, pathNumber: 0 });
    }));

  it('that another revocation names too stays refused', () =>
    tell({}, async (story) => {
      const { engine, test } = story;
      await serving(story, [1, 2]);
      await engine.revoke(VALUE_2);
      const second = testRevocation({ kind: 'reference-value', name: 'svn', value: '2' }, 'for-good');
      await engine.revoke(second);
      await lifted(story, VALUE_2);
      await engine.drive(async () => (await runOf(story, 'revoke', second)).ended);
      expect(await engine.known(2)).toMatchObject({ revoked: true, pathNumber: 0 });
      expect([granted(story), test.kbs.referenceValues.get('svn')]).toEqual([[1], ['1']]);
    }));
});

describe('a signer', () => {
  it('counts again, and what was suspended without him serves again at its next path', () =>
    tell({}, async (story) => {
      const { engine, pool } = story;
      await serving(story, [1]);
      await engine.revoke(ADA);
      await engine.drive(async () => (await runOf(story, 'revoke', ADA)).waits === 'Held');
      expect([granted(story), stored(story)]).toEqual([[], []]);
      expect((await standingRevocations(pool)).map(({ path }) => path)).toEqual([ADA.path]);
      await lifted(story, ADA);
      expect(await standingRevocations(pool), 'from here on nobody is without his signature').toEqual([]);
      await engine.drive(async () => (await engine.known(1)).state === 'serving');
      await expectServing(story, 1, 1);
      expect([granted(story), stored(story)]).toEqual([[1], [1]]);
    }));

  it('whose releases fell with a second signer’s too frees none of them until both are lifted', () =>
    tell({}, async (story) => {
      const { engine } = story;
      await serving(story, [1]);
      const bo = testSuspension({ kind: 'signer', person: 'bo' }, 'bo');
      await engine.revoke(ADA);
      await engine.revoke(bo);
      await lifted(story, ADA);
      expect(await engine.known(1)).toMatchObject({ revoked: true, pathNumber: 0 });
      expect(granted(story)).toEqual([]);
      await lifted(story, bo);
      await engine.drive(async () => (await engine.known(1)).state === 'serving');
      await expectServing(story, 1, 1);
    }));

  it('who is named for good after the suspension stays without a signature', () =>
    tell({}, async (story) => {
      const { engine, pool } = story;
      await serving(story, [1]);
      await engine.revoke(ADA);
      const second = testRevocation({ kind: 'signer', person: 'ada' }, 'for-good');
      await engine.revoke(second);
      await lifted(story, ADA);
      await engine.drive(async () => (await runOf(story, 'revoke', second)).waits === 'Held');
      expect(await engine.known(1)).toMatchObject({ revoked: true, pathNumber: 0 });
      expect((await standingRevocations(pool)).map(({ path }) => path)).toEqual([second.path]);
    }));

  it('wakes what waits for his word on a document that everybody shares', () =>
    tell({}, async (story) => {
      const woken: string[] = [];
      const { engine, pool } = story;
      await serving(story, [1]);
      // No release of its own falls with him: nothing else wakes it.
      await engine.accept({ ...testRelease({ workload: 'embed', serial: 1 }), approvedBy: ['bo', 'cy'] });
      const { rows } = await pool.query<{ id: string }>(`update runs set waiting_for = 'Revoked' where workload = 'embed' returning id`);
      await engine.revoke(ADA);
      await engine.reinstate(testReinstatement(ADA), ADA);
      const { id } = await runOf(story, 'reinstate', ADA);
      await lookAt({ ...engine.engine, enlist: async (_, run) => void woken.push(run) }, id);
      expect(woken).toContain(rows[0]?.id);
    }));
});
