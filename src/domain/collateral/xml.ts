/**
 * A reader for one sort of XML: what vendors' machines write for signing. No document type, no entity, no
 * comment, no processing instruction but the declaration, no `xml:` attribute, no CDATA. All that is refused
 * and not skipped, so that there is one way to read a document, and its canonical form (Canonical XML 1.1)
 * follows from the tree. A general parser reads more, and its every addition is one more thing to be sure of.
 */

/** A document with more is none that a vendor signs. */
const ELEMENTS_MAX = 20_000;
const ATTRIBUTES_MAX = 64;
const DEPTH_MAX = 32;

/** An attribute that is no namespace declaration. */
interface XmlAttribute {
  readonly prefix: string;
  readonly local: string;
  readonly namespace: string;
  readonly value: string;
}

/** An element, with the namespaces that are in scope there, by prefix (empty: the default). */
export interface XmlElement {
  readonly prefix: string;
  readonly local: string;
  readonly namespace: string;
  readonly scope: ReadonlyMap<string, string>;
  readonly attributes: readonly XmlAttribute[];
  readonly children: readonly (XmlElement | string)[];
}

const NAME = '[A-Za-z_][A-Za-z0-9_.-]*';
const OPENING = new RegExp(
  `<(${NAME})(?::(${NAME}))?((?:[ \\t\\n\\r]+${NAME}(?::${NAME})?[ \\t\\n\\r]*=[ \\t\\n\\r]*(?:"[^"<&]*"|'[^'<&]*'))*)[ \\t\\n\\r]*(/?)>`,
  'y',
);
const CLOSING = new RegExp(`</(${NAME})(?::(${NAME}))?[ \\t\\n\\r]*>`, 'y');
const ATTRIBUTE = new RegExp(`(${NAME})(?::(${NAME}))?[ \\t\\n\\r]*=[ \\t\\n\\r]*(?:"([^"]*)"|'([^']*)')`, 'g');
const DECLARATION = /^<\?xml version="1\.0" encoding="(?:UTF-8|utf-8)"(?: standalone="(?:yes|no)")?\?>/;
/** What XML 1.0 §2.2 leaves out, and what is left out here as well: nothing of it is in a vendor's file. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]/;

interface Open {
  readonly element: XmlElement;
  readonly children: (XmlElement | string)[];
}

/** Reads a document. Throws Error, saying what was met, for everything beyond the sort above. */
export function readXml(text: string): XmlElement {
  const source = text.replace(DECLARATION, '').replace(/\r\n?/g, '\n');
  if (CONTROL.test(source)) throw new Error('a control character');
  const stack: Open[] = [];
  let root: XmlElement | null = null;
  let elements = 0;
  let at = 0;
  while (at < source.length) {
    const next = source.indexOf('<', at);
    const end = next < 0 ? source.length : next;
    addText(source.slice(at, end), stack.at(-1));
    if (next < 0) break;
    const closing = matchAt(CLOSING, source, end);
    const opening = closing === null ? matchAt(OPENING, source, end) : null;
    if (closing !== null) close(stack, closing);
    else if (opening === null) throw new Error(refusalOf(source.slice(end, end + 9)));
    else {
      elements += 1;
      if (elements > ELEMENTS_MAX || stack.length >= DEPTH_MAX) throw new Error('more elements than a vendor’s file has');
      if (stack.length === 0 && root !== null) throw new Error('two documents');
      const opened = open(opening, stack.at(-1));
      if (stack.length === 0) root = opened.element;
      if (opening[4] === '') stack.push(opened);
    }
    at = end + (closing ?? opening ?? [''])[0].length;
  }
  if (root === null || stack.length > 0) throw new Error('a document that does not end');
  return root;
}

function matchAt(pattern: RegExp, source: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(source);
}

/** Names what is refused, so that an attack is told from a mistake. */
function refusalOf(piece: string): string {
  if (piece.startsWith('<!DOCTYPE') || piece.startsWith('<!ENTITY')) return 'a document type or an entity';
  if (piece.startsWith('<!--')) return 'a comment';
  if (piece.startsWith('<?')) return 'a processing instruction';
  return 'markup that is none, or with an entity in it';
}

function addText(text: string, parent: Open | undefined): void {
  if (text === '') return;
  if (text.includes('&')) throw new Error('an entity');
  if (text.includes(']]>')) throw new Error('the end of a section that never began');
  if (parent !== undefined) parent.children.push(text);
  else if (text.trim() !== '') throw new Error('text outside the document');
}

function close(stack: Open[], [, first, second]: RegExpExecArray): void {
  const opened = stack.pop();
  const [prefix, local] = second === undefined ? ['', first] : [first, second];
  if (opened === undefined || opened.element.prefix !== prefix || opened.element.local !== local) throw new Error('elements that cross');
}

function open([, first = '', second, attributes = '']: RegExpExecArray, parent: Open | undefined): Open {
  const scope = new Map(parent?.element.scope ?? []);
  const plain: { readonly prefix: string; readonly local: string; readonly value: string }[] = [];
  const declared = new Set<string>();
  for (const [, left = '', right, double, single] of attributes.matchAll(ATTRIBUTE)) {
    // XML 1.0 §3.3.3: white space in a value is read as spaces.
    const value = (double ?? single ?? '').replace(/[\t\n]/g, ' ');
    const declares = right === undefined ? (left === 'xmlns' ? '' : null) : left === 'xmlns' ? right : null;
    if (declares === null) plain.push(right === undefined ? { prefix: '', local: left, value } : { prefix: left, local: right, value });
    else {
      if (declared.has(declares) || /^xml/i.test(declares) || (value === '' && declares !== '')) throw new Error('a namespace that may not be declared so');
      declared.add(declares);
      scope.set(declares, value);
    }
  }
  if (plain.length + declared.size > ATTRIBUTES_MAX) throw new Error('more attributes than a vendor’s file has');
  const resolved = plain.map((one) => ({ ...one, namespace: one.prefix === '' ? '' : namespaceOf(one.prefix, scope) }));
  if (new Set(resolved.map(({ namespace, local }) => `${namespace} ${local}`)).size !== resolved.length) throw new Error('an attribute twice');
  const [prefix, local] = second === undefined ? ['', first] : [first, second];
  const children: (XmlElement | string)[] = [];
  const element = { prefix, local, namespace: prefix === '' ? (scope.get('') ?? '') : namespaceOf(prefix, scope), scope, attributes: resolved, children };
  parent?.children.push(element);
  return { element, children };
}

function namespaceOf(prefix: string, scope: ReadonlyMap<string, string>): string {
  const namespace = scope.get(prefix);
  if (prefix === 'xml' || namespace === undefined) throw new Error(`the prefix ${prefix}, which is not declared`);
  return namespace;
}

/**
 * Canonical XML 1.1 (https://www.w3.org/TR/xml-c14n11/) without comments, of an element with all that it
 * holds but `omitted`. As the top of a subset it declares every namespace in scope (§2.3); `xml:` attributes,
 * of which 1.0 and 1.1 think differently, cannot occur.
 */
export function canonicalXml(element: XmlElement, omitted: XmlElement | null = null, shown: ReadonlyMap<string, string> = new Map()): string {
  const name = element.prefix === '' ? element.local : `${element.prefix}:${element.local}`;
  const declarations = [...element.scope]
    .filter(([prefix, namespace]) => (shown.get(prefix) ?? '') !== namespace)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([prefix, namespace]) => ` xmlns${prefix === '' ? '' : `:${prefix}`}="${escaped(namespace)}"`);
  const attributes = [...element.attributes]
    .sort((a, b) => (a.namespace === b.namespace ? (a.local < b.local ? -1 : 1) : a.namespace < b.namespace ? -1 : 1))
    .map(({ prefix, local, value }) => ` ${prefix === '' ? '' : `${prefix}:`}${local}="${escaped(value)}"`);
  const inside = element.children.map((child) => {
    if (typeof child === 'string') return child.replaceAll('>', '&gt;');
    return child === omitted ? '' : canonicalXml(child, omitted, element.scope);
  });
  return `<${name}${declarations.join('')}${attributes.join('')}>${inside.join('')}</${name}>`;
}

/** In an attribute (§2.3). Nothing else that is escaped there can occur. */
function escaped(value: string): string {
  return value.replaceAll('"', '&quot;');
}
