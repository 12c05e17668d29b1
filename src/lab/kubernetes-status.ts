/** The API's answers that are no objects, in the words of a kube-apiserver v1.36. */
import type { Json, JsonMap } from './kubernetes-json.ts';

/** An answer that refuses: thrown, and sent as it is. */
export interface Refusal extends Error {
  readonly code: number;
  readonly body: JsonMap;
}

/** Whether something thrown is one. */
export function isRefusal(thrown: unknown): thrown is Refusal {
  return thrown instanceof Error && thrown.name === 'Refusal';
}

/** A Status of this code; `reason` null where the real server gives none. */
export function refusal(code: number, message: string, reason: string | null, details: JsonMap | null = null): Refusal {
  const named = { ...(reason === null ? {} : { reason }), ...(details === null ? {} : { details }) };
  const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, ...named, code };
  return Object.assign(new Error(message), { name: 'Refusal', code, body });
}

/** A kind of object, as texts name it. */
export interface Named {
  /** '' for the core group. */
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
}

/** What is wrong with a field. */
export interface Cause {
  readonly reason: string;
  readonly field: string;
  readonly message: string;
}

function groupDetails({ group }: Named): JsonMap {
  return group === '' ? {} : { group };
}

/** `deployments.apps`. */
function qualified({ plural, group }: Named): string {
  return group === '' ? plural : `${plural}.${group}`;
}

/** There is no object of that name. */
export function notFound(named: Named, name: string): Refusal {
  return refusal(404, `${qualified(named)} "${name}" not found`, 'NotFound', { name, ...groupDetails(named), kind: named.plural });
}

/** The path leads to nothing that the server knows. */
export function noSuchResource(): Refusal {
  return refusal(404, 'the server could not find the requested resource', 'NotFound', {});
}

/** There is one of that name already. */
export function alreadyExists(named: Named, name: string): Refusal {
  return refusal(409, `${qualified(named)} "${name}" already exists`, 'AlreadyExists', { name, ...groupDetails(named), kind: named.plural });
}

/** The object has another version than the one that was written against. */
export function conflict(named: Named, name: string): Refusal {
  const text = `Operation cannot be fulfilled on ${qualified(named)} "${name}": the object has been modified; please apply your changes to the latest version and try again`;
  return refusal(409, text, 'Conflict', { name, ...groupDetails(named), kind: named.plural });
}

/** The token is nobody's. */
export function unauthorized(): Refusal {
  return refusal(401, 'Unauthorized', 'Unauthorized');
}

/** `where` is ` in the namespace "x"` or ` at the cluster scope`. */
export function forbidden(named: Named, name: string, user: string, verb: string, where: string): Refusal {
  const subject = name === '' ? qualified(named) : `${qualified(named)} "${name}"`;
  const text = `${subject} is forbidden: User "${user}" cannot ${verb} resource "${named.plural}" in API group "${named.group}"${where}`;
  return refusal(403, text, 'Forbidden', { ...(name === '' ? {} : { name }), ...groupDetails(named), kind: named.plural });
}

/** The request cannot be understood. */
export function badRequest(message: string): Refusal {
  return refusal(400, message, 'BadRequest');
}

/** Of an object, with every cause. */
export function invalid(named: Named, name: string, causes: readonly Cause[]): Refusal {
  const kind = named.group === '' ? named.kind : `${named.kind}.${named.group}`;
  const texts = causes.map(({ field, message }) => `${field}: ${message}`);
  const text = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  return refusal(422, `${kind} "${name}" is invalid: ${text}`, 'Invalid', {
    name,
    ...groupDetails(named),
    kind: named.kind,
    causes: causes.map(({ reason, message, field }) => ({ reason, message, field })),
  });
}

/** Of a query parameter: `CreateOptions`, `PatchOptions` … */
export function invalidOption(options: string, field: string, message: string, reason: string): Refusal {
  return refusal(422, `${options}.meta.k8s.io "" is invalid: ${field}: ${message}`, 'Invalid', {
    group: 'meta.k8s.io',
    kind: options,
    causes: [{ reason, message, field }],
  });
}

/** A JSON patch that does not fit: the server says no more. */
export function notApplicable(): Refusal {
  return refusal(422, 'the server rejected our request due to an error in our request', 'Invalid', {});
}

/** A patched object that strict validation refuses; the real text quotes it whole, too. */
export function invalidPatch(object: Json, problem: string): Refusal {
  const message = `Invalid value: ${JSON.stringify(JSON.stringify(object))}: ${problem}`;
  return refusal(422, ` "" is invalid: patch: ${message}`, 'Invalid', { causes: [{ reason: 'FieldValueInvalid', message, field: 'patch' }] });
}

/** What the server deletes without giving it back. */
export function deleted(named: Named, name: string, uid: string): JsonMap {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details: { name, ...groupDetails(named), kind: named.plural, uid } };
}

/** Inside a watch: the version asked for is no longer kept. */
export function expired(from: number, oldest: number): JsonMap {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: `too old resource version: ${from} (${oldest})`,
    reason: 'Expired',
    code: 410,
  };
}

/** A page whose snapshot is no longer kept. */
export function expiredPage(): Refusal {
  const text =
    'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.';
  return refusal(410, text, 'Expired');
}
