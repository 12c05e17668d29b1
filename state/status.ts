import { type Reason, reasons } from '#src/domain/reasons.ts';
import type { RevisionState } from '#src/domain/release.ts';
import type { Signature } from '#src/domain/signatures.ts';
import { targetOf } from '#src/domain/target.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { type RefusedDeliveries, refusedDeliveries } from './deliveries.ts';
import { heldWorkloads } from './document-holds.ts';
import { type Hold, openHolds } from './holds.ts';
import { type Poll, pollsOf } from './polls.ts';
import { type KeptPredecessor, keptPredecessors } from './predecessors.ts';
import { type EmergencyStatus, emergencyStatuses } from './status-emergencies.ts';
import { type DestructionStatus, destructionStatuses, type KeyStatus, keyStatuses } from './status-keys.ts';
import { type TrustStatus, trustStatus } from './status-trust.ts';

/** Where everything stands, from rows alone: for `keyturn status` and whoever shows the same. */
export interface Status {
  /** On the database's clock. */
  readonly at: Instant;
  readonly installation: { readonly name: string; readonly mode: string } | null;
  /** The newest trust document that was accepted; null: none was. */
  readonly trust: TrustStatus | null;
  readonly polls: readonly PollStatus[];
  readonly branches: readonly BranchStatus[];
  /** Webhook deliveries that were refused of late, by reason, the newest first. */
  readonly deliveries: readonly RefusedDeliveries[];
  readonly documents: readonly DocumentStatus[];
  /** Revocations that are not carried out whole yet, and those that are being lifted, as they began. */
  readonly emergencies: readonly EmergencyStatus[];
  /** What people stopped and nobody let go on yet, oldest first. */
  readonly holds: readonly Hold[];
  readonly workloads: readonly WorkloadStatus[];
  /** The open ones, those that wait longest first. */
  readonly runs: readonly RunStatus[];
  readonly brokers: readonly BrokerStatus[];
  /** Values that only earlier serials of a platform list and that are still good, and why. */
  readonly predecessors: readonly (KeptPredecessor & { readonly help: string })[];
  readonly receipts: { readonly written: number; readonly signed: number; readonly signedAt: Instant | null };
}

/** How the last look at a branch went. */
export interface PollStatus extends Poll {
  /** What a person can do; null where it is answered. */
  readonly help: string | null;
}

/** The watched branch, as last seen. */
export interface BranchStatus {
  readonly name: string;
  readonly commit: string;
  readonly seenAt: Instant;
  /** A tip that does not descend from `commit`; null: the history is whole. */
  readonly rewrittenTo: string | null;
  /** What a person can do about a rewritten history; null: it is whole. */
  readonly help: string | null;
  /** Entries of the watched folders that nobody reads: of a wrong name, too large, links. */
  readonly unread: readonly { readonly path: string; readonly reason: Reason; readonly about: string; readonly help: string }[];
}

/** A document of the branch's tip, and what became of it. `help` says what a person can do; null where there is nothing to do. */
export interface DocumentStatus {
  readonly path: string;
  readonly kind: string;
  readonly digest: string;
  readonly verdict: 'waiting' | 'accepted' | 'refused';
  readonly reason: string | null;
  readonly about: string | null;
  readonly help: string | null;
  readonly approvedBy: readonly string[];
  /** How each of them signed; empty where an older version accepted it. */
  readonly signatures: readonly Signature[];
  readonly firstSeenAt: Instant;
}

/** A revision, and how far it came. */
export interface RevisionStatus {
  readonly id: number;
  readonly serial: number;
  readonly epoch: number;
  readonly rotation: string;
  readonly state: RevisionState;
  readonly withdrawn: boolean;
  readonly revoked: boolean;
  readonly acceptedAt: Instant;
  /** Of the key that was disabled with it; null: nobody has begun to destroy one. */
  readonly destruction: DestructionStatus | null;
}

/** Why nothing moves for a workload. */
export interface HeldStatus {
  readonly reason: Reason;
  readonly about: string;
  readonly help: string;
  /** Path of the revocation that took its newest revision, and with it the last that it could run; null: it is held otherwise. */
  readonly revocation: string | null;
}

/** A workload: what it should run, and all its revisions. */
export interface WorkloadStatus {
  readonly name: string;
  /** What it should run, as `s<serial>-v<epoch>`; null: it is held. */
  readonly target: string | null;
  /** A document that holds it, or that nothing good is left to run, and what became of what was there; null: it is not held. */
  readonly held: HeldStatus | null;
  /** The key that it should serve under; null: held, or there is no key yet. */
  readonly key: KeyStatus | null;
  /** Newest first. */
  readonly revisions: readonly RevisionStatus[];
}

/** An open run, and what it waits for. */
export interface RunStatus {
  readonly id: string;
  readonly workflow: string;
  readonly workload: string;
  readonly serial: number | null;
  /** Path of the revocation that it carries out or lifts; null: it is about something else. */
  readonly revocation: string | null;
  readonly step: string | null;
  readonly waitingFor: string | null;
  readonly about: string | null;
  readonly help: string | null;
  readonly since: Instant | null;
  readonly nextRetryAt: Instant | null;
  readonly deadline: Instant | null;
  readonly createdAt: Instant;
}

/** A KBS: what it should hold, by number. */
export interface BrokerStatus {
  readonly name: string;
  readonly generation: number;
  /** Digest of the baseline in force; null: nothing is written there. */
  readonly baseline: string | null;
  /** Entries of its deny-list. */
  readonly denied: number;
  readonly proxies: readonly { readonly id: string; readonly seenAt: Instant; readonly silent: boolean; readonly caughtUp: boolean }[];
}

/** A tip with more documents is shown in part: those that nobody accepted first. */
const DOCUMENTS_SHOWN = 1000;
/** A workload's history is long after years; its newest are what people ask about. */
const REVISIONS_SHOWN = 20;
/** Of those that a held workload had, its newest. */
const FALLEN_SHOWN = 3;

/** Reads it. The parts are read one after the other, so they may differ by what happened in between. */
export async function readStatus(db: Db): Promise<Status> {
  const { rows: heads } = await db.query<{ at: Instant; written: number; signed: number | null; signedAt: Instant | null }>(
    `select instant() as at, (select count(*) from receipts) as written, h.tree_size as signed, h.at as "signedAt"
     from (select 1) one left join (select tree_size, at from heads order by tree_size desc limit 1) h on true`,
  );
  const [head] = heads;
  if (head === undefined) throw new Error('the database gave no row');
  const { rows: installations } = await db.query<{ name: string; mode: string }>('select name, mode from installation');
  return {
    at: head.at,
    installation: installations[0] ?? null,
    trust: await trustStatus(db, head.at),
    polls: await polls(db),
    branches: await branches(db),
    deliveries: await refusedDeliveries(db),
    documents: await documents(db),
    emergencies: await emergencyStatuses(db, helpFor),
    holds: await openHolds(db),
    workloads: await workloads(db),
    runs: await runs(db),
    brokers: await brokers(db),
    predecessors: (await keptPredecessors(db)).map((kept) => ({ ...kept, help: reasons[kept.reason].help })),
    receipts: { written: head.written, signed: head.signed ?? 0, signedAt: head.signedAt },
  };
}

/** What a person can do about a reason; null for none, or for one of a newer version. */
export function helpFor(reason: string | null): string | null {
  return reason !== null && Object.hasOwn(reasons, reason) ? reasons[reason as Reason].help : null;
}

async function polls(db: Db): Promise<readonly PollStatus[]> {
  return (await pollsOf(db)).map((poll) => ({ ...poll, help: helpFor(poll.reason) }));
}

async function branches(db: Db): Promise<readonly BranchStatus[]> {
  const { rows } = await db.query<Omit<BranchStatus, 'help'>>(
    'select name, commit_id as commit, seen_at as "seenAt", rewritten_to as "rewrittenTo", unread from branches order by name',
  );
  return rows.map((row) => ({
    ...row,
    help: helpFor(row.rewrittenTo === null ? null : 'HistoryRewritten'),
    unread: row.unread.map((entry) => ({ ...entry, help: reasons[entry.reason].help })),
  }));
}

async function documents(db: Db): Promise<readonly DocumentStatus[]> {
  const { rows } = await db.query<Omit<DocumentStatus, 'help'>>(
    `select path, kind, digest, verdict, reason, about, approved_by as "approvedBy", signatures, first_seen_at as "firstSeenAt"
     from documents where present and kind <> 'File' order by verdict = 'accepted', path collate "C" limit $1`,
    [DOCUMENTS_SHOWN],
  );
  return rows.map((row) => ({ ...row, help: row.verdict === 'accepted' ? null : helpFor(row.reason) }));
}

async function workloads(db: Db): Promise<readonly WorkloadStatus[]> {
  const { rows } = await db.query<Omit<RevisionStatus, 'destruction'> & { workload: string; because: string | null }>(
    `select r.workload, r.id, r.serial, s.epoch, r.rotation, r.state, r.withdrawn_by is not null as withdrawn, r.revoked_by is not null as revoked,
       r.accepted_at as "acceptedAt", (select min(path) from documents d where d.digest = r.revoked_by and d.kind = 'Revocation') as because
     from revisions r join sealings s on s.id = r.sealing order by r.workload, r.serial desc, s.epoch desc, r.id desc`,
  );
  const held = await heldWorkloads(db);
  const destructions = await destructionStatuses(db);
  const keys = await keyStatuses(
    db,
    rows.flatMap(({ id, state }) => (state === 'retired' ? [] : [id])),
  );
  const names = [...new Set([...rows.map(({ workload }) => workload), ...held.keys()])].sort();
  return names.map((name) => {
    const own = rows.filter(({ workload }) => workload === name);
    const revisions = own.map(({ workload: _, because: __, ...revision }) => ({ ...revision, destruction: destructions.get(revision.id) ?? null }));
    const target = targetOf(revisions.map((revision) => ({ ...revision, release: { serial: revision.serial }, sealing: { epoch: revision.epoch } })));
    const fallen = target === null && own.length > 0 ? ({ reason: 'Held', about: own.slice(0, FALLEN_SHOWN).map(fallenOf).join(', ') } as const) : undefined;
    const hold = held.get(name) ?? fallen;
    return {
      name,
      target: target === null ? null : `s${target.serial}-v${target.epoch}`,
      held: hold === undefined ? null : { ...hold, help: reasons[hold.reason].help, revocation: hold === fallen ? (own[0]?.because ?? null) : null },
      key: target === null ? null : (keys.get(target.id) ?? null),
      revisions: revisions.slice(0, REVISIONS_SHOWN),
    };
  });
}

/** Why a revision is nothing to run. */
function fallenOf({ serial, epoch, state, withdrawn, revoked, because }: Omit<RevisionStatus, 'destruction'> & { readonly because: string | null }): string {
  const fact = revoked ? `revoked${because === null ? '' : ` by ${because}`}` : withdrawn ? 'withdrawn' : state;
  return `s${serial}-v${epoch} is ${fact}`;
}

async function runs(db: Db): Promise<readonly RunStatus[]> {
  const { rows } = await db.query<Omit<RunStatus, 'help'>>(
    `select u.id, u.workflow, u.workload, r.serial, d.path as revocation, u.step, u.waiting_for as "waitingFor", u.about, u.since, coalesce(u.next_retry_at, u.wake_at) as "nextRetryAt",
       u.deadline, u.created_at as "createdAt" from runs u left join revisions r on r.id = u.revision
       left join lateral (select min(path) as path from documents where digest = u.revocation and kind = 'Revocation') d on true
     where u.ended_at is null order by u.since nulls last, u.id`,
  );
  return rows.map((row) => ({ ...row, help: helpFor(row.waitingFor) }));
}

async function brokers(db: Db): Promise<readonly BrokerStatus[]> {
  const { rows } = await db.query<BrokerStatus>(
    `select b.name, b.generation, b.baseline, (select count(*) from deny_list d where d.kbs = b.name) as denied,
       coalesce((select json_agg(json_build_object('id', p.id, 'seenAt', to_char(p.seen_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
         'silent', p.seen_at + p.stale_seconds * interval '1 second' <= instant(),
         'caughtUp', p.acknowledged >= coalesce((select max(id) from deny_list d where d.kbs = b.name), 0)) order by p.id)
         from proxies p where p.kbs = b.name), '[]') as proxies
     from brokers b order by b.name`,
  );
  return rows;
}
