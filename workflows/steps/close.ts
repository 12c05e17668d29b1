import { later } from '#src/instant.ts';
import { targetIsServing } from '../gates/target-is-serving.ts';
import { workloadIsAttested } from '../gates/workload-is-attested.ts';
import { wentLive } from '../places.ts';
import { type Decision, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/**
 * The revision is no longer fallen back to without a stop. Said before the look that retires it, so
 * that what the look finds cannot be undone behind it (R17). One that never went live has nothing to close.
 */
export const close: Decision = { kind: 'decision', name: 'close', gates: [targetIsServing, workloadIsAttested], moves: 'closing', decide };

async function decide(look: Look): Promise<Seen | NotYet> {
  if (!wentLive(look.subject)) return seen({ wentLive: false });
  const servingSince = look.target?.at['confirm-serving'];
  if (look.target === null || servingSince === undefined) return notYet('TargetNotServing', look.subject.release.workload);
  const { keepPreviousSeconds } = look.target.release.rollout;
  const keptUntil = later(servingSince, keepPreviousSeconds);
  if (keptUntil > look.now) return notYet('KeepingPrevious', `${look.subject.release.workload}/${look.subject.release.serial}`, keptUntil);
  return seen({ wentLive: true, servingSince, keepPreviousSeconds });
}
