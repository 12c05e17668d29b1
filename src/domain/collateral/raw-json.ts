/**
 * Where a value stands in a JSON text (RFC 8259), because a signature is over its exact bytes and a parser
 * gives only what they mean. Every object that is walked through must name a member once: of two, a reader
 * takes the one, and the signer may have meant the other.
 */

/** Deeper than any vendor's document; and a bound for hostile ones. */
const DEPTH_MAX = 64;

/** The text of each member of the object that starts at `start`, as it stands there. null: no object, or a member twice. */
export function rawMembers(text: string, start = 0): ReadonlyMap<string, string> | null {
  let at = skipSpace(text, start);
  if (text[at] !== '{') return null;
  const members = new Map<string, string>();
  at = skipSpace(text, at + 1);
  while (text[at] === '"') {
    const colon = skipSpace(text, endOfString(text, at));
    if (text[colon] !== ':') return null;
    const name = JSON.parse(text.slice(at, endOfString(text, at))) as string;
    const from = skipSpace(text, colon + 1);
    const to = endOfValue(text, from);
    if (to <= from || members.has(name)) return null;
    members.set(name, text.slice(from, to));
    at = skipSpace(text, to);
    if (text[at] === '}') return members;
    if (text[at] !== ',') return null;
    at = skipSpace(text, at + 1);
  }
  return text[at] === '}' && members.size === 0 ? members : null;
}

/** The text of each element of an array. null: it is none. */
export function rawElements(text: string): readonly string[] | null {
  let at = skipSpace(text, 0);
  if (text[at] !== '[') return null;
  const elements: string[] = [];
  at = skipSpace(text, at + 1);
  while (at < text.length && text[at] !== ']') {
    const to = endOfValue(text, at);
    if (to <= at) return null;
    elements.push(text.slice(at, to));
    at = skipSpace(text, to);
    if (text[at] === ',') at = skipSpace(text, at + 1);
    else if (text[at] !== ']') return null;
  }
  return at < text.length ? elements : null;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at += 1;
  return at;
}

/** Behind the closing quotation mark; the text's end where there is none. */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === '"') return at + 1;
  }
  return text.length;
}

/** Behind the value: brackets are counted, strings are skipped. The whole text is parsed by JSON.parse beside this, so that it is JSON at all. */
function endOfValue(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at += 1) {
    const character = text[at];
    if (character === '"') {
      at = endOfString(text, at) - 1;
      if (depth === 0) return at + 1;
    } else if (character === '{' || character === '[') {
      depth += 1;
      if (depth > DEPTH_MAX) return from;
    } else if (character === '}' || character === ']') {
      if (depth === 0) return at;
      depth -= 1;
      if (depth === 0) return at + 1;
    } else if (depth === 0 && (character === ',' || character === ' ' || character === '\n' || character === '\r' || character === '\t')) return at;
  }
  return text.length;
}
