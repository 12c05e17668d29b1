/**
 * `metadata.managedFields`, as true as the lab needs it: which manager set which field last, in
 * FieldsV1. A field that a manager changes is its own from then on; what it applies unchanged is
 * shared (structured-merge-diff).
 */
import { type ApiObject, defined, isList, isMap, type Json, type JsonMap, listAt, mapAt, same, textAt, withMetadata } from './kubernetes-json.ts';

/** Who writes. */
export interface Writer {
  readonly manager: string;
  readonly operation: 'Update' | 'Apply';
  /** '' for the object itself. */
  readonly subresource: string;
  readonly at: string;
}

/** Lists of maps whose elements have owners of their own, and the members that tell them apart. */
const LIST_KEYS: Readonly<Record<string, readonly string[]>> = {
  containers: ['name'],
  initContainers: ['name'],
  env: ['name'],
  volumes: ['name'],
  ports: ['containerPort', 'protocol'],
  volumeMounts: ['mountPath'],
  conditions: ['type'],
  ownerReferences: ['uid'],
};

/** Maps that have one owner as a whole (`structType: atomic`, `mapType: atomic`). */
const ATOMIC = new Set(['selector', 'nodeSelector', 'resourceFieldRef', 'secretKeyRef', 'configMapKeyRef', 'fieldRef']);

/** Members of metadata that nobody owns: the server sets them. */
const SYSTEM = new Set([
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
]);

/** A field's way in FieldsV1, its segments joined. */
type Path = string;

const JOINT = '\u0000';

/** Every field of an object, with its value. */
function fieldsOf(object: ApiObject): ReadonlyMap<Path, Json> {
  const fields = new Map<Path, Json>();
  for (const [name, value] of Object.entries(object)) {
    if (name === 'kind' || name === 'apiVersion' || (name === 'status' && Object.keys(value as JsonMap).length === 0)) continue;
    const members = name === 'metadata' ? Object.fromEntries(Object.entries(value as JsonMap).filter(([member]) => !SYSTEM.has(member))) : value;
    if (name === 'metadata' && Object.keys(members as JsonMap).length === 0) continue;
    collect(fields, [`f:${name}`], name, members as Json, name === 'metadata' || name === 'spec' || name === 'status');
  }
  return fields;
}

function collect(fields: Map<Path, Json>, way: readonly string[], name: string, value: Json, structure: boolean): void {
  const keys = LIST_KEYS[name];
  if (isList(value) && keys !== undefined && value.length > 0) {
    for (const element of value) {
      const key = defined(Object.fromEntries(keys.map((member) => [member, mapAt(element)[member]])));
      const inside = [...way, `k:${JSON.stringify(key)}`];
      fields.set([...inside, '.'].join(JOINT), true);
      for (const [member, inner] of Object.entries(mapAt(element))) collect(fields, [...inside, `f:${member}`], member, inner, false);
    }
    return;
  }
  if (isMap(value) && !ATOMIC.has(name) && Object.keys(value).length > 0) {
    // Maps of people's own keys count as a field beside their entries; structures do not.
    if (!structure && ['annotations', 'labels', 'rollingUpdate'].includes(name)) fields.set([...way, '.'].join(JOINT), true);
    for (const [member, inner] of Object.entries(value)) collect(fields, [...way, `f:${member}`], member, inner, false);
    return;
  }
  fields.set(way.join(JOINT), value);
}

/** The object as `writer` leaves it, with the record of who owns what. `applied`: for an apply, the object as it was sent. */
export function withOwners(before: ApiObject | null, after: ApiObject, writer: Writer, applied: ApiObject | null = null): ApiObject {
  const old = before === null ? new Map<Path, Json>() : fieldsOf(before);
  const now = fieldsOf(after);
  const changed = new Set([...now].filter(([path, value]) => !same(old.get(path), value)).map(([path]) => path));
  // An apply claims what it names, not the maps around it.
  const claimed =
    applied === null
      ? changed
      : new Set([...fieldsOf(applied).keys()].filter((path) => !path.endsWith(`${JOINT}.`) || path.split(JOINT).at(-2)?.startsWith('k:')));
  const entries: JsonMap[] = [];
  let written = false;
  for (const entry of listAt(before, 'metadata', 'managedFields').map((each) => mapAt(each))) {
    const mine =
      textAt(entry, 'manager') === writer.manager && textAt(entry, 'operation') === writer.operation && textAt(entry, 'subresource') === writer.subresource;
    const kept = pathsOf(mapAt(entry, 'fieldsV1')).filter((path) => now.has(path) && (mine ? applied === null : !changed.has(path)));
    if (mine) {
      written = true;
      const paths = new Set([...kept, ...claimed]);
      if (paths.size > 0) entries.push(changed.size > 0 ? entryOf(after, writer, paths) : { ...entry, fieldsV1: treeOf(paths) });
    } else if (kept.length > 0) entries.push({ ...entry, fieldsV1: treeOf(kept) });
  }
  if (!written && claimed.size > 0) entries.push(entryOf(after, writer, claimed));
  // Appliers come first, then who wrote first.
  const order = (entry: JsonMap): string => ['operation', 'time', 'manager'].map((member) => textAt(entry, member)).join(' ');
  const ordered = entries.toSorted((a, b) => (order(a) < order(b) ? -1 : 1));
  return withMetadata(after, { managedFields: ordered.length > 0 ? ordered : undefined });
}

/** Fields that `applied` would take from others by changing them: `<manager>` and the field's way, for the texts of a conflict. */
export function conflictsOf(
  before: ApiObject,
  applied: ApiObject,
  manager: string,
): readonly { readonly manager: string; readonly operation: string; readonly field: string }[] {
  const present = fieldsOf(before);
  const differing = [...fieldsOf(applied)].filter(([path, value]) => present.has(path) && !same(present.get(path), value)).map(([path]) => path);
  return listAt(before, 'metadata', 'managedFields').flatMap((entry) => {
    if (textAt(entry, 'manager') === manager && textAt(entry, 'operation') === 'Apply') return [];
    const owned = new Set(pathsOf(mapAt(entry, 'fieldsV1')));
    return differing
      .filter((path) => owned.has(path))
      .map((path) => ({ manager: textAt(entry, 'manager'), operation: textAt(entry, 'operation'), field: shown(path) }));
  });
}

function entryOf(object: ApiObject, writer: Writer, paths: Iterable<Path>): JsonMap {
  return {
    manager: writer.manager,
    operation: writer.operation,
    apiVersion: object.apiVersion,
    time: writer.at,
    fieldsType: 'FieldsV1',
    fieldsV1: treeOf(paths),
    ...(writer.subresource === '' ? {} : { subresource: writer.subresource }),
  };
}

function treeOf(paths: Iterable<Path>): JsonMap {
  const root: Record<string, Json> = {};
  for (const path of paths) {
    let here = root;
    for (const segment of path.split(JOINT)) {
      const next = (here[segment] ?? {}) as Record<string, Json>;
      here[segment] = next;
      here = next;
    }
  }
  return root;
}

function pathsOf(tree: JsonMap, way: readonly string[] = []): readonly Path[] {
  return Object.entries(tree).flatMap(([segment, inner]) => {
    const here = [...way, segment];
    return isMap(inner) && Object.keys(inner).length > 0 ? pathsOf(inner, here) : [here.join(JOINT)];
  });
}

/** As the API writes it: `.spec.template.spec.containers[name="chat"].image`. */
function shown(path: Path): string {
  return path
    .split(JOINT)
    .filter((segment) => segment !== '.')
    .map((segment) => {
      if (segment.startsWith('f:')) return `.${segment.slice(2)}`;
      const keys = Object.entries(JSON.parse(segment.slice(2)) as JsonMap);
      return `[${keys.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(',')}]`;
    })
    .join('');
}
