/** An element of a page. */
export interface Element {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly (Element | string)[];
}

const VOID = new Set(['meta', 'link', 'br']);
/** Their text is not HTML: it ends at the element's own end. */
const RAW = new Set(['style']);
const TAG = /<(?:!doctype html|(\/)?([a-z][a-z0-9]*)((?: [a-z-]+(?:="[^"<>]*")?)*))>/y;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };

/**
 * Reads a page as strictly as we write one: every element is closed, every attribute is quoted, every `<`, `>` and `&` of a
 * text is an entity. Throws Error at the first thing that is not so, so that what slipped through unescaped fails a test.
 */
export function parseHtml(text: string): Element {
  const root = { name: '', attributes: {}, children: [] as (Element | string)[] };
  const open: { name: string; children: (Element | string)[] }[] = [root];
  let at = 0;
  const last = () => open.at(-1) ?? root;
  while (at < text.length) {
    const raw = RAW.has(last().name);
    const next = text.indexOf(raw ? `</${last().name}` : '<', at);
    const end = next < 0 ? text.length : next;
    if (end > at) last().children.push(raw ? text.slice(at, end) : plain(text.slice(at, end)));
    if (next < 0) break;
    TAG.lastIndex = next;
    const found = TAG.exec(text);
    if (found === null) throw new Error(`not a tag: ${text.slice(next, next + 80)}`);
    at = TAG.lastIndex;
    const [, closing, name, attributes = ''] = found;
    if (name === undefined) continue;
    if (closing === undefined) {
      const element = { name, attributes: attributesOf(attributes), children: [] };
      last().children.push(element);
      if (!VOID.has(name)) open.push(element);
    } else if (open.pop()?.name !== name) throw new Error(`</${name}> closes another element, before: ${text.slice(at, at + 80)}`);
  }
  if (open.length !== 1) throw new Error(`<${last().name}> is not closed`);
  return root;
}

function plain(text: string): string {
  if (/[<>]|&(?!(?:amp|lt|gt|quot|#39);)/.test(text)) throw new Error(`not escaped: ${text.slice(0, 200)}`);
  return text.replace(/&(amp|lt|gt|quot|#39);/g, (whole, name: string) => ENTITIES[name] ?? whole);
}

function attributesOf(text: string): Record<string, string> {
  const found = [...text.matchAll(/ ([a-z-]+)(?:="([^"]*)")?/g)].map(([, name = '', value = '']) => [name, plain(value)] as const);
  if (new Set(found.map(([name]) => name)).size !== found.length) throw new Error(`an attribute twice: ${text}`);
  return Object.fromEntries(found);
}

/** All elements below one, in the page's order. */
export function elements(root: Element): readonly Element[] {
  return root.children.flatMap((child) => (typeof child === 'string' ? [] : [child, ...elements(child)]));
}

/** Those of a name, and of a class where one is given. */
export function all(root: Element, name: string, ofClass?: string): readonly Element[] {
  return elements(root).filter((element) => element.name === name && (ofClass === undefined || (element.attributes.class ?? '').split(' ').includes(ofClass)));
}

/** The element of an id. Throws Error where there is none. */
export function byId(root: Element, id: string): Element {
  const found = elements(root).find((element) => element.attributes.id === id);
  if (found === undefined) throw new Error(`no element #${id}`);
  return found;
}

/** The section that a heading of this id names. */
export function section(root: Element, id: string): Element | null {
  return elements(root).find((element) => element.name === 'section' && element.attributes['aria-labelledby'] === id) ?? null;
}

const BLOCKS = new Set(['p', 'li', 'h1', 'h2', 'h3', 'th', 'td', 'dt', 'dd', 'div', 'section', 'caption', 'br']);

/** An element's text, white space as it is seen. */
export function textOf(element: Element | null): string {
  const whole = ({ name, children }: Element): string => {
    const text = children.map((child) => (typeof child === 'string' ? child : whole(child))).join('');
    return BLOCKS.has(name) ? ` ${text} ` : text;
  };
  return element === null ? '' : whole(element).replace(/\s+/g, ' ').trim();
}
