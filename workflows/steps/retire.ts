import type { TargetDocument } from '#src/domain/documents/release.ts';
import type { Json } from '#src/domain/json.ts';
import { type Known, targetName } from '#src/domain/release.ts';
import { later } from '#src/instant.ts';
import type { Cluster } from '#src/world.ts';
import { fieldsAreOurs } from '../gates/fields-are-ours.ts';
import { nobodyFetchesOld } from '../gates/nobody-fetches-old.ts';
import { targetIsServing } from '../gates/target-is-serving.ts';
import { workloadIsAttested } from '../gates/workload-is-attested.ts';
import { PODS_GOOD_SECONDS } from '../pods.ts';
import { askEach, asTargetSays, withoutOf } from '../reach.ts';
import { type Decision, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { ROTATION_ANNOTATION, rotationOf } from '../template.ts';

/**
 * The commit point: after it the revision never returns (R18). A second, fresh look: no pod has its
 * spec, in any phase. A pod that is down for a restart runs nothing and still needs its key (R13). Where
 * a cluster does not answer nobody can look; how long it is waited for is the release's to say, and
 * the receipt names it: a pod of the old spec that restarts there finds no key until it is patched.
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
  const places = subject.release.targets.map((place) => asTargetSays(target, place));
  const round = await askEach(look, places, (place, cluster) => unusedAt(look, { place, cluster }, target));
  for (const { target: place, value: pods } of round.answered) {
    if (typeof pods !== 'number' && pods !== null) return pods;
    found[targetName(place)] = pods === null ? 'gone' : { pods };
  }
  if (round.failure !== null) throw round.failure;
  return seen({ target: target.rotation, objects: found, ...withoutOf(round) }, { goodUntil: later(look.now, PODS_GOOD_SECONDS) });
}

/** How many pods there are, none of them this revision's; null: the object is gone. */
async function unusedAt(
  look: Look,
  { place, cluster }: { readonly place: TargetDocument; readonly cluster: Cluster },
  target: Known,
): Promise<number | null | NotYet> {
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
