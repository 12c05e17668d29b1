/** One rotation as the dashboard shows it, from rows alone; what is never read is said in `dashboard.ts`. */
import { keyPathFrom } from '#src/domain/paths.ts';
import type { Signature } from '#src/domain/signatures.ts';
import type { Instant } from '#src/instant.ts';
import { type CountedBoots, countedBy, type KeyRequest, requestsFor } from './dashboard-pods.ts';
import { CAUSES_MAX, type RunView, runsOf } from './dashboard-runs.ts';
import type { Db } from './database.ts';

/** Runs that take a revision away: one, and one more for each time that it was the target again. */
const TAKEN_SHOWN = 10;

/** A rotation, its runs, and who asked for its key. */
export interface RotationView {
  /** On the database's clock. */
  readonly at: Instant;
  readonly rotation: Rotation;
  /** Its adopt run first, then in the order in which they began. */
  readonly runs: readonly RunView[];
  /** Runs on this rotation's revision that another one caused: what takes it away. */
  readonly takenBy: readonly { readonly workflow: string; readonly run: string; readonly endedAt: Instant | null }[];
  readonly counted: CountedBoots | null;
  /** The newest first. */
  readonly requests: readonly KeyRequest[];
}

/** The revision that a rotation brings into service. */
export interface Rotation {
  readonly id: string;
  readonly workload: string;
  readonly serial: number;
  readonly epoch: number;
  readonly state: string;
  readonly acceptedAt: Instant;
  /** Digest of its release, and what is known of that document. */
  readonly release: string;
  readonly document: ReleaseOrigin | null;
  /** Paths of the documents that withdrew or revoked it; their digests where the path is not known. */
  readonly withdrawnBy: string | null;
  readonly revokedBy: string | null;
  /** Where guests fetch its key. */
  readonly keys: readonly { readonly kbs: string; readonly path: string }[];
}

/** Where a release came from, and who stood for it. */
export interface ReleaseOrigin {
  readonly path: string;
  readonly approvedBy: readonly string[];
  readonly signatures: readonly Signature[];
  readonly trustVersion: number | null;
  readonly commit: string;
  readonly firstSeenAt: Instant;
  readonly judgedAt: Instant | null;
}

/** The rotation that a run belongs to: itself, the one at the beginning of what caused it, or its revision's own. null: no such run, or none of a rotation. */
export async function rotationOfRun(db: Db, run: string): Promise<string | null> {
  const { rows } = await db.query<{ rotation: string | null }>(
    `with recursive up as (
       select u.id, u.cause, v.rotation, 1 as depth from runs u left join revisions v on v.id = u.revision where u.id = $1
       union all
       select u.id, u.cause, v.rotation, depth + 1 from up join runs u on u.id = up.cause left join revisions v on v.id = u.revision
         where up.id is distinct from up.rotation and depth < $2)
     select rotation from up order by depth desc limit 1`,
    [run, CAUSES_MAX],
  );
  return rows[0]?.rotation ?? null;
}

interface RevisionRow {
  readonly id: number;
  readonly at: Instant;
  readonly rotation: string;
  readonly workload: string;
  readonly serial: number;
  readonly firstSerial: number;
  readonly epoch: number;
  readonly pathNumber: number;
  readonly state: string;
  readonly acceptedAt: Instant;
  readonly release: string;
  readonly withdrawnBy: string | null;
  readonly revokedBy: string | null;
  readonly kbs: readonly string[];
}

/** Reads a rotation; null: there is none of this id. */
export async function readRotation(db: Db, id: string): Promise<RotationView | null> {
  const { rows } = await db.query<RevisionRow>(
    `select r.id, instant() as at, r.rotation, r.workload, r.serial, r.serials[1] as "firstSerial", s.epoch, r.path_number as "pathNumber", r.state,
       r.accepted_at as "acceptedAt", r.release, r.kbs,
       coalesce((select min(path) from documents d where d.digest = r.withdrawn_by and d.kind = 'Withdrawal'), r.withdrawn_by) as "withdrawnBy",
       coalesce((select min(path) from documents d where d.digest = r.revoked_by and d.kind = 'Revocation'), r.revoked_by) as "revokedBy"
     from revisions r join sealings s on s.id = r.sealing where r.rotation = $1`,
    [id],
  );
  const [row] = rows;
  if (row === undefined) return null;
  const keys = await keysOf(db, row);
  const runs = await runsOf(db, row);
  const { at, workload, serial, epoch, state, acceptedAt, release, withdrawnBy, revokedBy } = row;
  const document = await originOf(db, release);
  return {
    at,
    rotation: { id, workload, serial, epoch, state, acceptedAt, release, document, withdrawnBy, revokedBy, keys },
    runs,
    takenBy: await takenBy(db, row),
    counted: await countedBy(db, runs[0]),
    requests: await requestsFor(db, keys),
  };
}

async function keysOf(db: Db, { rotation, pathNumber, workload, firstSerial, epoch, kbs }: RevisionRow): Promise<Rotation['keys']> {
  const { rows } = await db.query<{ name: string; repository: string }>('select name, repository from brokers where name = any($1) order by name', [kbs]);
  const parts = { rotation, pathNumber, workload, serial: firstSerial, epoch };
  return rows.map(({ name, repository }) => ({ kbs: name, path: keyPathFrom(repository, parts) }));
}

async function originOf(db: Db, release: string): Promise<ReleaseOrigin | null> {
  const { rows } = await db.query<ReleaseOrigin>(
    `select path, approved_by as "approvedBy", signatures, trust_version as "trustVersion", commit_id as commit, first_seen_at as "firstSeenAt", judged_at as "judgedAt"
     from documents where digest = $1 and kind = 'Release' and verdict = 'accepted' order by seen limit 1`,
    [release],
  );
  return rows[0] ?? null;
}

async function takenBy(db: Db, { id, rotation }: RevisionRow): Promise<RotationView['takenBy']> {
  const { rows } = await db.query<RotationView['takenBy'][number]>(
    `select workflow, id as run, ended_at as "endedAt" from runs
     where revision = $1 and cause is not null and cause <> $2 order by created_at desc, id limit $3`,
    [id, rotation, TAKEN_SHOWN],
  );
  return rows;
}
