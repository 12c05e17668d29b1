import type { Json } from '#src/domain/json.ts';
import { targetName } from '#src/domain/release.ts';
import { earliest, type Instant } from '#src/instant.ts';
import { askEach, requireSome } from '../reach.ts';
import { type Gate, no, yes } from '../step.ts';
import { type Leave, leaveToMove } from '../windows.ts';

/**
 * Pods may be moved in at least one cluster where they have to be: one of its windows is open, or none
 * is set. Clusters whose windows never overlap are moved one after the other, so that the act asks
 * again for each target. For whatever moves pods itself and does not leave it to a Deployment, this is the gate.
 */
export const windowIsOpen: Gate = {
  name: 'window-is-open',
  ask: async (look) => {
    const told: Record<string, Json> = {};
    const closed: { readonly cluster: string; readonly opensAt: Instant | null }[] = [];
    let mayMove = false;
    const round = await askEach(look, look.subject.release.targets, async (target, cluster) => {
      const found = await cluster.object(target);
      return found === null ? null : leaveToMove(look, target, found);
    });
    for (const { target, value: leave } of round.answered) {
      if (leave === null) return no('NotFound', targetName(target));
      told[targetName(target)] = evidenceOf(leave);
      if (leave.kind === 'later') closed.push({ cluster: target.cluster, opensAt: leave.opensAt });
      else if (leave.why !== 'in-order') mayMove = true;
    }
    requireSome(round);
    if (closed.length === 0 || mayMove) return yes({ targets: told });
    const lookAt = earliest(closed.map(({ opensAt }) => opensAt));
    const about = [...new Map(closed.map((one) => [one.cluster, one])).values()].map(aboutClosed);
    return no('WindowClosed', about.join('; '), lookAt);
  },
};

/** Which cluster, and until when it is waited for, in the words of a log line. */
function aboutClosed({ cluster, opensAt }: { readonly cluster: string; readonly opensAt: Instant | null }): string {
  return opensAt === null ? `${cluster} opens no more` : `${cluster} opens at ${opensAt}`;
}

function evidenceOf(leave: Leave): Json {
  if (leave.kind === 'later') return { opensAt: leave.opensAt };
  return leave.why === 'open' ? { open: true, until: leave.until } : { why: leave.why };
}
