import type { TargetDocument } from '#src/domain/documents/release.ts';
import { initDataAnnotation, sameInitData } from '#src/domain/init-data.ts';
import type { Json } from '#src/domain/json.ts';
import { ciphertextPrefix, keyPath } from '#src/domain/paths.ts';
import { readPointer } from '#src/domain/pointer.ts';
import type { Known } from '#src/domain/release.ts';
import { Fault } from '#src/errors.ts';
import type { Change, World } from '#src/world.ts';

/** On the pod template: which rotation's revision its pods run. A pod carries it for life. */
export const ROTATION_ANNOTATION = 'keyturn.dev/rotation';
/** On the object: our last write to it. It changes with every change of the target, so that a write of ours is due even where nothing else differs. */
export const TARGET_ANNOTATION = 'keyturn.dev/target';
/** Where Kata takes init-data from. */
export const INIT_DATA_POINTER = '/spec/template/metadata/annotations/io.katacontainers.config.hypervisor.cc_init_data';

const TEMPLATE_ROTATION_POINTER = '/spec/template/metadata/annotations/keyturn.dev~1rotation';

/**
 * `${name}` in a target's `set`. The name is one of those that DESIGN and the example list; a dollar
 * sign without braces stands for itself.
 */
const PLACEHOLDER = /\$\{([^}]*)\}/g;

/** What this revision sets in a target's object. Throws Fault('Malformed') for a placeholder that does not exist, Fault('NotConfigured'). */
export function changeOf(world: World, known: Known, target: TargetDocument): Change {
  const fields = Object.entries(target.set).map(([pointer, text]) => [
    pointer,
    text.replaceAll(PLACEHOLDER, (_, name: string) => replacementOf(world, known, target, name)),
  ]);
  return {
    fields: Object.fromEntries(fields),
    annotations: { [TARGET_ANNOTATION]: targetToken(known) },
    templateAnnotations: { [ROTATION_ANNOTATION]: known.rotation },
  };
}

/** The rotation that an object's pod template names; null where it names none. */
export function rotationOf(object: Json): string | null {
  const value = readPointer(object, TEMPLATE_ROTATION_POINTER);
  return typeof value === 'string' ? value : null;
}

/** What an object is still missing of a change: the pointer or annotation, null where it has all of it. */
export function missingOf(change: Change, object: Json, annotations: Readonly<Record<string, string>>, initData: string): string | null {
  for (const [pointer, text] of Object.entries(change.fields)) {
    const value = readPointer(object, pointer);
    // Two gzip writers give different bytes for the same init-data: its content is compared.
    const same = value === text || (text === initDataAnnotation(initData) && typeof value === 'string' && sameInitData(value, initData));
    if (!same) return pointer;
  }
  if (rotationOf(object) !== change.templateAnnotations[ROTATION_ANNOTATION]) return ROTATION_ANNOTATION;
  return annotations[TARGET_ANNOTATION] === change.annotations[TARGET_ANNOTATION] ? null : TARGET_ANNOTATION;
}

/** The rotation, and the moment of its last reopening: a revision that becomes the target again writes again. */
function targetToken(known: Known): string {
  const reopenedAt = known.at.reopened;
  return reopenedAt === undefined ? known.rotation : `${known.rotation}@${reopenedAt}`;
}

function replacementOf(world: World, known: Known, target: TargetDocument, name: string): string {
  const { release, sealing } = known;
  if (name === 'initData') return initDataAnnotation(initDataOf(known, target));
  if (name === 'keyPath') return keyPath(world.broker(target.kbs).repository, known);
  if (name === 'artifact') return `${world.weights.guestAddress(target.store).replace(/\/+$/, '')}/${ciphertextPrefix(sealing)}/`;
  const [, image, part] = /^images\.([a-z0-9-]+)(?:\.(repository|digest))?$/.exec(name) ?? [];
  const reference = image === undefined ? undefined : release.images[image];
  if (reference === undefined) throw new Fault('Malformed', `${release.path}: \${${name}} in set of ${target.name} is no placeholder`);
  if (part === undefined) return reference;
  const at = reference.lastIndexOf('@');
  return part === 'repository' ? reference.slice(0, at) : reference.slice(at + 1);
}

/** A target's init-data as TOML. Throws Fault('Malformed') where the release has no such guest. */
export function initDataOf(known: Known, target: TargetDocument): string {
  const text = known.release.initData[target.guest];
  if (text === undefined) throw new Fault('Malformed', `${known.release.path}: the target ${target.name} names no guest of the release`);
  return text;
}
