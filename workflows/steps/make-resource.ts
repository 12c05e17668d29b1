import { Fault } from '#src/errors.ts';
import { isShared, placesOf } from '../places.ts';
import { resourceDigestOf, unwrapSealing, wrapResource } from '../resource.ts';
import { type Decision, type Look, type NotYet, type Seen, seen } from '../step.ts';

/**
 * The bytes that guests will fetch, drawn by us once, wrapped, signed, and kept before anything is
 * sent: a second look that drew others would leave a path whose bytes open nothing (R10). A revision
 * that keeps a sealing gives the same bytes to its guests, at its own path and wrapped anew.
 */
export const makeResource: Decision = { kind: 'decision', name: 'make-resource', decide };

async function decide(look: Look): Promise<Seen | NotYet> {
  const { subject, world } = look;
  const { sealing, release } = subject;
  const { keyId } = sealing.facts;
  if (keyId === undefined) throw new Fault('Tampered', `create-key of ${subject.rotation} has a receipt, but no key`);
  using key = isShared(subject) ? await unwrapSealing(look, sealing) : world.weights.newKey(release.artifact.codec);
  const paths = [...new Set(placesOf(world, subject).map((place) => place.path))];
  const keep = await Promise.all(paths.map((path) => wrapResource(world, subject, keyId, path, key)));
  const rows = keep.map((row) => ({ path: row.path, digest: row.digest }));
  return seen(
    { store: release.key.store, keyId, rows, ...(isShared(subject) ? { bytesOf: sealing.rotation } : {}) },
    { facts: { resourceDigest: resourceDigestOf(keep) }, keep },
  );
}
