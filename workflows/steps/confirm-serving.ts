import { later } from '#src/instant.ts';
import { fieldsAreOurs } from '../gates/fields-are-ours.ts';
import { workloadIsAttested } from '../gates/workload-is-attested.ts';
import { type Decision, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** The soak is over, and a fresh look (its gates) says the same as when it began. */
export const confirmServing: Decision = { kind: 'decision', name: 'confirm-serving', gates: [workloadIsAttested, fieldsAreOurs], moves: 'serving', decide };

async function decide(look: Look): Promise<Seen | NotYet> {
  const { at, release } = look.subject;
  const movedAt = at['move-pods'];
  if (movedAt === undefined) return notYet('PodsNotMoved', look.subject.rotation);
  const soakedAt = later(movedAt, release.rollout.soakSeconds);
  if (soakedAt > look.now) return notYet('Soaking', `${release.workload}/${release.serial}`, soakedAt);
  return seen({ movedAt, soakSeconds: release.rollout.soakSeconds });
}
