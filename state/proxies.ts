import type { KeyPath } from '#src/domain/paths.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** What a proxy says of itself, at least every second. */
export interface Acknowledgement {
  /** One process, never used again: a second one under the same id would answer for the first. */
  readonly id: string;
  readonly kbs: string;
  /** The last deny-list entry that it refuses; 0 before it has read any. */
  readonly acknowledged: number;
  /** It refuses every key when it heard nothing from the database for this long. */
  readonly staleSeconds: number;
}

/** A proxy as last heard of. */
export interface ProxyRow extends Acknowledgement {
  readonly seenAt: Instant;
}

/**
 * How much longer than its `staleSeconds` a silent proxy is waited for: it counts them on its own
 * steady clock and we on the database's, which may be stepped a little between the two.
 */
const SILENCE_MARGIN_SECONDS = 2;

/**
 * Records that a proxy is alive and what it refuses. An acknowledgement never goes back: a late answer
 * must not undo a later one. `anew`: it does all the same, since the list begins anew (`hasEntry`), and the
 * numbers of before are no entries of its any more. Gives the generation that the KBS has now, 0 where it has none.
 */
export async function acknowledge(db: Db, { id, kbs, acknowledged, staleSeconds }: Acknowledgement, anew = false): Promise<number> {
  const { rows } = await db.query<{ generation: number }>(
    `insert into proxies (id, kbs, acknowledged, stale_seconds) values ($1, $2, $3, $4)
     on conflict (id) do update set acknowledged = case when $5 then excluded.acknowledged else greatest(proxies.acknowledged, excluded.acknowledged) end,
       stale_seconds = greatest(proxies.stale_seconds, excluded.stale_seconds), seen_at = instant()
     returning coalesce((select generation from brokers where name = kbs), 0) as generation`,
    [id, kbs, acknowledged, staleSeconds, anew],
  );
  return rows[0]?.generation ?? 0;
}

/** A proxy that has ended and answers nobody any more: nobody need wait for it. */
export async function forgetProxy(db: Db, id: string): Promise<void> {
  await db.query('delete from proxies where id = $1', [id]);
}

/**
 * The proxies of a KBS that may still let this path through, and until when each is waited for: those
 * that have not acknowledged the path's first entry and are not yet silent for so long that they
 * refuse everything. A path that is not on the list has been acknowledged by nobody: all are behind.
 */
export async function proxiesBehind(db: Db, kbs: string, path: KeyPath): Promise<readonly { readonly proxy: string; readonly until: Instant }[]> {
  const { rows } = await db.query<{ proxy: string; until: Instant }>(
    `select id as proxy, seen_at + (stale_seconds + $3) * interval '1 second' as until from proxies
     where kbs = $1 and acknowledged < coalesce((select min(d.id) from deny_list d where d.kbs = $1 and d.path = $2), 9223372036854775807)
       and seen_at + (stale_seconds + $3) * interval '1 second' > instant()
     order by id`,
    [kbs, path, SILENCE_MARGIN_SECONDS],
  );
  return rows;
}

/** The same for one entry of the list. */
export async function proxiesBehindEntry(db: Db, kbs: string, entry: number): Promise<readonly { readonly proxy: string; readonly until: Instant }[]> {
  const { rows } = await db.query<{ proxy: string; until: Instant }>(
    `select id as proxy, seen_at + (stale_seconds + $3) * interval '1 second' as until from proxies
     where kbs = $1 and acknowledged < $2 and seen_at + (stale_seconds + $3) * interval '1 second' > instant() order by id`,
    [kbs, entry, SILENCE_MARGIN_SECONDS],
  );
  return rows;
}

/** Every proxy that may still answer guests, whether it has acknowledged everything or not. */
export async function proxiesAlive(db: Db): Promise<readonly ProxyRow[]> {
  const { rows } = await db.query<ProxyRow>(
    `select id, kbs, acknowledged, stale_seconds as "staleSeconds", seen_at as "seenAt" from proxies
     where seen_at + (stale_seconds + $1) * interval '1 second' > instant() order by kbs, id`,
    [SILENCE_MARGIN_SECONDS],
  );
  return rows;
}
