import { digestOf } from '../digest.ts';
import { parseDocument } from './documents/parse.ts';
import type { RevocationDocument } from './documents/trust.ts';
import type { Evidence, Judged } from './judge.ts';
import type { Revocation } from './release.ts';
import { countPeople, type Looked, lookAt, type Quorum, signaturesOf, type VerifyBundle } from './signatures.ts';
import { approversOf, type Trust } from './trust.ts';

/**
 * Judges a revocation. One revoker is enough to refuse; serial, history, window and the trust document's
 * expiry are not asked. Evicting beyond one workload needs the recoverers' threshold beside, destroying
 * the approvers': short of those it is accepted all the same, with `evict` or `destroy` false, since
 * waiting for them would leave the key released. `beyond`: what verifies for those two, without whoever was
 * revoked as a signer: such a person may still refuse, and no more. Without any bundle the reason is
 * `UnsignedRevocation`.
 */
export function verifyRevocation(evidence: Evidence, beyond: VerifyBundle = evidence.verifyBundle): Judged<Revocation> {
  const { file, bundles, trust, verifyBundle } = evidence;
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return { ...parsed, kind: 'refused' };
  if (parsed.document.kind !== 'Revocation') return { kind: 'refused', reason: 'WrongPlace', about: `${file.path}: kind: expected Revocation` };
  if (bundles.length === 0) return { kind: 'waiting', reason: 'UnsignedRevocation', about: `${file.path}: nobody has signed it` };
  const looked = lookAt(file, bundles, trust, verifyBundle);
  const count = countPeople(looked, trust.roles.revokers);
  if (count.kind === 'short') return { kind: 'waiting', reason: count.reason, about: `${file.path}: ${count.about}` };
  const document = parsed.document;
  const agreeing = beyond === verifyBundle ? looked : lookAt(file, bundles, trust, beyond);
  const evict = document.evict && (isWithinOneWorkload(document) || isEnough(agreeing, trust.roles.recoverers));
  const destroy = document.destroy && isEnough(agreeing, destroyersOf(document, trust));
  const approvedBy = peopleOf(looked);
  const own = { digest: digestOf(file.bytes), path: file.path, approvedBy, signatures: signaturesOf(looked, approvedBy) };
  return { kind: 'accepted', value: { ...document, evict, destroy, ...own } };
}

function isEnough(looked: readonly Looked[], quorum: Quorum | null): boolean {
  return quorum !== null && countPeople(looked, quorum).kind === 'enough';
}

/** Everybody whose signature verifies: the receipt names those who asked for more than refusing, too. */
function peopleOf(looked: readonly Looked[]): readonly string[] {
  return [...new Set(looked.flatMap(({ verdict }) => (verdict.kind === 'signed' ? [verdict.person] : [])))].sort();
}

/** The workload that a subject names; null: it may reach more than one, or its text does not say which. */
function workloadOf({ subject }: RevocationDocument): string | null {
  if ('workload' in subject) return subject.workload;
  // A key's path is `<repository>/<workload>/<revision>`: one workload's own.
  return 'path' in subject ? (subject.path.split('/')[1] ?? null) : null;
}

function isWithinOneWorkload(document: RevocationDocument): boolean {
  return workloadOf(document) !== null;
}

/** Who must agree to destroy: the workload's approvers; where it may reach several, those of the entry for every workload. */
function destroyersOf(document: RevocationDocument, trust: Trust): Quorum | null {
  const workload = workloadOf(document);
  return workload === null ? (trust.roles.approvers.find((entry) => entry.workloads.includes('*')) ?? null) : approversOf(trust, workload);
}
