import type { Reason } from '#src/domain/reasons.ts';
import type { Git } from '#src/domain/repository.ts';
import { lookAt } from '#src/domain/signatures.ts';
import type { Trust, TrustVerdict } from '#src/domain/trust.ts';
import { acceptBaseline, acceptPlatform, acceptRelease, acceptRevocation, acceptTrust } from '#state/acceptance.ts';
import { clockOf, type Db, transaction } from '#state/database.ts';
import {
  bundlesOf,
  documentAt,
  isChanged,
  keepBundles,
  lockSeries,
  namedFiles,
  type StoredDocument,
  type StoredKind,
  seriesOf,
  setVerdict,
} from '#state/documents.ts';
import { appendEvent } from '#state/events.ts';
import { insistent } from '#state/insistent.ts';
import { acceptReinstatement, liftingOf } from '#state/reinstatements.ts';
import { standingRevocations } from '#state/revocations.ts';
import { lockWorkload } from '#state/runs.ts';
import { storable } from '#state/text.ts';
import { lockTrust, trustInForce } from '#state/trust-chain.ts';
import { lockArriving } from '#state/want.ts';
import { acceptWithdrawal, withdrawalBar } from '#state/withdrawals.ts';
import { type Acceptable, findingOf, type Shelf } from './finding.ts';
import type { Intake } from './intake.ts';

/** What became of one document in this pass. */
export interface Outcome {
  readonly path: string;
  readonly kind: StoredKind;
  readonly verdict: StoredDocument['verdict'];
  /** null: accepted. */
  readonly reason: Reason | null;
  readonly about: string | null;
}

/** What settling a document needs: Git is not asked, only named. */
export type Settling = Omit<Intake, 'git'> & { readonly git: Pick<Git, 'branch'> };

/**
 * Judges one document in one transaction, under the lock of its series, and writes the verdict where it
 * changed; null: nothing changed. What is accepted takes effect in that same transaction.
 */
export async function settle(intake: Intake, row: Pick<StoredDocument, 'path' | 'digest' | 'kind'>, rewrittenTo: string | null): Promise<Outcome | null> {
  // What is revoked is refused now, whoever fell asleep over a lock.
  const begin = row.kind === 'Revocation' ? insistent : transaction;
  return begin(intake.pool, (tx) => settleIn(tx, intake, row, rewrittenTo));
}

/** The same in the caller's transaction. */
export async function settleIn(
  tx: Db,
  intake: Settling,
  row: Pick<StoredDocument, 'path' | 'digest' | 'kind'>,
  rewrittenTo: string | null,
): Promise<Outcome | null> {
  await lockTrust(tx, row.kind === 'Trust' ? 'change' : 'judge');
  await lockSeries(tx, row.path);
  const current = await documentAt(tx, row.path, row.digest);
  if (current === null || current.verdict !== 'waiting') return null;
  const trust = await trustInForce(tx, intake);
  const judging = { ...intake, trust, branch: intake.git.branch, rewrittenTo };
  const { judged, acceptable } = await findingOf(shelfOf(tx, intake), judging, current);
  const outcome: Outcome =
    judged.kind === 'accepted'
      ? { path: row.path, kind: row.kind, verdict: 'accepted', reason: null, about: null }
      : { path: row.path, kind: row.kind, verdict: judged.kind, reason: judged.reason, about: storable(judged.about) };
  if (outcome.verdict === 'waiting' && outcome.reason === current.reason && outcome.about === current.about) return null;
  const { approvedBy, signatures } = judged.kind === 'accepted' ? judged.value : { approvedBy: [], signatures: [] };
  const trustVersion = trust.kind === 'trusted' ? trust.trust.version : null;
  await setVerdict(tx, current, { verdict: outcome.verdict, reason: outcome.reason, about: outcome.about, trustVersion, approvedBy, signatures });
  if (judged.kind === 'accepted') {
    await keepGoodBundles(tx, intake, current, trust, acceptable?.kind === 'trust' ? acceptable.succession.trust : null);
    if (acceptable !== null) await accept(tx, intake, acceptable);
  }
  await tell(tx, intake, outcome);
  return outcome;
}

/** What carried the acceptance is looked at first from now on, whatever is laid beside the document later. A trust document's are its own people's, too. */
async function keepGoodBundles(tx: Db, { verifyBundle }: Settling, file: StoredDocument, trust: TrustVerdict, own: Trust | null): Promise<void> {
  if (trust.kind === 'bad') return;
  const bundles = await bundlesOf(tx, file.path, 'present');
  const looked = [trust.trust, ...(own === null ? [] : [own])].flatMap((one) => lookAt(file, bundles, one, verifyBundle));
  const good = looked.flatMap(({ path, verdict }) => (verdict.kind === 'signed' ? [path] : []));
  await keepBundles(tx, file.path, good);
}

/** What merely is not complete yet: the pull request's next commit brings it. */
const INCOMPLETE: readonly (Reason | null)[] = [null, 'SignaturesMissing', 'FileMissing'];

/**
 * Refusals are events, whether another document is needed or a better signature would do. So is a
 * revocation that nobody may have meant: it changes nothing, and somebody has to look.
 */
async function tell(tx: Db, { log }: Settling, outcome: Outcome): Promise<void> {
  const { path, kind, verdict, reason, about } = outcome;
  const isAlert = verdict === 'refused' || (verdict === 'waiting' && (kind === 'Revocation' || !INCOMPLETE.includes(reason)));
  if (isAlert) await appendEvent(tx, { event: 'refused', run: null, workload: null, body: { path, kind, reason, about } });
  const write = isAlert ? log.warn : log.info;
  write({ path, kind, verdict, reason, about }, 'a document was judged');
}

/** What was taken in before, as this transaction sees it. */
function shelfOf(tx: Db, { misfit, basis }: Settling): Shelf {
  return {
    now: clockOf(tx),
    isChanged: (path, digest) => isChanged(tx, path, digest),
    bundles: (path) => bundlesOf(tx, path, 'present'),
    series: (path, digest) => seriesOf(tx, path, digest),
    files: (file) => namedFiles(tx, file),
    hold: (arriving) => lockArriving(tx, arriving),
    revocations: () => standingRevocations(tx),
    misfit: (arriving) => misfit(tx, arriving),
    basis: (release) => basis(tx, release),
    withdrawalBar: async (withdrawal) => {
      await lockWorkload(tx, withdrawal.workload);
      return withdrawalBar(tx, withdrawal);
    },
    lifting: (reinstatement) => liftingOf(tx, reinstatement, true),
  };
}

function accept(tx: Db, { enlist, loaders }: Settling, acceptable: Acceptable): Promise<void> {
  switch (acceptable.kind) {
    case 'trust':
      return acceptTrust(tx, acceptable.succession);
    case 'release':
      return acceptRelease(tx, acceptable.release, enlist, acceptable.resting);
    case 'platform':
      return acceptPlatform(tx, acceptable.platform, enlist);
    case 'baseline':
      return acceptBaseline(tx, acceptable.baseline, enlist);
    case 'revocation':
      return acceptRevocation(tx, acceptable.revocation, enlist, loaders);
    case 'withdrawal':
      return acceptWithdrawal(tx, acceptable.withdrawal, enlist);
    case 'reinstatement':
      return acceptReinstatement(tx, acceptable.reinstatement, acceptable.revocation, enlist);
  }
}
