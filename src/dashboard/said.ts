import { type Instant, secondsBetween } from '#src/instant.ts';
import type { Progress } from '#state/dashboard-runs.ts';
import { type Content, html, type Markup, words } from './markup.ts';
import { momentAndSpan } from './time.ts';

/** A reason, what it is about, and what a person can do. */
export function why(reason: string | null, about: string | null, help: string | null): Markup {
  const said =
    reason === null && about === null
      ? null
      : html`<p class="why">${reason === null ? null : html`<strong class="reason">${words(reason)}</strong> `}${about === null ? null : words(about)}</p>`;
  return html`${said}${help === null ? null : html`<p class="help">${marked(help)}</p>`}`;
}

/** Our own words, in which backticks stand around what is typed. */
function marked(help: string): readonly Content[] {
  return help.split('`').map((part, index) => (index % 2 === 0 ? part : html`<code>${part}</code>`));
}

/** Instants with their names, in a line; those that are not there are left out. */
export function instants(list: readonly (readonly [string, Markup | null])[]): Markup | null {
  const there = list.filter(([, at]) => at !== null);
  return there.length === 0 ? null : html`<p class="instants">${there.map(([name, at]) => html`<span>${name} ${at}</span> `)}</p>`;
}

/** Work that was not heard of for this long has stopped: it tells every few seconds. Seconds. */
const SILENT_SECONDS = 120;
const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'] as const;

/** How far long work is, and since when; where it is silent, since when that is. */
export function progressLine({ doneBytes, totalBytes, since, at }: Progress, now: Instant): Markup {
  const share = totalBytes > 0 ? Math.floor((100 * doneBytes) / totalBytes) : 0;
  const when = secondsBetween(at, now) > SILENT_SECONDS ? html`not heard of since ${momentAndSpan(at, now)}` : html`at work since ${momentAndSpan(since, now)}`;
  return html`<p class="progress">${sizeOf(doneBytes)} of ${sizeOf(totalBytes)} (${share} %), ${when}</p>`;
}

function sizeOf(bytes: number): string {
  const power = Math.min(UNITS.length - 1, bytes >= 1000 ? Math.floor(Math.log10(bytes) / 3) : 0);
  const value = bytes / 1000 ** power;
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[power]}`;
}
