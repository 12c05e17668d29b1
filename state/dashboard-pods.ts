/** The pods that a rotation's receipts counted, and who asked for its key, as the dashboard shows them. Reads no token and no digest of one. */
import type { Json } from '#src/domain/json.ts';
import type { Instant } from '#src/instant.ts';
import type { RunView } from './dashboard-runs.ts';
import type { Db } from './database.ts';

/** Pods that one receipt counted and that are shown. */
const BOOTS_SHOWN = 200;
/** Requests for a rotation's key, the newest. */
const REQUESTS_SHOWN = 50;

/** The pods that a receipt counted. */
export interface CountedBoots {
  readonly receipt: number;
  readonly step: string;
  readonly at: Instant;
  readonly boots: readonly CountedBoot[];
  readonly total: number;
}

/** The machine behind a pod, as a receipt names it, with what the proxy's rows and the listings tell of it. */
export interface CountedBoot {
  readonly target: string;
  readonly uid: string;
  readonly containerId: string;
  readonly address: string;
  readonly pod: string | null;
  readonly attestedAt: Instant | null;
  readonly fetchedAt: Instant | null;
  readonly decision: string | null;
  readonly path: string | null;
}

/** One request for the rotation's key, as a proxy answered it; our own prober's are left out. */
export interface KeyRequest {
  readonly at: Instant;
  readonly kbs: string;
  readonly address: string;
  /** The pod that was sighted at that address last before; null: none was. */
  readonly pod: string | null;
  readonly decision: string;
  readonly type: string | null;
  readonly attestedAt: Instant | null;
}

/** The newest receipt that counts and names the pods that it rests on: of the step that moved them, or of a gate that looked again. */
export async function countedBy(db: Db, run: RunView | undefined): Promise<CountedBoots | null> {
  const standing = (run?.receipts ?? []).filter(({ counts }) => counts).map(({ number }) => number);
  const { rows } = await db.query<{ number: number; step: string; at: Instant; boots: Json }>(
    `select number, step, at, boots from (
       select number, step, at, coalesce(b #> '{evidence,boots}', (select v #> '{evidence,boots}' from jsonb_array_elements(b -> 'verdicts') v
         where v ->> 'gate' = 'workload-is-attested' limit 1)) as boots
       from (select number, step, at, body::jsonb as b from receipts where run = $1 and number = any($2)) own) found
     where jsonb_typeof(boots) = 'object' order by number desc limit 1`,
    [run?.id ?? '', standing],
  );
  const [row] = rows;
  if (row === undefined) return null;
  const named = bootsIn(row.boots);
  return { receipt: row.number, step: row.step, at: row.at, boots: await withRows(db, named.slice(0, BOOTS_SHOWN)), total: named.length };
}

interface NamedBoot {
  readonly target: string;
  readonly uid: string;
  readonly containerId: string;
  readonly address: string;
  readonly fetch: number | null;
}

/** What a receipt's evidence says of its boots; members that an older version wrote otherwise are left out. */
function bootsIn(evidence: Json): readonly NamedBoot[] {
  return Object.entries(membersOf(evidence)).flatMap(([target, list]) =>
    (Array.isArray(list) ? list : []).map((boot: Json) => {
      const { uid, containerId, address, fetch } = membersOf(boot);
      return { target, uid: textOf(uid), containerId: textOf(containerId), address: textOf(address), fetch: typeof fetch === 'number' ? fetch : null };
    }),
  );
}

function membersOf(value: Json): Readonly<Record<string, Json>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as Readonly<Record<string, Json>>) : {};
}

function textOf(value: Json | undefined): string {
  return typeof value === 'string' ? value : '';
}

async function withRows(db: Db, boots: readonly NamedBoot[]): Promise<readonly CountedBoot[]> {
  const { rows: fetched } = await db.query<{ id: number; at: Instant; decision: string; path: string; attestedAt: Instant | null }>(
    'select f.id, f.at, f.decision, f.path, h.at as "attestedAt" from fetches f left join handshakes h on h.id = f.handshake where f.id = any($1)',
    [boots.flatMap(({ fetch }) => fetch ?? [])],
  );
  const { rows: sighted } = await db.query<{ uid: string; containerId: string; pod: string }>(
    `select b.pod_uid as uid, b.container_id as "containerId", b.pod from boots b
     join unnest($1::text[], $2::text[]) as given (uid, container_id) on given.uid = b.pod_uid and given.container_id = b.container_id`,
    [boots.map(({ uid }) => uid), boots.map(({ containerId }) => containerId)],
  );
  const fetches = new Map(fetched.map((row) => [row.id, row]));
  const pods = new Map(sighted.map(({ uid, containerId, pod }) => [`${uid}/${containerId}`, pod]));
  return boots.map(({ fetch, ...boot }) => {
    const row = fetch === null ? undefined : fetches.get(fetch);
    const { at: fetchedAt = null, attestedAt = null, decision = null, path = null } = row ?? {};
    return { ...boot, pod: pods.get(`${boot.uid}/${boot.containerId}`) ?? null, attestedAt, fetchedAt, decision, path };
  });
}

/** The newest requests for a key at these paths, our own prober's left out. */
export async function requestsFor(db: Db, keys: readonly { readonly kbs: string; readonly path: string }[]): Promise<readonly KeyRequest[]> {
  const { rows } = await db.query<KeyRequest>(
    `select f.at, f.kbs, f.address, f.decision, f.type, h.at as "attestedAt",
       (select b.pod from boots b where b.address = f.address and b.first_seen_at <= f.at + interval '1 minute' order by b.started_at desc limit 1) as pod
     from unnest($1::text[], $2::text[]) as given (kbs, path)
     cross join lateral (select * from fetches own where own.kbs = given.kbs and own.path = given.path
       and not exists (select 1 from handshakes a join probers p on p.tee_key = a.tee_key where a.id = own.handshake) order by own.at desc, own.id desc limit $3) f
     left join handshakes h on h.id = f.handshake order by f.at desc, f.id desc limit $3`,
    [keys.map(({ kbs }) => kbs), keys.map(({ path }) => path), REQUESTS_SHOWN],
  );
  return rows;
}
