/** Two versions of Keyturn side by side on one database: what one left, the other finishes, whichever of them looks. */
import { expect, it } from 'vitest';
import type { Engine } from '#src/engine/look.ts';
import { type Looked, lookAt } from '#src/engine/run.ts';
import { type Instant, secondsBetween } from '#src/instant.ts';
import { openRuns } from '#state/runs.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { workflows as production } from '#workflows/index.ts';
import { retireRevision } from '#workflows/retire-revision.ts';
import { type Effect, type Gate, no, notYet, type Step, seen, type Workflow } from '#workflows/step.ts';
import { seeded } from '../proofs/proof.ts';
import { testRelease } from '../world/release.ts';
import { type Story, tell } from '../world/story.ts';

/** Looks of one story; an undisturbed one takes some 60. */
const ROUNDS_MAX = 400;
/** One round in three is looked at by both versions at the same time. */
const BOTH = 1 / 3;

/** An effect of a version's own, which counts how often it was brought about for each run. */
function extraStep(name: string): { readonly step: Effect; readonly acted: ReadonlyMap<string, number> } {
  const acted = new Map<string, number>();
  const step: Effect = {
    kind: 'effect',
    name,
    observe: async ({ run }) => (acted.has(run.id) ? seen(null) : notYet('KeyMissing', 'the test')),
    act: async ({ run }) => void acted.set(run.id, (acted.get(run.id) ?? 0) + 1),
  };
  return { step, acted };
}

function withStep(workflow: Workflow, place: number, step: Step): Workflow {
  return { ...workflow, steps: [...workflow.steps.slice(0, place), step, ...workflow.steps.slice(place)] };
}

/** Every workflow of this version, each of them with the step at this place, or at its end where it is shorter. */
function version(place: number, step: Step): readonly Workflow[] {
  return production.map((workflow) => withStep(workflow, Math.min(place, workflow.steps.length), step));
}

/** Looks by drawn versions until nothing is open. */
async function finish({ pool, test }: Story, versions: readonly Engine[], chance: () => number): Promise<void> {
  for (let rounds = 0; rounds < ROUNDS_MAX; rounds += 1) {
    const open = await openRuns(pool);
    if (open.length === 0) return;
    const looks: Looked[] = [];
    for (const run of open) {
      const looking = chance() < BOTH ? versions : [versions[Math.floor(chance() * versions.length)]];
      looks.push(...(await Promise.all(looking.map((engine) => (engine === undefined ? Promise.reject(new Error('no engine')) : lookAt(engine, run))))));
    }
    await test.cluster.tick();
    const retries = looks.map((look) => (look.kind === 'resting' ? look.nextRetryAt : null));
    const due = retries.filter((at): at is Instant => at !== null).sort()[0];
    const seconds = retries.includes(null) || due === undefined ? 0 : secondsBetween(await test.clock(), due);
    if (seconds > 0) await test.advance(seconds);
  }
  throw new Error(`still open: ${JSON.stringify((await pool.query('select * from runs where ended_at is null')).rows)}`);
}

/** Of both rotations: the state of each revision, and how often each step of a run has a receipt. */
async function endOf({
  pool,
}: Story): Promise<{ readonly states: readonly string[]; readonly doubled: readonly unknown[]; readonly missing: readonly string[] }> {
  const { rows: states } = await pool.query<{ state: string }>('select state from revisions order by serial');
  const { rows: doubled } = await pool.query(
    `select run, step, count(*) from receipts where run not in (select run from receipts where step = 'reopened') group by run, step having count(*) > 1`,
  );
  const { rows } = await pool.query<{ workflow: string; steps: string[] }>(
    'select o.workflow, array_agg(c.step) as steps from runs o join receipts c on c.run = o.id group by o.id, o.workflow',
  );
  const missing = rows.flatMap(({ workflow, steps }) =>
    (production.find(({ name }) => name === workflow)?.steps ?? []).flatMap(({ name }) => (steps.includes(name) ? [] : [`${workflow} ${name}`])),
  );
  return { states: states.map(({ state }) => state), doubled, missing };
}

const LONGEST = Math.max(adoptRevision.steps.length, retireRevision.steps.length);

/** [where the newer version has a step that the older lacks, where the older has one that the newer dropped] */
const PLACES: readonly (readonly [number, number])[] = [
  [0, LONGEST],
  [LONGEST, 0],
  [4, 8],
  [8, 4],
  [5, 5],
  [adoptRevision.steps.length - 1, retireRevision.steps.length - 1],
];

for (const [seed, [inserted, removed]] of PLACES.entries()) {
  it(`open runs finish whichever version looks: one has a step at ${inserted} that the other lacks, which has one at ${removed}`, async () => {
    const added = extraStep('added');
    const dropped = extraStep('dropped');
    await tell({ parts: () => ({ workflows: version(removed, dropped.step) }) }, async (story) => {
      const older = { ...story.engine.engine, owner: 'older' };
      const newer = { ...story.engine.engine, owner: 'newer', workflows: version(inserted, added.step) };
      const chance = seeded(seed);
      await story.engine.accept(testRelease({ serial: 1, soakSeconds: 0 }));
      await finish(story, [older, newer], chance);
      await story.engine.accept(testRelease({ serial: 2, soakSeconds: 0 }));
      await finish(story, [older, newer], chance);
      expect(await endOf(story)).toEqual({ states: ['retired', 'serving'], doubled: [], missing: [] });
      expect([...added.acted.values(), ...dropped.acted.values()].filter((times) => times !== 1)).toEqual([]);
    });
  });
}

it('a run whose last step this version dropped ends with the others’ receipts', async () => {
  const dropped = extraStep('dropped');
  const held: Gate = { name: 'held', ask: async () => no('Held', 'the test') };
  await tell({ parts: () => ({ workflows: version(LONGEST, { ...dropped.step, gates: [held] }) }) }, async (story) => {
    const older = story.engine.engine;
    const newer = { ...older, workflows: production };
    await story.engine.accept(testRelease({ serial: 1, soakSeconds: 0 }));
    await story.engine.driveTo(1, 'confirm-serving');
    expect((await endOf(story)).states).toEqual(['serving']);
    expect(await openRuns(story.pool)).toHaveLength(1);
    await finish(story, [newer], seeded(1));
    expect(dropped.acted.size).toBe(0);
    expect((await story.pool.query(`select 1 from events where event = 'rotation-finished'`)).rowCount).toBe(1);
  });
});

it('a run of a workflow that this version does not know is left to the others, and soon', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1, soakSeconds: 0 }));
    const { rotation } = await story.engine.known(1);
    const stranger = { ...story.engine.engine, workflows: [retireRevision] };
    for (let looks = 0; looks < 5; looks += 1) await lookAt(stranger, rotation);
    const looked = await lookAt(stranger, rotation);
    expect(looked).toMatchObject({ kind: 'resting', waitingFor: 'NotSupportedYet' });
    if (looked.kind === 'resting') expect(secondsBetween(await story.test.clock(), looked.nextRetryAt)).toBeLessThanOrEqual(2);
    await finish(story, [stranger, story.engine.engine], seeded(1));
    expect((await endOf(story)).states).toEqual(['serving']);
  });
});
