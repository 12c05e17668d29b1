import type pg from 'pg';
import { digestOf } from '#src/digest.ts';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Reinstatement } from '#src/domain/judge-reinstatement.ts';
import type { Revocation } from '#src/domain/release.ts';
import { makeLook } from '#src/engine/look.ts';
import { readRun } from '#state/runs.ts';
import type { Look } from '#workflows/step.ts';
import { withDatabase } from '../postgres.ts';
import { openTestWorld, type TestWorld, type TestWorldOptions } from '../world.ts';
import { type EngineParts, openTestEngine, type TestEngine } from './engine.ts';

/** All that a test plays with. */
export interface Story {
  readonly pool: pg.Pool;
  readonly test: TestWorld;
  readonly engine: TestEngine;
}

/** A story's world, and parts of its engine. The parts may be made from the world. */
export interface StoryOptions extends TestWorldOptions {
  readonly parts?: (test: TestWorld, story: () => Story) => EngineParts;
}

/** A test on a database and a world of its own, with one Deployment `chat` whose template names no key. */
export async function tell(options: StoryOptions, fn: (story: Story) => Promise<void>): Promise<void> {
  await withDatabase(async (pool) => {
    const test = await openTestWorld(pool, options);
    const made: { story: Story | null } = { story: null };
    const parts = options.parts?.(test, () => {
      if (made.story === null) throw new Error('the story has not begun');
      return made.story;
    });
    const engine = await openTestEngine(pool, test, parts);
    made.story = { pool, test, engine };
    test.cluster.add();
    await fn(made.story);
  });
}

/** A look at a revision's run as the engine would make it now, without a claim. */
export async function lookOf({ pool, engine }: Story, serial: number, workflow = 'adopt-revision'): Promise<Look> {
  const known = await engine.known(serial);
  const { rows } = await pool.query<{ id: string }>('select id from runs where revision = $1 and workflow = $2', [known.id, workflow]);
  const run = await readRun(pool, rows[0]?.id ?? '');
  if (run === null) throw new Error(`no run ${workflow} of serial ${serial}`);
  return makeLook(engine.engine, run);
}

/** A checked revocation. */
export function testRevocation(subject: RevocationSubject, id = `revoke-${JSON.stringify(subject).length}`): Revocation {
  const document = {
    apiVersion: 'keyturn.dev/v1alpha1' as const,
    kind: 'Revocation' as const,
    id,
    subject,
    reason: 'keyCompromise' as const,
    why: 'a test',
    evict: false,
    destroy: false,
    recovery: 'none',
  };
  return { ...document, digest: digestOf(JSON.stringify(document)), path: `revocations/${id}.yaml`, approvedBy: ['rex'], signatures: [] };
}

/** The same, of a reason that may be lifted. */
export function testSuspension(subject: RevocationSubject, id: string): Revocation {
  const revocation = { ...testRevocation(subject, id), reason: 'certificateHold' as const };
  return { ...revocation, digest: digestOf(JSON.stringify(revocation)) };
}

/** A checked reinstatement of it. */
export function testReinstatement({ id: revocation }: Revocation): Reinstatement {
  const id = `lift-${revocation}`;
  const document = { apiVersion: 'keyturn.dev/v1alpha1' as const, kind: 'Reinstatement' as const, id, revocation, justification: 'a false alarm' };
  return { ...document, digest: digestOf(JSON.stringify(document)), path: `reinstatements/${id}.yaml`, approvedBy: ['ada', 'bo'], signatures: [] };
}

/** The serials whose paths the installed policy grants; `allow` and `deny` where somebody else's is installed. */
export function granted({ test }: Story): readonly number[] | string {
  const { policy } = test.kbs;
  return typeof policy === 'string' ? policy : policy.grants.flatMap((grant) => grant.paths.map(serialOf)).sort();
}

/** The serials whose keys are stored in the KBS. */
export function stored({ test }: Story): readonly number[] {
  return [...test.kbs.resources.keys()].map(serialOf).sort();
}

/** The serial in one of our paths. */
export function serialOf(path: string): number {
  return Number(/\/s(\d+)-/.exec(path)?.[1]);
}

/** The rotation that a Deployment's template names; undefined: none. */
export async function templateRotation({ test }: Story, name = 'chat'): Promise<string | undefined> {
  const found = await test.cluster.object({ cluster: 'east', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name });
  const object = found?.object as { spec: { template: { metadata: { annotations: Record<string, string> } } } } | undefined;
  return object?.spec.template.metadata.annotations['keyturn.dev/rotation'];
}
