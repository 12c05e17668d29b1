import { ownersOf } from '#src/domain/pointer.ts';
import { targetName } from '#src/domain/release.ts';
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
 */
export const fieldsAreOurs: Gate = {
  name: 'fields-are-ours',
  ask: async ({ target, subject, world }) => {
    if (target === null) return no('Held', subject.release.workload);
    for (const place of target.release.targets) {
      const found = await world.cluster(place.cluster).object(place);
      if (found === null) return no('NotFound', targetName(place));
      for (const pointer of Object.keys(place.set)) {
        const other = ownersOf(found.managers, found.object, pointer).find(appliesAgain);
        if (other !== undefined) return no('FieldOwnedByOther', `${targetName(place)} ${pointer}: ${other.manager}`);
      }
    }
    return yes({ fields: Object.fromEntries(target.release.targets.map((place) => [targetName(place), Object.keys(place.set)])) });
  },
};

function appliesAgain({ manager, operation }: { readonly manager: string; readonly operation: string }): boolean {
  return manager !== OUR_MANAGER && (operation === 'Apply' || RECONCILERS.test(manager));
}
