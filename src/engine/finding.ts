/**
 * What one document is worth: the same judgement for whoever takes it in and for whoever only asks what
 * would become of it. What was there before is read from a shelf; nothing is written.
 */
import type { Digest } from '#src/digest.ts';
import { parseDocument } from '#src/domain/documents/parse.ts';
import type { BaselineDocument, PlatformDocument } from '#src/domain/documents/release.ts';
import { isCarriedOut } from '#src/domain/documents/rules.ts';
import {
  type Admission,
  type Checked,
  type Evidence,
  type Judged,
  verifyBaseline,
  verifyPlatform,
  verifyRelease,
  verifyWithdrawal,
} from '#src/domain/judge.ts';
import { verifyRevocation } from '#src/domain/judge-revocation.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Release, Revocation } from '#src/domain/release.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { readTrust, type TrustVerdict } from '#src/domain/trust.ts';
import { type Succession, verifySuccession } from '#src/domain/trust-chain.ts';
import type { Refusal } from '#src/domain/want.ts';
import type { Instant } from '#src/instant.ts';
import { PLAINTEXT, type Resting } from '#state/basis.ts';
import type { Verifying } from '#state/document-loaders.ts';
import type { Standee, StoredKind } from '#state/documents.ts';
import type { Arriving } from '#state/want.ts';
import type { Barred, Withdrawal } from '#state/withdrawals.ts';

/** A document to be judged. */
export interface Judgeable extends RepositoryFile {
  readonly digest: Digest;
  readonly kind: StoredKind;
}

/** All that a judgement asks of what was there before, and of what lies beside the document. */
export interface Shelf {
  readonly now: () => Promise<Instant>;
  /** Whether other bytes were seen at this path before these. */
  readonly isChanged: (path: string, digest: Digest) => Promise<boolean>;
  readonly bundles: (path: string) => Promise<readonly RepositoryFile[]>;
  /** Every other file of the series that a path belongs to, the newest first. */
  readonly series: (path: string, digest: Digest) => Promise<readonly Standee[]>;
  /** The files that a document names by digest, as far as they are there. */
  readonly files: (file: RepositoryFile) => Promise<(path: string, digest: Digest) => Uint8Array | null>;
  /** Keeps still, until the acceptance, what is asked from here on: two documents that fit what is there, but not each other, must not pass at once. */
  readonly hold: (arriving: Arriving) => Promise<void>;
  /** Those whose signature spoils an acceptance, each with the revocation that says so. */
  readonly revokedSigners: () => Promise<readonly { readonly person: string; readonly path: string }[]>;
  /** Whether it fits what is configured and what every KBS holds; null: it does. */
  readonly misfit: (arriving: Arriving) => Promise<Refusal | null>;
  /** Which sealing a release rests on; asked last. */
  readonly basis: (release: Release) => Promise<Resting>;
  /** What stands against a withdrawal; null: nothing. Keeps the workload still until the acceptance; asked last. */
  readonly withdrawalBar: (withdrawal: Withdrawal) => Promise<Barred | null>;
}

/** What a judgement rests on beside the shelf. */
export interface Judging extends Verifying {
  /** The trust in force. */
  readonly trust: TrustVerdict;
  /** The watched branch's name. */
  readonly branch: string;
  /** A tip that does not descend from the last accepted commit; null: the history is whole. */
  readonly rewrittenTo: string | null;
}

/** The sealing that a release rests on. */
type Found = Extract<Resting, { kind: 'found' }>;

/** A document that a KBS has to be told of. */
type Fitting =
  | { readonly kind: 'release'; readonly release: Release; readonly resting: Found }
  | { readonly kind: 'baseline'; readonly baseline: Checked<BaselineDocument> }
  | { readonly kind: 'platform'; readonly platform: Checked<PlatformDocument> };

/** A document that may become ours. */
export type Acceptable =
  | Fitting
  | { readonly kind: 'trust'; readonly succession: Succession }
  | { readonly kind: 'revocation'; readonly revocation: Revocation }
  | { readonly kind: 'withdrawal'; readonly withdrawal: Withdrawal };

/** A judgement. */
export interface Finding {
  readonly judged: Judged<{ readonly approvedBy: readonly string[] }>;
  /** Where accepted: what cannot be carried out; null: all can be. */
  readonly beyond: string | null;
  /** Where accepted: what it changes; null: nothing but itself (the pinned trust document). */
  readonly acceptable: Acceptable | null;
}

/** Judges one document. Throws Fault where what it is compared with cannot be read. */
export async function findingOf(shelf: Shelf, judging: Judging, file: Judgeable): Promise<Finding> {
  const { trust, rewrittenTo, verifyBundle, branch } = judging;
  const isRevocation = file.kind === 'Revocation';
  // Exempt are a revocation and a trust document, of which there is one path for each version: whoever puts junk there first must not keep the
  // signed one out.
  const isExempt = isRevocation || file.kind === 'Trust';
  if (!isExempt && (await shelf.isChanged(file.path, file.digest)))
    return bare('refused', 'DocumentChanged', `${file.path}: other bytes were seen here before`);
  if (file.kind === 'Trust') return findTrust(shelf, file, judging);
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return bare('refused', parsed.reason, parsed.about);
  if (trust.kind === 'bad') return bare('waiting', trust.reason, trust.about);
  const evidence: Evidence = { file, bundles: await shelf.bundles(file.path), trust: trust.trust, verifyBundle };
  if (isRevocation) return findRevocation(evidence);
  if (rewrittenTo !== null) return bare('waiting', 'HistoryRewritten', `${file.path}: ${branch} was rewritten to ${rewrittenTo}`);
  if (file.kind === 'Withdrawal') return findWithdrawal(shelf, verifyWithdrawal(evidence, await shelf.now()));
  const admission: Admission = { kind: 'first', now: await shelf.now(), standing: standingOf(await shelf.series(file.path, file.digest)) };
  return findSigned(shelf, judging, evidence, admission, file);
}

/** The pinned document is accepted by its digest, the next version by its signatures, from whatever history. */
async function findTrust(shelf: Shelf, file: Judgeable, { trust, initialDigest, verifyBundle }: Judging): Promise<Finding> {
  if (file.digest === initialDigest) {
    const read = readTrust(file);
    if (read.kind === 'bad') return bare('refused', read.reason, read.about);
    if (trust.kind === 'bad') return bare('waiting', trust.reason, trust.about);
    return { judged: { kind: 'accepted', value: { approvedBy: [] } }, beyond: null, acceptable: null };
  }
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return bare('refused', parsed.reason, parsed.about);
  if (trust.kind === 'bad') return bare('waiting', trust.reason, trust.about);
  const evidence: Evidence = { file, bundles: await shelf.bundles(file.path), trust: trust.trust, verifyBundle };
  const revoked = (await shelf.revokedSigners()).map(({ person }) => person);
  const judged = verifySuccession(evidence, { now: await shelf.now(), revoked });
  return judged.kind === 'accepted'
    ? { judged, beyond: null, acceptable: { kind: 'trust', succession: judged.value } }
    : bare(judged.kind, judged.reason, judged.about);
}

function findRevocation(evidence: Evidence): Finding {
  const judged = verifyRevocation(evidence);
  if (judged.kind !== 'accepted') return { judged, beyond: null, acceptable: null };
  const { subject } = judged.value;
  const beyond = isCarriedOut(subject)
    ? null
    : `${evidence.file.path}: subject.kind: ${subject.kind} is recorded, and holds every workload that it could touch`;
  return { judged, beyond, acceptable: { kind: 'revocation', revocation: judged.value } };
}

async function findSigned(shelf: Shelf, judging: Judging, evidence: Evidence, admission: Admission, file: Judgeable): Promise<Finding> {
  switch (file.kind) {
    case 'Release':
      return findRelease(shelf, verifyRelease(evidence, admission, { files: await shelf.files(file), sample: judging.sample }));
    case 'Platform':
      return fitting(shelf, verifyPlatform(evidence, admission), (platform) => ({ kind: 'platform', platform }));
    case 'Baseline':
      return fitting(shelf, verifyBaseline(evidence, admission), (baseline) => ({ kind: 'baseline', baseline }));
    case 'Trust':
    case 'Revocation':
    case 'Withdrawal':
    case 'Reinstatement':
    case 'File':
    case 'Unknown':
      return bare('refused', 'NotSupportedYet', `${file.path}: kind: ${file.kind}`);
  }
}

async function findWithdrawal(shelf: Shelf, judged: Judged<Withdrawal>): Promise<Finding> {
  if (judged.kind !== 'accepted') return bare(judged.kind, judged.reason, judged.about);
  const withdrawal = judged.value;
  const spoilt = await spoiltBy(shelf, withdrawal);
  if (spoilt !== null) return spoilt;
  const bar = await shelf.withdrawalBar(withdrawal);
  return bar === null ? { judged, beyond: null, acceptable: { kind: 'withdrawal', withdrawal } } : bare(bar.kind, bar.reason, bar.about);
}

async function findRelease(shelf: Shelf, judged: Judged<Release>): Promise<Finding> {
  const finding = await fitting(shelf, judged, (release) => ({ kind: 'release', release, resting: PLAINTEXT }));
  if (finding.acceptable?.kind !== 'release') return finding;
  const { release } = finding.acceptable;
  const resting = await shelf.basis(release);
  return resting.kind === 'found' ? { ...finding, acceptable: { kind: 'release', release, resting } } : bare(resting.kind, resting.reason, resting.about);
}

/** A well-signed document that does not fit what is there waits: another document, or the operator, can still mend that. */
async function fitting<T extends { readonly path: string; readonly approvedBy: readonly string[] }>(
  shelf: Shelf,
  judged: Judged<T>,
  arrivingOf: (value: T) => Fitting,
): Promise<Finding> {
  if (judged.kind !== 'accepted') return bare(judged.kind, judged.reason, judged.about);
  const arriving = arrivingOf(judged.value);
  await shelf.hold(arriving);
  const spoilt = await spoiltBy(shelf, judged.value);
  if (spoilt !== null) return spoilt;
  const misfit = await shelf.misfit(arriving);
  if (misfit !== null) return bare('waiting', misfit.reason, misfit.about);
  return { judged, beyond: null, acceptable: arriving };
}

/** Nothing that a revoked signer signed is accepted, whoever signed beside them. */
async function spoiltBy(shelf: Shelf, { path, approvedBy }: { readonly path: string; readonly approvedBy: readonly string[] }): Promise<Finding | null> {
  const revoked = (await shelf.revokedSigners()).find(({ person }) => approvedBy.includes(person));
  return revoked === undefined ? null : bare('waiting', 'Revoked', `${path}: signed by ${revoked.person}, whom ${revoked.path} names`);
}

/** The last accepted one is the highest serial ever accepted: it never goes back. */
function standingOf(series: readonly Standee[]): Extract<Admission, { kind: 'first' }>['standing'] {
  return { last: series.find(({ accepted }) => accepted) ?? null, others: series };
}

function bare(kind: 'waiting' | 'refused', reason: Reason, about: string): Finding {
  return { judged: { kind, reason, about }, beyond: null, acceptable: null };
}
