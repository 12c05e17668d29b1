import { jsonOf } from '#src/domain/json.ts';
import type { Wrapped } from '#src/domain/kbs.ts';
import type { Known } from '#src/domain/release.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { Fault } from '#src/errors.ts';
import { touches } from '../gates/nothing-is-revoked.ts';
import { placesOf, revisionName } from '../places.ts';
import { unwrapSealing, wrapResource } from '../resource.ts';
import { type Decision, type Look, liftedOf, type NotYet, notYet, type Seen, seen } from '../step.ts';

/**
 * The revocation is lifted: what no other one holds has its next path, with the same bytes wrapped anew
 * for it, and is *live* again where it ever was. What another revocation holds stays revoked, whichever
 * came first; Git is asked once more for one that no row knows yet. Who approved it, and why, is the receipt's.
 */
export const liftRevocation: Decision<Revoked> = { kind: 'decision', name: 'lift-revocation', lifts: true, decide };

async function decide(look: Look<Revoked>): Promise<Seen | NotYet> {
  const { reinstatement, frees } = liftedOf(look);
  const { revocation, revisions } = look.subject;
  const others = (await look.world.documents.revocations()).filter(({ digest }) => digest !== revocation.digest);
  for (const other of others) {
    for (const known of frees) if (await touches(other, known, look.world)) return notYet('Revoked', other.path);
  }
  const keep: Wrapped[] = [];
  for (const known of frees) keep.push(...(await rowsOf(look, known)));
  const stay = revisions.filter(({ id, revoked }) => revoked && !frees.some((known) => known.id === id));
  const evidence = {
    ...{
      reinstatement: reinstatement.id,
      document: reinstatement.digest,
      justification: reinstatement.justification,
      approvedBy: [...reinstatement.approvedBy],
      signatures: jsonOf(reinstatement.signatures),
    },
    ...{ revocation: revocation.id, subject: jsonOf(revocation.subject), reason: revocation.reason },
    freed: frees.map((known) => ({
      rotation: known.rotation,
      revision: revisionName(known),
      pathNumber: known.pathNumber + 1,
      keyId: known.sealing.facts.keyId ?? null,
    })),
    stayRevoked: stay.map(revisionName),
    rows: keep.map(({ path, digest }) => ({ path, digest })),
  };
  const reinstated = Object.fromEntries(frees.map(({ rotation, pathNumber }) => [rotation, pathNumber + 1]));
  return seen(evidence, { facts: { reinstated }, keep });
}

/** The bytes of its guests for its next path. One that had none yet makes them there itself. */
async function rowsOf(look: Look<Revoked>, known: Known): Promise<readonly Wrapped[]> {
  if (known.at['make-resource'] === undefined) return [];
  const { keyId } = known.sealing.facts;
  if (keyId === undefined) throw new Fault('Tampered', `create-key of ${known.rotation} has a receipt, but no key`);
  const next = { ...known, pathNumber: known.pathNumber + 1 };
  using key = await unwrapSealing({ ...look, subject: known, target: null }, known.sealing);
  const paths = [...new Set(placesOf(look.world, next).map(({ path }) => path))];
  return Promise.all(paths.map((path) => wrapResource(look.world, next, keyId, path, key)));
}
