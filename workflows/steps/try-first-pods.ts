import type { TargetDocument } from '#src/domain/documents/release.ts';
import type { Json } from '#src/domain/json.ts';
import { targetName } from '#src/domain/release.ts';
import { later } from '#src/instant.ts';
import type { Cluster } from '#src/world.ts';
import { holdOf, isHeld, isTriedFirst } from '../hold-roll.ts';
import { attestedAmong, PODS_GOOD_SECONDS } from '../pods.ts';
import { askEach, requireAnswers, withoutOf } from '../reach.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { rotationOf } from '../template.ts';

/**
 * What came back from a revocation proves itself before the rest of its pods follow: while the roll is
 * held at its first disruption unit, an approved pod of each target attests and is given the key at the
 * new path, as the proxy saw it (Table 15, row 1). Of any other revision there is nothing to try.
 */
export const tryFirstPods: Effect = { kind: 'effect', name: 'try-first-pods', observe, act };

async function observe(look: Look): Promise<Seen | NotYet> {
  const { subject } = look;
  if (!isTriedFirst(subject)) return seen({ reinstated: false });
  const round = await askEach(look, subject.release.targets, async (target, cluster) => {
    const found = await cluster.object(target);
    return found === null ? null : { found, first: await attestedAmong(look, subject, target, cluster) };
  });
  const first: Record<string, Json> = {};
  for (const { target, value } of round.answered) {
    const name = targetName(target);
    if (value === null) return notYet('NotFound', name);
    if (rotationOf(value.found.object) !== subject.rotation) return notYet('TemplateOutdated', name);
    if (!isHeld(value.found)) return notYet('TemplateOutdated', `${name} does not hold its roll`);
    if (value.first.kind === 'bad') return notYet('FirstPodsNotAttested', `${name}: ${value.first.reason}: ${value.first.about}`);
    first[name] = value.first.value;
  }
  requireAnswers(round);
  return seen(
    { reinstated: true, rotation: subject.rotation, pathNumber: subject.pathNumber, first, ...withoutOf(round) },
    { goodUntil: later(look.now, PODS_GOOD_SECONDS) },
  );
}

/** Holds the roll again where somebody let it go. */
async function act(look: Look): Promise<void> {
  if (!isTriedFirst(look.subject)) return;
  const hold = async (target: TargetDocument, cluster: Cluster): Promise<void> => {
    const found = await cluster.object(target);
    const change = found === null ? null : holdOf(found);
    if (change !== null) await cluster.patch(target, change, look.ledger.mine(look.run));
  };
  const { failure } = await askEach(look, look.subject.release.targets, hold);
  if (failure !== null) throw failure;
}
