import { parseDocument } from '#src/domain/documents/parse.ts';
import type { RevocationDocument, RevocationSubject } from '#src/domain/documents/trust.ts';
import { subjectWords } from '#src/domain/revocation-words.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { storable } from './text.ts';

/** An accepted revocation that is not carried out whole yet, or one that is being lifted. */
export interface EmergencyStatus {
  /** `revoke`; `reinstate` where it is being lifted. */
  readonly workflow: string;
  /** The revocation's, as `revocations/<id>.yaml` has it. */
  readonly id: string;
  readonly path: string;
  /** What it names, in words; null: its bytes cannot be read. */
  readonly subject: string | null;
  /** The document that lifts it; null: none does. */
  readonly reinstatement: string | null;
  readonly workloads: readonly string[];
  readonly acceptedAt: Instant | null;
  /** null: this version cannot carry it out, and `waitingFor` says so. */
  readonly run: string | null;
  /** Steps that have a receipt, in the order in which they came about. */
  readonly done: readonly string[];
  readonly step: string | null;
  readonly waitingFor: string | null;
  readonly about: string | null;
  readonly help: string | null;
  readonly since: Instant | null;
  readonly nextRetryAt: Instant | null;
}

interface Row extends Omit<EmergencyStatus, 'id' | 'subject' | 'help'> {
  readonly bytes: Buffer;
  readonly named: RevocationSubject | null;
}

/** More at once are one incident; those that began first are told. */
const EMERGENCIES_SHOWN = 100;

/** What is under way, as it began. `helpFor`: what a person can do about a reason. */
export async function emergencyStatuses(db: Db, helpFor: (reason: string | null) => string | null): Promise<readonly EmergencyStatus[]> {
  const { rows } = await db.query<Row>(
    `select coalesce(u.workflow, 'revoke') as workflow, d.path, d.bytes, d.subject as named, d.judged_at as "acceptedAt", u.id as run, u.step,
       coalesce(u.waiting_for, case when u.id is null then d.reason end) as "waitingFor", coalesce(u.about, case when u.id is null then d.about end) as about,
       coalesce(u.since, case when u.id is null then d.judged_at end) as since, coalesce(u.next_retry_at, u.wake_at) as "nextRetryAt",
       (select min(l.path) from documents l where l.digest = u.reinstatement and l.kind = 'Reinstatement') as reinstatement,
       array(select distinct r.workload from denials n join revisions r on r.id = n.revision where n.revocation = d.digest order by r.workload) as workloads,
       array(select c.step from receipts c where c.run = u.id order by c.number) as done
     from documents d left join runs u on u.revocation = d.digest and u.workflow in ('revoke', 'reinstate')
     where d.kind = 'Revocation' and d.verdict = 'accepted' and u.ended_at is null and (u.id is not null or d.lifted_by is null)
     order by d.seen, u.created_at limit $1`,
    [EMERGENCIES_SHOWN],
  );
  return rows.map(({ bytes, named, ...row }) => {
    const subject = readRevocation(row.path, bytes)?.subject ?? named;
    return {
      ...row,
      id: idOfRevocation(row.path) ?? row.path,
      subject: subject === null ? null : storable(subjectWords(subject)),
      help: helpFor(row.waitingFor),
    };
  });
}

/** What a revocation's bytes say; null: they are none. */
export function readRevocation(path: string, bytes: Uint8Array): RevocationDocument | null {
  const parsed = parseDocument(path, bytes);
  return parsed.kind === 'parsed' && parsed.document.kind === 'Revocation' ? parsed.document : null;
}

/** The id in `revocations/<id>.yaml`; null: it is no such path. */
export function idOfRevocation(path: string): string | null {
  return /^revocations\/([a-z0-9-]{1,60})\.yaml$/.exec(path)?.[1] ?? null;
}
