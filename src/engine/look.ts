import type pg from 'pg';
import { clockOf } from '#state/database.ts';
import { knownRevision } from '#state/revisions.ts';
import type { Enlist } from '#state/runs.ts';
import { targetOfWorkload } from '#state/targets.ts';
import type { Loaders } from '#state/want.ts';
import type { Look, Workflow } from '#workflows/step.ts';
import type { Reason } from '../domain/reasons.ts';
import type { Run } from '../domain/run.ts';
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
  readonly enlist: Enlist;
  readonly log: Log;
  /** Names this process in `runs.owner`. */
  readonly owner: string;
  /** Workloads that a document holds, and why: their runs rest. */
  readonly held: () => Promise<ReadonlyMap<string, { readonly reason: Reason; readonly about: string }>>;
}

/** Everything that a step or a gate may see, read anew. */
export async function makeLook(engine: Engine, run: Run): Promise<Look> {
  const { pool, world, ledger, loaders } = engine;
  const now = await clockOf(pool)();
  const subject = await knownRevision(pool, run.subject.kind === 'revision' ? run.subject.revision : -1, loaders.release);
  const target = await targetOfWorkload(pool, run.workload);
  return { run, now, subject, target: target === null ? null : await knownRevision(pool, target.id, loaders.release), world, ledger };
}
