import type { TargetDocument } from '#src/domain/documents/release.ts';
import type { Json } from '#src/domain/json.ts';
import { type Known, targetName } from '#src/domain/release.ts';
import { later } from '#src/instant.ts';
import { fieldsAreOurs } from '../gates/fields-are-ours.ts';
import { nobodyFetchesOld } from '../gates/nobody-fetches-old.ts';
import { targetIsServing } from '../gates/target-is-serving.ts';
import { workloadIsAttested } from '../gates/workload-is-attested.ts';
import { PODS_GOOD_SECONDS } from '../pods.ts';
import { type Decision, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { ROTATION_ANNOTATION, rotationOf } from '../template.ts';

/**
 * The commit point: after it the revision never returns (R18). A second, fresh look: no pod has its
 * spec, in any phase. A pod that is down for a restart runs nothing and still needs its key (R13).
 */
export const retire: Decision = {
  kind: 'decision',
  name: 'retire',
  gates: [targetIsServing, workloadIsAttested, fieldsAreOurs, nobodyFetchesOld],
  moves: 'retired',
  decide,
};

async function decide(look: Look): Promise<Seen | NotYet> {
  const { subject, target } = look;
  if (target === null) return notYet('Held', subject.release.workload);
  const found: Record<string, Json> = {};
  for (const place of subject.release.targets) {
    const pods = await unusedAt(look, place, target);
    if (typeof pods !== 'number' && pods !== null) return pods;
    found[targetName(place)] = pods === null ? 'gone' : { pods };
  }
  return seen({ target: target.rotation, objects: found }, { goodUntil: later(look.now, PODS_GOOD_SECONDS) });
}

/** How many pods there are, none of them this revision's; null: the object is gone. */
async function unusedAt(look: Look, place: TargetDocument, target: Known): Promise<number | null | NotYet> {
  const cluster = look.world.cluster(place.cluster);
  const found = await cluster.object(place);
  if (found === null) return null;
  const name = targetName(place);
  const named = rotationOf(found.object);
  // An object that the target no longer lists keeps naming the old revision until somebody removes it.
  const wanted = target.release.targets.some((other) => targetName(other) === name);
  if (wanted && named !== target.rotation) return notYet('TemplateOutdated', name);
  if (named === look.subject.rotation) return notYet('OldRevisionInUse', `${name} names it`);
  const pods = await cluster.pods(place);
  const old = pods.find((pod) => pod.annotations[ROTATION_ANNOTATION] === look.subject.rotation);
  return old === undefined ? pods.length : notYet('OldRevisionInUse', `${name} ${old.name}`);
}
