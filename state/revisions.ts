import type { Digest } from '#src/digest.ts';
import { counting, factsOf, instantsOf, type Link } from '#src/domain/fold.ts';
import type { Facts, Known, Placed, Release, RevisionState } from '#src/domain/release.ts';
import { Fault } from '#src/errors.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** Makes the Release of an accepted document, its signatures verified again: rows are not trusted. */
export type LoadRelease = (digest: string) => Promise<Release>;

interface RevisionRow {
  readonly id: number;
  readonly workload: string;
  readonly serial: number;
  readonly serials: [number, ...number[]];
  readonly release: string;
  readonly made_by: Digest;
  readonly rotation: string;
  readonly path_number: number;
  readonly state: RevisionState;
  readonly withdrawn: boolean;
  readonly revoked: boolean;
  readonly sealing: number;
  readonly sealing_workload: string;
  readonly epoch: number;
  readonly sealing_rotation: string;
  readonly taken: boolean;
  readonly source_epoch: number | null;
  readonly source_rotation: string | null;
}

const SELECT = `select r.id, r.workload, r.serial, r.serials, r.release, r.releases[1] as made_by, r.rotation, r.path_number, r.state, r.withdrawn_by is not null as withdrawn, r.revoked_by is not null as revoked,
    s.id as sealing, s.workload as sealing_workload, s.epoch, s.rotation as sealing_rotation, s.taken, o.epoch as source_epoch, o.rotation as source_rotation
  from revisions r join sealings s on s.id = r.sealing left join sealings o on o.id = s.source and o.workload = s.workload`;

/** Which revisions. */
export type Which =
  | { readonly workload: string }
  | { readonly ids: readonly number[] }
  | { readonly sealing: number }
  | { readonly wanted: true }
  | { readonly all: true };

/** The revisions with all that their runs recorded, folded from receipts; oldest first. */
export async function knownRevisions(db: Db, which: Which, loadRelease: LoadRelease): Promise<readonly Known[]> {
  const [where, values] = conditionOf(which);
  const { rows } = await db.query<RevisionRow>(`${SELECT} where ${where} order by r.id`, values);
  const receipts = await receiptsOf(db, rows);
  return Promise.all(
    rows.map(async (row) => {
      const own = counting(receipts.get(row.rotation) ?? []);
      const sealed = (rotation: string): readonly Link[] => receipts.get(rotation) ?? [];
      return knownOf(row, await loadRelease(row.release), own, sealed);
    }),
  );
}

/** One revision; throws Error where there is none. */
export async function knownRevision(db: Db, id: number, loadRelease: LoadRelease): Promise<Known> {
  const [known] = await knownRevisions(db, { ids: [id] }, loadRelease);
  if (known === undefined) throw new Error(`there is no revision ${id}`);
  return known;
}

/** The revisions that a KBS should hold, as far as it has to know them: nothing is folded, so a whole fleet is read quickly. Oldest first. */
export async function placedRevisions(db: Db, loadRelease: LoadRelease): Promise<readonly Placed[]> {
  const [where, values] = conditionOf({ wanted: true });
  const { rows } = await db.query<RevisionRow>(`${SELECT} where ${where} order by r.id`, values);
  return Promise.all(
    rows.map(async (row) => {
      const release = await loadRelease(row.release);
      checkRow(row, release);
      return { rotation: row.rotation, release, serials: row.serials, pathNumber: row.path_number, sealing: { epoch: row.epoch } };
    }),
  );
}

function conditionOf(which: Which): [string, unknown[]] {
  if ('workload' in which) return ['r.workload = $1', [which.workload]];
  if ('ids' in which) return ['r.id = any($1)', [which.ids]];
  if ('sealing' in which) return ['r.sealing = $1', [which.sealing]];
  if ('wanted' in which) return [`r.state in ('live', 'published', 'serving', 'closing') and r.revoked_by is null`, []];
  return ['true', []];
}

interface LinkRow extends Omit<Link, 'facts'> {
  readonly run: string;
  readonly body: string;
}

async function receiptsOf(db: Db, rows: readonly RevisionRow[]): Promise<ReadonlyMap<string, readonly Link[]>> {
  const runs = [...new Set(rows.flatMap((row) => [row.rotation, row.sealing_rotation, row.source_rotation ?? row.rotation]))];
  const { rows: links } = await db.query<LinkRow>('select run, number, step, at, body from receipts where run = any($1) order by run, number', [runs]);
  // Read here: PostgreSQL takes ten times as long to make `jsonb` of a text.
  const read = links.map(({ body, ...link }) => ({ ...link, facts: (JSON.parse(body) as { readonly facts?: Link['facts'] }).facts ?? {} }));
  return Map.groupBy(read, (link) => link.run);
}

/** Throws Fault('Tampered') where the row does not agree with the document that was signed: the target is chosen by the row's serial. */
function checkRow(row: RevisionRow, release: Release): void {
  if (row.workload !== release.workload || row.serial !== release.serial || row.sealing_workload !== release.workload)
    throw new Fault('Tampered', `revisions: ${row.workload}/${row.serial} names the release ${release.path} (${row.release})`);
}

function knownOf(row: RevisionRow, release: Release, own: readonly Link[], sealed: (rotation: string) => readonly Link[]): Known {
  checkRow(row, release);
  const { source_epoch: sourceEpoch, source_rotation: sourceRotation } = row;
  return {
    id: row.id,
    rotation: row.rotation,
    release,
    sealing: {
      id: row.sealing,
      workload: row.sealing_workload,
      epoch: row.epoch,
      rotation: row.sealing_rotation,
      taken: row.taken,
      facts: sealingFacts(sealed(row.sealing_rotation)),
      createdAt: sealed(row.sealing_rotation).find(({ step }) => step === 'create-key')?.at ?? null,
      source:
        sourceRotation === null || sourceEpoch === null
          ? null
          : { workload: row.sealing_workload, epoch: sourceEpoch, rotation: sourceRotation, facts: sealingFacts(sealed(sourceRotation)) },
    },
    serials: row.serials,
    madeBy: row.made_by,
    pathNumber: row.path_number,
    state: row.state,
    withdrawn: row.withdrawn,
    revoked: row.revoked,
    facts: factsOf(own),
    at: instantsOf(own) as Readonly<Record<string, Instant>>,
  };
}

/** The facts that are the sealing's: all others are a revision's own. */
function sealingFacts(links: readonly Link[]): Facts {
  const { keyId, ciphertextDigest, plaintextManifest, stores } = factsOf(links);
  return Object.fromEntries(Object.entries({ keyId, ciphertextDigest, plaintextManifest, stores }).filter(([, value]) => value !== undefined));
}

/** A new revision in state *accepted*. */
export async function insertRevision(
  tx: Db,
  revision: { workload: string; serial: number; release: string; sealing: number; rotation: string; kbs: readonly string[]; revokedBy: string | null },
): Promise<number> {
  const { rows } = await tx.query<{ id: number }>(
    `insert into revisions (workload, serial, release, serials, releases, sealing, rotation, kbs, revoked_by)
     values ($1, $2, $3, array[$2::int], array[$3], $4, $5, $6, $7) returning id`,
    [revision.workload, revision.serial, revision.release, revision.sealing, revision.rotation, revision.kbs, revision.revokedBy],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('insert … returning gave no row');
  return row.id;
}

/** Another release is in force for a revision from here on: it changed settings, or added targets. */
export async function amendRevision(tx: Db, id: number, { serial, digest }: Pick<Release, 'serial' | 'digest'>): Promise<void> {
  await tx.query('update revisions set serial = $2, release = $3, serials = serials || $2::int, releases = releases || $3::text where id = $1', [
    id,
    serial,
    digest,
  ]);
}

/** Moves a revision. */
export async function moveRevision(tx: Db, id: number, state: RevisionState): Promise<void> {
  await tx.query(`update revisions set state = $2, went_live = went_live or $2 = 'live' where id = $1`, [id, state]);
}

/** Whether a rotation's revision is wanted by its KBSs: what names it can start. null: it has no revision. */
export async function isWantedRotation(db: Db, rotation: string): Promise<boolean | null> {
  const { rows } = await db.query<{ wanted: boolean }>(
    `select state in ('live', 'published', 'serving', 'closing') and revoked_by is null as wanted from revisions where rotation = $1`,
    [rotation],
  );
  return rows[0]?.wanted ?? null;
}

/** Whether it was ever *live*. */
export async function wentLive(db: Db, id: number): Promise<boolean> {
  const { rows } = await db.query<{ went_live: boolean }>('select went_live from revisions where id = $1', [id]);
  return rows[0]?.went_live ?? false;
}
