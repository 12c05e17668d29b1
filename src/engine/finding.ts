/**
 * What one document is worth: the same judgement for whoever takes it in and for whoever only asks what
 * would become of it. What was there before is read from a shelf; nothing is written.
 */
import type { Digest } from '#src/digest.ts';
import { parseDocument } from '#src/domain/documents/parse.ts';
import type { BaselineDocument, PlatformDocument, ReleaseDocument } from '#src/domain/documents/release.ts';
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
import { type Reinstatement, verifyReinstatement } from '#src/domain/judge-reinstatement.ts';
import { verifyRevocation } from '#src/domain/judge-revocation.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Release, Revocation } from '#src/domain/release.ts';
import { fieldWithRevoked, isTargetRevoked, type RevocationAt, revokedSigners, revokedValues } from '#src/domain/revoked.ts';
import { type RepositoryFile, type Signature, type VerifyBundle, withoutSigners } from '#src/domain/signatures.ts';
import { type NamedFiles, readTrust, type TrustVerdict } from '#src/domain/trust.ts';
import { type Succession, verifySuccession } from '#src/domain/trust-chain.ts';
import type { Refusal } from '#src/domain/want.ts';
import type { Instant } from '#src/instant.ts';
import { PLAINTEXT, type Resting } from '#state/basis.ts';
import type { Verifying } from '#state/document-loaders.ts';
import type { Standee, StoredKind } from '#state/documents.ts';
import type { Lifting } from '#state/reinstatements.ts';
import type { Arriving } from '#state/want.ts';
import type { Barred, Withdrawal } from '#state/withdrawals.ts';

/** A document to be judged. */
export interface Judgeable extends RepositoryFile {
  readonly digest: Digest;
  readonly kind: StoredKind;
}

/** An accepted revocation. */
export interface Standing extends RevocationAt {
  readonly path: string;
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
  readonly files: (file: RepositoryFile) => Promise<NamedFiles>;
  /** Keeps still, until the acceptance, what is asked from here on: two documents that fit what is there, but not each other, must not pass at once. */
  readonly hold: (arriving: Arriving) => Promise<void>;
  /** Every accepted revocation: its signers do not count, and what it names is not accepted any more. */
  readonly revocations: () => Promise<readonly Standing[]>;
  /** Whether it fits what is configured and what every KBS holds; null: it does. */
  readonly misfit: (arriving: Arriving) => Promise<Refusal | null>;
  /** Which sealing a release rests on; asked last. */
  readonly basis: (release: Release) => Promise<Resting>;
  /** What stands against a withdrawal; null: nothing. Keeps the workload still until the acceptance; asked last. */
  readonly withdrawalBar: (withdrawal: Withdrawal) => Promise<Barred | null>;
  /** Which revocation a reinstatement lifts. Keeps it still until the acceptance; asked last. */
  readonly lifting: (reinstatement: Reinstatement) => Promise<Lifting>;
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
  | { readonly kind: 'withdrawal'; readonly withdrawal: Withdrawal }
  | { readonly kind: 'reinstatement'; readonly reinstatement: Reinstatement; readonly revocation: Digest };

/** A judgement. */
export interface Finding {
  readonly judged: Judged<{ readonly approvedBy: readonly string[]; readonly signatures: readonly Signature[] }>;
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
  const signed: Evidence = { file, bundles: await shelf.bundles(file.path), trust: trust.trust, verifyBundle };
  const revocations = await shelf.revocations();
  const evidence = { ...signed, verifyBundle: withoutSigners(verifyBundle, revokedSigners(revocations)) };
  if (isRevocation) return findRevocation(signed, evidence.verifyBundle);
  if (rewrittenTo !== null) return bare('waiting', 'HistoryRewritten', `${file.path}: ${branch} was rewritten to ${rewrittenTo}`);
  if (file.kind === 'Withdrawal') return findWithdrawal(shelf, verifyWithdrawal(evidence, await shelf.now()), revocations);
  if (file.kind === 'Reinstatement') return findReinstatement(shelf, verifyReinstatement(evidence, await shelf.now()), revocations);
  const admission: Admission = { kind: 'first', now: await shelf.now(), standing: standingOf(await shelf.series(file.path, file.digest)) };
  return findSigned({ shelf, judging, evidence, admission, file, revocations });
}

/** The pinned document is accepted by its digest, the next version by its signatures, from whatever history. */
async function findTrust(shelf: Shelf, file: Judgeable, { trust, initialDigest, verifyBundle }: Judging): Promise<Finding> {
  if (file.digest === initialDigest) {
    const read = readTrust(file, await shelf.files(file));
    if (read.kind === 'bad') return bare(read.reason === 'FileMissing' ? 'waiting' : 'refused', read.reason, read.about);
    if (trust.kind === 'bad') return bare('waiting', trust.reason, trust.about);
    return { judged: { kind: 'accepted', value: { approvedBy: [], signatures: [] } }, acceptable: null };
  }
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return bare('refused', parsed.reason, parsed.about);
  if (trust.kind === 'bad') return bare('waiting', trust.reason, trust.about);
  const evidence: Evidence = { file, bundles: await shelf.bundles(file.path), trust: trust.trust, verifyBundle };
  const revoked = revokedSigners(await shelf.revocations()).map(({ person }) => person);
  const judged = verifySuccession(evidence, { now: await shelf.now(), revoked, files: await shelf.files(file) });
  return judged.kind === 'accepted' ? { judged, acceptable: { kind: 'trust', succession: judged.value } } : bare(judged.kind, judged.reason, judged.about);
}

function findRevocation(evidence: Evidence, beyond: VerifyBundle): Finding {
  const judged = verifyRevocation(evidence, beyond);
  if (judged.kind !== 'accepted') return { judged, acceptable: null };
  return { judged, acceptable: { kind: 'revocation', revocation: judged.value } };
}

/** What a document of a series is judged with. */
interface Bench {
  readonly shelf: Shelf;
  readonly judging: Judging;
  readonly evidence: Evidence;
  readonly admission: Admission;
  readonly file: Judgeable;
  /** Those that the evidence was judged under. */
  readonly revocations: readonly Standing[];
}

async function findSigned(bench: Bench): Promise<Finding> {
  const { shelf, judging, evidence, admission, file } = bench;
  switch (file.kind) {
    case 'Release':
      return findRelease(bench, verifyRelease(evidence, admission, { files: await shelf.files(file), sample: judging.sample }));
    case 'Platform':
      return fitting(bench, verifyPlatform(evidence, admission), (platform) => ({ kind: 'platform', platform }));
    case 'Baseline':
      return fitting(bench, verifyBaseline(evidence, admission), (baseline) => ({ kind: 'baseline', baseline }));
    case 'Trust':
    case 'Revocation':
    case 'Withdrawal':
    case 'Reinstatement':
    case 'File':
    case 'Unknown':
      return bare('refused', 'NotSupportedYet', `${file.path}: kind: ${file.kind}`);
  }
}

async function findWithdrawal(shelf: Shelf, judged: Judged<Withdrawal>, revocations: readonly Standing[]): Promise<Finding> {
  if (judged.kind !== 'accepted') return bare(judged.kind, judged.reason, judged.about);
  const withdrawal = judged.value;
  const bar = await shelf.withdrawalBar(withdrawal);
  const overtaken = overtakenBy(await shelf.revocations(), revocations, withdrawal.path);
  if (overtaken !== null) return overtaken;
  return bar === null ? { judged, acceptable: { kind: 'withdrawal', withdrawal } } : bare(bar.kind, bar.reason, bar.about);
}

async function findReinstatement(shelf: Shelf, judged: Judged<Reinstatement>, revocations: readonly Standing[]): Promise<Finding> {
  if (judged.kind !== 'accepted') return bare(judged.kind, judged.reason, judged.about);
  const reinstatement = judged.value;
  const lifting = await shelf.lifting(reinstatement);
  const overtaken = overtakenBy(await shelf.revocations(), revocations, reinstatement.path);
  if (overtaken !== null) return overtaken;
  if (lifting.kind !== 'found') return bare(lifting.kind, lifting.reason, lifting.about);
  return { judged, acceptable: { kind: 'reinstatement', reinstatement, revocation: lifting.revocation } };
}

async function findRelease(bench: Bench, judged: Judged<Release>): Promise<Finding> {
  const finding = await fitting(bench, judged, (release) => ({ kind: 'release', release, resting: PLAINTEXT }));
  if (finding.acceptable?.kind !== 'release') return finding;
  const { release } = finding.acceptable;
  const resting = await bench.shelf.basis(release);
  return resting.kind === 'found' ? { ...finding, acceptable: { kind: 'release', release, resting } } : bare(resting.kind, resting.reason, resting.about);
}

/** A well-signed document that does not fit what is there waits: another document, or the operator, can still mend that. */
async function fitting<T extends Checked<object>>({ shelf, revocations }: Bench, judged: Judged<T>, arrivingOf: (value: T) => Fitting): Promise<Finding> {
  if (judged.kind !== 'accepted') return bare(judged.kind, judged.reason, judged.about);
  const arriving = arrivingOf(judged.value);
  await shelf.hold(arriving);
  const { path } = judged.value;
  const forbidden = overtakenBy(await shelf.revocations(), revocations, path) ?? forbiddenBy(revocations, arriving, path);
  if (forbidden !== null) return forbidden;
  const misfit = await shelf.misfit(arriving);
  if (misfit !== null) return bare('waiting', misfit.reason, misfit.about);
  return { judged, acceptable: arriving };
}

/** A signer may have been revoked between the count and the lock that keeps revocations out: it is counted again by the next pass. */
function overtakenBy(now: readonly Standing[], counted: readonly Standing[], path: string): Finding | null {
  const newer = now.find((one) => !counted.some((before) => before.path === one.path));
  return newer === undefined ? null : bare('waiting', 'Revoked', `${path}: ${newer.path} was accepted meanwhile`);
}

/** What was revoked is not accepted any more: a reference value never again, a target not while its revocation stands. */
function forbiddenBy(revocations: readonly Standing[], arriving: Fitting, path: string): Finding | null {
  for (const { path: because, subject } of revocations) {
    const isRevoked = revokedValues([subject]);
    const field = isRevoked === null ? null : fieldWithRevoked(documentOf(arriving), isRevoked);
    if (field !== null) return bare('refused', 'ReferenceValueRevoked', `${path}: ${field}: ${because} names a value of it`);
    const target = arriving.kind === 'release' ? arriving.release.targets.findIndex((one) => isTargetRevoked(one, [subject])) : -1;
    if (target >= 0) return bare('waiting', 'Revoked', `${path}: targets.${target}: ${because} names it`);
  }
  return null;
}

function documentOf(fitting: Fitting): ReleaseDocument | PlatformDocument | BaselineDocument {
  switch (fitting.kind) {
    case 'release':
      return fitting.release;
    case 'platform':
      return fitting.platform;
    case 'baseline':
      return fitting.baseline;
  }
}

/** The last accepted one is the highest serial ever accepted: it never goes back. */
function standingOf(series: readonly Standee[]): Extract<Admission, { kind: 'first' }>['standing'] {
  return { last: series.find(({ accepted }) => accepted) ?? null, others: series };
}

function bare(kind: 'waiting' | 'refused', reason: Reason, about: string): Finding {
  return { judged: { kind, reason, about }, acceptable: null };
}
