/** A reinstatement’s process may end anywhere: another look goes on, and the world ends as if nothing had happened. */
import { describe, expect, it } from 'vitest';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { readPointer } from '#src/domain/pointer.ts';
import type { Revocation } from '#src/domain/release.ts';
import { runReceipts } from '#state/receipts.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { emergencies, workflows } from '#workflows/index.ts';
import { reinstate } from '#workflows/reinstate.ts';
import { withDatabase } from '../postgres.ts';
import { openTestEngine } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { granted, type Story, stored, testReinstatement, testSuspension } from '../world/story.ts';
import { driveThrough, type Point, pointsOf, type Trap, trapped, trappedPool, writtenTwice } from '../world/traps.ts';
import { openTestWorld } from '../world.ts';

const POINTS = pointsOf(reinstate);

/** Where the revision's own run holds its roll, tries its first pods, and lets it go. */
const ROLLING = pointsOf(adoptRevision).filter(({ step }) => ['patch-template', 'try-first-pods', 'move-pods'].includes(step));

/** The lifting, and what a KBS is told anew: where the subjects that name no key differ from one that does. */
const LIFTING = POINTS.filter(({ step }) => ['lift-revocation', 'publish-policy', 'publish-reference-values'].includes(step));

/** What holds release 1 whole, each in a way of its own. */
const SUBJECTS: readonly (readonly [string, RevocationSubject, readonly Point[]])[] = [
  ['a key', { kind: 'key', workload: 'chat', epoch: 1 }, POINTS],
  ['a signer', { kind: 'signer', person: 'ada' }, LIFTING],
  ['a reference value', { kind: 'reference-value', name: 'svn', value: '1' }, LIFTING],
];

describe('a process that ends anywhere in a reinstatement', () => {
  it.concurrent.each(SUBJECTS)('of %s leaves the same world behind', { timeout: 300_000 }, (_, subject, points) => sweep(subject, points));
  it(`leaves it behind from the ${ROLLING.length} at which what came back is rolled, too`, { timeout: 300_000 }, () => sweep({ kind: 'all' }, ROLLING));
});

/** One suspension and reinstatement of what serves after the other, each with one of the points. */
async function sweep(subject: RevocationSubject, points: readonly Point[]): Promise<void> {
  const trap: Trap = { point: null, met: 0, commit: null };
  await withDatabase(async (pool) => {
    const test = await openTestWorld(pool);
    const traps = emergencies.map((workflow) => (workflow.name === reinstate.name ? trapped(workflow, trap, test) : workflow));
    const trappedToo = workflows.map((workflow) => (workflow.name === adoptRevision.name ? trapped(workflow, trap, test) : workflow));
    const engine = await openTestEngine(pool, test, { emergencies: traps, workflows: trappedToo, pool: trappedPool(pool, trap) });
    const story = { pool, test, engine };
    test.cluster.add();
    await engine.accept(testRelease({ serial: 1, soakSeconds: 0, keepPreviousSeconds: 0 }));
    await engine.drive();
    const { rotation } = await engine.known(1);
    for (const [index, point] of points.entries()) {
      const revocation = testSuspension(subject, `suspected-${index}`);
      await engine.revoke(revocation);
      await engine.drive(
        async () => (await pool.query(`select 1 from runs where workflow = 'revoke' and waiting_for = 'Held' and ended_at is null`)).rowCount === 1,
      );
      // A held workload keeps its key: somebody else disabled it, so that there is something to enable.
      const [key] = test.kms.keys(rotation);
      await test.kms.disable(async () => ({ value: { rotation, keyId: key?.keyId ?? '' }, answered: async () => {} }));
      const before = test.network.log.length;
      Object.assign(trap, { point, met: 0, commit: null });
      await engine.reinstate(testReinstatement(revocation), revocation);
      await driveThrough(engine);
      const name = `${point.step} ${point.moment}`;
      expect(trap.met, `${name} was met`).toBe(1);
      expect(await endOf(story, revocation), name).toEqual({
        ...{ steps: reinstate.steps.map((step) => step.name), state: 'serving', pathNumber: index + 1, revoked: false, taken: false },
        ...{ keys: ['active'], granted: [1], stored: [1], values: ['1'], lifted: index + 1, rows: index + 2, open: 0, sealed: 1 },
      });
      expect(writtenTwice(test.network.log.slice(before)), name).toEqual([]);
      expect(await paceOf(story), name).toEqual([0, 600, '']);
    }
  });
}

/** How the Deployment rolls, and whether it is held. */
async function paceOf({ test }: Story): Promise<readonly unknown[]> {
  const found = await test.cluster.object({ cluster: 'east', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name: 'chat' });
  const pace = ['minReadySeconds', 'progressDeadlineSeconds'].map((field) => readPointer(found?.object ?? null, `/spec/${field}`));
  return [...pace, found?.annotations['keyturn.dev/roll-held']];
}

async function endOf(story: Story, { digest }: Revocation) {
  const { engine, pool, test } = story;
  const { state, pathNumber, revoked, sealing, rotation } = await engine.known(1);
  const { rows } = await pool.query<{ id: string }>(`select id from runs where workflow = 'reinstate' and revocation = $1`, [digest]);
  const count = async (query: string) => (await pool.query(query)).rowCount;
  return {
    steps: (await runReceipts(pool, rows[0]?.id ?? '')).map(({ step }) => step),
    ...{ state, pathNumber, revoked, taken: sealing.taken },
    keys: test.kms.keys(rotation).map((key) => key.state),
    ...{ granted: granted(story), stored: stored(story), values: test.kbs.referenceValues.get('svn'), sealed: test.weights.sealed().length },
    lifted: await count('select 1 from documents where lifted_by is not null'),
    rows: await count('select 1 from resources'),
    open: await count('select 1 from runs where ended_at is null'),
  };
}
