/** What revocations of targets, reference values and signers mean for releases: pure functions of documents. */
import { Fault } from '../errors.ts';
import { earliest, type Instant, parseInstant } from '../instant.ts';
import type { BaselineDocument, PlatformDocument, ReleaseDocument } from './documents/release.ts';
import type { RevocationDocument, RevocationSubject } from './documents/trust.ts';
import { initDataClaim } from './init-data.ts';
import { canonicalJson, type Json } from './json.ts';
import type { Release } from './release.ts';
import type { RevokedSigner } from './signatures.ts';

/** Whether this value of this name was revoked. */
export type IsRevokedValue = (name: string, value: Json) => boolean;

/** The reference values among these subjects, of a list each; a text is no number of the same digits. null: there is none, and nothing has to be looked through. */
export function revokedValues(subjects: readonly RevocationSubject[]): IsRevokedValue | null {
  const revoked = new Set(
    subjects.flatMap((subject) => (subject.kind === 'reference-value' ? [subject.value].flat().map((value) => nameOf(subject.name, value)) : [])),
  );
  return revoked.size === 0 ? null : (name, value) => revoked.has(nameOf(name, value));
}

function nameOf(name: string, value: Json): string {
  return canonicalJson([name, value]);
}

/** Reference values without the revoked ones: a list keeps the others, and may end up empty; a scalar goes with its name. */
export function withoutRevoked(values: Readonly<Record<string, Json>>, isRevoked: IsRevokedValue): Readonly<Record<string, Json>> {
  const left: Record<string, Json> = {};
  for (const [name, value] of Object.entries(values)) {
    if (Array.isArray(value)) left[name] = value.filter((one) => !isRevoked(name, one));
    else if (!isRevoked(name, value)) left[name] = value;
  }
  return left;
}

/** A revocation, and when it was accepted; null: it is not yet. */
export interface RevocationAt {
  readonly subject: RevocationSubject;
  readonly at: Instant | null;
}

/** The signers among these. From its acceptance on a revocation counts for whatever is accepted, though its `since` be later. */
export function revokedSigners(revocations: readonly RevocationAt[]): readonly RevokedSigner[] {
  return revocations.flatMap(({ subject, at }) => {
    if (subject.kind !== 'signer') return [];
    const since = subject.since === undefined ? null : earliest([parseInstant(subject.since), at]);
    return [{ person: subject.person, key: subject.key ?? null, since }];
  });
}

/** Those that count for a document of this acceptance: what was accepted before `since` stands. */
export function signersSince(signers: readonly RevokedSigner[], acceptedAt: Instant): readonly RevokedSigner[] {
  return signers.filter(({ since }) => since === null || acceptedAt >= since);
}

type Target = ReleaseDocument['targets'][number];

/** Whether one of these subjects is this target. */
export function isTargetRevoked(target: Target, subjects: readonly RevocationSubject[]): boolean {
  return subjects.some(
    (subject) => subject.kind === 'target' && subject.cluster === target.cluster && subject.namespace === target.namespace && subject.name === target.name,
  );
}

/** Init-data of the target's guest as its verifier writes it; null: it has none that a verifier could write, so nothing is granted on it either. */
export function initDataOfTarget({ guests, initData }: Release, target: Target): string | null {
  const toml = initData[target.guest];
  const tee = guests[target.guest]?.tee;
  if (toml === undefined || tee === undefined) return null;
  try {
    return initDataClaim(toml, tee);
  } catch (thrown) {
    if (thrown instanceof Fault) return null;
    throw thrown;
  }
}

/** The init-data of all targets that these subjects name. */
export function initDataOfTargets(releases: readonly Release[], subjects: readonly RevocationSubject[]): readonly string[] {
  if (!subjects.some(({ kind }) => kind === 'target')) return [];
  const found = releases.flatMap((release) =>
    release.targets.filter((target) => isTargetRevoked(target, subjects)).map((target) => initDataOfTarget(release, target)),
  );
  return [...new Set(found.filter((claim) => claim !== null))].sort();
}

/** Whether no guest of the release can fetch any more: all of its targets' init-data is refused. */
export function isRefusedWhole(release: Release, refused: ReadonlySet<string>): boolean {
  return release.targets.every((target) => refused.has(initDataOfTarget(release, target) ?? ''));
}

/** The field of a document that lists a revoked value; null: none does. */
export function fieldWithRevoked(document: ReleaseDocument | PlatformDocument | BaselineDocument, isRevoked: IsRevokedValue): string | null {
  const fieldOf = (before: string, values: Readonly<Record<string, Json>>): string | null => {
    const found = Object.entries(values).find(([name, value]) => (Array.isArray(value) ? value : [value]).some((one) => isRevoked(name, one)));
    return found === undefined ? null : `${before}referenceValues.${found[0]}`;
  };
  if (document.kind !== 'Release') return fieldOf('', document.referenceValues);
  for (const [name, guest] of Object.entries(document.guests)) {
    const field = fieldOf(`guests.${name}.`, guest.referenceValues);
    if (field !== null) return field;
  }
  return null;
}

/** Whether a workload that it leaves with nothing to run may go on under its next key: a key was revoked, and for good. What is only suspended may come back as it was. */
export function mayBeSucceeded({ subject, reason }: Pick<RevocationDocument, 'subject' | 'reason'>): boolean {
  return subject.kind === 'key' && reason !== 'certificateHold';
}
