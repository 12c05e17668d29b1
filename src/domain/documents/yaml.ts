import { Composer, isAlias, isMap, isNode, isPair, isScalar, Lexer, Parser, visit, type YAMLMap, type Document as YamlDocument } from 'yaml';
import type { Json } from '../json.ts';

/** A release with 256 targets has about 150 KiB; a reviewer reads far less. */
export const DOCUMENT_MAX_BYTES = 256 * 1024;
/** The deepest document of ours has 7 levels. */
const DEPTH_MAX = 16;
/** Nodes of the largest release that the schema allows, twice over. */
const NODES_MAX = 20_000;
/** Scalars, marks, spaces and ends of lines: the largest release has 38,000. A text that is nothing but commas takes the parser seconds. */
const LEXEMES_MAX = 60_000;

/** Messages of the parser quote the text, which may be long. */
const MESSAGE_MAX = 160;

/** What was read, or why it was not: one line, with the place in the text. */
export type Yaml = { readonly kind: 'read'; readonly value: Json } | { readonly kind: 'bad'; readonly limit: boolean; readonly about: string };

/**
 * Controls and format characters hide content from a reviewer, those that turn the direction of text above all
 * (Unicode TR36 §3); so does what is drawn as nothing. A carriage return takes a terminal back over the line.
 */
const HIDDEN = /[^\P{C}\t\n]|[\p{DI}\p{Zl}\p{Zp}]/u;
/** Decimal only: `0x10`, `1e3` and `.inf` read one way here and another way elsewhere. */
const DECIMAL = /^(?!-0(?:\.0+)?$)-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,15})?$/;

/**
 * Reads one strict YAML 1.2 document: UTF-8 with lines that end in LF, no anchors, aliases, tags, directives,
 * merge keys or duplicate keys, numbers in decimal, nothing that a reviewer cannot see; limited in bytes, depth
 * and nodes. Never throws.
 */
export function readYaml(bytes: Uint8Array): Yaml {
  const before = refused.get(bytes);
  if (before !== undefined) return before;
  const read = readOnce(bytes);
  if (read.kind === 'bad') refused.set(bytes, read);
  return read;
}

/** What was refused before: the same bytes are asked about when they are stored, when files are named and when they are judged. */
const refused = new WeakMap<Uint8Array, Yaml>();

function readOnce(bytes: Uint8Array): Yaml {
  if (bytes.length > DOCUMENT_MAX_BYTES) return tooMuch(`${bytes.length} bytes, expected at most ${DOCUMENT_MAX_BYTES}`);
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const hidden = HIDDEN.exec(text);
    if (hidden !== null) {
      const wrong = hidden[0] === '\r' ? 'expected lines that end in LF alone, found CR: signatures cover the bytes as they are' : hiddenIn(hidden);
      return bad(`${wrong} (line ${lineOf(text, hidden.index)})`);
    }
    if (/^%/m.test(text)) return bad('expected no YAML directives (a line that begins with %)');
    if (tooDeep(text)) return tooMuch(`expected at most ${DEPTH_MAX} levels`);
    let lexemes = 0;
    for (const _ of new Lexer().lex(text)) {
      lexemes += 1;
      if (lexemes > LEXEMES_MAX) return tooMuch(`expected at most ${LEXEMES_MAX} words and marks`);
    }
    return readText(text);
  } catch (cause) {
    return cause instanceof RangeError ? tooMuch(`expected at most ${DEPTH_MAX} levels`) : bad('expected UTF-8 text that is one YAML document');
  }
}

/** The library's own search for duplicate keys, and its pretty errors, take tens of seconds on a hostile text: the walk looks for duplicates, and lines are found here. */
const OPTIONS = {
  version: '1.2',
  schema: 'core',
  strict: true,
  uniqueKeys: false,
  merge: false,
  stringKeys: true,
  logLevel: 'error',
  prettyErrors: false,
} as const;

function readText(text: string): Yaml {
  const composer = new Composer(OPTIONS);
  const mistakes: Yaml[] = [];
  // The composer goes on after a mistake, and makes one of every comma that follows: here the first ends it.
  const onError = (source: number | readonly number[] | { readonly offset: number }, code: string, message: string): never => {
    const offset = typeof source === 'number' ? source : 'offset' in source ? source.offset : (source[0] ?? 0);
    mistakes.push(code === 'RESOURCE_EXHAUSTION' ? tooMuch(`expected at most ${DEPTH_MAX} levels`) : mistake(text, message, offset));
    throw new Error(message);
  };
  Object.assign(composer, { onError });
  const documents: YamlDocument.Parsed[] = [];
  try {
    for (const document of composer.compose(new Parser().parse(text), true, text.length)) documents.push(document);
  } catch (cause) {
    if (mistakes[0] === undefined) throw cause;
  }
  if (mistakes[0] !== undefined) return mistakes[0];
  const [document, second] = documents;
  if (document === undefined) return bad('expected a document');
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) return mistake(text, fault.message, fault.pos[0]);
  if (second !== undefined) return mistake(text, 'expected one document, found another', second.range[0]);
  return firstWrong(document, text) ?? { kind: 'read', value: document.toJS({ maxAliasCount: 0 }) as Json };
}

/** The first node that strictness forbids; null: none. */
function firstWrong(document: YamlDocument.Parsed, text: string): Yaml | null {
  let nodes = 0;
  let wrong: Yaml | null = null;
  const say = (about: string, offset: number | undefined, limit = false): symbol => {
    wrong = { kind: 'bad', limit, about: offset === undefined ? about : `${about} (line ${lineOf(text, offset)})` };
    return visit.BREAK;
  };
  visit(document, (_key, node, ancestors) => {
    nodes += 1;
    if (nodes > NODES_MAX) return say(`expected at most ${NODES_MAX} values`, undefined, true);
    if (ancestors.filter((one) => !isPair(one)).length > DEPTH_MAX) return say(`expected at most ${DEPTH_MAX} levels`, undefined, true);
    if (!isNode(node)) return undefined;
    const offset = node.range?.[0];
    if (isAlias(node)) return say('expected no aliases', offset);
    if ('anchor' in node && node.anchor !== undefined) return say('expected no anchors', offset);
    if (node.tag !== undefined) return say('expected no tags', offset);
    if (isMap(node)) {
      const twice = repeatedKey(node);
      return twice === null ? undefined : say(`expected each key once, found ${twice} again`, offset);
    }
    if (!isScalar(node)) return undefined;
    if (node.value === '__proto__') return say('expected no __proto__', offset);
    // An escape ("\0", "\ud800") writes what the text itself may not hold, and what no database and no terminal takes.
    const hidden = typeof node.value === 'string' ? HIDDEN.exec(node.value) : null;
    if (hidden !== null) return say(hiddenIn(hidden), offset);
    if (typeof node.value !== 'number') return undefined;
    const safe = !Number.isInteger(node.value) || Number.isSafeInteger(node.value);
    return safe && DECIMAL.test(node.source ?? '') ? undefined : say('expected a decimal number, exact in 53 bits', offset);
  });
  return wrong;
}

function hiddenIn([character]: RegExpExecArray): string {
  return `expected no hidden characters, found U+${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`;
}

function repeatedKey(map: YAMLMap): string | null {
  const names = new Set<string>();
  for (const { key } of map.items) {
    const name = isScalar(key) ? String(key.value) : '';
    if (names.has(name)) return name;
    names.add(name);
  }
  return null;
}

/** Flow collections nest without indentation, and the composer recurses: what is far too deep is told from the text. */
function tooDeep(text: string): boolean {
  let depth = 0;
  for (const character of text) {
    if (character === '[' || character === '{') depth += 1;
    else if (character === ']' || character === '}') depth = Math.max(0, depth - 1);
    if (depth > DEPTH_MAX * 8) return true;
  }
  return false;
}

function bad(about: string): Yaml {
  return { kind: 'bad', limit: false, about };
}

function tooMuch(about: string): Yaml {
  return { kind: 'bad', limit: true, about };
}

function mistake(text: string, message: string, offset: number): Yaml {
  return bad(`${message.slice(0, MESSAGE_MAX)} (line ${lineOf(text, offset)})`);
}

function lineOf(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length;
}
