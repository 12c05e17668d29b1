import { createTask, type ParsedFields, parse, validate } from 'node-cron';
import { clockOf } from '#state/database.ts';
import { giveTickBack, takeTick } from '#state/schedules.ts';
import { type Fault, isFault } from '../errors.ts';
import { type Instant, instantOf, millisecondsOf } from '../instant.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Engine } from './look.ts';

/** Something that is looked at by the clock. */
export interface Schedule {
  /** Its row in `schedules`, and its label in metrics. Public: never renamed. */
  readonly name: string;
  /** Five fields, UTC. */
  readonly cron: string;
  /** Looks at what is due, by rows and verified documents: a tick carries nothing. A Fault gives the tick back. */
  readonly task: (engine: Engine) => Promise<void>;
}

/** A schedule that names no moment in these many days names none. A leap day comes within eight years. */
const LOOKBACK_DAYS = 8 * 366;
const DAY_MILLISECONDS = 86_400_000;
const MINUTE_MILLISECONDS = 60_000;

/**
 * Fires every schedule whose tick is there and was fired by nobody: each tick once, however many
 * replicas there are.
 *
 * Which tick it is, and whether it is there yet, is decided by the database's clock: the last moment
 * that the schedule names. Whoever moves the row to that moment fires it. So ticks that were missed
 * while nobody ran fire once, at the next start; a clock that is moved on by months fires once; and a
 * replica whose own clock is fast finds nothing to take. Throws the first Fault, after all were looked at.
 */
export async function fireDue(engine: Engine, schedules: readonly Schedule[], metrics: Pick<Metrics, 'scheduleAt'>): Promise<void> {
  let fault: Fault | null = null;
  for (const schedule of schedules) {
    try {
      await fire(engine, schedule, metrics);
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      fault ??= thrown;
    }
  }
  if (fault !== null) throw fault;
}

async function fire(engine: Engine, { name, cron, task }: Schedule, metrics: Pick<Metrics, 'scheduleAt'>): Promise<void> {
  const tick = lastTick(cron, await clockOf(engine.pool)());
  if (tick === null || !(await takeTick(engine.pool, name, tick, engine.owner))) return;
  metrics.scheduleAt.set({ schedule: name }, millisecondsOf(tick) / 1000);
  try {
    await task(engine);
  } catch (thrown) {
    if (isFault(thrown)) await giveTickBack(engine.pool, name, tick, engine.owner);
    throw thrown;
  }
}

/**
 * Says `onTick` whenever a schedule names the present minute by this machine's clock, so that a tick is
 * taken when it comes and not at the next resync. Nothing is decided by it. Returns what ends it. Throws
 * Error for a cron expression that is none.
 */
export function openCron(schedules: readonly Schedule[], log: Log, onTick: () => void): () => Promise<void> {
  const tasks = schedules.map(({ name, cron }) => {
    if (!validate(cron)) throw new Error(`the schedule ${name} has no cron expression: ${cron}`);
    const said = (message: string | Error): void => log.debug({ schedule: name, said: String(message) }, 'node-cron');
    const logger = { info: said, warn: said, error: said, debug: said };
    return createTask(cron, onTick, { name, timezone: 'UTC', unref: true, suppressMissedWarning: true, logger });
  });
  for (const task of tasks) void task.start();
  return async () => {
    await Promise.all(tasks.map((task) => task.destroy()));
  };
}

/** The last moment at or before `now` that a cron expression names; null where it names none that anybody lives to see. */
export function lastTick(cron: string, now: Instant): Instant | null {
  const fields = parse(cron);
  const last = Math.floor(millisecondsOf(now) / MINUTE_MILLISECONDS) * MINUTE_MILLISECONDS;
  const today = Math.floor(last / DAY_MILLISECONDS) * DAY_MILLISECONDS;
  for (let back = 0; back < LOOKBACK_DAYS; back += 1) {
    const day = today - back * DAY_MILLISECONDS;
    if (!isDay(fields, new Date(day))) continue;
    const minute = lastMinute(fields, back === 0 ? (last - today) / MINUTE_MILLISECONDS : 24 * 60 - 1);
    if (minute !== null) return instantOf(day + minute * MINUTE_MILLISECONDS);
  }
  return null;
}

function isDay({ month, dayOfMonth, dayOfWeek }: ParsedFields, day: Date): boolean {
  return month.includes(day.getUTCMonth() + 1) && dayOfMonth.includes(day.getUTCDate()) && dayOfWeek.includes(day.getUTCDay());
}

/** The last minute of a day, not after `limit`; null: none. */
function lastMinute({ hour, minute }: ParsedFields, limit: number): number | null {
  const minutes = hour.flatMap((hours) => minute.map((minutesPast) => hours * 60 + minutesPast)).filter((candidate) => candidate <= limit);
  return minutes.length === 0 ? null : Math.max(...minutes);
}
