import type { TargetDocument } from '#src/domain/documents/release.ts';
import { windowsAt } from '#src/domain/windows.ts';
import type { Instant } from '#src/instant.ts';
import type { WorkloadObject } from '#src/world.ts';
import type { Look } from './step.ts';
import { changeOf, initDataOf, missingOf, rotationOf, TARGET_ANNOTATION } from './template.ts';

/**
 * Whether a target's pods may be moved now, and why. `in-order`: nothing is missing. `touch`: no pod is moved, only the object is
 * written to. `dead`: what the template names gets no key, so that waiting would keep pods from starting.
 */
export type Leave =
  | { readonly kind: 'now'; readonly why: 'in-order' | 'touch' | 'dead' }
  | { readonly kind: 'now'; readonly why: 'open'; readonly until: Instant | null }
  | { readonly kind: 'later'; readonly opensAt: Instant | null };

/**
 * Asks the windows of the target's cluster, at `look.now`, whether the revision may be written into its object. They hold back what
 * moves pods that are well: a release, a scheduled rotation, the way back from a withdrawal. They never hold back
 * a write that moves no pod (it is what makes an older patch conflict), and never one that brings back
 * pods which cannot start: those of a template whose revision was revoked or retired, or which
 * somebody changed under us. Throws Fault.
 */
export async function leaveToMove(look: Look, target: TargetDocument, found: WorkloadObject): Promise<Leave> {
  const { world, subject } = look;
  const missing = missingOf(changeOf(world, subject, target), found.object, found.annotations, initDataOf(subject, target));
  if (missing === null) return { kind: 'now', why: 'in-order' };
  if (missing === TARGET_ANNOTATION) return { kind: 'now', why: 'touch' };
  const windows = windowsAt(world.cluster(target.cluster).windows, look.now);
  if (windows.kind === 'open') return { kind: 'now', why: 'open', until: windows.until };
  return (await isDead(look, found)) ? { kind: 'now', why: 'dead' } : { kind: 'later', opensAt: windows.opensAt };
}

/** Whether pods that start from the template as it stands get no key. */
async function isDead({ subject, ledger }: Look, found: WorkloadObject): Promise<boolean> {
  const named = rotationOf(found.object);
  // Ours, and not as we wrote it: another path, image or init-data than was approved.
  if (named === subject.rotation) return true;
  const wanted = named === null ? null : await ledger.isWanted(named);
  if (wanted !== null) return !wanted;
  // It names nobody's revision. Where our last write was this one, somebody took the name away; before it, the workload never had one.
  return found.annotations[TARGET_ANNOTATION]?.split('@')[0] === subject.rotation;
}
