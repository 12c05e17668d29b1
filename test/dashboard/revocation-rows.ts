import type pg from 'pg';
import type { Reinstatement } from '#src/domain/judge-reinstatement.ts';
import type { Revocation } from '#src/domain/release.ts';

/** How long after the webhook the acceptance of a revocation comes, where a test says nothing else. Milliseconds. */
export const ACCEPTED_AFTER = 250;

/** Gives an accepted document the columns that intake writes, beside those that its acceptance does: its bytes, who signed it, webhook, commit. */
export async function asIntakeWrites(pool: pg.Pool, { path, digest, approvedBy, signatures, ...document }: Revocation | Reinstatement): Promise<void> {
  await pool.query(
    `update documents set bytes = $2, approved_by = $3, signatures = $6, trust_version = 1, commit_id = '4f0c1d2e9a7b4f0c1d2e9a7b4f0c1d2e9a7b4f0c', judged_at = first_seen_at,
       hinted_at = first_seen_at - $4 * interval '1 millisecond' where path = $1 and digest = $5`,
    [path, Buffer.from(JSON.stringify(document)), approvedBy, ACCEPTED_AFTER, digest, JSON.stringify(signatures)],
  );
}
