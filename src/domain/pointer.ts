/**
 * Pointers into a workload object: RFC 6901, except that an element of a list is `name=<its name>`.
 * An index is refused: it means another container as soon as somebody puts one in front.
 */
import type { Json } from './json.ts';

/** One operation of RFC 6902. */
export type PatchOperation = { readonly op: 'add' | 'replace' | 'test'; readonly path: string; readonly value: Json };

/** What would change an object, or which pointer cannot be set and why. */
export type Patch =
  | { readonly kind: 'patch'; readonly operations: readonly PatchOperation[] }
  | { readonly kind: 'bad'; readonly pointer: string; readonly what: string };

/** An entry of `metadata.managedFields`: its fields as FieldsV1. */
export interface FieldManager {
  readonly manager: string;
  readonly operation: string;
  readonly fields: Json;
}

/** Deeper than anything in a Kubernetes object. */
const SEGMENTS_MAX = 64;

/** Maps whose entries have owners of their own even where one manager set the whole map empty (`mapType: granular`). */
const GRANULAR = new Set(['annotations', 'labels']);

type JsonMap = { readonly [name: string]: Json };

/** How far a pointer leads into an object. */
interface Way {
  /** Unescaped. */
  readonly segments: readonly string[];
  /** The values on the way, the object itself first; as many as segments, plus one, where nothing is missing. */
  readonly values: readonly Json[];
  /** The same way in RFC 6901, with indexes. */
  readonly path: string;
  /** RFC 6902 tests that every list element passed is the one that was named. */
  readonly tests: readonly PatchOperation[];
  /** Why it leads no further; null where it leads to its end, or where only the last segment of a map is missing. */
  readonly problem: string | null;
}

/** The value at a pointer; undefined where there is none, or where the pointer is not one (an index, a bad escape). */
export function readPointer(object: Json, pointer: string): Json | undefined {
  const way = follow(object, pointer);
  return way.problem === null ? way.values[way.segments.length] : undefined;
}

/**
 * The patch that sets these fields to these texts, or numbers. A missing last segment of a map is added;
 * anything else missing is refused, and so is a pointer to what is not of the same kind. What is equal already
 * is left out: no operations means that nothing would change. Each list element passed is tested
 * to bear its name.
 */
export function patchOf(object: Json, fields: Readonly<Record<string, string | number>>): Patch {
  const tests = new Map<string, PatchOperation>();
  const changes: PatchOperation[] = [];
  for (const [pointer, value] of Object.entries(fields)) {
    const way = follow(object, pointer);
    if (way.problem !== null) return { kind: 'bad', pointer, what: way.problem };
    if (way.segments.length === 0) return { kind: 'bad', pointer, what: 'the whole object cannot be set' };
    const present = way.values[way.segments.length];
    if (present === value) continue;
    if (present !== undefined && typeof present !== typeof value)
      return { kind: 'bad', pointer, what: `there is ${nameOf(present)}, not ${typeof value === 'string' ? 'text' : 'a number'}` };
    for (const test of way.tests) tests.set(test.path, test);
    changes.push({ op: present === undefined ? 'add' : 'replace', path: way.path, value });
  }
  return { kind: 'patch', operations: [...tests.values(), ...changes] };
}

/**
 * Which managers own the field at a pointer, by the object's FieldsV1 (structured-merge-diff): an
 * entry at the pointer itself, or one above it that is owned whole (an atomic map or list). Nobody
 * owns a field that is not there.
 */
export function ownersOf(
  managers: readonly FieldManager[],
  object: Json,
  pointer: string,
): readonly { readonly manager: string; readonly operation: string }[] {
  const way = follow(object, pointer);
  if (way.problem !== null) return [];
  return managers.filter((entry) => owns(entry.fields, way)).map(({ manager, operation }) => ({ manager, operation }));
}

function owns(fields: Json, way: Way): boolean {
  let node = fields;
  for (const [depth, segment] of way.segments.entries()) {
    const next = Array.isArray(way.values[depth]) ? fieldsOfElement(node, way.values[depth + 1]) : memberOf(node, `f:${segment}`);
    if (next === undefined) return false;
    if (isMap(next) && Object.keys(next).length === 0 && !GRANULAR.has(segment)) return true;
    node = next;
  }
  return way.segments.length > 0 && !GRANULAR.has(way.segments.at(-1) ?? '');
}

/** FieldsV1 names an element of a list by its keys: `k:{"name":"chat"}`, `k:{"containerPort":80,"protocol":"TCP"}`. */
function fieldsOfElement(fields: Json, element: Json | undefined): Json | undefined {
  if (!isMap(fields) || element === undefined) return undefined;
  for (const [key, value] of Object.entries(fields)) {
    if (!key.startsWith('k:')) continue;
    const keys = parsed(key.slice(2));
    if (isMap(keys) && Object.entries(keys).every(([name, wanted]) => memberOf(element, name) === wanted)) return value;
  }
  return undefined;
}

function follow(object: Json, pointer: string): Way {
  const segments = segmentsOf(pointer);
  if (typeof segments === 'string') return { segments: [], values: [object], path: '', tests: [], problem: segments };
  const values: Json[] = [object];
  const tests: PatchOperation[] = [];
  let path = '';
  const way = (problem: string | null): Way => ({ segments, values, path, tests, problem });
  for (const [depth, segment] of segments.entries()) {
    const here = values[depth] ?? null;
    if (isList(here)) {
      const index = elementOf(here, segment);
      if (typeof index === 'string') return way(index);
      path += `/${index}`;
      values.push(here[index] ?? null);
      tests.push({ op: 'test', path: `${path}/name`, value: segment.slice('name='.length) });
      continue;
    }
    if (!isMap(here)) return way(`${path === '' ? 'the object' : path} holds ${nameOf(here)}`);
    path += `/${escaped(segment)}`;
    const next = memberOf(here, segment);
    if (next === undefined) return way(depth === segments.length - 1 ? null : `${path} is missing`);
    values.push(next);
  }
  return way(null);
}

/** The index of the named element, or why there is none. */
function elementOf(list: readonly Json[], segment: string): number | string {
  if (!segment.startsWith('name=')) return `an element of a list is written name=<its name>, not ${segment}`;
  const name = segment.slice('name='.length);
  const found = [...list.keys()].filter((index) => memberOf(list[index] ?? null, 'name') === name);
  if (found.length > 1) return `several elements are named ${name}`;
  return found[0] ?? `no element is named ${name}`;
}

/** Segments, unescaped; a text says why there are none. */
function segmentsOf(pointer: string): readonly string[] | string {
  if (pointer === '') return [];
  if (!pointer.startsWith('/')) return 'a pointer starts with /';
  const raw = pointer.slice(1).split('/');
  if (raw.length > SEGMENTS_MAX) return `a pointer has at most ${SEGMENTS_MAX} segments`;
  if (raw.some((segment) => /~(?![01])/.test(segment))) return '~ is written ~0, and / within a key ~1';
  // In this order: `~01` is `~1`, not `/` (RFC 6901 §4).
  return raw.map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function escaped(segment: string): string {
  return segment.replaceAll('~', '~0').replaceAll('/', '~1');
}

function memberOf(value: Json, name: string): Json | undefined {
  return isMap(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

function isMap(value: Json | undefined): value is JsonMap {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function nameOf(value: Json): string {
  if (value === null) return 'null';
  if (isList(value)) return 'a list';
  return typeof value === 'object' ? 'a map' : `a ${typeof value}`;
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}
