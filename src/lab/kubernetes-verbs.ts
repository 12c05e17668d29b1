/** What an API server does to objects: create, patch, update, delete, list. Everything here is at once, on the store. */
import { randomBytes, randomUUID } from 'node:crypto';
import { problemsOf, withDefaults } from './kubernetes-defaults.ts';
import { conflictsOf, withOwners } from './kubernetes-fields.ts';
import { type ApiObject, at, defined, isList, isMap, type Json, type JsonMap, listAt, mapAt, numberAt, same, textAt, withMetadata } from './kubernetes-json.ts';
import { DEPLOYMENTS, type Kind, PODS, pruned, RUNTIME_CLASSES, strictProblem } from './kubernetes-kinds.ts';
import { isNotApplicable, jsonPatch, mergePatch, strategicPatch } from './kubernetes-patch.ts';
import { alreadyExists, badRequest, conflict, deleted, invalid, invalidOption, invalidPatch, notApplicable, notFound, refusal } from './kubernetes-status.ts';
import type { Store } from './kubernetes-store.ts';

/** Where a request points. */
export interface Place {
  readonly kind: Kind;
  /** '' for kinds without one, and for all of them. */
  readonly namespace: string;
  readonly name: string;
  /** '' for the object itself. */
  readonly subresource: string;
}

/** How a write is meant. */
export interface WriteOptions {
  readonly dryRun: boolean;
  readonly fieldValidation: string;
  readonly manager: string;
  readonly force: boolean;
}

/** An answer. */
export interface Outcome {
  readonly code: number;
  readonly body: JsonMap | ApiObject;
  readonly warnings: readonly string[];
}

/** The verbs over one store. `now` is the lab's clock in whole seconds, as the API writes it. */
export interface Verbs {
  readonly create: (place: Place, body: Json, options: WriteOptions) => Outcome;
  readonly patch: (place: Place, type: string, body: Json, options: WriteOptions) => Outcome;
  readonly update: (place: Place, body: Json, options: WriteOptions) => Outcome;
  readonly remove: (place: Place, body: Json, grace: number | null, dryRun: boolean) => Outcome;
}

/** Reads the options of a write from its query. Throws a refusal. */
export function writeOptions(query: URLSearchParams, method: string, userAgent: string): WriteOptions {
  const name = method === 'POST' ? 'CreateOptions' : method === 'PATCH' ? 'PatchOptions' : method === 'PUT' ? 'UpdateOptions' : 'DeleteOptions';
  const dryRun = query.get('dryRun') ?? '';
  if (!['', 'All'].includes(dryRun)) throw invalidOption(name, 'dryRun', `Unsupported value: ["${dryRun}"]: supported values: "All"`, 'FieldValueNotSupported');
  const fieldValidation = query.get('fieldValidation') ?? '';
  if (!['', 'Ignore', 'Strict', 'Warn'].includes(fieldValidation)) {
    const text = `Unsupported value: "${fieldValidation}": supported values: "", "Ignore", "Strict", "Warn"`;
    throw invalidOption(name, 'fieldValidation', text, 'FieldValueNotSupported');
  }
  const manager = query.get('fieldManager') ?? (userAgent.split('/')[0] || 'unknown');
  return { dryRun: dryRun === 'All', fieldValidation: fieldValidation === '' ? 'Warn' : fieldValidation, manager, force: query.get('force') === 'true' };
}

/** What the verbs work on. */
interface Desk {
  readonly store: Store;
  readonly now: () => string;
}

/** The verbs, over this store. */
export function openVerbs(store: Store, now: () => string): Verbs {
  const desk: Desk = { store, now };
  return {
    create: (place, body, options) => create(desk, place, body, options),
    patch: (place, type, body, options) => patch(desk, place, type, body, options),
    update: (place, body, options) => {
      const current = find(desk, place);
      const { object, warnings } = decoded(place, body, options);
      return { ...write(desk, place, current, object, options, null), warnings };
    },
    remove: (place, body, grace, dryRun) => remove(desk, place, body, grace, dryRun),
  };
}

function find({ store }: Desk, place: Place): ApiObject {
  const found = store.get(place.kind.resource, place.namespace, place.name);
  if (found === null) throw notFound(place.kind, place.name);
  return found;
}

function create({ store, now }: Desk, place: Place, body: Json, options: WriteOptions): Outcome {
  const { object, warnings } = decoded(place, body, options);
  const named = textAt(object, 'metadata', 'name') || generated(textAt(object, 'metadata', 'generateName'));
  if (named === '')
    throw invalid(place.kind, '', [{ reason: 'FieldValueRequired', field: 'metadata.name', message: 'Required value: name or generateName is required' }]);
  if (textAt(object, 'metadata', 'resourceVersion') !== '') throw refusal(500, 'resourceVersion should not be set on objects to be created', null);
  const elsewhere = textAt(object, 'metadata', 'namespace');
  if (elsewhere !== '' && elsewhere !== place.namespace) throw badRequest(WRONG_NAMESPACE);
  admit(store, place, object, named);
  const metadata = {
    ...mapAt(object, 'metadata'),
    name: named,
    namespace: place.kind.namespaced ? place.namespace : undefined,
    uid: randomUUID(),
    resourceVersion: undefined,
    generation: place.kind.counted ? 1 : undefined,
    creationTimestamp: now(),
    managedFields: undefined,
  };
  const fresh = withDefaults({ ...object, kind: place.kind.kind, apiVersion: place.kind.apiVersion, metadata: defined(metadata) } as ApiObject);
  const problems = problemsOf(fresh, null);
  if (problems.length > 0) throw invalid(place.kind, named, problems);
  if (store.get(place.kind.resource, place.namespace, named) !== null) throw alreadyExists(place.kind, named);
  const after = withOwners(null, fresh, { manager: options.manager, operation: 'Update', subresource: '', at: now() });
  return { code: 201, body: options.dryRun ? after : store.put(place.kind.resource, after), warnings };
}

function patch(desk: Desk, place: Place, type: string, body: Json, options: WriteOptions): Outcome {
  const current = find(desk, place);
  const patched = patchedBy(type, current, body);
  if (!isMap(patched)) throw notApplicable();
  const { unknown, mistyped } = strictProblem(patched, place.kind.kind);
  if (type === APPLY && unknown[0] !== undefined) throw undeclared(place, unknown[0]);
  if (mistyped !== null) throw invalidPatch(patched, mistyped);
  if (unknown.length > 0 && options.fieldValidation === 'Strict') throw invalidPatch(patched, `strict decoding error: ${unknown.join(', ')}`);
  const applied = type === APPLY ? ({ ...(body as JsonMap) } as ApiObject) : null;
  if (applied !== null) checkConflicts(current, applied, options);
  const outcome = write(desk, place, current, pruned(patched, place.kind.kind), options, applied);
  return { ...outcome, warnings: options.fieldValidation === 'Warn' ? unknown : [] };
}

/** The write of what a patch or an update made of `current`. */
function write({ store, now }: Desk, place: Place, current: ApiObject, wished: JsonMap, options: WriteOptions, applied: ApiObject | null): Outcome {
  const version = textAt(wished, 'metadata', 'resourceVersion');
  if (version !== '' && version !== current.metadata.resourceVersion) throw conflict(place.kind, place.name);
  checkIdentity(place, current, wished);
  const merged = settled(place, current, wished);
  const problems = problemsOf(merged, current);
  if (problems.length > 0) throw invalid(place.kind, place.name, problems);
  if (applied === null && same(withoutOwners(merged), withoutOwners(current))) return { code: 200, body: current, warnings: [] };
  const writer = { manager: options.manager, operation: applied === null ? 'Update' : 'Apply', subresource: place.subresource, at: now() } as const;
  const after = withOwners(current, merged, writer, applied);
  if (same(after, current)) return { code: 200, body: current, warnings: [] };
  return { code: 200, body: options.dryRun ? after : store.put(place.kind.resource, after), warnings: [] };
}

/** A pod on the node is marked, and goes when its time is up or the node has stopped it; everything else goes at once. */
function remove({ store, now }: Desk, place: Place, body: Json, grace: number | null, dryRun: boolean): Outcome {
  const current = find({ store, now }, place);
  checkPreconditions(place, current, body);
  const asked = at(body, 'gracePeriodSeconds');
  const seconds = grace ?? (typeof asked === 'number' ? asked : numberAt(current, 'spec', 'terminationGracePeriodSeconds'));
  const running = place.kind === PODS && textAt(current, 'spec', 'nodeName') !== '' && !['Succeeded', 'Failed'].includes(textAt(current, 'status', 'phase'));
  if (running && seconds > 0) {
    if (at(current, 'metadata', 'deletionTimestamp') !== undefined) return { code: 200, body: current, warnings: [] };
    const generation = numberAt(current, 'metadata', 'generation') + 1;
    const marked = withMetadata(current, { deletionTimestamp: laterBy(now(), seconds), deletionGracePeriodSeconds: seconds, generation });
    return { code: 200, body: dryRun ? marked : store.put(place.kind.resource, marked), warnings: [] };
  }
  if (!dryRun)
    store.remove(place.kind.resource, place.kind === PODS ? withMetadata(current, { deletionTimestamp: now(), deletionGracePeriodSeconds: 0 }) : current);
  return { code: 200, body: place.kind === PODS ? current : deleted(place.kind, place.name, current.metadata.uid), warnings: [] };
}

const WRONG_NAMESPACE = 'the namespace of the provided object does not match the namespace sent on the request';
const APPLY = 'application/apply-patch+yaml';

function patchedBy(type: string, current: ApiObject, body: Json): Json {
  const document = current as unknown as Json;
  try {
    switch (type) {
      case 'application/json-patch+json':
        if (!isList(body)) throw badRequest('error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp');
        return jsonPatch(document, body);
      case 'application/merge-patch+json':
      case 'application/strategic-merge-patch+json':
        if (!isMap(body)) throw badRequest('error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}');
        return type.includes('strategic') ? strategicPatch(document, body) : mergePatch(document, body);
      case APPLY:
        return strategicPatch(document, body);
      default:
        throw refusal(415, '415: Unsupported Media Type', 'UnsupportedMediaType', {});
    }
  } catch (error) {
    throw isNotApplicable(error) ? notApplicable() : error;
  }
}

/** An object as it was sent, checked against its kind's fields. */
function decoded(place: Place, body: Json, { fieldValidation }: WriteOptions): { readonly object: ApiObject; readonly warnings: readonly string[] } {
  if (!isMap(body)) throw badRequest(`the object provided is unrecognized (must be of type ${place.kind.kind})`);
  const { unknown, mistyped } = strictProblem(body, place.kind.kind);
  const cannot = `${place.kind.kind} in version "v1" cannot be handled as a ${place.kind.kind}: `;
  if (mistyped !== null) throw badRequest(cannot + mistyped);
  if (unknown.length > 0 && fieldValidation === 'Strict') throw badRequest(`${cannot}strict decoding error: ${unknown.join(', ')}`);
  return { object: pruned(body, place.kind.kind) as ApiObject, warnings: fieldValidation === 'Warn' ? unknown : [] };
}

function checkIdentity(place: Place, current: ApiObject, wished: JsonMap): void {
  const name = textAt(wished, 'metadata', 'name');
  if (name !== '' && name !== place.name) throw badRequest(`the name of the object (${name}) does not match the name on the URL (${place.name})`);
  const namespace = textAt(wished, 'metadata', 'namespace');
  if (namespace !== '' && namespace !== place.namespace) throw badRequest(WRONG_NAMESPACE);
  const uid = textAt(wished, 'metadata', 'uid');
  if (uid === '' || uid === current.metadata.uid) return;
  const cause = { reason: 'FieldValueInvalid', field: 'metadata.uid', message: `Invalid value: "${uid}": field is immutable` };
  // The real server lists this cause twice, and says it once.
  const twice = invalid(place.kind, place.name, [cause]);
  throw Object.assign(twice, {
    body: {
      ...twice.body,
      details: { ...mapAt(twice.body, 'details'), causes: [cause, cause].map(({ reason, message, field }) => ({ reason, message, field })) },
    },
  });
}

/** What is stored of a wish: the server's own members stay; status and the rest are written apart. */
function settled(place: Place, current: ApiObject, wished: JsonMap): ApiObject {
  const { uid, name, namespace, resourceVersion, creationTimestamp, generation, deletionTimestamp, deletionGracePeriodSeconds, managedFields } =
    current.metadata;
  const own = { uid, name, namespace, resourceVersion, creationTimestamp, generation, deletionTimestamp, deletionGracePeriodSeconds, managedFields };
  const metadata = { ...mapAt(wished, 'metadata'), ...own };
  const whole = { ...wished, kind: current.kind, apiVersion: current.apiVersion, metadata: defined(metadata) } as ApiObject;
  // As in the real server, a write of a status may carry annotations along.
  if (place.subresource === 'status') return { ...current, metadata: whole.metadata, status: mapAt(whole, 'status') };
  const kept = withDefaults(place.kind.withStatus ? ({ ...whole, status: mapAt(current, 'status') } as ApiObject) : whole);
  // Of a Deployment, a change of an annotation counts, too.
  const touched = place.kind === DEPLOYMENTS && !same(mapAt(kept, 'metadata', 'annotations'), mapAt(current, 'metadata', 'annotations'));
  const moved = place.kind.counted && (touched || !same(kept.spec, current.spec));
  return moved ? withMetadata(kept, { generation: numberAt(current, 'metadata', 'generation') + 1 }) : kept;
}

function withoutOwners(object: ApiObject): ApiObject {
  return withMetadata(object, { managedFields: undefined });
}

function admit(store: Store, place: Place, object: ApiObject, name: string): void {
  if (place.kind.namespaced && store.get('namespaces', '', place.namespace) === null) {
    throw notFound({ group: '', plural: 'namespaces', kind: 'Namespace' }, place.namespace);
  }
  const runtimeClass = textAt(object, 'spec', 'runtimeClassName');
  if (place.kind !== PODS || runtimeClass === '' || store.get(RUNTIME_CLASSES.resource, '', runtimeClass) !== null) return;
  const shown = textAt(object, 'metadata', 'name') || textAt(object, 'metadata', 'generateName') || name;
  throw refusal(403, `pods "${shown}" is forbidden: pod rejected: RuntimeClass "${runtimeClass}" not found`, 'Forbidden', { name: shown, kind: 'pods' });
}

/** An apply is typed before anything else, and says it in words of its own. */
function undeclared({ kind, name }: Place, unknown: string): Error {
  const field = unknown.replace('unknown field "', '.').replace(/"$/, '');
  return refusal(500, `failed to create typed patch object (/${name}; ${kind.apiVersion}, Kind=${kind.kind}): ${field}: field not declared in schema`, null);
}

function checkConflicts(current: ApiObject, applied: ApiObject, { manager, force }: WriteOptions): void {
  const conflicts = force ? [] : conflictsOf(current, applied, manager);
  if (conflicts.length === 0) return;
  const who = (owner: string, operation: string): string => `"${owner}"${operation === 'Update' ? ` using ${current.apiVersion}` : ''}`;
  const byOwner = Map.groupBy(conflicts, ({ manager: owner, operation }) => who(owner, operation));
  const texts = [...byOwner].map(([owner, fields]) => {
    const names = fields.map(({ field }) => field).toSorted();
    return names.length === 1 ? `conflict with ${owner}: ${names[0]}` : `conflicts with ${owner}:\n${names.map((field) => `- ${field}`).join('\n')}`;
  });
  const causes = conflicts.map(({ manager: owner, operation, field }) => ({
    reason: 'FieldManagerConflict',
    message: `conflict with ${who(owner, operation)}`,
    field,
  }));
  throw refusal(409, `Apply failed with ${conflicts.length} conflict${conflicts.length === 1 ? '' : 's'}: ${texts.join('\n')}`, 'Conflict', { causes });
}

function checkPreconditions(place: Place, current: ApiObject, body: Json): void {
  const members = {
    UID: [textAt(body, 'preconditions', 'uid'), current.metadata.uid],
    ResourceVersion: [textAt(body, 'preconditions', 'resourceVersion'), current.metadata.resourceVersion],
  };
  for (const [member, [wanted, is]] of Object.entries(members)) {
    if (wanted === '' || wanted === is) continue;
    const text = `Operation cannot be fulfilled on ${place.kind.kind} "${place.name}": the ${member} in the precondition (${wanted}) does not match the ${member} in record (${is}). The object might have been ${member === 'UID' ? 'deleted and then recreated' : 'modified'}`;
    throw refusal(409, text, 'Conflict', { name: place.name, kind: place.kind.kind });
  }
}

/** A generated name's end: five of the letters and digits that spell nothing. */
function generated(prefix: string): string {
  const letters = 'bcdfghjklmnpqrstvwxz2456789';
  return prefix === '' ? '' : prefix + [...randomBytes(5)].map((byte) => letters[byte % letters.length]).join('');
}

function laterBy(instant: string, seconds: number): string {
  return `${new Date(Date.parse(instant) + seconds * 1000).toISOString().slice(0, 19)}Z`;
}

/** The owner that controls an object; null where none does. */
export function controllerOf(object: ApiObject): { readonly kind: string; readonly name: string; readonly uid: string } | null {
  const owner = listAt(object, 'metadata', 'ownerReferences').find((each) => at(each, 'controller') === true);
  return owner === undefined ? null : { kind: textAt(owner, 'kind'), name: textAt(owner, 'name'), uid: textAt(owner, 'uid') };
}
