import { placedRevisions } from '#state/revisions.ts';
import { bootsOf } from '#workflows/pods.ts';
import { listening } from '#workflows/reach.ts';
import type { TargetDocument } from '../domain/documents/release.ts';
import { targetName } from '../domain/release.ts';
import { isFault } from '../errors.ts';
import type { Cluster, Pod } from '../world.ts';
import type { Engine } from './look.ts';

/** Targets whose pods are noted at once: a statement each would be most of the work, and all at the end would lose all where the process ends before. */
const NOTED_TOGETHER = 50;

/**
 * Notes which pods live now, at which addresses, for every revision that a KBS serves. A key that was
 * fetched is told from its address later, when the pod may be long gone: one that nobody ever saw
 * would hold the retirement of its key. A cluster that does not answer delays none of the others.
 */
export async function sightAll(engine: Engine): Promise<void> {
  const wanted = await placedRevisions(engine.pool, engine.loaders.release);
  const targets = new Map<string, TargetDocument>();
  for (const { release } of wanted) for (const target of release.targets) targets.set(targetName(target), target);
  const clusters = Map.groupBy(targets.values(), ({ cluster }) => cluster);
  await Promise.all([...clusters].map(([name, own]) => sightEach(engine, name, own)));
}

async function sightEach(engine: Engine, name: string, targets: readonly TargetDocument[]): Promise<void> {
  for (let from = 0; from < targets.length; from += NOTED_TOGETHER) {
    const cluster = clusterOf(engine, name);
    if (cluster === null) return;
    const boots = [];
    for (const target of targets.slice(from, from + NOTED_TOGETHER)) boots.push(...bootsOf(cluster, await listed(engine, cluster, target)));
    await engine.ledger.sighted(boots);
  }
}

/** null: the configuration has none of this name. */
function clusterOf(engine: Engine, name: string): Cluster | null {
  try {
    return listening(engine, name, () => undefined);
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    engine.log.warn({ cluster: name, reason: thrown.reason, fault: thrown.message }, 'pods could not be listed');
    return null;
  }
}

/** None where the cluster does not answer. */
async function listed({ log }: Engine, cluster: Cluster, target: TargetDocument): Promise<readonly Pod[]> {
  try {
    return await cluster.pods(target);
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    log.warn({ target: targetName(target), reason: thrown.reason, fault: thrown.message }, 'pods could not be listed');
    return [];
  }
}
