import type { Instant } from '../instant.ts';
import type { Reinstatement } from './judge-reinstatement.ts';
import type { Facts, Known, Revocation } from './release.ts';

/** What a revoke run is about, and a reinstate run: what was refused, and all of ours that it touches. */
export interface Revoked {
  readonly revocation: Revocation;
  /** When it was accepted. */
  readonly at: Instant;
  /** Every revision that it names, retired ones too, oldest first. */
  readonly revisions: readonly Known[];
  /** By KBS, the last of its entries in the proxies' deny-list. */
  readonly denied: Readonly<Record<string, number>>;
  /** What the run has recorded so far. */
  readonly facts: Facts;
  /** What each workload of these revisions should run now; null: it is held. */
  readonly targets: Readonly<Record<string, Known | null>>;
  /** A reinstate run's alone; null in any other. */
  readonly lift: Lifted | null;
}

/** What a reinstate run takes back. */
export interface Lifted {
  readonly reinstatement: Reinstatement;
  /** The revisions that lifting it now would free: not retired, and named by no other revocation in force. */
  readonly frees: readonly Known[];
  /** By KBS, the last entry of the proxies' deny-list that lifts another one. */
  readonly entries: Readonly<Record<string, number>>;
}
