/** Where a revocation stands, as `keyturn why` tells it. */
import type { Instant } from '../instant.ts';
import { type Conclusion, noFor, type Waiting } from './inquiry.ts';
import type { Reason } from './reasons.ts';

/** A moment of it. */
export interface MomentInquiry {
  readonly at: Instant;
  /** Since the webhook, or since it was first seen where none hinted at it. */
  readonly milliseconds: number;
  /** `hinted`, `seen`, `accepted`, `lifting-accepted`, or the step of a receipt. */
  readonly event: string;
  /** Of a receipt alone: whose it is, its name, its place in the log (null: not numbered yet), its digest, its proof, what it saw. */
  readonly workflow: string | null;
  readonly receipt: string | null;
  readonly seq: number | null;
  readonly digest: string | null;
  readonly proof: string | null;
  readonly saw: readonly string[];
}

/** A step that has no receipt yet. */
export interface UndoneStep {
  readonly workflow: string;
  readonly step: string;
  /** Since when it is asked for. */
  readonly since: Instant;
}

/** What is known of a revocation. */
export interface RevocationInquiry {
  readonly kind: 'revocation';
  readonly at: Instant;
  readonly id: string;
  readonly path: string;
  readonly digest: string;
  readonly verdict: 'waiting' | 'accepted' | 'refused';
  /** What it names, in words; null, like the four below: its bytes cannot be read. */
  readonly subject: string | null;
  readonly reason: string | null;
  readonly why: string | null;
  readonly recovery: string | null;
  /** What its reason says of lifting it; null: it may be lifted. */
  readonly neverLifted: string | null;
  readonly approvedBy: readonly string[];
  readonly hinted: boolean;
  /** Workloads that it touches, each with what it should run now (null: it is held). */
  readonly workloads: readonly { readonly name: string; readonly target: string | null }[];
  readonly revisions: number;
  readonly moments: readonly MomentInquiry[];
  readonly undone: readonly UndoneStep[];
  /** What its open runs wait for. */
  readonly waiting: readonly Waiting[];
  /** Pods that may have held it in memory. */
  readonly holders: { readonly total: number; readonly fate: 'gone' | 'told' | 'left' | null };
  readonly liftings: readonly {
    readonly path: string;
    readonly verdict: string;
    readonly approvedBy: readonly string[];
    readonly justification: string | null;
  }[];
  readonly conclusion: Conclusion;
}

/** What it comes to: nothing is revoked before it is accepted, and all is well once nothing is undone. Pure. */
export function revocationConclusion(
  { id, verdict, waiting, undone, liftings }: Omit<RevocationInquiry, 'conclusion'>,
  against: { readonly reason: Reason; readonly about: string; readonly since: Instant } | null,
): Conclusion {
  if (against !== null) {
    const said = noFor(against.reason, against.about, against.since, null);
    return verdict === 'waiting' ? said : { ...said, kind: 'denied' };
  }
  const [first] = waiting;
  if (first !== undefined) return noFor(first.reason, first.about, first.since, null);
  const [next] = undone;
  if (next !== undefined) return { kind: 'waits', reason: null, about: `${next.step} is being looked at`, since: next.since, claim: null, help: null };
  const lifted = liftings.find((lifting) => lifting.verdict === 'accepted');
  const about = lifted === undefined ? `${id} is refused, and carried out` : `${id} was lifted by ${lifted.path}`;
  return { kind: 'good', reason: null, about, since: null, claim: null, help: null };
}
