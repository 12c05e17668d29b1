import type { Denied } from '#src/domain/kbs.ts';
import type { KeyPath } from '#src/domain/paths.ts';
import type { Db } from './database.ts';

/** Notified, with the KBS's name as payload, in the transaction that adds to the list: a hint to look at once. */
export const DENY_CHANNEL = 'keyturn_deny';

/** One thing that the proxies of a KBS refuse, or stop refusing. Exactly one of `path`, `initData`, `device` and `lifts` is there. */
export interface DenyEntry {
  /** Grows in the order of the commits of one KBS: whoever has read one has been able to read all lower ones. */
  readonly id: number;
  /** An exact path. */
  readonly path: KeyPath | null;
  /** Init-data's digest, as that TEE's verifier writes it into the token. */
  readonly initData: string | null;
  /** A chip id or ueid, as the token writes it. */
  readonly device: string | null;
  /** The entry, of a guest or a device, that refuses nobody from here on. A path is never lifted. */
  readonly lifts: number | null;
  /** Digest of the revocation, or `retired`; of a lift the reinstatement's. */
  readonly because: string;
}

/** A proxy that starts with a longer list than this reads it in several turns. */
const PAGE_ENTRIES = 10_000;

/**
 * Puts paths on a KBS's list, in the transaction of the fact that forbids them, and tells the proxies
 * with its commit. A path that is there for the same cause is left alone; nothing is ever taken off.
 *
 * Identities are drawn before the commit, so without a lock a proxy could read entry 10, acknowledge
 * it, and never look for entry 9, which commits a moment later. The lock is the KBS's own and is held
 * to the commit; who calls has locked the row of the KBS before (DESIGN §5), so it adds no new order.
 */
export async function denyPaths(tx: Db, kbs: string, paths: readonly KeyPath[], because: string): Promise<void> {
  await deny(tx, kbs, { paths, initData: [], devices: [] }, because);
}

/** The same for guests and devices too. */
export async function deny(tx: Db, kbs: string, { paths, initData, devices }: Denied, because: string): Promise<void> {
  if (paths.length + initData.length + devices.length === 0) return;
  await tx.query(`select pg_advisory_xact_lock(hashtextextended('deny-list/' || $1, 0))`, [kbs]);
  for (const [column, names] of Object.entries({ path: paths, init_data: initData, device: devices })) {
    await tx.query(
      `insert into deny_list (kbs, ${column}, because)
       select $1, name, $3 from unnest($2::text[]) with ordinality as given (name, place)
       where not exists (select 1 from deny_list d where d.kbs = $1 and d.${column} = given.name and d.because = $3) order by place`,
      [kbs, [...new Set(names)], because],
    );
  }
  await tx.query('select pg_notify($1, $2)', [DENY_CHANNEL, kbs]);
}

/**
 * Puts on a KBS's list what revocations put on any other's: it was configured after they were accepted. One
 * statement, under the same lock; asked at every start, and nothing where nothing is missing.
 */
export async function inheritDenials(db: Db, kbs: string): Promise<void> {
  await db.query(
    `with held as materialized (select pg_advisory_xact_lock(hashtextextended('deny-list/' || $1, 0)))
     insert into deny_list (kbs, path, init_data, device, because)
     select distinct $1, o.path, o.init_data, o.device, o.because from held, deny_list o where o.kbs <> $1 and o.because <> 'retired' and o.lifts is null and not exists (select 1 from deny_list l where l.lifts = o.id)
       and not exists (select 1 from deny_list d where d.kbs = $1 and d.because = o.because
         and (d.path, d.init_data, d.device) is not distinct from (o.path, o.init_data, o.device))`,
    [kbs],
  );
}

/**
 * What revocations put on a KBS's list: what its policy denies beside its proxies. What was merely retired
 * is no part of it: those are paths of ours, which left the grants.
 */
export async function deniedOf(db: Db, kbs: string): Promise<Denied> {
  const { rows } = await db.query<Pick<DenyEntry, 'path' | 'initData' | 'device'>>(
    `select path, init_data as "initData", device from deny_list d where kbs = $1 and because <> 'retired' and lifts is null
       and not exists (select 1 from deny_list l where l.lifts = d.id) order by id`,
    [kbs],
  );
  const named = <T>(names: readonly (T | null)[]): readonly T[] => names.filter((name) => name !== null);
  return {
    paths: named(rows.map(({ path }) => path)),
    initData: named(rows.map(({ initData }) => initData)),
    devices: named(rows.map(({ device }) => device)),
  };
}

/**
 * Lifts every entry of a KBS's list that names a guest or a device because of a revocation: one row for
 * each, after which the proxies refuse it for that revocation no longer. Those that another revocation
 * added stand, and so does every path. Locks and tells as `denyPaths` does.
 */
export async function liftEntries(tx: Db, kbs: string, revocation: string, because: string): Promise<void> {
  await tx.query(`select pg_advisory_xact_lock(hashtextextended('deny-list/' || $1, 0))`, [kbs]);
  await tx.query(
    `insert into deny_list (kbs, lifts, because) select kbs, id, $3 from deny_list d
     where kbs = $1 and because = $2 and path is null and lifts is null and not exists (select 1 from deny_list l where l.lifts = d.id) order by id`,
    [kbs, revocation, because],
  );
  await tx.query('select pg_notify($1, $2)', [DENY_CHANNEL, kbs]);
}

/** The KBSs whose lists name a guest or a device because of a revocation, by name. */
export async function brokersNaming(db: Db, revocation: string): Promise<readonly string[]> {
  const { rows } = await db.query<{ kbs: string }>('select distinct kbs from deny_list where because = $1 and path is null and lifts is null order by kbs', [
    revocation,
  ]);
  return rows.map(({ kbs }) => kbs);
}

/** What was added after the entry of this id (0: everything), oldest first, at most 10 000 entries: ask again until none comes. */
export async function denyListSince(db: Db, kbs: string, id: number): Promise<readonly DenyEntry[]> {
  const { rows } = await db.query<DenyEntry>(
    'select id, path, init_data as "initData", device, lifts, because from deny_list where kbs = $1 and id > $2 order by id limit $3',
    [kbs, id, PAGE_ENTRIES],
  );
  return rows;
}

/** Whether the list still has this very entry. It loses none, so where it has not, the database was set back, and gives numbers a second time. */
export async function hasEntry(db: Db, kbs: string, { id, path, initData, device, lifts, because }: DenyEntry): Promise<boolean> {
  const { rowCount } = await db.query(
    `select 1 from deny_list where id = $1 and kbs = $2 and because = $3
       and (path, init_data, device, lifts) is not distinct from ($4::text, $5::text, $6::text, $7::bigint)`,
    [id, kbs, because, path, initData, device, lifts],
  );
  return rowCount !== 0;
}

/** How many entries each KBS's list has. */
export async function denyCounts(db: Db): Promise<readonly { readonly kbs: string; readonly entries: number }[]> {
  const { rows } = await db.query<{ kbs: string; entries: number }>('select kbs, count(*) as entries from deny_list group by kbs order by kbs');
  return rows;
}
