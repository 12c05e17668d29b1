/** The rows that `keyturn why` looks at, beside those that the dashboard shows. Tokens are read here to be appraised; nothing of them is told but claims. */
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** Boots of one name: a Deployment's pod is restarted seldom, an address is used again. The newest. */
const BOOTS_SHOWN = 6;
/** Requests and attestations of one boot: a guest that is refused comes back for ever. The newest. */
const FETCHES_SHOWN = 50;
const HANDSHAKES_SHOWN = 5;

/** A boot, and when the next one was sighted at its address. */
export interface BootRow {
  readonly cluster: string;
  readonly uid: string;
  readonly containerId: string;
  readonly pod: string;
  readonly address: string;
  readonly startedAt: Instant;
  readonly lastSeenAt: Instant;
  /** The TEE key that was counted for it; null: none. */
  readonly teeKey: string | null;
  /** When another boot started at the same address; null: it is the last there. */
  readonly nextAt: Instant | null;
}

/** The boots that a pod's name, uid or address names, the newest first. */
export async function bootsNamed(db: Db, name: string): Promise<readonly BootRow[]> {
  const { rows } = await db.query<BootRow>(
    `select b.cluster, b.pod_uid as uid, b.container_id as "containerId", b.pod, b.address, b.started_at as "startedAt", b.last_seen_at as "lastSeenAt",
       b.tee_key as "teeKey", (select min(o.started_at) from boots o where o.address = b.address and o.started_at > b.started_at) as "nextAt"
     from boots b where b.pod = $1 or b.pod_uid = $1 or b.address = $1 order by b.started_at desc, b.container_id limit $2`,
    [name, BOOTS_SHOWN],
  );
  return rows;
}

/** A request for a key, with the attestation that it came under. */
export interface FetchRow {
  readonly at: Instant;
  readonly kbs: string;
  readonly path: string;
  readonly decision: 'released' | 'refused';
  readonly type: string | null;
  readonly handshake: number | null;
}

/** An attestation, with its token. */
export interface HandshakeRow {
  readonly id: number;
  readonly at: Instant;
  readonly kbs: string;
  readonly token: string;
  readonly teeKey: string;
}

/** What came from an address between two moments (`until` null: until now), each list newest first and cut. */
export async function callsFrom(
  db: Db,
  address: string,
  since: Instant,
  until: Instant | null,
): Promise<{ readonly fetches: readonly FetchRow[]; readonly handshakes: readonly HandshakeRow[] }> {
  const { rows: fetches } = await db.query<FetchRow>(
    `select at, kbs, path, decision, type, handshake from fetches
     where address = $1 and at >= $2 and ($3::timestamptz is null or at < $3) order by id desc limit $4`,
    [address, since, until, FETCHES_SHOWN],
  );
  const { rows: handshakes } = await db.query<HandshakeRow>(
    `select id, at, kbs, token, tee_key as "teeKey" from handshakes
     where address = $1 and at >= $2 and ($3::timestamptz is null or at < $3) order by id desc limit $4`,
    [address, since, until, HANDSHAKES_SHOWN],
  );
  return { fetches, handshakes };
}

/** The rotation whose receipts name a boot, the newest; null: none does. */
export async function rotationNaming(db: Db, { uid, containerId }: Pick<BootRow, 'uid' | 'containerId'>): Promise<string | null> {
  const { rows } = await db.query<{ rotation: string }>(
    `select v.rotation from receipts c join revisions v on v.rotation = c.run where c.step in ('move-pods', 'confirm-serving') and strpos(c.body, $1) > 0
     order by c.id desc limit 1`,
    [`${uid}/${containerId}`],
  );
  return rows[0]?.rotation ?? null;
}

/** The workload of an open run that waits for this pod; null: none does. */
export async function workloadWaitingFor(db: Db, pod: string): Promise<string | null> {
  const { rows } = await db.query<{ workload: string }>(
    `select workload from runs where ended_at is null and strpos(about, $1) > 0 order by since desc nulls last, id limit 1`,
    [pod],
  );
  return rows[0]?.workload ?? null;
}

/** Why a path is denied at a KBS: `retired`, or the revocation's path; null: it is not. */
export async function deniedBecause(db: Db, kbs: string, path: string): Promise<string | null> {
  const { rows } = await db.query<{ because: string }>(
    `select coalesce((select min(d.path) from documents d where d.digest = l.because and d.kind = 'Revocation'), l.because) as because
     from deny_list l where l.kbs = $1 and l.path = $2 order by l.because = 'retired', l.id limit 1`,
    [kbs, path],
  );
  return rows[0]?.because ?? null;
}

/** The gate whose no a run waits for; null: it waits for a step, or has not said so. */
export async function gateSayingNo(db: Db, run: string): Promise<string | null> {
  const { rows } = await db.query<{ gate: string | null }>(
    `select body ->> 'gate' as gate from events where run = $1 and (event = 'waiting' or (event = 'gate' and body ->> 'verdict' = 'no')) order by id desc limit 1`,
    [run],
  );
  return rows[0]?.gate ?? null;
}

/** Documents about a workload at the branch's tip that nobody accepted. */
export async function unacceptedDocuments(
  db: Db,
  workload: string,
): Promise<
  readonly { readonly path: string; readonly verdict: string; readonly reason: string | null; readonly about: string | null; readonly since: Instant }[]
> {
  const { rows } = await db.query<{ path: string; verdict: string; reason: string | null; about: string | null; since: Instant }>(
    `select path, verdict, reason, about, coalesce(judged_at, first_seen_at) as since from documents
     where present and verdict <> 'accepted' and kind <> 'File' and (workload = $1 or starts_with(path, 'releases/' || $1 || '/')) order by path collate "C" limit 50`,
    [workload],
  );
  return rows;
}
