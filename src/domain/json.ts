import canonicalize from 'canonicalize';

/** A value of RFC 8259. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** RFC 8785 (JCS): the one way to write a value, so that its bytes can be hashed and signed. Throws for what JSON cannot hold. */
export function canonicalJson(value: Json): string {
  const text = canonicalize(value);
  if (text === undefined) throw new TypeError('not a JSON value');
  return text;
}

/** A parsed document as JSON: members that are `undefined` fall away. */
export function jsonOf(value: object): Json {
  return JSON.parse(JSON.stringify(value)) as Json;
}
