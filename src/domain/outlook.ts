import { type Accepted, type PlannedOf, plan } from './plan.ts';
import { targetOf } from './target.ts';

/** A revision that is not there yet, beside what the plan draws it from. */
export interface Coming {
  readonly accepted: Accepted;
  /** The epoch of its sealing: the kept one's, or the next. */
  readonly epoch: number;
  /** A revocation forbids it already. */
  readonly revoked: boolean;
}

/** What a workload would look like. */
export interface Outlook {
  readonly known: readonly PlannedOf[];
  /** What it should run; null: it would be held. */
  readonly target: PlannedOf | null;
  /** Revisions that would be taken away once the target serves. */
  readonly retiring: readonly PlannedOf[];
}

/** Carries the plan out on paper: again and again until nothing is missing. `coming` null: only what is known changed. Pure. */
export function outlookOf(known: readonly PlannedOf[], coming: Coming | null): Outlook {
  let there = known;
  const accepted = coming === null ? [] : [coming.accepted];
  for (let missing = plan(accepted, there); missing.length > 0; missing = plan(accepted, there)) {
    for (const item of missing) {
      if (item.kind === 'run') there = there.map((one) => (one.id === item.revision ? { ...one, open: [...one.open, item.workflow] } : one));
      else if (coming !== null) there = [...there, revisionOf(coming, there)];
    }
  }
  const target = targetOf(there);
  // While there is no target nothing is retired: the workload is held.
  const retiring = target === null ? [] : there.filter(({ id, state }) => id !== target.id && state !== 'retired');
  return { known: there, target, retiring };
}

function revisionOf({ accepted, epoch, revoked }: Coming, known: readonly PlannedOf[]): PlannedOf {
  const { digest, serial } = accepted;
  const id = Math.max(0, ...known.map((one) => one.id)) + 1;
  return {
    ...{ id, digest, rotation: '', release: { serial }, sealing: { epoch }, state: 'accepted', withdrawn: false, revoked },
    open: ['adopt-revision'],
  };
}
