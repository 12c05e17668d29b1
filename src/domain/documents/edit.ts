/**
 * Changes values in a YAML text and nothing else: comments, quotes, order and columns stay, so that a
 * reviewer's diff of two releases shows what changed.
 */
import { isMap, isNode, isPair, isScalar, isSeq, type Node, parseDocument, type YAMLMap } from 'yaml';
import { canonicalJson, type Json } from '../json.ts';

/** A value to be set, at the keys that lead to it; an element of a list by its number. Its last key may be new. */
export interface Edit {
  readonly path: readonly [string, ...string[]];
  readonly value: Json;
}

/**
 * Sets these values, one after the other. null: the text is written in a way in which one of them
 * cannot be set where it stands, or a parent of one is not there.
 */
export function editYaml(text: string, edits: readonly Edit[]): string | null {
  let edited = text;
  let expected = parsed(text);
  for (const edit of edits) {
    const next = editOnce(edited, edit);
    expected = withValue(expected, edit.path, edit.value);
    // Said by the parser, not believed: whatever the splice did, the value is what was asked for, or nothing is changed.
    if (next === null || expected === undefined || !isSame(parsed(next), expected)) return null;
    edited = next;
  }
  return edited;
}

function isSame(found: Json | undefined, expected: Json): boolean {
  return found !== undefined && canonicalJson(found) === canonicalJson(expected);
}

/** undefined: it is no YAML. */
function parsed(text: string): Json | undefined {
  const document = parseDocument(text, { version: '1.2', schema: 'core' });
  return document.errors.length > 0 ? undefined : (document.toJS() as Json);
}

/** The same with one value set; undefined where there is no such parent. */
function withValue(value: Json | undefined, [first, ...rest]: readonly string[], leaf: Json): Json | undefined {
  if (first === undefined) return leaf;
  if (value === undefined || value === null || typeof value !== 'object') return undefined;
  const inner = withValue(Object.entries(value).find(([name]) => name === first)?.[1], rest, leaf);
  if (inner === undefined) return undefined;
  if (isList(value)) return Number(first) < value.length ? value.with(Number(first), inner) : undefined;
  return { ...value, [first]: inner };
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

function editOnce(text: string, { path, value }: Edit): string | null {
  const document = parseDocument(text, { version: '1.2', schema: 'core' });
  const node = document.getIn(path, true);
  if (isNode(node)) return replaced(text, node, value);
  const parent = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
  const key = path.at(-1);
  return isMap(parent) && key !== undefined ? added(text, parent, key, value) : null;
}

function replaced(text: string, node: Node, value: Json): string | null {
  const start = node.range?.[0];
  if (start === undefined) return null;
  const end = endOf(node);
  const column = columnOf(text, start);
  const isBlock = isSeq(node) && node.flow !== true && node.items.length > 0;
  const written =
    isBlock && isList(value) && value.length > 0 ? value.map((item) => `- ${flowText(item)}`).join(`\n${' '.repeat(column)}`) : quotedAs(node, value);
  // `key:` without a value has no room for one; a block text ends with its line.
  const before = start === end && text[start - 1] === ':' ? ' ' : '';
  const after = text[end - 1] === '\n' && end > start ? '\n' : '';
  const shorterBy = text.slice(start, end).includes('\n') ? 0 : end - start - before.length - written.length;
  return `${text.slice(0, start)}${before}${written}${after}${remarkAfter(text, end, shorterBy)}`;
}

/** The rest of the text, where a remark on the same line stays in its column as long as there is room. */
function remarkAfter(text: string, end: number, shorterBy: number): string {
  const rest = text.slice(end);
  const [spaces = ''] = /^ +(?=#)/.exec(rest) ?? [];
  return spaces === '' ? rest : `${' '.repeat(Math.max(1, spaces.length + shorterBy))}${rest.slice(spaces.length)}`;
}

/** Where a value ends: of a block of lines, its last value, so that the comment behind that stays. */
function endOf(node: Node): number {
  const last: unknown = (isMap(node) || isSeq(node)) && node.flow !== true ? node.items.at(-1) : undefined;
  const inner: unknown = isPair(last) ? (last.value ?? last.key) : last;
  return isNode(inner) ? endOf(inner) : (node.range?.[1] ?? 0);
}

function added(text: string, parent: YAMLMap, key: string, value: Json): string | null {
  const [start, end] = parent.range ?? [];
  if (start === undefined || end === undefined) return null;
  const pair = `${plainText(key) ?? JSON.stringify(key)}: ${flowText(value)}`;
  if (parent.items.length === 0) return `${text.slice(0, start)}{ ${pair} }${text.slice(end)}`;
  const last = endOf(parent);
  if (parent.flow === true) {
    const inner: unknown = parent.items.at(-1)?.value;
    const at = isNode(inner) ? endOf(inner) : end - 1;
    return `${text.slice(0, at)}, ${pair}${text.slice(at)}`;
  }
  const at = endOfRemarks(text, text[last - 1] === '\n' ? last - 1 : last, columnOf(text, start));
  return `${text.slice(0, at)}\n${' '.repeat(columnOf(text, start))}${pair}${text.slice(at)}`;
}

/** The end of the line, and of the lines after it that go on with its remark: comments further in than the keys. */
function endOfRemarks(text: string, from: number, column: number): number {
  const end = text.indexOf('\n', from);
  if (end < 0) return text.length;
  const [next = ''] = text.slice(end + 1).split('\n', 1);
  const remark = /^( *)#/.exec(next);
  return remark !== null && (remark[1]?.length ?? 0) > column ? endOfRemarks(text, end + 1, column) : end;
}

function columnOf(text: string, offset: number): number {
  return offset - (text.lastIndexOf('\n', offset - 1) + 1);
}

/** As the old value was quoted, where it was. */
function quotedAs(node: Node, value: Json): string {
  if (typeof value !== 'string' || !isScalar(node)) return flowText(value);
  if (node.type === 'QUOTE_DOUBLE') return JSON.stringify(value);
  return node.type === 'QUOTE_SINGLE' ? `'${value.replaceAll("'", "''")}'` : (plainText(value) ?? JSON.stringify(value));
}

/** On one line. Texts in a list are quoted: a measurement may look like a number. */
function flowText(value: Json): string {
  if (typeof value === 'string') return plainText(value) ?? JSON.stringify(value);
  if (value === null || typeof value !== 'object') return String(value);
  if (isList(value)) return `[${value.map((item) => (typeof item === 'string' ? JSON.stringify(item) : flowText(item))).join(', ')}]`;
  const pairs = Object.entries(value).map(([key, inner]) => `${plainText(key) ?? JSON.stringify(key)}: ${flowText(inner)}`);
  return pairs.length === 0 ? '{}' : `{ ${pairs.join(', ')} }`;
}

/** A text that needs no quotes; null: it needs them. */
function plainText(value: string): string | null {
  return /^[A-Za-z0-9/][A-Za-z0-9_./:@+-]*$/.test(value) && !value.endsWith(':') && parsed(value) === value ? value : null;
}
