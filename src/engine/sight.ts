import { knownRevisions } from '#state/revisions.ts';
import { sightPods } from '#workflows/pods.ts';
import { listening } from '#workflows/reach.ts';
import type { TargetDocument } from '../domain/documents/release.ts';
import { targetName } from '../domain/release.ts';
import { isFault } from '../errors.ts';
import type { Engine } from './look.ts';

/**
 * Notes which pods live now, at which addresses, for every revision that a KBS serves. A key that was
 * fetched is told from its address later, when the pod may be long gone: one that nobody ever saw
 * would hold the retirement of its key. A cluster that does not answer delays none of the others.
 */
export async function sightAll(engine: Engine): Promise<void> {
  const wanted = await knownRevisions(engine.pool, { wanted: true }, engine.loaders.release);
  const targets = new Map<string, TargetDocument>();
  for (const { release } of wanted) for (const target of release.targets) targets.set(targetName(target), target);
  const clusters = Map.groupBy(targets.values(), ({ cluster }) => cluster);
  await Promise.all([...clusters.values()].map((own) => sightEach(engine, own)));
}

async function sightEach(engine: Engine, targets: readonly TargetDocument[]): Promise<void> {
  for (const target of targets) {
    try {
      const cluster = listening(engine, target.cluster, () => undefined);
      await sightPods(cluster, engine.ledger, target);
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      engine.log.warn({ target: targetName(target), reason: thrown.reason, fault: thrown.message }, 'pods could not be listed');
    }
  }
}
