import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/**
 * Takes a tick of a schedule, for everybody: true for the one who got it, false where somebody else has
 * fired it, or a later one. `at` is the tick's own instant and not the moment of asking, so that replicas
 * whose clocks differ name the same tick alike.
 */
export async function takeTick(db: Db, name: string, at: Instant, by: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into schedules (name, fired_at, fired_by) values ($1, $2, $3)
     on conflict (name) do update set fired_at = excluded.fired_at, fired_by = excluded.fired_by where schedules.fired_at < excluded.fired_at`,
    [name, at, by],
  );
  return rowCount === 1;
}

/** Gives back a tick whose work could not be done: whoever looks next takes it. Nothing where a later one was taken meanwhile. */
export async function giveTickBack(db: Db, name: string, at: Instant, by: string): Promise<void> {
  await db.query(`update schedules set fired_at = fired_at - interval '1 millisecond' where name = $1 and fired_at = $2 and fired_by = $3`, [name, at, by]);
}
