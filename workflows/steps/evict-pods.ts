import type { Json } from '#src/domain/json.ts';
import { targetName } from '#src/domain/release.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import type { Pod } from '#src/world.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { ROTATION_ANNOTATION } from '../template.ts';
import { objectsOf } from './touch-objects.ts';

/**
 * Where the document says so, no pod is left that may hold a revoked key in its memory: each was told
 * to go by the eviction API, which asks its disruption budget and its grace period. What starts in its
 * place finds no key, or the successor's.
 */
export const evictPods: Effect<Revoked> = { kind: 'effect', name: 'evict-pods', observe, act };

async function observe(look: Look<Revoked>): Promise<Seen | NotYet> {
  if (!look.subject.revocation.evict) return seen({ evict: false });
  const objects: Record<string, Json> = {};
  for (const target of objectsOf(look.subject)) {
    const name = targetName(target);
    const [first, ...more] = await holdersAt(look, target);
    if (first !== undefined) return notYet('PodsNotEvicted', `${name}: ${first.name}${more.length === 0 ? '' : ` and ${more.length} more`}`);
    objects[name] = 'no pod that holds it';
  }
  return seen({ evict: true, objects });
}

async function act(look: Look<Revoked>): Promise<void> {
  if (!look.subject.revocation.evict) return;
  const { world, ledger, run, subject } = look;
  const evictions = objectsOf(subject).map(async (target) => {
    for (const pod of await holdersAt(look, target)) if (!pod.terminating) await world.cluster(target.cluster).evict(target, pod, ledger.mine(run));
  });
  const failed = (await Promise.allSettled(evictions)).find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/**
 * The pods of an object that were found to hold it and are still there. At an object that joined after
 * the holders were listed nobody was found, which says nothing: there every pod of a revoked template is one.
 */
async function holdersAt({ subject, world }: Look<Revoked>, target: ReturnType<typeof objectsOf>[number]): Promise<readonly Pod[]> {
  const name = targetName(target);
  const found = Object.hasOwn(subject.facts.holders ?? {}, name) ? (subject.facts.holders?.[name] ?? []) : null;
  if (found?.length === 0) return [];
  const cluster = world.cluster(target.cluster);
  if ((await cluster.object(target)) === null) return [];
  const rotations = subject.revisions.map(({ rotation }) => rotation);
  const isHolder = ({ uid, annotations }: Pod): boolean => (found === null ? rotations.includes(annotations[ROTATION_ANNOTATION] ?? '') : found.includes(uid));
  return (await cluster.pods(target)).filter(isHolder);
}
