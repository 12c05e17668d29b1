/** One revocation as the dashboard shows it, from rows and receipts alone; what is never read is said in `dashboard.ts`. */
import type { RevocationDocument } from '#src/domain/documents/trust.ts';
import type { Instant } from '#src/instant.ts';
import { type Holder, holdersOf } from './dashboard-holders.ts';
import { type RunView, runsOfRevocation } from './dashboard-runs.ts';
import type { Db } from './database.ts';
import { touchedBy } from './revocations.ts';
import { helpFor } from './status.ts';
import { readRevocation } from './status-emergencies.ts';
import { targetOfWorkload } from './targets.ts';
import { type Lifting, liftingsOf, type TimeLineEntry, timeLineOf } from './time-line.ts';

/** Workloads, revisions and entries of the proxies' lists that a page shows: one that names everything has more. */
const WORKLOADS_SHOWN = 30;
const REVISIONS_SHOWN = 40;
const DENIED_SHOWN = 40;

/** A revocation, and all that came of it. */
export interface RevocationView {
  /** On the database's clock. */
  readonly at: Instant;
  readonly id: string;
  readonly origin: RevocationOrigin;
  /** What the document says; null: its bytes cannot be read. */
  readonly said: RevocationDocument | null;
  /** Other documents of the same path: somebody changed its bytes. Digests. */
  readonly others: readonly string[];
  readonly affected: Affected;
  /** What every proxy refuses because of it. */
  readonly denied: { readonly total: number; readonly entries: readonly DeniedEntry[] };
  /** What carried it out, then what lifted it. */
  readonly runs: readonly RunView[];
  /** In order of time. */
  readonly timeLine: readonly TimeLineEntry[];
  readonly holders: { readonly total: number; readonly pods: readonly Holder[] };
  readonly liftings: readonly Lifting[];
}

/** Where a revocation's document came from, and how it was judged. */
export interface RevocationOrigin {
  readonly path: string;
  readonly digest: string;
  readonly verdict: 'waiting' | 'accepted' | 'refused';
  readonly reason: string | null;
  readonly about: string | null;
  readonly help: string | null;
  readonly approvedBy: readonly string[];
  readonly trustVersion: number | null;
  /** Where it was first seen; empty: brought as a file, past Git. */
  readonly commit: string;
  /** Whether the branch's tip shows it. */
  readonly present: boolean;
  /** The newest webhook before it was seen; null: a poll found it, or it was brought as a file. */
  readonly hintedAt: Instant | null;
  /** The last signature that counted, where it was seen after the document; null: they came together, or nothing was accepted. */
  readonly signed: { readonly hintedAt: Instant | null; readonly seenAt: Instant } | null;
  readonly firstSeenAt: Instant;
  readonly acceptedAt: Instant | null;
  /** Digest of the document that lifted it; null: it stands. */
  readonly liftedBy: string | null;
}

/** What of ours it touches. */
export interface Affected {
  readonly workloads: readonly { readonly name: string; readonly target: string | null }[];
  readonly workloadsTotal: number;
  readonly revisions: readonly AffectedRevision[];
  readonly revisionsTotal: number;
}

/** A revision that it took. */
export interface AffectedRevision {
  readonly workload: string;
  readonly serial: number;
  readonly epoch: number;
  readonly rotation: string;
  readonly state: string;
  /** Whether a revocation (this one or another) holds it now. */
  readonly revoked: boolean;
  readonly keyId: string | null;
}

/** An entry of the proxies' list. Of path, init-data's digest and device one is there. */
export interface DeniedEntry {
  readonly kbs: string;
  readonly path: string | null;
  readonly initData: string | null;
  readonly device: string | null;
  readonly at: Instant;
  readonly lifted: boolean;
}

/** Reads a revocation by its id; null: none was ever seen. Where its bytes were changed, `digest` says which; otherwise the first that was accepted. */
export async function readRevocationView(db: Db, id: string, digest: string | null = null): Promise<RevocationView | null> {
  const { rows } = await db.query<Omit<RevocationOrigin, 'help'> & { readonly bytes: Buffer; readonly at: Instant }>(
    `select instant() as at, path, digest, bytes, verdict,
       (select jsonb_build_object('hintedAt', b.hinted_at, 'seenAt', b.first_seen_at) from bundles b
         where b.document_path = d.path and b.counted and b.first_seen_at > d.first_seen_at and b.first_seen_at <= d.judged_at
         order by b.first_seen_at desc limit 1) as signed, reason, about, approved_by as "approvedBy", trust_version as "trustVersion", commit_id as commit,
       present, hinted_at as "hintedAt", first_seen_at as "firstSeenAt", case when verdict = 'accepted' then judged_at end as "acceptedAt", lifted_by as "liftedBy"
     from documents d where path = 'revocations/' || $1 || '.yaml' and kind = 'Revocation' order by digest = $2 desc, verdict = 'accepted' desc, seen limit 10`,
    [id, digest ?? ''],
  );
  const [row, ...others] = rows;
  if (row === undefined || (digest !== null && row.digest !== digest)) return null;
  const { at, bytes, ...found } = row;
  const origin = { ...found, signed: found.verdict === 'accepted' ? found.signed : null, help: found.reason === null ? null : helpFor(found.reason) };
  const said = readRevocation(found.path, bytes);
  const runs = found.verdict === 'accepted' ? await runsOfRevocation(db, found.digest) : [];
  const liftings = await liftingsOf(db, id, found.digest);
  return {
    ...{ at, id, origin, said, runs, liftings },
    others: others.map((other) => other.digest),
    affected: found.verdict === 'accepted' && said !== null ? await affectedBy(db, found.digest, said) : NOTHING,
    denied: await deniedBy(db, found.digest),
    timeLine: await timeLineOf(db, origin, runs, liftings),
    holders: await holdersOf(db, runs, said?.evict ?? false),
  };
}

/** The id of the revocation that a run carries out or lifts, or that has this digest or path; null: none. */
export async function revocationNamed(db: Db, name: string): Promise<string | null> {
  const { rows } = await db.query<{ path: string }>(
    `select path from documents where kind = 'Revocation' and (path = $1 or path = 'revocations/' || $1 || '.yaml' or digest = $1
       or digest = (select revocation from runs where id = $1)) order by verdict = 'accepted' desc, seen limit 1`,
    [name],
  );
  return /^revocations\/(.*)\.yaml$/.exec(rows[0]?.path ?? '')?.[1] ?? null;
}

const NOTHING: Affected = { workloads: [], workloadsTotal: 0, revisions: [], revisionsTotal: 0 };

/** Asked as the engine asks it; what each workload runs instead is told beside it. */
async function affectedBy(db: Db, digest: string, { subject }: RevocationDocument): Promise<Affected> {
  const touched = await touchedBy(db, { digest, subject });
  const workloads: { name: string; target: string | null }[] = [];
  for (const name of touched.workloads.slice(0, WORKLOADS_SHOWN)) {
    const target = await targetOfWorkload(db, name);
    workloads.push({ name, target: target === null ? null : `s${target.release.serial}-v${target.sealing.epoch}` });
  }
  const { rows } = await db.query<AffectedRevision>(
    `select r.workload, r.serial, s.epoch, r.rotation, r.state, r.revoked_by is not null as revoked,
       (select c.body::jsonb #>> '{facts,keyId}' from receipts c where c.run = s.rotation and c.step = 'create-key' order by c.number limit 1) as "keyId"
     from revisions r join sealings s on s.id = r.sealing where r.id = any($1) order by r.id desc limit $2`,
    [touched.revisions, REVISIONS_SHOWN],
  );
  return { workloads, workloadsTotal: touched.workloads.length, revisions: rows, revisionsTotal: touched.revisions.length };
}

async function deniedBy(db: Db, digest: string): Promise<RevocationView['denied']> {
  const { rows } = await db.query<DeniedEntry & { readonly total: number }>(
    `select d.kbs, d.path, d.init_data as "initData", d.device, d.at, exists (select 1 from deny_list l where l.lifts = d.id) as lifted, count(*) over () as total
     from deny_list d where d.because = $1 and d.lifts is null order by d.id limit $2`,
    [digest, DENIED_SHOWN],
  );
  return { total: rows[0]?.total ?? 0, entries: rows.map(({ total: _, ...entry }) => entry) };
}
