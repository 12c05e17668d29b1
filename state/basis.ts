import { addedTargets, amends } from '#src/domain/amendment.ts';
import type { Basis } from '#src/domain/plan.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Known, Release } from '#src/domain/release.ts';
import { newestFirst, targetOf } from '#src/domain/target.ts';
import type { Db } from './database.ts';
import { knownRevisions, type LoadRelease } from './revisions.ts';
import { revokedBy } from './revocations.ts';
import { lockSealing } from './sealings.ts';

/** What a release rests on, once it is accepted. */
export type Resting =
  | {
      readonly kind: 'found';
      readonly basis: Basis;
      /** The revision that it only amends, and the targets that it adds there; null: it becomes a revision of its own. */
      readonly amended: { readonly revision: number; readonly added: readonly string[] } | null;
    }
  | { readonly kind: 'waiting' | 'refused'; readonly reason: Reason; readonly about: string };

/** A release from plaintext: nothing of ours is under it. */
export const PLAINTEXT: Extract<Resting, { kind: 'found' }> = { kind: 'found', basis: { kind: 'new', source: null }, amended: null };

/**
 * Which sealing a `keep` or `reencrypt` release names, in the transaction that accepts it and under a
 * lock on that sealing's row, which a retirement takes too: one that is taken is never kept
 * (`SealingRetired`), and one that is kept is never taken. Call it after the brokers are locked.
 */
export async function basisOf(tx: Db, loadRelease: LoadRelease, release: Release): Promise<Resting> {
  const { source, from } = release.artifact;
  if (source !== 'keep' && source !== 'reencrypt') return PLAINTEXT;
  const known = [...(await knownRevisions(tx, { workload: release.workload }, loadRelease))].sort(newestFirst);
  const serial = from ?? known[0]?.release.serial ?? null;
  const named = known.filter(({ serials }) => serial !== null && serials.includes(serial));
  if (named.length === 0) return misfit(release, 'refused', 'NotFound', 'from', `${serial ?? 'the last accepted release'}: no such release was accepted`);
  const standing = await notTaken(tx, named);
  if (standing === null) return misfit(release, 'refused', 'SealingRetired', 'from', `the key of serial ${serial} is retired`);
  const { sealing } = standing;
  if (sealing.facts.ciphertextDigest === undefined) return misfit(release, 'waiting', 'CiphertextMissing', 'from', `serial ${serial} is not sealed yet`);
  const wrong = source === 'keep' ? (keptOtherwise(release, standing) ?? opensOtherwise(release, standing)) : opensOtherwise(release, standing);
  if (wrong !== null) return wrong;
  if (source === 'reencrypt') return { kind: 'found', basis: { kind: 'new', source: sealing.id }, amended: null };
  return { kind: 'found', basis: { kind: 'keep', id: sealing.id }, amended: await amendedBy(tx, release, known, sealing.id) };
}

/** The newest of these whose sealing stands. All of them are locked first, by id: what is read after that stays so. */
async function notTaken(tx: Db, named: readonly Known[]): Promise<Known | null> {
  const taken = new Map<number, boolean>();
  for (const id of [...new Set(named.map(({ sealing }) => sealing.id))].sort((a, b) => a - b)) taken.set(id, (await lockSealing(tx, id)).taken);
  return named.find(({ sealing }) => taken.get(sealing.id) === false) ?? null;
}

/** A kept key stays in its store, and a kept ciphertext where it is. */
function keptOtherwise(release: Release, { release: kept, sealing }: Known): Resting | null {
  const { artifact, key } = release;
  if (key.store !== kept.key.store) return misfit(release, 'refused', 'Malformed', 'key.store', `expected ${kept.key.store}, where the kept key is`);
  if (artifact.codec !== kept.artifact.codec) return misfit(release, 'refused', 'Malformed', 'codec', `expected ${kept.artifact.codec}, as it was sealed`);
  const stores = sealing.facts.stores ?? [];
  const other = artifact.stores.find((store) => !stores.includes(store));
  return other === undefined ? null : misfit(release, 'refused', 'Malformed', 'stores', `expected some of ${stores.join(', ')}, where the ciphertext is`);
}

function opensOtherwise(release: Release, { sealing }: Known): Resting | null {
  const { plaintextManifest } = release.artifact;
  const sealed = sealing.facts.plaintextManifest;
  if (plaintextManifest === null || plaintextManifest === sealed) return null;
  return misfit(release, 'refused', 'Malformed', 'plaintextManifest', `expected null or ${sealed}, which was sealed`);
}

/** One that a revocation forbids already amends nothing: it becomes a revision that is revoked, and the present one goes on. */
async function amendedBy(tx: Db, release: Release, known: readonly Known[], sealing: number): Promise<Extract<Resting, { kind: 'found' }>['amended']> {
  const target = targetOf(known);
  if (target === null || target.id !== known[0]?.id || target.sealing.id !== sealing || !amends(target, release)) return null;
  const { workload, serial } = release;
  if ((await revokedBy(tx, { workload, serial, epoch: target.sealing.epoch })) !== null) return null;
  return { revision: target.id, added: addedTargets(target.release, release) };
}

function misfit(release: Release, kind: 'waiting' | 'refused', reason: Reason, field: string, about: string): Resting {
  const path = field.includes('.') ? field : `artifact.${field}`;
  return { kind, reason, about: `${release.path}: ${path}: ${about}` };
}
