import type { Reason } from '#src/domain/reasons.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { storable } from './text.ts';

/** How the last look at a branch went. */
export interface Poll {
  readonly branch: string;
  /** The last look that was answered; null: none was yet. */
  readonly readAt: Instant | null;
  /** Since when it is not; null: it is. */
  readonly failingSince: Instant | null;
  readonly reason: Reason | null;
  readonly about: string | null;
}

/** Git answered. */
export async function notePoll(db: Db, branch: string): Promise<void> {
  await db.query(
    `insert into polls (branch, read_at) values ($1, instant())
     on conflict (branch) do update set read_at = instant(), failing_since = null, reason = null, about = null`,
    [branch],
  );
}

/** Git did not answer, or with what cannot be read: revocations are not seen meanwhile, and somebody has to know. */
export async function noteFailedPoll(db: Db, branch: string, reason: Reason, about: string): Promise<void> {
  await db.query(
    `insert into polls (branch, failing_since, reason, about) values ($1, instant(), $2, $3)
     on conflict (branch) do update set failing_since = coalesce(polls.failing_since, instant()), reason = $2, about = $3`,
    [branch, reason, storable(about)],
  );
}

/** Every branch that was ever looked at. */
export async function pollsOf(db: Db): Promise<readonly Poll[]> {
  const { rows } = await db.query<Poll>('select branch, read_at as "readAt", failing_since as "failingSince", reason, about from polls order by branch');
  return rows;
}
