import { parseDocument } from '#src/domain/documents/parse.ts';
import { isCarriedOut } from '#src/domain/documents/rules.ts';
import { type Admission, type Evidence, type Judged, verifyBaseline, verifyPlatform, verifyRelease } from '#src/domain/judge.ts';
import { verifyRevocation } from '#src/domain/judge-revocation.ts';
import type { Reason } from '#src/domain/reasons.ts';
import { lookAt } from '#src/domain/signatures.ts';
import type { verifyTrust } from '#src/domain/trust.ts';
import { acceptBaseline, acceptPlatform, acceptRelease, acceptRevocation } from '#state/acceptance.ts';
import { clockOf, type Db, transaction } from '#state/database.ts';
import { revokedSigners } from '#state/document-holds.ts';
import { namedFiles } from '#state/document-loaders.ts';
import {
  bundlesOf,
  documentAt,
  isChanged,
  keepBundles,
  lockSeries,
  type Standee,
  type StoredDocument,
  type StoredKind,
  seriesOf,
  setVerdict,
} from '#state/documents.ts';
import { appendEvent } from '#state/events.ts';
import type { Enlist } from '#state/runs.ts';
import { storable } from '#state/text.ts';
import { type Arriving, lockArriving } from '#state/want.ts';
import type { Intake } from './intake.ts';

/** What became of one document in this pass. */
export interface Outcome {
  readonly path: string;
  readonly kind: StoredKind;
  readonly verdict: StoredDocument['verdict'];
  /** null: accepted, and all of it can be carried out. */
  readonly reason: Reason | null;
  readonly about: string | null;
}

/** A judgement, and how an acceptance becomes ours. */
interface Finding {
  readonly judged: Judged<{ readonly approvedBy: readonly string[] }>;
  /** Where accepted: what cannot be carried out. */
  readonly beyond: string | null;
  readonly accept: (tx: Db) => Promise<void>;
}

/**
 * Judges one document in one transaction, under the lock of its series, and writes the verdict where it
 * changed; null: nothing changed. What is accepted takes effect in that same transaction.
 */
export async function settle(
  intake: Intake,
  row: Pick<StoredDocument, 'path' | 'digest' | 'kind'>,
  trust: ReturnType<typeof verifyTrust>,
  rewrittenTo: string | null,
): Promise<Outcome | null> {
  return transaction(intake.pool, async (tx) => {
    await lockSeries(tx, row.path);
    const current = await documentAt(tx, row.path, row.digest);
    if (current === null || current.verdict !== 'waiting') return null;
    const finding = await find(tx, intake, current, trust, rewrittenTo);
    const { judged, beyond } = finding;
    const outcome: Outcome =
      judged.kind === 'accepted'
        ? { path: row.path, kind: row.kind, verdict: 'accepted', reason: beyond === null ? null : 'NotSupportedYet', about: beyond }
        : { path: row.path, kind: row.kind, verdict: judged.kind, reason: judged.reason, about: storable(judged.about) };
    if (outcome.verdict === 'waiting' && outcome.reason === current.reason && outcome.about === current.about) return null;
    const approvedBy = judged.kind === 'accepted' ? judged.value.approvedBy : [];
    const trustVersion = trust.kind === 'trusted' ? trust.trust.version : null;
    await setVerdict(tx, current, { verdict: outcome.verdict, reason: outcome.reason, about: outcome.about, trustVersion, approvedBy });
    if (judged.kind === 'accepted') {
      await keepGoodBundles(tx, intake, current, trust);
      await finding.accept(tx);
    }
    await tell(tx, intake, outcome);
    return outcome;
  });
}

/** What carried the acceptance is looked at first from now on, whatever is laid beside the document later. */
async function keepGoodBundles(tx: Db, { verifyBundle }: Intake, file: StoredDocument, trust: ReturnType<typeof verifyTrust>): Promise<void> {
  if (trust.kind === 'bad') return;
  const looked = lookAt(file, await bundlesOf(tx, file.path, 'present'), trust.trust.keys, verifyBundle);
  const good = looked.flatMap(({ path, verdict }) => (verdict.kind === 'signed' ? [path] : []));
  await keepBundles(tx, file.path, good);
}

/** What merely is not complete yet: the pull request's next commit brings it. */
const INCOMPLETE: readonly (Reason | null)[] = [null, 'SignaturesMissing', 'FileMissing'];

/**
 * Refusals are events, whether another document is needed or a better signature would do. So is a
 * revocation that nobody may have meant: it changes nothing, and somebody has to look.
 */
async function tell(tx: Db, { log }: Intake, outcome: Outcome): Promise<void> {
  const { path, kind, verdict, reason, about } = outcome;
  const isAlert = verdict === 'refused' || (verdict === 'waiting' && (kind === 'Revocation' || !INCOMPLETE.includes(reason)));
  if (isAlert) await appendEvent(tx, { event: 'refused', run: null, workload: null, body: { path, kind, reason, about } });
  const write = isAlert || reason === 'NotSupportedYet' ? log.warn : log.info;
  write({ path, kind, verdict, reason, about }, 'a document was judged');
}

async function find(tx: Db, intake: Intake, row: StoredDocument, trust: ReturnType<typeof verifyTrust>, rewrittenTo: string | null): Promise<Finding> {
  const isRevocation = row.kind === 'Revocation';
  // Exempt are the pinned trust document, whose digest says enough, and a revocation: whoever puts junk at its path first must not keep the
  // signed one out.
  const isExempt = isRevocation || row.digest === intake.initialDigest;
  if (!isExempt && (await isChanged(tx, row.path, row.digest))) return bare('refused', 'DocumentChanged', `${row.path}: other bytes were seen here before`);
  if (row.kind === 'Trust') return findTrust(row, intake, trust);
  const parsed = parseDocument(row.path, row.bytes);
  if (parsed.kind === 'bad') return bare('refused', parsed.reason, parsed.about);
  if (trust.kind === 'bad') return bare('waiting', trust.reason, trust.about);
  const evidence: Evidence = { file: row, bundles: await bundlesOf(tx, row.path, 'present'), trust: trust.trust, verifyBundle: intake.verifyBundle };
  if (isRevocation) return findRevocation(intake, evidence);
  if (rewrittenTo !== null) return bare('waiting', 'HistoryRewritten', `${row.path}: ${intake.git.branch} was rewritten to ${rewrittenTo}`);
  const admission: Admission = { kind: 'first', now: await clockOf(tx)(), standing: standingOf(await seriesOf(tx, row.path, row.digest)) };
  return findSigned(tx, intake, evidence, admission, row);
}

/** The pinned document is accepted by its digest; another version is not built yet, and says so. */
function findTrust(row: StoredDocument, intake: Intake, trust: ReturnType<typeof verifyTrust>): Finding {
  if (row.digest === intake.initialDigest) {
    if (trust.kind === 'bad') return bare('refused', trust.reason, trust.about);
    return { judged: { kind: 'accepted', value: { approvedBy: [] } }, beyond: null, accept: async () => undefined };
  }
  const parsed = parseDocument(row.path, row.bytes);
  if (parsed.kind === 'bad') return bare('refused', parsed.reason, parsed.about);
  return bare('waiting', 'TrustMissing', `${row.path} is ${row.digest}; the configuration pins ${intake.initialDigest}`);
}

function findRevocation(intake: Intake, evidence: Evidence): Finding {
  const judged = verifyRevocation(evidence);
  if (judged.kind !== 'accepted') return { judged, beyond: null, accept: async () => undefined };
  const { subject } = judged.value;
  const beyond = isCarriedOut(subject)
    ? null
    : `${evidence.file.path}: subject.kind: ${subject.kind} is recorded, and holds every workload that it could touch`;
  return { judged, beyond, accept: (tx) => acceptRevocation(tx, judged.value, intake.enlist) };
}

async function findSigned(tx: Db, intake: Intake, evidence: Evidence, admission: Admission, row: StoredDocument): Promise<Finding> {
  switch (row.kind) {
    case 'Release': {
      const judged = verifyRelease(evidence, admission, { files: await namedFiles(tx, row), sample: intake.sample });
      return fitting(tx, intake, judged, (release) => ({ kind: 'release', release }), acceptRelease);
    }
    case 'Platform': {
      const judged = verifyPlatform(evidence, admission);
      return fitting(tx, intake, judged, (platform) => ({ kind: 'platform', platform }), acceptPlatform);
    }
    case 'Baseline': {
      const judged = verifyBaseline(evidence, admission);
      return fitting(tx, intake, judged, (baseline) => ({ kind: 'baseline', baseline }), acceptBaseline);
    }
    case 'Trust':
    case 'Revocation':
    case 'Withdrawal':
    case 'Reinstatement':
    case 'File':
    case 'Unknown':
      return bare('refused', 'NotSupportedYet', `${row.path}: kind: ${row.kind}`);
  }
}

/** A well-signed document that does not fit what is there waits: another document, or the operator, can still mend that. */
async function fitting<T extends { readonly path: string; readonly approvedBy: readonly string[] }>(
  tx: Db,
  intake: Intake,
  judged: Judged<T>,
  arriving: (value: T) => Arriving,
  accept: (tx: Db, value: T, enlist: Enlist) => Promise<void>,
): Promise<Finding> {
  if (judged.kind !== 'accepted') return bare(judged.kind, judged.reason, judged.about);
  // Two documents that fit what is there, but not each other, must not pass at once in two replicas.
  await lockArriving(tx, arriving(judged.value));
  const { path, approvedBy } = judged.value;
  const revoked = (await revokedSigners(tx)).find(({ person }) => approvedBy.includes(person));
  if (revoked !== undefined) return bare('waiting', 'Revoked', `${path}: signed by ${revoked.person}, whom ${revoked.path} names`);
  const misfit = await intake.misfit(tx, arriving(judged.value));
  if (misfit !== null) return bare('waiting', misfit.reason, misfit.about);
  return { judged, beyond: null, accept: (open) => accept(open, judged.value, intake.enlist) };
}

/** The last accepted one is the highest serial ever accepted: it never goes back. */
function standingOf(series: readonly Standee[]): Extract<Admission, { kind: 'first' }>['standing'] {
  return { last: series.find(({ accepted }) => accepted) ?? null, others: series };
}

function bare(kind: 'waiting' | 'refused', reason: Reason, about: string): Finding {
  return { judged: { kind, reason, about }, beyond: null, accept: async () => undefined };
}
