import { type Instant, later } from '../instant.ts';

const DAY_SECONDS = 86_400;

/** When something that began `from` falls due after so many whole days of 24 hours; null where it has not begun, or never does. */
export function dueAfterDays(from: Instant | null, days: number | null): Instant | null {
  return from === null || days === null ? null : later(from, days * DAY_SECONDS);
}
