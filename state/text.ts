import type { Json } from '#src/domain/json.ts';

/** Controls and formats, halves of surrogate pairs; a line's end and a tab are no harm. */
const UNFIT = /[^\P{C}\t\n]|[\u2028\u2029]/gu;

/**
 * Foreign words as they may be stored and shown: what PostgreSQL refuses (U+0000, half a surrogate pair) and
 * what would speak to a terminal (escapes, turns of direction) becomes U+FFFD. Reasons quote documents,
 * bundles and answers of systems that nobody here trusts, and no quotation may keep a row from being written.
 */
export function storable(text: string): string {
  return text.replace(UNFIT, '\ufffd');
}

/** The same for every text and every name inside a value. */
export function storableJson(value: Json): Json {
  if (typeof value === 'string') return storable(value);
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(storableJson);
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [storable(name), storableJson(member)]));
}
