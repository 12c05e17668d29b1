import type { TargetDocument } from '#src/domain/documents/release.ts';
import type { Json } from '#src/domain/json.ts';
import { targetName } from '#src/domain/release.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { Fault, isFault } from '#src/errors.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** On the object: the moment of the latest revocation that touched it. It only ever grows. */
const REVOKED_ANNOTATION = 'keyturn.dev/revoked-at';

/**
 * A write of ours has landed on every object that may run what was revoked, after it was revoked: it
 * moves `resourceVersion`, so that a patch that is still on its way from before conflicts (R16). It
 * changes an annotation of the object alone and moves no pod. An object that is not there is patched by nobody.
 */
export const touchObjects: Effect<Revoked> = { kind: 'effect', name: 'touch-objects', observe, act };

/** Each object once: two revisions of a workload share theirs. */
export function objectsOf({ revisions }: Revoked): readonly TargetDocument[] {
  return [...new Map(revisions.flatMap(({ release }) => release.targets.map((target) => [targetName(target), target]))).values()];
}

async function observe({ subject, world }: Look<Revoked>): Promise<Seen | NotYet> {
  const objects: Record<string, Json> = {};
  for (const target of objectsOf(subject)) {
    const name = targetName(target);
    const found = await world.cluster(target.cluster).object(target);
    const touchedAt = found?.annotations[REVOKED_ANNOTATION];
    if (found !== null && (touchedAt === undefined || touchedAt < subject.at)) return notYet('TemplateOutdated', `${name} ${REVOKED_ANNOTATION}`);
    objects[name] = found === null ? 'not there' : { uid: found.uid, resourceVersion: found.resourceVersion };
  }
  return seen({ objects });
}

/** A cluster that does not answer keeps no object of another from being touched. */
async function act({ subject, world, ledger, run }: Look<Revoked>): Promise<void> {
  const touches = objectsOf(subject).map(async (target) => {
    const cluster = world.cluster(target.cluster);
    const found = await cluster.object(target);
    const touchedAt = found?.annotations[REVOKED_ANNOTATION];
    if (found === null || (touchedAt !== undefined && touchedAt >= subject.at)) return;
    await cluster.patch(target, { fields: {}, annotations: { [REVOKED_ANNOTATION]: subject.at }, templateAnnotations: {} }, ledger.mine(run));
  });
  const failed = (await Promise.allSettled(touches)).find((outcome) => outcome.status === 'rejected');
  if (failed === undefined) return;
  // Somebody else's write came between: it moved the object as ours would have, and the next look writes again.
  if (isFault(failed.reason) && failed.reason.reason === 'Conflict') return;
  throw failed.reason instanceof Error ? failed.reason : new Fault('ServerError', String(failed.reason));
}
