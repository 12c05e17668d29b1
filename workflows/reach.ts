/**
 * Asking the clusters of several targets: one that does not answer keeps none of the others from being
 * asked, and is waited for as long as the release says.
 */
import type { TargetDocument } from '#src/domain/documents/release.ts';
import type { Json } from '#src/domain/json.ts';
import type { Reason } from '#src/domain/reasons.ts';
import { type Known, targetName } from '#src/domain/release.ts';
import { Fault, isFault } from '#src/errors.ts';
import { type Instant, later } from '#src/instant.ts';
import type { Ledger } from '#src/ledger.ts';
import type { Cluster, World } from '#src/world.ts';
import type { Look } from './step.ts';

/**
 * What nobody at the other end has said: no answer, or that of a gateway with nothing behind it. Any other
 * refusal is an answer, and a person's to mend: a cluster that says *forbidden* is not unreachable.
 */
const SILENCE: readonly Reason[] = ['Unreachable', 'ServerError'];

/** How the clusters of some targets answered. */
export interface Round<T> {
  readonly answered: readonly { readonly target: TargetDocument; readonly value: T }[];
  /** Targets that are no longer waited for, by name: since when their cluster has not answered. */
  readonly without: Readonly<Record<string, Instant>>;
  /** The first failure of one that is waited for; null: there was none. */
  readonly failure: Fault | null;
}

/**
 * Asks each target's cluster, in their order. A target is *gone without* where its cluster has not
 * answered for its `retireWithoutSeconds`, on the database's clock and without an answer in between:
 * those who approved the release said that its old key may be taken away all the same. Throws what is no Fault.
 */
export async function askEach<T>(
  look: Pick<Look<unknown>, 'world' | 'ledger' | 'now'>,
  targets: readonly TargetDocument[],
  ask: (target: TargetDocument, cluster: Cluster) => Promise<T>,
): Promise<Round<T>> {
  const answered: { target: TargetDocument; value: T }[] = [];
  const without: Record<string, Instant> = {};
  let failure: Fault | null = null;
  for (const target of targets) {
    const silence: { since: Instant | null } = { since: null };
    try {
      const cluster = listening(look, target.cluster, (since) => {
        silence.since = since;
      });
      answered.push({ target, value: await ask(target, cluster) });
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      if (silence.since !== null && isGoneWithout(target, silence.since, look.now)) without[targetName(target)] = silence.since;
      else failure ??= thrown;
    }
  }
  return { answered, without, failure };
}

/** Throws where no target at all has answered: nothing was seen then. */
export function requireSome({ answered, failure, without }: Round<unknown>): void {
  if (answered.length > 0) return;
  throw failure ?? new Fault('Unreachable', `none of ${Object.keys(without).join(', ')} answers: at least one has to`);
}

/** Throws the same, and the Fault of any target that is waited for. */
export function requireAnswers(round: Round<unknown>): void {
  requireSome(round);
  if (round.failure !== null) throw round.failure;
}

/** What a receipt says of those that were gone without; nothing where there are none. */
export function withoutOf({ without }: Pick<Round<unknown>, 'without'>): { readonly [name: string]: Json } {
  return Object.keys(without).length === 0 ? {} : { without };
}

/** Whether a target whose cluster is silent is no longer waited for. */
export function isGoneWithout({ retireWithoutSeconds }: TargetDocument, since: Instant, now: Instant): boolean {
  return retireWithoutSeconds !== null && retireWithoutSeconds !== undefined && later(since, retireWithoutSeconds) <= now;
}

/** An object of an older revision, with the patience that the target's release has with it: the last word on an object is the newest. */
export function asTargetSays(target: Known | null, place: TargetDocument): TargetDocument {
  const same = target?.release.targets.find((other) => targetName(other) === targetName(place));
  return same === undefined ? place : { ...place, retireWithoutSeconds: same.retireWithoutSeconds ?? null };
}

/**
 * A cluster whose answers are noted, and whose silence is told. While it is silent it is asked now and
 * then, by one look of all: the others are told at once what that look was told, and do not wait for a
 * timeout each.
 */
export function listening({ world, ledger }: { readonly world: World; readonly ledger: Ledger }, name: string, onSilence: (since: Instant) => void): Cluster {
  const cluster = world.cluster(name);
  // Whoever just heard it asks on: nobody has to be asked for leave between two calls.
  let heard = false;
  const noted = async <T>(call: () => Promise<T>): Promise<T> => {
    const outage = heard ? null : await ledger.turnToAsk(name);
    heard = false;
    if (outage?.mine === false) {
      onSilence(outage.since);
      throw new Fault(outage.reason, outage.about);
    }
    try {
      const answer = await call();
      if (outage !== null) await ledger.answered(name);
      heard = true;
      return answer;
    } catch (thrown) {
      if (isFault(thrown) && SILENCE.includes(thrown.reason)) onSilence((await ledger.unanswered(name, thrown.reason, thrown.message)).since);
      else if (isFault(thrown) && outage !== null) await ledger.answered(name);
      throw thrown;
    }
  };
  return {
    ...cluster,
    object: (target) => noted(() => cluster.object(target)),
    patch: (target, change, mine) => noted(() => cluster.patch(target, change, mine)),
    rehearse: (target, change) => noted(() => cluster.rehearse(target, change)),
    evict: (target, pod, mine) => noted(() => cluster.evict(target, pod, mine)),
    pods: (target) => noted(() => cluster.pods(target)),
  };
}
