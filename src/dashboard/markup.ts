import { storable } from '#state/text.ts';

/** Under a symbol, so that nothing that was parsed from JSON, a row or a request can be one. */
const MADE = Symbol('markup');

/** Text that is HTML. Only this module makes it, and there is no way to call any other text HTML. */
export interface Markup {
  readonly [MADE]: string;
}

/** What may stand in a template: text is escaped, a list is joined, null is nothing. */
export type Content = string | number | Markup | null | readonly Content[];

/**
 * A template of HTML. Every value in it is escaped, in text and in quoted attributes alike: attributes are always quoted,
 * and none that holds an address, a style or a script takes a value that somebody else wrote (a test looks).
 */
export function html(strings: TemplateStringsArray, ...values: readonly Content[]): Markup {
  return { [MADE]: strings.reduce((text, part, index) => `${text}${rendered(values[index - 1] ?? null)}${part}`) };
}

/** A style element of our own text, which a browser hashes byte for byte. Throws Error where the text could end the element. */
export function styleSheet(text: string): Markup {
  if (text.includes('<')) throw new Error('a style sheet must not contain <');
  return { [MADE]: `<style>${text}</style>` };
}

/** The text that goes over the wire. */
export function printed(markup: Markup): string {
  return markup[MADE];
}

function rendered(value: Content): string {
  if (value === null) return '';
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return escaped(value);
  return isList(value) ? value.map(rendered).join('') : value[MADE];
}

function isList(value: Markup | readonly Content[]): value is readonly Content[] {
  return Array.isArray(value);
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Controls and turns of direction, which no markup can tell of, are shown as U+FFFD. */
function escaped(text: string): string {
  return storable(text).replace(/[&<>"']/g, (one) => ENTITIES[one] ?? one);
}

/** A reason's words quote answers and documents; beyond this nobody reads on. Characters. */
const WORDS_MAX = 1000;

/** Words that somebody else wrote (a document, a cluster, a guest): of whatever direction and length, they stay within themselves. */
export function words(text: string, max = WORDS_MAX): Markup {
  const shown = text.length > max ? `${text.slice(0, max)}… (${text.length} characters)` : text;
  return html`<bdi>${shown}</bdi>`;
}

/** The same for names, ids and paths, which are read letter by letter. */
export function code(text: string, max = WORDS_MAX): Markup {
  return html`<code>${words(text, max)}</code>`;
}
