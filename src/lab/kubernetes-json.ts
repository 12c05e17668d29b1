import { isDeepStrictEqual } from 'node:util';

/** A value of RFC 8259. */
export type Json = null | boolean | number | string | readonly Json[] | JsonMap;

/** An object of RFC 8259. */
export type JsonMap = { readonly [name: string]: Json };

/** An object of the API. Never changed once it is stored: a change is a new one. */
export interface ApiObject {
  readonly kind: string;
  readonly apiVersion: string;
  readonly metadata: Metadata;
  readonly [member: string]: Json | Metadata;
}

/** The members of ObjectMeta that the lab knows by name. */
export type Metadata = JsonMap & {
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
  readonly resourceVersion: string;
};

/** The member at this path; undefined where there is none. A number is an index. */
export function at(value: unknown, ...path: readonly (string | number)[]): Json | undefined {
  let here: unknown = value;
  for (const part of path) {
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, part)) return undefined;
    here = (here as Record<string | number, unknown>)[part];
  }
  return here as Json | undefined;
}

/** Text at a path; '' where there is none. */
export function textAt(value: unknown, ...path: readonly (string | number)[]): string {
  const found = at(value, ...path);
  return typeof found === 'string' ? found : '';
}

/** A number at a path; 0 where there is none. */
export function numberAt(value: unknown, ...path: readonly (string | number)[]): number {
  const found = at(value, ...path);
  return typeof found === 'number' ? found : 0;
}

/** A list at a path; empty where there is none. */
export function listAt(value: unknown, ...path: readonly (string | number)[]): readonly Json[] {
  const found = at(value, ...path);
  return isList(found) ? found : [];
}

/** A map at a path; empty where there is none. */
export function mapAt(value: unknown, ...path: readonly (string | number)[]): JsonMap {
  const found = at(value, ...path);
  return isMap(found) ? found : {};
}

/** The labels or annotations at a path. */
export function textsAt(value: unknown, ...path: readonly (string | number)[]): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(mapAt(value, ...path)).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

/** Whether this is a list of RFC 8259. */
export function isList(value: unknown): value is readonly Json[] {
  return Array.isArray(value);
}

/** Whether this is an object of RFC 8259. */
export function isMap(value: unknown): value is JsonMap {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether both say the same, member by member, in any order of members. */
export function same(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(a, b);
}

/** The object with other metadata members; a member that is undefined is taken away. */
export function withMetadata(object: ApiObject, members: Readonly<Record<string, Json | undefined>>): ApiObject {
  return { ...object, metadata: defined({ ...object.metadata, ...members }) as Metadata };
}

/** Without the members that are undefined. */
export function defined(members: Readonly<Record<string, Json | undefined>>): JsonMap {
  return Object.fromEntries(Object.entries(members).filter((entry): entry is [string, Json] => entry[1] !== undefined));
}
