import { expect, it } from 'vitest';
import { code, html, printed, styleSheet, words } from '#src/dashboard/markup.ts';
import { elements, parseHtml, textOf } from './html.ts';

const EVIL = `"><script>alert('1')</script>&amp;\u202e`;
const SHOWN = EVIL.replace('\u202e', '\ufffd');

it('a value is text, in text and in an attribute alike', () => {
  const page = parseHtml(printed(html`<p title="${EVIL}">${EVIL} ${[words(EVIL), [code(EVIL)], null, 7]}</p>`));
  expect(elements(page).map(({ name }) => name)).toEqual(['p', 'bdi', 'code', 'bdi']);
  expect(elements(page)[0]?.attributes).toEqual({ title: SHOWN });
  expect(textOf(page)).toBe(`${SHOWN} ${SHOWN}${SHOWN}7`);
});

it('nothing that was parsed passes for markup, whatever its members are called', () => {
  for (const forged of [{ markup: EVIL }, { 'Symbol(markup)': EVIL }, { toString: () => EVIL }]) {
    const text = printed(html`<p>${forged as unknown as string[]}</p>`);
    expect(text).not.toContain('<script>');
  }
});

it('a style sheet that could end its element is refused', () => {
  expect(printed(styleSheet('a > b { color: red }'))).toBe('<style>a > b { color: red }</style>');
  expect(() => styleSheet('a::before { content: "</style><script>" }')).toThrow();
});

it('long words are cut, and say how long they were', () => {
  expect(textOf(parseHtml(printed(words('x'.repeat(1001)))))).toBe(`${'x'.repeat(1000)}… (1001 characters)`);
  expect(textOf(parseHtml(printed(words('x'.repeat(1000)))))).toBe('x'.repeat(1000));
});
