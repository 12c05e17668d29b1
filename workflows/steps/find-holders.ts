import { targetName } from '#src/domain/release.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { type Decision, type Look, type Seen, seen } from '../step.ts';
import { ROTATION_ANNOTATION } from '../template.ts';
import { objectsOf } from './touch-objects.ts';

/**
 * Who may hold what was revoked: every pod, in any phase, that was made from a revoked revision's
 * template. Listed once it is refused, so that nobody joins them afterwards: a pod that starts later got no key.
 */
export const findHolders: Decision<Revoked> = { kind: 'decision', name: 'find-holders', decide };

async function decide({ subject, world }: Look<Revoked>): Promise<Seen> {
  const rotations = new Set(subject.revisions.map(({ rotation }) => rotation));
  const holders: Record<string, readonly string[]> = {};
  for (const target of objectsOf(subject)) {
    const cluster = world.cluster(target.cluster);
    const pods = (await cluster.object(target)) === null ? [] : await cluster.pods(target);
    holders[targetName(target)] = pods.filter(({ annotations }) => rotations.has(annotations[ROTATION_ANNOTATION] ?? '')).map(({ uid }) => uid);
  }
  return seen({ holders }, { facts: { holders } });
}
