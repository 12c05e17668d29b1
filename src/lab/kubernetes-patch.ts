/** The patches that an API server takes: RFC 6902, RFC 7396, and the strategic merge patch as far as the lab's kinds need it. */
import { isList, isMap, type Json, type JsonMap, same } from './kubernetes-json.ts';

const NOT_APPLICABLE = 'PatchNotApplicable';

/** Whether something thrown says that a patch does not fit the object. The API server tells no more of a JSON patch than that. */
export function isNotApplicable(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === NOT_APPLICABLE;
}

function notApplicable(what: string): Error {
  return Object.assign(new Error(what), { name: NOT_APPLICABLE });
}

/** RFC 6902 allows more; nobody sends it. */
const OPERATIONS_MAX = 10_000;

/** Applies a JSON patch (RFC 6902). As the API server does, `replace` of a missing member adds it. Throws what `isNotApplicable` knows. */
export function jsonPatch(document: Json, operations: readonly Json[]): Json {
  if (operations.length > OPERATIONS_MAX) throw notApplicable('too many operations');
  let result = document;
  for (const operation of operations) result = applied(result, isMap(operation) ? operation : {});
  return result;
}

function applied(document: Json, operation: JsonMap): Json {
  const path = segments(operation.path);
  switch (operation.op) {
    case 'add':
      return edited(document, path, { kind: 'add', value: operand(operation) });
    case 'replace':
      return edited(document, path, { kind: 'replace', value: operand(operation) });
    case 'remove':
      return edited(document, path, { kind: 'remove' });
    case 'copy':
      return edited(document, path, { kind: 'add', value: found(document, segments(operation.from)) });
    case 'move': {
      const from = segments(operation.from);
      return edited(edited(document, from, { kind: 'remove' }), path, { kind: 'add', value: found(document, from) });
    }
    case 'test':
      if (!same(found(document, path), operand(operation))) throw notApplicable('test failed');
      return document;
    default:
      throw notApplicable('unknown operation');
  }
}

type Edit = { readonly kind: 'add' | 'replace'; readonly value: Json } | { readonly kind: 'remove' };

function edited(here: Json, [first, ...rest]: readonly string[], edit: Edit): Json {
  if (first === undefined) {
    if (edit.kind === 'remove') throw notApplicable('the whole document');
    return edit.value;
  }
  if (isList(here)) return editedList(here, first, rest, edit);
  if (!isMap(here)) throw notApplicable(`nothing at ${first}`);
  if (rest.length > 0) {
    if (!Object.hasOwn(here, first)) throw notApplicable(`nothing at ${first}`);
    return { ...here, [first]: edited(here[first] ?? null, rest, edit) };
  }
  if (edit.kind !== 'remove') return { ...here, [first]: edit.value };
  if (!Object.hasOwn(here, first)) throw notApplicable(`nothing at ${first}`);
  return Object.fromEntries(Object.entries(here).filter(([name]) => name !== first));
}

function editedList(here: readonly Json[], first: string, rest: readonly string[], edit: Edit): Json {
  const end = edit.kind === 'add' && rest.length === 0;
  const index = first === '-' && end ? here.length : indexOf(first, here.length, end);
  if (rest.length > 0) return here.with(index, edited(here[index] ?? null, rest, edit));
  if (edit.kind === 'add') return here.toSpliced(index, 0, edit.value);
  return edit.kind === 'replace' ? here.with(index, edit.value) : here.toSpliced(index, 1);
}

function found(document: Json, path: readonly string[]): Json {
  let here = document;
  for (const segment of path) {
    const next = isList(here) ? here[indexOf(segment, here.length, false)] : isMap(here) && Object.hasOwn(here, segment) ? here[segment] : undefined;
    if (next === undefined) throw notApplicable(`nothing at ${segment}`);
    here = next;
  }
  return here;
}

function indexOf(segment: string, length: number, end: boolean): number {
  const index = /^(?:0|[1-9]\d*)$/.test(segment) ? Number(segment) : -1;
  if (index < 0 || index > (end ? length : length - 1)) throw notApplicable(`no index ${segment}`);
  return index;
}

function segments(pointer: Json | undefined): readonly string[] {
  if (pointer === '') return [];
  if (typeof pointer !== 'string' || !pointer.startsWith('/')) throw notApplicable('not a pointer');
  return pointer
    .slice(1)
    .split('/')
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function operand(operation: JsonMap): Json {
  if (operation.value === undefined) throw notApplicable('no value');
  return operation.value;
}

/** Applies a merge patch (RFC 7396): null takes away, lists are replaced. */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isMap(patch)) return patch;
  const result: Record<string, Json> = isMap(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value);
  }
  return result;
}

/** Lists that the API merges by a key (`patchMergeKey` of its types); all others are replaced. */
export const MERGE_KEYS: Readonly<Record<string, string>> = {
  containers: 'name',
  initContainers: 'name',
  ephemeralContainers: 'name',
  env: 'name',
  volumes: 'name',
  imagePullSecrets: 'name',
  ports: 'containerPort',
  volumeMounts: 'mountPath',
  conditions: 'type',
  ownerReferences: 'uid',
};

/** Applies a strategic merge patch: like a merge patch, but lists with a merge key are merged element by element. */
export function strategicPatch(target: Json | undefined, patch: Json, name = ''): Json {
  const key = MERGE_KEYS[name];
  if (isList(patch) && key !== undefined) return mergedList(isList(target) ? target : [], patch, key);
  if (!isMap(patch)) return patch;
  if (patch.$patch === 'replace') return Object.fromEntries(Object.entries(patch).filter(([member]) => member !== '$patch'));
  const result: Record<string, Json> = isMap(target) ? { ...target } : {};
  for (const [member, value] of Object.entries(patch)) {
    if (member.startsWith('$')) continue;
    if (value === null) delete result[member];
    else result[member] = strategicPatch(result[member], value, member);
  }
  return result;
}

function mergedList(target: readonly Json[], patch: readonly Json[], key: string): Json {
  let result = target;
  // A new element stands behind the one before it in the patch, or in front of all.
  let position = 0;
  for (const element of patch) {
    if (!isMap(element)) throw notApplicable('not a map');
    const index = result.findIndex((present) => isMap(present) && same(present[key], element[key]));
    if (element.$patch === 'delete') {
      result = result.filter((_, each) => each !== index);
      continue;
    }
    result = index < 0 ? result.toSpliced(position, 0, strategicPatch(undefined, element)) : result.with(index, strategicPatch(result[index], element));
    position = (index < 0 ? position : index) + 1;
  }
  return result;
}
