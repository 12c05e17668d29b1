/**
 * Judges documents: bytes and bundles in, a verdict out. Pure: what was accepted before, the files that
 * a document names and the time are arguments. Nothing else makes a `Release`.
 */
import { type Digest, digestOf, isDigest } from '../digest.ts';
import { type Instant, parseInstant } from '../instant.ts';
import { parseDocument } from './documents/parse.ts';
import type { BaselineDocument, PlatformDocument, ReleaseDocument } from './documents/release.ts';
import type { WithdrawalDocument } from './documents/trust.ts';
import type { Reason } from './reasons.ts';
import type { Release } from './release.ts';
import { type Count, countPeople, lookAt, type Quorum, type RepositoryFile, type Signature, type VerifyBundle } from './signatures.ts';
import { approversOf, type Trust } from './trust.ts';

/** What became of a document. `waiting`: more files, signatures or time can still mend it. `refused`: only another document can. */
export type Judged<T> =
  | { readonly kind: 'accepted'; readonly value: T }
  | { readonly kind: 'waiting' | 'refused'; readonly reason: Reason; readonly about: string };

/** A document and what lies beside it. */
export interface Evidence {
  readonly file: RepositoryFile;
  readonly bundles: readonly RepositoryFile[];
  readonly trust: Trust;
  readonly verifyBundle: VerifyBundle;
}

/** What stands before a document of a counted series: its workload's releases, its platform's serials, its broker's versions. */
export interface Standing {
  /** The last one accepted; null: none was. */
  readonly last: { readonly serial: number; readonly digest: Digest } | null;
  /** Every other file of the same series that was ever seen. */
  readonly others: readonly { readonly serial: number; readonly digest: Digest; readonly accepted: boolean }[];
}

/** A document's first judgement, or its signatures' second one: what bounds acceptance (serial, expiry) bounds the first alone. */
export type Admission = { readonly kind: 'first'; readonly now: Instant; readonly standing: Standing } | { readonly kind: 'again' };

/** A checked platform, baseline or withdrawal. */
export type Checked<T> = T & {
  readonly digest: Digest;
  readonly path: string;
  readonly approvedBy: readonly string[];
  readonly signatures: readonly Signature[];
};

/**
 * Judges a release: well-formed, not expired, in its place after the last accepted one, every file that
 * it names there with its digest, signed by enough approvers of its workload. `files` gives a named file's
 * bytes where the repository held them; they are hashed again. `sample`: whether TEE `sample` is good here.
 */
export function verifyRelease(
  evidence: Evidence,
  admission: Admission,
  more: { readonly files: (path: string, digest: Digest) => Uint8Array | null; readonly sample: boolean },
): Judged<Release> {
  const { file, trust } = evidence;
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return { ...parsed, kind: 'refused' };
  if (parsed.document.kind !== 'Release') return refused('WrongPlace', `${file.path}: kind: expected Release`);
  const document = parsed.document;
  const sample = Object.entries(document.guests).find(([, guest]) => guest.tee === 'sample');
  if (sample !== undefined && !more.sample) return refused('NotConfigured', `${file.path}: guests.${sample[0]}.tee: sample is for mode lab only`);
  const bar = admission.kind === 'first' ? releaseBar(document, evidence, admission) : null;
  if (bar !== null) return bar;
  const initData = readInitData(file.path, document, more.files);
  if (initData.kind !== 'read') return initData;
  const approvers = approversOf(trust, document.workload);
  if (approvers === null) return waiting('SignerNotEntitled', `${file.path}: nobody may approve releases of ${document.workload}`);
  const count = countOf(evidence, approvers);
  if (count.kind === 'short') return waiting(count.reason, `${file.path}: ${count.about}`);
  const { people: approvedBy, signatures } = count;
  const own = { digest: digestOf(file.bytes), path: file.path, approvedBy, signatures, trustVersion: trust.version, initData: initData.texts };
  return { kind: 'accepted', value: { ...document, ...own } };
}

/** What bounds a release's acceptance: the trust document's expiry, its own, its serial, its predecessor. */
function releaseBar(document: ReleaseDocument, { file, trust }: Evidence, { now, standing }: Extract<Admission, { kind: 'first' }>): Judged<never> | null {
  const order = orderBar(file.path, document, standing);
  if (order !== null) return order;
  if (now >= parseInstant(document.expires)) return refused('Expired', `${file.path}: expires: ${document.expires} is past`);
  return trustBar(file.path, trust, now);
}

/** What the trust document's own expiry has against an acceptance; null: nothing. */
export function trustBar(path: string, trust: Trust, now: Instant): Judged<never> | null {
  return now < trust.expires ? null : waiting('TrustExpired', `${path}: trust version ${trust.version} expired at ${trust.expires}`);
}

/** Anti-replay: above the last accepted serial, and naming it or a later file that was never accepted. */
function orderBar(path: string, document: { readonly serial: number; readonly previous: string | null }, { last, others }: Standing): Judged<never> | null {
  if (last !== null && document.serial <= last.serial) {
    return refused('SerialReplayed', `${path}: serial: expected more than ${last.serial}, the last one accepted`);
  }
  const between = others.filter(({ serial, accepted }) => !accepted && serial < document.serial && serial > (last?.serial ?? -1));
  if (document.previous === (last?.digest ?? null) || between.some(({ digest }) => digest === document.previous)) return null;
  const about = `${path}: previous: expected ${last === null ? 'null' : `${last.digest}, the last one accepted`}`;
  // A predecessor that nobody has seen may still be merged; one that was seen and does not fit never will fit.
  const seen = document.previous === null || document.previous === last?.digest || others.some(({ digest }) => digest === document.previous);
  return seen ? refused('PreviousWrong', about) : waiting('PreviousWrong', about);
}

function readInitData(
  path: string,
  document: ReleaseDocument,
  files: (path: string, digest: Digest) => Uint8Array | null,
):
  | { readonly kind: 'read'; readonly texts: Readonly<Record<string, string>> }
  | { readonly kind: 'waiting' | 'refused'; readonly reason: Reason; readonly about: string } {
  const texts: Record<string, string> = {};
  for (const [name, { initData }] of Object.entries(document.guests)) {
    const { digest } = initData;
    const bytes = isDigest(digest) ? files(initData.file, digest) : null;
    const field = `${path}: guests.${name}.initData`;
    if (bytes === null || digestOf(bytes) !== digest) return waiting('FileMissing', `${field}: ${initData.file} with ${digest} is not there`);
    try {
      texts[name] = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return refused('Malformed', `${field}: ${initData.file}: expected UTF-8`);
    }
  }
  return { kind: 'read', texts };
}

/** Judges a platform: like a release, by the platform approvers. */
export function verifyPlatform(evidence: Evidence, admission: Admission): Judged<Checked<PlatformDocument>> {
  const { file, trust } = evidence;
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return { ...parsed, kind: 'refused' };
  if (parsed.document.kind !== 'Platform') return refused('WrongPlace', `${file.path}: kind: expected Platform`);
  if (admission.kind === 'first') {
    const bar = orderBar(file.path, parsed.document, admission.standing) ?? trustBar(file.path, trust, admission.now);
    if (bar !== null) return bar;
  }
  return signedBy(evidence, trust.roles.platformApprovers, parsed.document);
}

/** Judges a baseline: its version above the last accepted one of that broker, signed by the administrators. */
export function verifyBaseline(evidence: Evidence, admission: Admission): Judged<Checked<BaselineDocument>> {
  const { file, trust } = evidence;
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return { ...parsed, kind: 'refused' };
  if (parsed.document.kind !== 'Baseline') return refused('WrongPlace', `${file.path}: kind: expected Baseline`);
  if (admission.kind === 'first') {
    const { last } = admission.standing;
    if (last !== null && parsed.document.version <= last.serial) {
      return refused('SerialReplayed', `${file.path}: version: expected more than ${last.serial}, the last one accepted`);
    }
    const bar = trustBar(file.path, trust, admission.now);
    if (bar !== null) return bar;
  }
  return signedBy(evidence, trust.roles.administrators, parsed.document);
}

/**
 * Judges a withdrawal: signed by enough approvers of its workload, since who may say what runs may say
 * what does not. Whether there is anything to fall back to is not a question of signatures, and not asked here.
 */
export function verifyWithdrawal(evidence: Evidence, now: Instant): Judged<Checked<WithdrawalDocument>> {
  const { file, trust } = evidence;
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return { ...parsed, kind: 'refused' };
  if (parsed.document.kind !== 'Withdrawal') return refused('WrongPlace', `${file.path}: kind: expected Withdrawal`);
  const { workload } = parsed.document;
  const approvers = approversOf(trust, workload);
  if (approvers === null) return waiting('SignerNotEntitled', `${file.path}: nobody may approve releases of ${workload}`);
  return trustBar(file.path, trust, now) ?? signedBy(evidence, approvers, parsed.document);
}

/** The document, where enough of these people have signed it. */
export function signedBy<T extends object>(evidence: Evidence, quorum: Quorum, document: T): Judged<Checked<T>> {
  const { file } = evidence;
  const count = countOf(evidence, quorum);
  if (count.kind === 'short') return waiting(count.reason, `${file.path}: ${count.about}`);
  return { kind: 'accepted', value: { ...document, digest: digestOf(file.bytes), path: file.path, approvedBy: count.people, signatures: count.signatures } };
}

function countOf({ file, bundles, trust, verifyBundle }: Evidence, quorum: Quorum): Count {
  return countPeople(lookAt(file, bundles, trust, verifyBundle), quorum);
}

function waiting(reason: Reason, about: string): Judged<never> & { kind: 'waiting' } {
  return { kind: 'waiting', reason, about };
}

function refused(reason: Reason, about: string): Judged<never> & { kind: 'refused' } {
  return { kind: 'refused', reason, about };
}
