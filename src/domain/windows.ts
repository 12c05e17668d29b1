import { Cron } from 'croner';
import { type Instant, instantOf, later, millisecondsOf } from '../instant.ts';

/** When pods of a cluster may be moved: from each moment that `cron` names, for so many minutes. */
export interface MoveWindow {
  /** Five fields: minute, hour, day of month, month, day of week. As in cron, of two days that are both restricted one is enough. */
  readonly cron: string;
  /** How long it stays open, on the clock that never jumps: across a change to summer time too. */
  readonly minutes: number;
  /** An IANA time zone, in whose wall time the fields are read. */
  readonly timeZone: string;
}

/** What windows say of a moment. `until` null: none are set, so it is always open. `opensAt` null: never again. */
export type WindowsAt = { readonly kind: 'open'; readonly until: Instant | null } | { readonly kind: 'closed'; readonly opensAt: Instant | null };

/** croner reads more (seconds, `@daily`, one date); a window is five fields and nothing else. */
const FIVE_FIELDS = /^\S+(?: \S+){4}$/;

/**
 * Whether one of these windows is open. A window longer than its period never closes. A wall time that
 * the change to summer time leaves out opens at the change; one that comes twice opens the first time.
 * Throws Error for a window in which `windowMistake` finds a mistake.
 */
export function windowsAt(windows: readonly MoveWindow[], now: Instant): WindowsAt {
  if (windows.length === 0) return { kind: 'open', until: null };
  const ends = windows.map((window) => endOf(window, now)).filter((end) => end !== null && end > now);
  const until = ends.reduce((last, end) => (last === null || (end !== null && end > last) ? end : last), null);
  if (until !== null) return { kind: 'open', until };
  const openings = windows.map((window) => openingAfter(window, now)).filter((opening) => opening !== null);
  return { kind: 'closed', opensAt: openings.sort()[0] ?? null };
}

/** What is wrong with a window, by its field; null: nothing. */
export function windowMistake(window: MoveWindow): { readonly field: 'cron' | 'timeZone'; readonly expected: string } | null {
  if (!isTimeZone(window.timeZone)) return { field: 'timeZone', expected: 'expected an IANA time zone, such as Europe/Berlin' };
  if (!FIVE_FIELDS.test(window.cron)) return { field: 'cron', expected: 'expected cron’s five fields, one space apart, such as 0 22 * * 1-5' };
  try {
    if (opensEver(window)) return null;
    return { field: 'cron', expected: 'expected a time that comes about: this one never does' };
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message.replace(/^CronPattern: /, '') : String(thrown);
    return { field: 'cron', expected: `expected cron’s five fields, such as 0 22 * * 1-5: ${why}` };
  }
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** The fields repeat with the calendar, so any moment does to ask from. */
function opensEver(window: MoveWindow): boolean {
  return patternOf(window).nextRun(new Date(0)) !== null;
}

function patternOf({ cron, timeZone }: MoveWindow): Cron {
  return new Cron(cron, { timezone: timeZone, mode: '5-part' });
}

/** When the window that opened last closes; null: none has opened yet. */
function endOf(window: MoveWindow, now: Instant): Instant | null {
  // Asked strictly before a moment, in whole seconds: the next one, so that a window that opens now counts.
  const next = new Date((Math.floor(millisecondsOf(now) / 1000) + 1) * 1000);
  const [opened] = patternOf(window).previousRuns(1, next);
  return opened === undefined ? null : later(instantOf(opened.getTime()), window.minutes * 60);
}

function openingAfter(window: MoveWindow, now: Instant): Instant | null {
  const opening = patternOf(window).nextRun(new Date(millisecondsOf(now)));
  return opening === null ? null : instantOf(opening.getTime());
}
