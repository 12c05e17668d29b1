import type { Reason } from '../domain/reasons.ts';
import { reasons } from '../domain/reasons.ts';

/** The first pause. Short: most first noes are a system that needs a moment. */
const FIRST_SECONDS = 0.25;
const FACTOR = 1.6;

/**
 * The longest pause, by what the reason leads to. What may recover by itself is looked at twice a
 * minute; what waits for another is woken by it, so the pause is only a safety net; what needs a
 * person is looked at slowly, so that it never delays a healthy run.
 */
const LONGEST_SECONDS = { retry: 30, wait: 15, stop: 300 } as const;

/**
 * Seconds until the next look, after `failures` looks in a row (1 or more) with the same reason. Grows
 * by a factor to a limit, with a fifth of jitter, so that many runs that wait for one system do not
 * come back at once. `chance` is a number from 0 to 1.
 */
export function backoffSeconds(reason: Reason, failures: number, chance: number): number {
  const longest = LONGEST_SECONDS[reasons[reason].next];
  const seconds = Math.min(longest, FIRST_SECONDS * FACTOR ** Math.min(failures - 1, 40));
  return seconds * (0.8 + 0.4 * chance);
}
