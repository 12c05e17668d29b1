/**
 * The contracts: Workflow, Step, Gate.
 *
 * The engine takes the first step, by name, without a receipt that counts. It asks the gates, then
 * calls `observe`, then `act`, then `observe` again; a receipt is written only from what `observe`
 * (or `decide`) returns. Members are properties, not methods: methods are bivariant, and a step for
 * another subject would compile.
 */
import type { Json } from '#src/domain/json.ts';
import type { Wrapped } from '#src/domain/kbs.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Facts, Known, RevisionState } from '#src/domain/release.ts';
import type { Lifted, Revoked } from '#src/domain/revocation-run.ts';
import type { Run } from '#src/domain/run.ts';
import type { Instant } from '#src/instant.ts';
import type { Ledger } from '#src/ledger.ts';
import type { World } from '#src/world.ts';

/** An ordered list of steps, and the gates in front of every one of them. */
export interface Workflow<S = Known> {
  readonly name: string;
  readonly gates: readonly Gate<S>[];
  readonly steps: readonly Step<S>[];
  /** The first so many steps are effects that are begun at once, each by itself: what one of them waits for delays none of the others. */
  readonly together?: number;
}

/** One thing that must have come about before the next may. Its name is an imperative, kept in receipts, never renamed. */
export type Step<S = Known> = Effect<S> | Decision<S>;

/** One change to the world, made so that making it twice is the same as making it once. */
export interface Effect<S = Known> {
  readonly kind: 'effect';
  readonly name: string;
  /** Asked after the workflow's own gates. */
  readonly gates?: readonly Gate<S>[];
  /** Reads the world: what is there of this step's effect. */
  readonly observe: (look: Look<S>) => Promise<Seen | NotYet>;
  /** Brings the effect about, or starts to. A key or ciphertext is named after its sealing's rotation, all else after look.run.id. */
  readonly act: (look: Look<S>) => Promise<void>;
  /** Looked at again on every later look of a run whose subject is the target: where it is gone, the run is reopened. */
  readonly undoneReopens?: true;
  /** From its receipt the release's `deadlineSeconds` run. */
  readonly startsDeadline?: true;
}

/** One statement of ours. The engine commits it with its receipt and the state it moves to in one transaction, or not at all. */
export interface Decision<S = Known> {
  readonly kind: 'decision';
  readonly name: string;
  readonly gates?: readonly Gate<S>[];
  /**
   * The state that the subject enters. A move that changes what a KBS should hold raises that KBS's
   * generation. Not made where it is `closing` and the subject never went live.
   */
  readonly moves?: RevisionState;
  /** Its commit lifts the revocation that the run is about, where what is to be freed is still what its fact `reinstated` says. */
  readonly lifts?: true;
  /**
   * Changes nothing outside. May call a key store's encrypt or decrypt, which leave nothing behind: a
   * lost checkpoint keeps no row and the next look draws anew; a lost answer to the commit has row
   * and receipt both.
   */
  readonly decide: (look: Look<S>) => Promise<Seen | NotYet>;
}

/** What was seen. `observed`: the effect itself; `accepted`: only the answer of a system that cannot be read back. */
export interface Seen {
  readonly kind: 'seen';
  /** Kept for later steps. One step of one workflow sets a name; a step that two workflows share sets none. */
  readonly facts: Facts;
  /** Kept in the receipt only. Never a secret. */
  readonly evidence: Json;
  readonly proof: 'observed' | 'accepted';
  /** Rows for `resources`, one a KBS path, committed with the receipt, on conflict do nothing; the receipt gets their digests. */
  readonly keep?: readonly Wrapped[];
  /** The checkpoint commits only before this instant; null where nothing ages. */
  readonly goodUntil: Instant | null;
}

/** Too early, and why: what it waits for, in whom, and when to look again (null: when woken, else by backoff). */
export interface NotYet {
  readonly kind: 'not-yet';
  readonly waitingFor: Reason;
  readonly about: string;
  readonly lookAt: Instant | null;
}

/** A question to be answered yes right before a step acts. Reads; never writes. */
export interface Gate<S = Known> {
  /** A claim: 'workload-is-attested'. */
  readonly name: string;
  /** A no is a returned Verdict. A throw means the question went unanswered: also a no. */
  readonly ask: (look: Look<S>) => Promise<Verdict>;
}

/** A gate's answer, as fresh as the act that it allows: asked again on every look, never replayed. */
export type Verdict =
  | { readonly kind: 'yes'; readonly evidence: Json; readonly goodUntil: Instant | null }
  | { readonly kind: 'no'; readonly reason: Reason; readonly about: string; readonly lookAt: Instant | null };

/** All that a step or a gate may see. Made anew for every look; nothing in it outlives the look. */
export interface Look<S = Known> {
  readonly run: Run;
  /** The database's clock. There is no other. */
  readonly now: Instant;
  readonly subject: S;
  /** What the workload should run; null when it is held (or where the subject has no workload). A retire run's gates ask about it. */
  readonly target: Known | null;
  readonly world: World;
  readonly ledger: Ledger;
}

/** What a reinstate run takes back. Throws Error in a look of any other. */
export function liftedOf({ run, subject }: Pick<Look<Revoked>, 'run' | 'subject'>): Lifted {
  if (subject.lift === null) throw new Error(`${run.workflow} ${run.id} reinstates nothing`);
  return subject.lift;
}

/** A short way to say *seen*. */
export function seen(evidence: Json, more: Partial<Omit<Seen, 'kind' | 'evidence'>> = {}): Seen {
  return { kind: 'seen', facts: {}, evidence, proof: 'observed', goodUntil: null, ...more };
}

/** A short way to say *not yet*. */
export function notYet(waitingFor: Reason, about: string, lookAt: Instant | null = null): NotYet {
  return { kind: 'not-yet', waitingFor, about, lookAt };
}

/** A short way to say *yes*. */
export function yes(evidence: Json, goodUntil: Instant | null = null): Verdict {
  return { kind: 'yes', evidence, goodUntil };
}

/** A short way to say *no*. */
export function no(reason: Reason, about: string, lookAt: Instant | null = null): Verdict {
  return { kind: 'no', reason, about, lookAt };
}
