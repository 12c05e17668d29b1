import type { Known, Revocation } from '#src/domain/release.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { factsOfRun } from './receipts-of-run.ts';
import { knownRevision, knownRevisions, type LoadRelease } from './revisions.ts';
import { touchedBy } from './revocations.ts';
import { targetOfWorkload } from './targets.ts';

/** An accepted revocation, and how all of ours that it names stands now. */
export async function revokedOf(db: Db, run: string, revocation: Revocation, loadRelease: LoadRelease): Promise<Revoked> {
  const { revisions: ids, workloads } = await touchedBy(db, revocation);
  const targets: Record<string, Known | null> = {};
  for (const workload of workloads) {
    const target = await targetOfWorkload(db, workload);
    targets[workload] = target === null ? null : await knownRevision(db, target.id, loadRelease);
  }
  return {
    revocation,
    at: await acceptedAt(db, revocation),
    revisions: await knownRevisions(db, { ids }, loadRelease),
    denied: await deniedBy(db, revocation),
    facts: await factsOfRun(db, run),
    targets,
    lift: null,
  };
}

async function acceptedAt(db: Db, { digest, path }: Revocation): Promise<Instant> {
  const { rows } = await db.query<{ at: Instant }>(`select judged_at as at from documents where digest = $1 and kind = 'Revocation' and verdict = 'accepted'`, [
    digest,
  ]);
  const [row] = rows;
  if (row === undefined) throw new Error(`${path} was not accepted`);
  return row.at;
}

/** By KBS, the last deny-list entry of this revocation. */
async function deniedBy(db: Db, { digest }: Revocation): Promise<Readonly<Record<string, number>>> {
  const { rows } = await db.query<{ kbs: string; entry: number }>('select kbs, max(id) as entry from deny_list where because = $1 group by kbs order by kbs', [
    digest,
  ]);
  return Object.fromEntries(rows.map(({ kbs, entry }) => [kbs, entry]));
}
