import type { Reason } from '#src/domain/reasons.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { storable } from './text.ts';

/** A cluster that did not answer when it was asked last. */
export interface Outage {
  /** Since when it has not answered, without an answer in between. */
  readonly since: Instant;
  /** What its last failure said. */
  readonly reason: Reason;
  readonly about: string;
}

/**
 * Two failures that lie further apart than this are two outages: nobody asked in between, so nobody
 * knows. Clusters are asked every half minute; a restart of the controller, or an update of it, takes
 * minutes. Seconds.
 */
const UNASKED_SECONDS = 3600;

/**
 * A silent cluster is asked this often, by one look of all replicas: a call that nobody answers holds up
 * whoever made it for as long as its timeout, and with it the runs of clusters that do answer. Seconds.
 */
const ASK_AGAIN_SECONDS = 10;
/** So young an outage is a hiccup, and everybody goes on asking. Seconds. */
const HICCUP_SECONDS = 60;

const DUE = `(asked_at <= instant() - $2 * interval '1 second' or since > instant() - $3 * interval '1 second')`;

/** The outage of a cluster that is about to be asked, and whether it is the caller's turn to ask; null: it answered when it was asked last. */
export async function turnToAsk(db: Db, cluster: string): Promise<(Outage & { readonly mine: boolean }) | null> {
  const { rows } = await db.query<Outage & { due: boolean }>(`select since, reason, about, ${DUE} as due from outages where cluster = $1`, [
    cluster,
    ASK_AGAIN_SECONDS,
    HICCUP_SECONDS,
  ]);
  const [row] = rows;
  if (row === undefined) return null;
  const { since, reason, about } = row;
  if (!row.due) return { since, reason, about, mine: false };
  const { rows: claimed } = await db.query<Outage>(
    `update outages set asked_at = instant(), since = case when asked_at < instant() - $4 * interval '1 second' then instant() else since end
     where cluster = $1 and ${DUE} returning since, reason, about`,
    [cluster, ASK_AGAIN_SECONDS, HICCUP_SECONDS, UNASKED_SECONDS],
  );
  return claimed[0] === undefined ? { since, reason, about, mine: false } : { ...claimed[0], mine: true };
}

/** Notes that a cluster did not answer. */
export async function noteSilence(db: Db, cluster: string, reason: Reason, about: string): Promise<Outage> {
  const { rows } = await db.query<Outage>(
    `insert into outages (cluster, reason, about) values ($1, $2, $3)
     on conflict (cluster) do update set asked_at = instant(), reason = excluded.reason, about = excluded.about returning since, reason, about`,
    [cluster, reason, storable(about)],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('insert … returning gave no row');
  return row;
}

/** Notes that a cluster answered: one answer, whoever got it, ends its outage. */
export async function noteAnswer(db: Db, cluster: string): Promise<void> {
  await db.query('delete from outages where cluster = $1', [cluster]);
}

/** Since when a cluster has not answered; null: it did when it was asked last, or never was. */
export async function silentSince(db: Db, cluster: string): Promise<Instant | null> {
  const { rows } = await db.query<{ since: Instant }>('select since from outages where cluster = $1', [cluster]);
  return rows[0]?.since ?? null;
}
