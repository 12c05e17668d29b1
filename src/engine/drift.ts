import { transaction } from '#state/database.ts';
import { countingSteps } from '#state/receipts-of-run.ts';
import { lockWorkload, readRun, workloads } from '#state/runs.ts';
import { reopen, targetOfWorkload } from '#state/targets.ts';
import type { Look, Workflow } from '#workflows/step.ts';
import { isFault } from '../errors.ts';
import { type Engine, makeLook } from './look.ts';

/**
 * A human's edit or a late patch took away what a receipt says is there: the target's adopt run is
 * reopened, so that it patches, moves and confirms again. Whatever is not the target names another on
 * purpose and is left alone. Returns what was gone; null: nothing was.
 */
export async function reopenDrifted(engine: Engine, workflow: Workflow, look: Look, done: ReadonlySet<string>): Promise<string | null> {
  if (look.target?.id !== look.subject.id) return null;
  for (const step of workflow.steps) {
    if (step.kind !== 'effect' || step.undoneReopens !== true || !done.has(step.name)) continue;
    const seen = await step.observe(look);
    if (seen.kind === 'seen') continue;
    const gone = `${step.name}: ${seen.about}`;
    await transaction(engine.pool, async (tx) => {
      await lockWorkload(tx, look.run.workload);
      const target = await targetOfWorkload(tx, look.run.workload);
      if (target?.id !== look.subject.id) return;
      await reopen(tx, look.run.workload, look.subject, gone);
      await engine.enlist(tx, look.run.id, null);
    });
    return gone;
  }
  return null;
}

/** `checkDrift` for every workload; a cluster that does not answer delays none of the others. */
export async function checkDrifts(engine: Engine): Promise<void> {
  for (const workload of await workloads(engine.pool)) {
    try {
      await checkDrift(engine, workload);
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      engine.log.warn({ workload, reason: thrown.reason, fault: thrown.message }, 'a template could not be looked at');
    }
  }
}

/** The same for a target whose adopt run has ended: nobody else looks at its template. */
export async function checkDrift(engine: Engine, workload: string): Promise<string | null> {
  const target = await targetOfWorkload(engine.pool, workload);
  const workflow = engine.workflows.find(({ name }) => name === 'adopt-revision');
  if (target === null || workflow === undefined || target.open.includes(workflow.name)) return null;
  const run = await readRun(engine.pool, target.rotation);
  if (run === null) return null;
  return reopenDrifted(engine, workflow, await makeLook(engine, run), await countingSteps(engine.pool, run.id));
}
