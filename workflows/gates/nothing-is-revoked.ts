import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Known, Revocation } from '#src/domain/release.ts';
import type { World } from '#src/world.ts';
import { placesOf } from '../places.ts';
import { type Gate, no, yes } from '../step.ts';

/** No committed revocation touches the revision: neither one of our rows nor, should rows be wrong, one at the branch's tip. */
export const nothingIsRevoked: Gate = {
  name: 'nothing-is-revoked',
  ask: async ({ subject, world }) => {
    if (subject.revoked) return no('Revoked', subject.rotation);
    const revocations = await world.documents.revocations();
    const touching = revocations.find((revocation) => touches(revocation, subject, world));
    return touching === undefined ? yes({ revocations: revocations.length }) : no('Revoked', touching.path);
  },
};

/** Whether a revocation names a revision, or holds it because it cannot be carried out yet. */
export function touches(revocation: Revocation, known: Known, world: World): boolean {
  const { subject } = revocation;
  const { release } = known;
  switch (subject.kind) {
    case 'all':
      return true;
    case 'workload':
      return subject.workload === release.workload;
    case 'release':
      return subject.workload === release.workload && known.serials.includes(subject.serial);
    case 'key':
      return keyTouches(subject, known, world);
    // What follows cannot be carried out yet, so it holds whatever it could mean.
    case 'target':
      return release.targets.some(({ cluster, namespace, name }) => cluster === subject.cluster && namespace === subject.namespace && name === subject.name);
    case 'reference-value':
      return Object.values(release.guests).some(
        ({ platform, referenceValues: values }) =>
          // A name is anybody's: `constructor` is no list.
          platform !== undefined || (Object.hasOwn(values, subject.name) && values[subject.name]?.includes(subject.value) === true),
      );
    case 'signer':
      return release.approvedBy.includes(subject.person);
    case 'device':
      return true;
  }
}

function keyTouches(subject: Extract<RevocationSubject, { kind: 'key' }>, known: Known, world: World): boolean {
  if ('path' in subject) return placesOf(world, known).some((place) => place.path === subject.path);
  if ('keyId' in subject) return known.sealing.facts.keyId === subject.keyId;
  return known.sealing.workload === subject.workload && known.sealing.epoch === subject.epoch;
}
