import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Instant } from '#src/instant.ts';
import { type Content, html, type Markup, printed, styleSheet, words } from './markup.ts';

/** A page with something open asks for itself again: the pace of a glance, and nothing to the database. Seconds. */
export const REFRESH_SECONDS = 10;

const STYLE = readFileSync(new URL('./style.css', import.meta.url), 'utf8');

/** The content security policy: this sheet, our own icon, and nothing else; no script, form, frame or base. */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "img-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** What every page of this process shows. */
export interface House {
  readonly installation: string;
  readonly mode: 'production' | 'lab';
}

/** One page. */
export interface Page {
  readonly title: string;
  /** Where it is; of its query only what says which page it is. */
  readonly path: string;
  /** `going`: something moves, and the page asks for itself again, unless it was told not to (`paused`). */
  readonly refresh: 'going' | 'paused' | 'none';
  /** When its rows were read; null: they could not be. */
  readonly at: Instant | null;
  readonly main: Content;
  readonly foot?: Content;
}

/** A page's whole text. */
export function pageText(house: House, page: Page): string {
  const lab = house.mode === 'lab';
  return printed(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
${page.refresh === 'going' ? html`<meta http-equiv="refresh" content="${REFRESH_SECONDS}">` : null}
<title>${page.title} · ${lab ? 'LAB · ' : ''}Keyturn</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
${styleSheet(STYLE)}
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
${lab ? html`<p class="lab"><strong>LAB</strong> Keys and evidence are not real. Nothing here protects anything.</p>` : null}
<div class="bar">
<p class="mark">Keyturn <span class="installation">${words(house.installation)}</span></p>
<nav aria-label="Pages">${[link('/', 'Workloads', page.path), link('/revocations', 'Revocations', page.path), link('/documents', 'Documents', page.path)]}</nav>
${freshness(page)}
</div>
</header>
<main id="main" tabindex="-1">
${page.main}
</main>
${page.foot === undefined ? null : html`<footer>${page.foot}</footer>`}
</body>
</html>
`);
}

function link(path: string, name: string, current: string): Markup {
  return path === current.split('?')[0] ? html`<a href="${path}" aria-current="page">${name}</a>` : html`<a href="${path}">${name}</a>`;
}

/** WCAG 2.2.1 and 2.2.2: whoever reads slowly, or is read to, can stop the page from moving. */
function freshness({ at, path, refresh }: Page): Markup {
  const read = at === null ? html`Nothing was read` : html`As of <time datetime="${at}">${at.slice(0, 10)} ${at.slice(11, 19)}</time> UTC`;
  const paused = `${path}${path.includes('?') ? '&' : '?'}refresh=off`;
  switch (refresh) {
    case 'going':
      return html`<p class="fresh">${read} · again every ${REFRESH_SECONDS} s · <a href="${paused}">Pause</a></p>`;
    case 'paused':
      return html`<p class="fresh">${read} · <strong>paused</strong> · <a href="${path}">Refresh every ${REFRESH_SECONDS} s</a></p>`;
    case 'none':
      return at === null ? html`<p class="fresh"></p>` : html`<p class="fresh">${read} · nothing is open · <a href="${path}">Look again</a></p>`;
  }
}

/** A table that becomes a list of rows where it has no room; its roles are said, since that takes them from it. */
export function table(caption: Content, columns: readonly string[], rows: readonly (readonly Content[])[]): Markup {
  return html`<table role="table"><caption>${caption}</caption>
<thead role="rowgroup"><tr role="row">${columns.map((name) => html`<th role="columnheader" scope="col">${name}</th>`)}</tr></thead>
<tbody role="rowgroup">${rows.map((cells) => html`<tr role="row">${cells.map((cell, index) => cellOf(columns[index] ?? '', cell, index))}</tr>\n`)}</tbody></table>`;
}

function cellOf(column: string, cell: Content, index: number): Markup {
  if (index === 0) return html`<th role="rowheader" scope="row" data-column="${column}"><div>${cell}</div></th>`;
  return html`<td role="cell" data-column="${column}"><div>${cell}</div></td>`;
}

/** Names and what they stand for; those without a value are left out. */
export function pairs(list: readonly (readonly [Content, Content])[]): Markup {
  const there = list.filter(([, value]) => value !== null && value !== '' && !(Array.isArray(value) && value.length === 0));
  return html`<dl class="pairs">${there.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>\n`)}</dl>`;
}
