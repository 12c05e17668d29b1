import { type Instant, secondsBetween } from '#src/instant.ts';
import { html, type Markup } from './markup.ts';

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** A moment, for people and machines: the time of day, with its date where that is not today's. UTC. */
export function moment(at: Instant, now: Instant): Markup {
  return html`<time datetime="${at}">${dayOf(at, now)}${at.slice(11, 19)}</time>`;
}

/** A moment, and how long ago it was or how long it is until then. */
export function momentAndSpan(at: Instant, now: Instant): Markup {
  return html`${moment(at, now)}, <span class="span">${spanTo(at, now)}</span>`;
}

/** `3 min ago`, `in 20 s`. */
function spanTo(at: Instant, now: Instant): string {
  const seconds = secondsBetween(at, now);
  if (Math.abs(seconds) < 1) return 'now';
  return seconds >= 0 ? `${lengthOf(seconds)} ago` : `in ${lengthOf(-seconds)}`;
}

/** A length of time in its two largest units: `2 h 5 min`. */
function lengthOf(seconds: number): string {
  const whole = Math.floor(seconds);
  const [days, hours, minutes] = [Math.floor(whole / 86_400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days > 0) return `${days} d${hours > 0 ? ` ${hours} h` : ''}`;
  if (hours > 0) return `${hours} h${minutes > 0 ? ` ${minutes} min` : ''}`;
  if (minutes > 0) return `${minutes} min`;
  return `${whole} s`;
}

function dayOf(at: Instant, now: Instant): string {
  if (at.slice(0, 10) === now.slice(0, 10)) return '';
  const day = `${Number(at.slice(8, 10))} ${MONTHS[Number(at.slice(5, 7)) - 1]} `;
  return at.slice(0, 4) === now.slice(0, 4) ? day : `${day}${at.slice(0, 4)} `;
}
