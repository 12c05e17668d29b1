import type { Fetch, Handshake } from '#src/domain/kbs.ts';
import type { KeyPath } from '#src/domain/paths.ts';
import { Fault } from '#src/errors.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** One GET of a key, as a proxy saw it. */
export interface FetchRecord {
  readonly kbs: string;
  readonly proxy: string;
  readonly path: KeyPath;
  readonly address: string;
  /** SHA-256 of the session cookie; null where it came with a token. */
  readonly sessionDigest: string | null;
  /** SHA-256 of the bearer token; null where it came with a session. */
  readonly tokenDigest: string | null;
  readonly decision: Fetch['decision'];
  readonly status: number;
  /** The KBS's error name, or the proxy's own (README of `src/proxy`); null where it was released. */
  readonly type: string | null;
  readonly requestId: string;
}

/** A workload restarts now and then; this many releases of one path are a loop that a person must look at, and would fill our memory. */
const RELEASES_MAX = 50_000;
/** Refusals are shown to people, who read the latest: a guest that is refused comes back for ever. */
const REFUSALS_SHOWN = 1000;

/**
 * One JSON text, and not an array a column: of arrays PostgreSQL guesses a length for its generic plan, finds
 * a plan made for these cheaper, and plans anew every time, which takes as long as the rest (0.35 ms to 0.18).
 *
 * The handshake is the newest of the token that came with the request or, without one, of the session: the proxy forwards only one of the two.
 */
const INSERT = `insert into fetches (kbs, proxy, path, address, session_digest, token_digest, handshake, decision, status, type, generation, request_id)
  select given.kbs, given.proxy, given.path, given.address, given.session_digest, given.token_digest,
    case when given.token_digest is null
      then (select id from handshakes h where h.kbs = given.kbs and h.session_digest = given.session_digest order by id desc limit 1)
      else (select id from handshakes h where h.kbs = given.kbs and h.token_digest = given.token_digest order by id desc limit 1) end,
    given.decision, given.status, given.type, coalesce((select generation from brokers b where b.name = given.kbs), 0), given.request_id
  from rows from (json_to_recordset($1::json) as (kbs text, proxy text, path text, address text, "sessionDigest" text, "tokenDigest" text,
    decision text, status int, type text, "requestId" text))
    with ordinality as given (kbs, proxy, path, address, session_digest, token_digest, decision, status, type, request_id, place)
  order by place`;

/** Keeps these, in one statement, with the generation that their KBS has now: all or none. */
export async function recordFetches(db: Db, fetches: readonly FetchRecord[]): Promise<void> {
  if (fetches.length === 0) return;
  await db.query({ name: 'record-fetches', text: INSERT, values: [JSON.stringify(fetches)] });
}

/** Keeps one. */
export async function recordFetch(db: Db, fetch: FetchRecord): Promise<void> {
  await recordFetches(db, [fetch]);
}

interface FetchRow {
  readonly id: number;
  readonly at: Instant;
  readonly address: string;
  readonly decision: Fetch['decision'];
  readonly type: string | null;
  readonly handshake: number | null;
}

const OF_PATH = `select f.id, f.at, f.address, f.decision, f.type, f.handshake from fetches f left join handshakes h on h.id = f.handshake
  where f.kbs = $1 and f.path = $2 and ($3::timestamptz is null or f.at >= $3) and f.decision = $4
    and not exists (select 1 from probers p where p.tee_key = h.tee_key)`;

/**
 * The fetches of a path since an instant (null: since ever), oldest first, our own prober's left out:
 * every release, and the latest 1000 refusals. Throws Fault('LimitExceeded') above 50 000 releases,
 * since a list that is cut short must not pass for *nobody fetched*.
 */
export async function fetchesOf(db: Db, kbs: string, path: KeyPath, since: Instant | null): Promise<readonly Fetch[]> {
  const { rows: released } = await db.query<FetchRow>(`${OF_PATH} order by f.id limit $5`, [kbs, path, since, 'released', RELEASES_MAX + 1]);
  if (released.length > RELEASES_MAX) throw new Fault('LimitExceeded', `fetches of ${path} at ${kbs}: more than ${RELEASES_MAX} releases`);
  const { rows: refused } = await db.query<FetchRow>(`${OF_PATH} order by f.id desc limit $5`, [kbs, path, since, 'refused', REFUSALS_SHOWN]);
  const rows = [...released, ...refused].sort((a, b) => a.id - b.id);
  const handshakes = await handshakesOf(db, [...new Set(rows.flatMap(({ handshake }) => handshake ?? []))]);
  return rows.map(({ id, at, address, decision, type, handshake }) => {
    const joined = handshake === null ? null : (handshakes.get(handshake) ?? null);
    return { id, kbs, path, at, address, decision, type, handshake: joined };
  });
}

/** Read apart from the fetches: a token is long, and many fetches share one. */
async function handshakesOf(db: Db, ids: readonly number[]): Promise<ReadonlyMap<number, Handshake>> {
  const { rows } = await db.query<Handshake>('select id, at, address, token, tee_key as "teeKey" from handshakes where id = any($1)', [ids]);
  return new Map(rows.map((row) => [row.id, row]));
}
