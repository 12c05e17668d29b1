import type pg from 'pg';
import { clockOf } from '#state/database.ts';
import { freedBy, liftedBy, reinstatementOfRun } from '#state/reinstatements.ts';
import { knownRevision } from '#state/revisions.ts';
import { revokedOf } from '#state/revoked.ts';
import type { Enlist } from '#state/runs.ts';
import { targetOfWorkload } from '#state/targets.ts';
import type { Loaders } from '#state/want.ts';
import type { Look, Workflow } from '#workflows/step.ts';
import { liftBar, type Reinstatement } from '../domain/judge-reinstatement.ts';
import type { Reason } from '../domain/reasons.ts';
import type { Revocation } from '../domain/release.ts';
import type { Lifted, Revoked } from '../domain/revocation-run.ts';
import type { Run } from '../domain/run.ts';
import { Fault } from '../errors.ts';
import type { Ledger } from '../ledger.ts';
import type { Log } from '../log.ts';
import type { World } from '../world.ts';

/** What a look needs. A command opens the parts and puts them in this record. */
export interface Engine {
  readonly pool: pg.Pool;
  readonly world: World;
  readonly ledger: Ledger;
  readonly loaders: Loaders;
  readonly workflows: readonly Workflow[];
  /** Those whose subject is a revocation. */
  readonly emergencies: readonly Workflow<Revoked>[];
  /** An accepted revocation, its signatures verified again. Throws Fault('Tampered'). */
  readonly revocation: (digest: string) => Promise<Revocation>;
  /** The same of a reinstatement. */
  readonly reinstatement: (digest: string) => Promise<Reinstatement>;
  readonly enlist: Enlist;
  readonly log: Log;
  /** Names this process in `runs.owner`. */
  readonly owner: string;
  /** Workloads that a document holds, and why: their runs rest. */
  readonly held: () => Promise<ReadonlyMap<string, { readonly reason: Reason; readonly about: string }>>;
}

/** Everything that a step or a gate may see, read anew. Throws Error for a run that is about no revision. */
export async function makeLook(engine: Engine, run: Run): Promise<Look> {
  const { pool, world, ledger, loaders } = engine;
  if (run.subject.kind !== 'revision') throw new Error(`${run.workflow} ${run.id} is about no revision`);
  const now = await clockOf(pool)();
  const subject = await knownRevision(pool, run.subject.revision, loaders.release);
  const target = await targetOfWorkload(pool, run.workload);
  if (target === null || target.id === subject.id) return { run, now, subject, target: target === null ? null : subject, world, ledger };
  return { run, now, subject, target: await knownRevision(pool, target.id, loaders.release), world, ledger };
}

/** The same for a run that is about a revocation, of which no one target is asked. */
export async function makeRevokedLook(engine: Engine, run: Run): Promise<Look<Revoked>> {
  const { pool, world, ledger, loaders, revocation } = engine;
  if (run.subject.kind !== 'revocation') throw new Error(`${run.workflow} ${run.id} is about no revocation`);
  const now = await clockOf(pool)();
  const revoked = await revokedOf(pool, run.id, await revocation(run.subject.revocation), loaders.release);
  const subject = run.workflow === 'reinstate' ? { ...revoked, lift: await liftedOf(engine, run, revoked) } : revoked;
  return { run, now, subject, target: null, world, ledger };
}

/** What a reinstate run takes back, its document verified again. Throws Fault('Tampered') where it names another revocation, or one that is not lifted. */
async function liftedOf({ pool, reinstatement: load }: Engine, { id }: Run, { revocation, revisions }: Revoked): Promise<Lifted> {
  const reinstatement = await load(await reinstatementOfRun(pool, id));
  if (reinstatement.revocation !== revocation.id || liftBar(reinstatement.path, revocation) !== null)
    throw new Fault('Tampered', `runs: ${id} would lift ${revocation.path} by ${reinstatement.path}`);
  const ids = await freedBy(pool, revocation.digest);
  return { reinstatement, frees: revisions.filter((known) => ids.includes(known.id)), entries: await liftedBy(pool, reinstatement.digest) };
}
