/**
 * A moment in UTC, written `YYYY-MM-DDTHH:MM:SS.mmmZ`: 24 characters, so that the order of the
 * strings is the order of the moments. Milliseconds, because that is what the database's
 * `instant()` gives.
 */
export type Instant = string & { readonly __instant: true };

const FORM = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** From milliseconds since 1970, as `Date` counts them. Throws RangeError for a moment that `Date` cannot hold. */
export function instantOf(milliseconds: number): Instant {
  return new Date(milliseconds).toISOString() as Instant;
}

/** From RFC 3339 text in any offset and precision (cut to milliseconds). Throws RangeError for anything else. */
export function parseInstant(text: string): Instant {
  if (FORM.test(text)) return text as Instant;
  const milliseconds = Date.parse(text);
  if (Number.isNaN(milliseconds) || !/^\d{4}-\d\d-\d\d[Tt ]/.test(text)) throw new RangeError(`not an RFC 3339 instant: ${text}`);
  return instantOf(milliseconds);
}

/** Milliseconds since 1970. */
export function millisecondsOf(instant: Instant): number {
  return Date.parse(instant);
}

/** `seconds` later; earlier where negative. Fractions count. */
export function later(instant: Instant, seconds: number): Instant {
  return instantOf(millisecondsOf(instant) + Math.round(seconds * 1000));
}

/** Seconds from `from` to `to`; negative where `to` is earlier. */
export function secondsBetween(from: Instant, to: Instant): number {
  return (millisecondsOf(to) - millisecondsOf(from)) / 1000;
}

/** The earliest of those that are there; null where none is. */
export function earliest(instants: readonly (Instant | null)[]): Instant | null {
  let first: Instant | null = null;
  for (const instant of instants) if (instant !== null && (first === null || instant < first)) first = instant;
  return first;
}
