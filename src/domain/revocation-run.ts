import type { Instant } from '../instant.ts';
import type { Facts, Known, Revocation } from './release.ts';

/** What a revoke run is about: what was refused, and all of ours that it touches. */
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
}
