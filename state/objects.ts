import type { TargetDocument } from '#src/domain/documents/release.ts';
import { type Release, targetName } from '#src/domain/release.ts';
import type { Refusal } from '#src/domain/want.ts';
import type { Db } from './database.ts';
import { knownRevisions, type LoadRelease } from './revisions.ts';

/**
 * Keeps still, to the end of the transaction, which workload moves which object: two releases that are
 * accepted at once may name the same one and no KBS together. Taken after the brokers.
 */
export async function lockObjects(tx: Db): Promise<void> {
  await tx.query(`select pg_advisory_xact_lock(hashtextextended('objects', 0))`);
}

/**
 * Whether a release names an object that another workload moves: two workloads would patch it in turn
 * for ever, each taking the other's pods away. Asked are the revisions that are neither retired nor
 * revoked, and `before`: releases that are taken to be accepted already. null: it is free.
 */
export async function takenElsewhere(db: Db, loadRelease: LoadRelease, release: Release, before: readonly Release[] = []): Promise<Refusal | null> {
  const standing = (await knownRevisions(db, { all: true }, loadRelease)).filter(({ state, revoked }) => state !== 'retired' && !revoked);
  const others = [...standing.map((known) => known.release), ...before].filter(({ workload }) => workload !== release.workload);
  for (const target of release.targets) {
    const other = others.find(({ targets }) => targets.some((one) => isSameObject(one, target)));
    if (other !== undefined)
      return { reason: 'ObjectTaken', about: `${release.path}: targets: ${target.kind} ${targetName(target)} is moved by ${other.path}` };
  }
  return null;
}

/** The version of its API is no part of an object's name. */
function isSameObject(a: TargetDocument, b: TargetDocument): boolean {
  return targetName(a) === targetName(b) && a.kind === b.kind;
}
