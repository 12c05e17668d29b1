import type { TargetDocument } from '#src/domain/documents/release.ts';
import { ownersOf } from '#src/domain/pointer.ts';
import { targetName } from '#src/domain/release.ts';
import type { Cluster } from '#src/world.ts';
import { askEach, requireSome, withoutOf } from '../reach.ts';
import { type Gate, no, yes } from '../step.ts';

/** As the Kubernetes adapter names itself. */
const OUR_MANAGER = 'keyturn';

/**
 * Those who put their manifest back without being asked and write by Update, not by server-side
 * apply: Argo CD's client-side sync, Helm up to 3, Flux's Helm controller, Fleet. Whoever uses
 * server-side apply is told by the operation.
 */
const RECONCILERS = /^(?:argocd|argo-cd|helm|flux|kustomize-controller|fleet)/;

/**
 * Nobody else applies a field that the target's release sets: it would put the old key's name back.
 * Somebody who once created the object, or edited it by hand, does not count: our write takes the field over.
 * Asked of every cluster that answers; where one has to, another gate or the step itself says so.
 */
export const fieldsAreOurs: Gate = {
  name: 'fields-are-ours',
  ask: async (look) => {
    const { target, subject } = look;
    if (target === null) return no('Held', subject.release.workload);
    const round = await askEach(look, target.release.targets, ownerAt);
    for (const { target: place, value: owner } of round.answered) {
      if (owner === null) return no('NotFound', targetName(place));
      if (owner !== 'ours') return no('FieldOwnedByOther', `${targetName(place)} ${owner.pointer}: ${owner.manager}`);
    }
    requireSome(round);
    return yes({ fields: Object.fromEntries(round.answered.map(({ target: place }) => [targetName(place), Object.keys(place.set)])), ...withoutOf(round) });
  },
};

/** Who else applies a field that a target sets; null: there is no such object. Throws Fault. */
export async function ownerAt(place: TargetDocument, cluster: Cluster): Promise<{ readonly pointer: string; readonly manager: string } | 'ours' | null> {
  const found = await cluster.object(place);
  if (found === null) return null;
  for (const pointer of Object.keys(place.set)) {
    const other = ownersOf(found.managers, found.object, pointer).find(appliesAgain);
    if (other !== undefined) return { pointer, manager: other.manager };
  }
  return 'ours';
}

/** Whether this manager puts its manifest back without being asked. */
export function appliesAgain({ manager, operation }: { readonly manager: string; readonly operation: string }): boolean {
  return manager !== OUR_MANAGER && (operation === 'Apply' || RECONCILERS.test(manager));
}
