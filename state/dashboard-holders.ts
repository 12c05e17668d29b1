/** The pods that may have held what was revoked, as the receipt of `find-holders` names them, and what became of them. */
import type { Instant } from '#src/instant.ts';
import type { RunView } from './dashboard-runs.ts';
import type { Db } from './database.ts';

/** Pods that a page shows. */
const PODS_SHOWN = 60;

/** A pod that may have the key in its memory. */
export interface Holder {
  readonly target: string;
  readonly uid: string;
  /** null: it was never sighted as a boot of its own. */
  readonly pod: string | null;
  /** When a listing showed it last; null: none did. */
  readonly lastSeenAt: Instant | null;
  /** `gone`: a receipt says that none is left. `told`: it is to go. `left`: the document asks for no eviction, so it keeps what it has until it ends. */
  readonly fate: 'gone' | 'told' | 'left';
}

/** The holders that a revocation's own run found; none before it looked. */
export async function holdersOf(db: Db, runs: readonly RunView[], evict: boolean): Promise<{ readonly total: number; readonly pods: readonly Holder[] }> {
  const receipts = runs.find(({ workflow }) => workflow === 'revoke')?.receipts ?? [];
  const found = receipts.findLast(({ step }) => step === 'find-holders')?.facts;
  const named = Object.entries(membersOf(membersOf(found).holders)).flatMap(([target, uids]) =>
    (Array.isArray(uids) ? uids : []).map((uid) => ({ target, uid: String(uid) })),
  );
  const shown = named.slice(0, PODS_SHOWN);
  const { rows } = await db.query<{ uid: string; pod: string; lastSeenAt: Instant }>(
    `select distinct on (pod_uid) pod_uid as uid, pod, last_seen_at as "lastSeenAt" from boots where pod_uid = any($1) order by pod_uid, last_seen_at desc`,
    [shown.map(({ uid }) => uid)],
  );
  const sighted = new Map(rows.map((row) => [row.uid, row]));
  const gone = receipts.some(({ step }) => step === 'evict-pods');
  const fate = !evict ? 'left' : gone ? 'gone' : 'told';
  const pods = shown.map(({ target, uid }): Holder => {
    const { pod = null, lastSeenAt = null } = sighted.get(uid) ?? {};
    return { target, uid, pod, lastSeenAt, fate };
  });
  return { total: named.length, pods };
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : {};
}
