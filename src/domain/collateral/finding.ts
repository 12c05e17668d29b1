import type { Instant } from '../../instant.ts';
import type { Reason } from '../reasons.ts';

/** What a file was found to be, from its bytes alone. Public: `keyturn collateral verify --json` prints it. */
export type CollateralKind =
  | 'tcb-info'
  | 'enclave-identity'
  | 'tcb-evaluation-numbers'
  | 'crl'
  | 'certificate'
  | 'certificate-chain'
  | 'collateral-bundle'
  | 'rim'
  | 'quote'
  | 'snp-report'
  | 'device-report'
  | 'device-evidence'
  | 'jwks'
  | 'attestation-result'
  | 'device-result'
  | 'claims'
  | 'public-key'
  | 'unknown';

/**
 * - `good`: signed by whom it must be, up to a pinned root; in date; nobody on the way is revoked by a list that was given.
 * - `expired`: the same, but the moment lies outside its dates or a signer's (also before them).
 * - `revoked`: a list that its issuer signed names one of its certificates.
 * - `tampered`: the signature is not over these bytes.
 * - `untrusted`: nobody who counts has signed it, or nothing that was given shows who did.
 * - `malformed`: it cannot be read as what it seems to be, or is none of the kinds.
 */
export type CollateralVerdict = 'good' | 'expired' | 'revoked' | 'tampered' | 'untrusted' | 'malformed';

/** Something wrong with an item. `item` names what in it is at fault, where that is a part. */
export interface Trouble {
  readonly verdict: Exclude<CollateralVerdict, 'good'>;
  readonly reason: Reason;
  readonly about: string;
}

/** The verdict on one item. */
export interface Finding {
  readonly kind: CollateralKind;
  readonly verdict: CollateralVerdict;
  /** null: good. */
  readonly reason: Reason | null;
  /** The item's name, and what is at fault in it. */
  readonly item: string;
  /** When it ends: the earliest of its own `nextUpdate` and the last day of everybody who signed on the way to the root. null: it has no end, or none that can be read. */
  readonly nextUpdate: Instant | null;
}

/** Told first where several are found: what can be trusted least. What nobody can check comes last, so that a token that has expired by its own word is called so. */
const WORST_FIRST: readonly CollateralVerdict[] = ['malformed', 'tampered', 'untrusted', 'revoked', 'expired', 'good'];
const UNCHECKABLE: readonly Reason[] = ['SignerMissing', 'ChainIncomplete'];

function rank(trouble: Trouble): number {
  return UNCHECKABLE.includes(trouble.reason) ? WORST_FIRST.length : WORST_FIRST.indexOf(trouble.verdict);
}

/** The trouble that decides; null: there is none. */
export function worstOf(troubles: readonly Trouble[]): Trouble | null {
  return troubles.reduce<Trouble | null>((worst, one) => (worst === null || rank(one) < rank(worst) ? one : worst), null);
}

/** A finding from the troubles that were met. */
export function findingOf(kind: CollateralKind, item: string, nextUpdate: Instant | null, troubles: readonly Trouble[]): Finding {
  const worst = worstOf(troubles);
  if (worst === null) return { kind, verdict: 'good', reason: null, item, nextUpdate };
  const name = worst.about === '' || worst.about === item ? item : `${item}: ${worst.about}`;
  return { kind, verdict: worst.verdict, reason: worst.reason, item: name, nextUpdate };
}

/** What several findings in one file come to: the worst of them, under the earliest end. */
export function togetherOf(kind: CollateralKind, findings: readonly Finding[]): Finding {
  const ends = findings.map(({ nextUpdate }) => nextUpdate).filter((end) => end !== null);
  const nextUpdate = ends.length === 0 ? null : ends.reduce((first, end) => (end < first ? end : first));
  const troubles = findings.map((finding) => ({ finding, trouble: troubleOf(finding) }));
  const worst = worstOf(troubles.flatMap(({ trouble }) => (trouble === null ? [] : [trouble])));
  const at = troubles.find(({ trouble }) => trouble !== null && trouble === worst)?.finding;
  if (at === undefined) return { kind, verdict: 'good', reason: null, item: findings.map(({ item }) => item).join(', '), nextUpdate };
  return { kind, verdict: at.verdict, reason: at.reason, item: at.item, nextUpdate };
}

function troubleOf({ verdict, reason }: Finding): Trouble | null {
  return verdict === 'good' || reason === null ? null : { verdict, reason, about: '' };
}

/** Bytes that are not what they seem to be. Caught where an item is read, and never shown as a bug. */
export function malformed(about: string): Trouble {
  return { verdict: 'malformed', reason: 'CollateralMalformed', about };
}
