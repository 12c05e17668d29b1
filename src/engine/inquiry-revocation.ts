import type { Waiting } from '#src/domain/inquiry.ts';
import { type MomentInquiry, type RevocationInquiry, revocationConclusion, type UndoneStep } from '#src/domain/inquiry-revocation.ts';
import { liftBar } from '#src/domain/judge-reinstatement.ts';
import { type Reason, reasons } from '#src/domain/reasons.ts';
import { subjectWords } from '#src/domain/revocation-words.ts';
import { type RevocationView, readRevocationView, revocationNamed } from '#state/dashboard-revocation.ts';
import type { Db } from '#state/database.ts';
import { isHinted, type TimeLineEntry } from '#state/time-line.ts';

/** A workflow as far as an inquiry tells it. */
export interface StepNames {
  readonly name: string;
  readonly steps: readonly { readonly name: string }[];
}

/** Answers about a revocation: its id, its document's path or digest, or a run that carries it out or lifts it; null: there is none of this name. */
export async function revocationInquiry(emergencies: readonly StepNames[], db: Db, name: string): Promise<RevocationInquiry | null> {
  const id = await revocationNamed(db, name);
  const view = id === null ? null : await readRevocationView(db, id, name.startsWith('sha256:') ? name : null);
  if (view === null) return null;
  const { at, origin, said, affected, holders, liftings } = view;
  const { path, digest, verdict, approvedBy, reason, about, firstSeenAt, acceptedAt } = origin;
  const inquiry = {
    ...({ kind: 'revocation', at, id: view.id, path, digest, verdict, approvedBy, hinted: isHinted(origin) } as const),
    subject: said === null ? null : subjectWords(said.subject),
    ...{ reason: said?.reason ?? null, why: said?.why ?? null, recovery: said?.recovery ?? null },
    neverLifted: said === null ? null : liftBar(path, said)?.reason === 'NotASuspension' ? reasons.NotASuspension.help : null,
    ...{ workloads: affected.workloads, revisions: affected.revisionsTotal },
    moments: view.timeLine.map(momentOf),
    undone: undoneOf(view, emergencies),
    waiting: view.runs.flatMap(waitingOf),
    holders: { total: holders.total, fate: holders.pods[0]?.fate ?? null },
    liftings: liftings.map((one) => ({ path: one.path, verdict: one.verdict, approvedBy: one.approvedBy, justification: one.justification })),
  };
  const against = reason !== null && isReason(reason) ? { reason, about: about ?? path, since: acceptedAt ?? firstSeenAt } : null;
  return { ...inquiry, conclusion: revocationConclusion(inquiry, against) };
}

function momentOf({ at, milliseconds, event, receipt }: TimeLineEntry): MomentInquiry {
  if (receipt === null) return { at, milliseconds, event, workflow: null, receipt: null, seq: null, digest: null, proof: null, saw: [] };
  const { run, workflow, step, number, seq, digest, proof, saw } = receipt;
  return { at, milliseconds, event: step, workflow, receipt: `${run}/${number}`, seq, digest, proof, saw };
}

/** Of the runs that are open; what was lifted has nothing left to do. */
function undoneOf({ runs, origin }: RevocationView, emergencies: readonly StepNames[]): readonly UndoneStep[] {
  return runs
    .filter(({ endedAt }) => endedAt === null)
    .flatMap(({ workflow, receipts, createdAt }) => {
      const done = new Set(receipts.map(({ step }) => step));
      const since = workflow === 'revoke' ? (origin.acceptedAt ?? createdAt) : createdAt;
      const steps = emergencies.find(({ name }) => name === workflow)?.steps ?? [];
      return steps.filter(({ name }) => !done.has(name)).map(({ name }) => ({ workflow, step: name, since }));
    });
}

function waitingOf({ step, waitingFor, about, since, nextRetryAt, deadline, endedAt }: RevocationView['runs'][number]): readonly Waiting[] {
  if (endedAt !== null || waitingFor === null || !isReason(waitingFor)) return [];
  return [{ step, reason: waitingFor, about: about ?? '', since, nextRetryAt, deadline, gate: null, help: reasons[waitingFor].help }];
}

/** A row may be of a newer version, with a word that this one does not know. */
function isReason(text: string): text is Reason {
  return Object.hasOwn(reasons, text);
}
