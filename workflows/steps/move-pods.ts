import { isTriedFirst, releaseOf } from '../hold-roll.ts';
import { lookAtPods } from '../pods.ts';
import { askEach } from '../reach.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** Every pod of every target runs the revision, was attested on its measurement, and has fetched its key. */
export const movePods: Effect = { kind: 'effect', name: 'move-pods', observe, act };

async function observe(look: Look): Promise<Seen | NotYet> {
  const pods = await lookAtPods(look, look.subject);
  if (pods.kind === 'bad') return notYet(pods.reason, pods.about);
  return seen(pods.evidence, { facts: { boots: pods.boots }, goodUntil: pods.goodUntil });
}

/**
 * Lets a roll go on that was held for its first pods. Of any other nothing: the patch of a Deployment is
 * its roll. Its own controller replaces pod by pod, within the `maxUnavailable` that preflight-passes has
 * checked; deleting pods beside it would take more away.
 */
async function act(look: Look): Promise<void> {
  if (!isTriedFirst(look.subject)) return;
  const { failure } = await askEach(look, look.subject.release.targets, async (target, cluster) => {
    const found = await cluster.object(target);
    const change = found === null ? null : releaseOf(found);
    if (change !== null) await cluster.patch(target, change, look.ledger.mine(look.run));
  });
  if (failure !== null) throw failure;
}
