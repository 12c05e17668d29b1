import type { TargetDocument } from '#src/domain/documents/release.ts';
import { readInitData, sameInitData } from '#src/domain/init-data.ts';
import type { Json } from '#src/domain/json.ts';
import { readPointer } from '#src/domain/pointer.ts';
import { type Known, targetName } from '#src/domain/release.ts';
import { isFault } from '#src/errors.ts';
import type { Cluster, World } from '#src/world.ts';
import { isTriedFirst, pacedChange, paceOwner } from '../hold-roll.ts';
import { askEach, requireSome, withoutOf } from '../reach.ts';
import { type Gate, type Look, no, yes } from '../step.ts';
import { changeOf, INIT_DATA_POINTER, initDataOf } from '../template.ts';

/**
 * The patch would be accepted, and would roll the workload the way the release allows: a dry run,
 * since a patch that is refused half-way, or rolls all pods at once, cannot be taken back. Asked of every
 * cluster that answers; one that does not is patched when it was asked.
 */
export const preflightPasses: Gate = {
  name: 'preflight-passes',
  ask: async (look) => {
    const round = await askEach(look, look.subject.release.targets, (target, cluster) => rehearsalOf(look, target, cluster));
    const passed: Record<string, Json> = {};
    for (const { target, value: rehearsal } of round.answered) {
      if (typeof rehearsal === 'string') return no('PreflightFailed', `${targetName(target)}: ${rehearsal}`);
      passed[targetName(target)] = rehearsal;
    }
    requireSome(round);
    return yes({ rehearsed: passed, ...withoutOf(round) });
  },
};

/** The version of the object that the patch was rehearsed on; text: why it cannot be made. Throws Fault. */
export async function rehearsalOf({ world, subject }: Look, target: TargetDocument, cluster: Cluster): Promise<string | { readonly resourceVersion: string }> {
  const owner = await paceOwnerOf(cluster, subject, target);
  if (owner !== null) return `the roll cannot be held for its first pods: somebody else applies ${owner}`;
  const rehearsed = await rehearse(world, cluster, subject, target);
  if (typeof rehearsed === 'string') return rehearsed;
  return wrongIn(rehearsed.object, subject, target, world.broker(target.kbs).publicUrl) ?? { resourceVersion: rehearsed.resourceVersion };
}

/** Who would let a roll go that has to be held; null: nobody, or it has not. */
async function paceOwnerOf(cluster: Cluster, known: Known, target: TargetDocument): Promise<string | null> {
  const found = isTriedFirst(known) ? await cluster.object(target) : null;
  return found === null ? null : paceOwner(found);
}

/** The object as it would be; text: why the API refuses it. */
async function rehearse(world: World, cluster: Cluster, known: Known, target: TargetDocument) {
  try {
    const change = changeOf(world, known, target);
    const found = isTriedFirst(known) ? await cluster.object(target) : null;
    return await cluster.rehearse(target, found === null ? change : pacedChange(change, known, found));
  } catch (thrown) {
    if (isFault(thrown) && thrown.reason === 'PreflightFailed') return thrown.message;
    throw thrown;
  }
}

function wrongIn(object: Json, known: Known, target: TargetDocument, publicUrl: string): string | null {
  return wrongStrategy(object, known) ?? wrongGuest(object, known, target, publicUrl) ?? wrongImages(object, known);
}

/** The patch itself is the roll: the Deployment must replace pods without a surge (a spare GPU is rarely there) and no more at once than `batch`. */
function wrongStrategy(object: Json, known: Known): string | null {
  if (readPointer(object, '/spec/paused') === true) return 'spec.paused is set';
  const type = readPointer(object, '/spec/strategy/type');
  if (type !== 'RollingUpdate') return `spec.strategy.type is ${text(type)}, not RollingUpdate`;
  const surge = readPointer(object, '/spec/strategy/rollingUpdate/maxSurge');
  if (surge !== 0 && surge !== '0%') return `maxSurge is ${text(surge)}, not 0`;
  const unavailable = readPointer(object, '/spec/strategy/rollingUpdate/maxUnavailable');
  const { batch } = known.release.rollout;
  const fits = typeof unavailable === 'number' && unavailable >= 1 && unavailable <= batch;
  return fits ? null : `maxUnavailable is ${text(unavailable)}, not a number from 1 to rollout.batch (${batch})`;
}

/** A guest that is not the release's attests as something else, and every pod of it would wait for a key that it never gets. */
function wrongGuest(object: Json, known: Known, target: TargetDocument, publicUrl: string): string | null {
  const wanted = known.release.guests[target.guest]?.runtimeClass;
  const runtimeClass = readPointer(object, '/spec/template/spec/runtimeClassName');
  if (wanted === undefined || runtimeClass !== wanted) return `runtimeClassName is ${text(runtimeClass)}, not ${wanted ?? 'known'}`;
  const initData = initDataOf(known, target);
  const annotation = readPointer(object, INIT_DATA_POINTER);
  if (typeof annotation !== 'string' || !sameInitData(annotation, initData)) return `the template would not carry the init-data of ${target.guest}`;
  const { kbsUrl } = readInitData(initData);
  return kbsUrl === publicUrl ? null : `init-data names the KBS ${kbsUrl ?? 'nowhere'}, not ${publicUrl}`;
}

function wrongImages(object: Json, known: Known): string | null {
  const released = new Set<Json | undefined>(Object.values(known.release.images));
  const images = ['containers', 'initContainers'].flatMap((list) => imagesOf(readPointer(object, `/spec/template/spec/${list}`)));
  if (images.length === 0) return 'the template has no containers';
  const other = images.find((image) => !released.has(image));
  return other === undefined ? null : `the image ${text(other)} is not one of the release's`;
}

function imagesOf(containers: Json | undefined): readonly Json[] {
  return Array.isArray(containers) ? containers.map((container: Json) => readPointer(container, '/image') ?? null) : [];
}

function text(value: Json | undefined): string {
  return value === undefined ? 'not set' : JSON.stringify(value);
}
