import type { Digest } from '../digest.ts';
import type { Instant } from '../instant.ts';
import type { Reason } from './reasons.ts';

/** What a run is about: a revision, or a revocation by the digest of its document. */
export type Subject = { readonly kind: 'revision'; readonly revision: number } | { readonly kind: 'revocation'; readonly revocation: Digest };

/** One workflow on one subject, as the claimer holds it. */
export interface Run {
  /** `r-` and 16 hexadecimal digits, drawn when the run is planned. */
  readonly id: string;
  readonly workflow: string;
  readonly subject: Subject;
  /** The workload that it belongs to. */
  readonly workload: string;
  /** The run that caused it; null for one that Git caused. */
  readonly cause: string | null;
  /** Grows with every claim and every change of the target; a write with an older one is fenced. */
  readonly claim: number;
  /** The generation that its move gave each KBS; empty before. */
  readonly generations: Readonly<Record<string, number>>;
  readonly waitingFor: Reason | null;
  readonly about: string | null;
  /** When the present (`waitingFor`, `about`) began. */
  readonly since: Instant | null;
}
