/**
 * A roll that stops by itself after its first disruption unit. A Deployment goes on to its next pods only
 * once those of its new template have been ready for `minReadySeconds` (apps/v1, DeploymentSpec): asked
 * for longer than anybody waits, in the same patch as the template, its controller replaces no more than
 * `maxUnavailable` of them, whenever anybody looks. `paused` would not do: no pod of the new template is
 * made then, and whoever sets it a moment later cannot know how far the roll has come.
 */
import { REINSTATED } from '#src/domain/fold.ts';
import type { Json } from '#src/domain/json.ts';
import { ownersOf, readPointer } from '#src/domain/pointer.ts';
import type { Known } from '#src/domain/release.ts';
import type { Change, WorkloadObject } from '#src/world.ts';
import { appliesAgain } from './gates/fields-are-ours.ts';

/** On the object, while its roll is held: what the fields were before. Empty: it is not held. */
const HELD_ANNOTATION = 'keyturn.dev/roll-held';
const MIN_READY = '/spec/minReadySeconds';
const PROGRESS = '/spec/progressDeadlineSeconds';

/** 68 years: the largest that is still below the next one, as the API demands. */
const HELD_SECONDS = 2_147_483_646;
/** Kubernetes takes the largest int32 for no deadline, so that the hold is not told as a failure. */
const NO_DEADLINE_SECONDS = 2_147_483_647;

interface Pace {
  readonly minReadySeconds: number;
  readonly progressDeadlineSeconds: number;
}

/** What Kubernetes says where nobody says anything. */
const DEFAULT_PACE: Pace = { minReadySeconds: 0, progressDeadlineSeconds: 600 };

/** Whether the first pods of a revision are tried before the rest is rolled: it came back from a revocation, and runs at a path where nobody has run yet. */
export function isTriedFirst({ at }: Pick<Known, 'at'>): boolean {
  return at[REINSTATED] !== undefined;
}

/** Whether our hold stands on an object as we wrote it. */
export function isHeld({ object, annotations }: Pick<WorkloadObject, 'object' | 'annotations'>): boolean {
  return isMarked(annotations) && readPointer(object, MIN_READY) === HELD_SECONDS;
}

/** Whether an object still carries our mark, whatever its fields are by now. */
export function isMarked(annotations: WorkloadObject['annotations']): boolean {
  return (annotations[HELD_ANNOTATION] ?? '') !== '';
}

/** The change, with the hold where the revision is tried first, and without anybody's where it is not. */
export function pacedChange(change: Change, known: Known, found: Pick<WorkloadObject, 'object' | 'annotations'>): Change {
  const pace = isTriedFirst(known) ? holdOf(found) : releaseOf(found);
  return pace === null ? change : { ...change, numbers: { ...change.numbers, ...pace.numbers }, annotations: { ...change.annotations, ...pace.annotations } };
}

/** Holds the roll; null: it is held. The first who held it wrote down what was there before, and that stays. */
export function holdOf(found: Pick<WorkloadObject, 'object' | 'annotations'>): Change | null {
  if (isHeld(found)) return null;
  const { minReadySeconds, progressDeadlineSeconds } = isMarked(found.annotations) ? before(found.annotations) : present(found.object);
  return {
    fields: {},
    numbers: { [MIN_READY]: HELD_SECONDS, [PROGRESS]: NO_DEADLINE_SECONDS },
    annotations: { [HELD_ANNOTATION]: `minReadySeconds ${minReadySeconds} progressDeadlineSeconds ${progressDeadlineSeconds}` },
    templateAnnotations: {},
  };
}

/** Lets the roll go on as it would have; null: nothing of ours holds it. */
export function releaseOf({ annotations }: Pick<WorkloadObject, 'annotations'>): Change | null {
  if (!isMarked(annotations)) return null;
  const { minReadySeconds, progressDeadlineSeconds } = before(annotations);
  return {
    fields: {},
    numbers: { [MIN_READY]: minReadySeconds, [PROGRESS]: progressDeadlineSeconds },
    annotations: { [HELD_ANNOTATION]: '' },
    templateAnnotations: {},
  };
}

/** Who would put the fields of the hold back by himself; null: nobody. */
export function paceOwner({ managers, object }: Pick<WorkloadObject, 'managers' | 'object'>): string | null {
  for (const pointer of [MIN_READY, PROGRESS]) {
    const other = ownersOf(managers, object, pointer).find(appliesAgain);
    if (other !== undefined) return `${pointer}: ${other.manager}`;
  }
  return null;
}

/** The annotation is in somebody else's cluster: what is not as we write it is read as what Kubernetes would say. */
function before(annotations: WorkloadObject['annotations']): Pace {
  const [, minReady, progress] = /^minReadySeconds (\d{1,10}) progressDeadlineSeconds (\d{1,10})$/.exec(annotations[HELD_ANNOTATION] ?? '') ?? [];
  return sound(Number(minReady), Number(progress));
}

function present(object: Json): Pace {
  return sound(readPointer(object, MIN_READY) ?? DEFAULT_PACE.minReadySeconds, readPointer(object, PROGRESS) ?? DEFAULT_PACE.progressDeadlineSeconds);
}

/** What the API would take, and what is no hold itself. */
function sound(minReadySeconds: Json, progressDeadlineSeconds: Json): Pace {
  const fits =
    typeof minReadySeconds === 'number' &&
    typeof progressDeadlineSeconds === 'number' &&
    minReadySeconds >= 0 &&
    minReadySeconds < HELD_SECONDS &&
    progressDeadlineSeconds > minReadySeconds &&
    progressDeadlineSeconds <= NO_DEADLINE_SECONDS;
  return fits ? { minReadySeconds, progressDeadlineSeconds } : DEFAULT_PACE;
}
