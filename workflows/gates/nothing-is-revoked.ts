import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { guestWithoutValue } from '#src/domain/lost-value.ts';
import type { Known, Release, Revocation } from '#src/domain/release.ts';
import { fieldWithRevoked, type IsRevokedValue, isTargetRevoked, revokedValues } from '#src/domain/revoked.ts';
import type { World } from '#src/world.ts';
import { placesOf } from '../places.ts';
import { type Gate, no, yes } from '../step.ts';

/**
 * No committed revocation touches the revision: neither one of our rows nor, should rows be wrong, one at
 * the branch's tip. What only an acceptance can work out holds, until it is accepted, whatever it could mean.
 */
export const nothingIsRevoked: Gate = {
  name: 'nothing-is-revoked',
  ask: async ({ subject, world }) => {
    if (subject.revoked) return no('Revoked', subject.rotation);
    const revocations = await world.documents.revocations();
    for (const revocation of revocations) if (await touches(revocation, subject, world)) return no('Revoked', revocation.path);
    return yes({ revocations: revocations.length });
  },
};

/** Whether a revocation names a revision, or holds it because it cannot be carried out yet. */
export async function touches({ subject, digest }: Revocation, known: Known, world: World): Promise<boolean> {
  const { release } = known;
  const isAhead = async (): Promise<boolean> => !(await world.documents.isTakenIn(digest));
  switch (subject.kind) {
    case 'all':
      return true;
    case 'workload':
      return subject.workload === release.workload;
    case 'release':
      return subject.workload === release.workload && known.serials.includes(subject.serial);
    case 'key':
      return keyTouches(subject, known, world);
    // What already serves goes on without the target; what would still be rolled is approved without it first.
    case 'target':
      return release.targets.some((target) => isTargetRevoked(target, [subject]));
    case 'reference-value':
      return isWithoutValue(release, subject) || (couldList(release, subject) && (await isAhead()));
    case 'signer':
      return release.approvedBy.includes(subject.person) && (await isAhead());
    case 'device':
      return isAhead();
  }
}

type RevokedValue = Extract<RevocationSubject, { kind: 'reference-value' }>;

/** Which values a platform gives is not in the release: of one that names a platform its acceptance says it. */
function isWithoutValue(release: Release, subject: RevokedValue): boolean {
  return !namesPlatform(release) && guestWithoutValue(release, [], isValue(subject)) !== null;
}

function couldList(release: Release, subject: RevokedValue): boolean {
  return namesPlatform(release) || fieldWithRevoked(release, isValue(subject)) !== null;
}

function isValue(subject: RevokedValue): IsRevokedValue {
  return revokedValues([subject]) ?? (() => false);
}

function namesPlatform({ guests }: Release): boolean {
  return Object.values(guests).some(({ platform }) => platform !== undefined);
}

function keyTouches(subject: Extract<RevocationSubject, { kind: 'key' }>, known: Known, world: World): boolean {
  if ('path' in subject) return placesOf(world, known).some((place) => place.path === subject.path);
  if ('keyId' in subject) return known.sealing.facts.keyId === subject.keyId;
  return known.sealing.workload === subject.workload && known.sealing.epoch === subject.epoch;
}
