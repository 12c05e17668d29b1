import { type Reason, reasons } from '#src/domain/reasons.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { storable } from './text.ts';

/** Webhook deliveries that were refused, by reason. */
export interface RefusedDeliveries {
  readonly reason: Reason;
  /** What was wrong with the last of them. */
  readonly about: string;
  readonly help: string;
  readonly times: number;
  readonly firstAt: Instant;
  readonly lastAt: Instant;
}

/** How long a delivery is remembered, and a refusal shown. A replay after that is one hint more: it says nothing but *look*. Days. */
const KEPT_DAYS = 30;

/** Takes a signed delivery, known by a digest of its signature; an instant: it was taken before, then. */
export async function takeDelivery(db: Db, digest: string): Promise<Instant | null> {
  const { rows } = await db.query<{ at: Instant }>(
    `with old as (delete from deliveries where at < instant() - $2 * interval '1 day'),
       taken as (insert into deliveries (digest) values ($1) on conflict do nothing returning digest)
     select at from deliveries where digest = $1 and not exists (select 1 from taken)`,
    [digest, KEPT_DAYS],
  );
  return rows[0]?.at ?? null;
}

/** Counts a delivery that was refused: somebody may have to look at the Git host, or for whoever sends it. */
export async function noteRefusedDelivery(db: Db, reason: Reason, about: string): Promise<void> {
  await db.query(
    `insert into refused_deliveries (reason, about) values ($1, $2)
     on conflict (reason) do update set about = $2, times = refused_deliveries.times + 1, last_at = instant(),
       first_at = case when refused_deliveries.last_at < instant() - $3 * interval '1 day' then instant() else refused_deliveries.first_at end`,
    [reason, storable(about), KEPT_DAYS],
  );
}

/** What was refused of late, the newest first. */
export async function refusedDeliveries(db: Db): Promise<readonly RefusedDeliveries[]> {
  const { rows } = await db.query<Omit<RefusedDeliveries, 'help'>>(
    `select reason, about, times, first_at as "firstAt", last_at as "lastAt" from refused_deliveries
     where last_at >= instant() - $1 * interval '1 day' order by last_at desc, reason`,
    [KEPT_DAYS],
  );
  return rows.map((row) => ({ ...row, help: reasons[row.reason].help }));
}
