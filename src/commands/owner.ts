import type pg from 'pg';
import type { Config } from '#src/config.ts';
import { Fault } from '#src/errors.ts';

/** Throws Fault where the database is another installation's, or of the other mode. Writes nothing: for commands that only look. */
export async function checkOwner(pool: pg.Pool, { installation, mode }: Config): Promise<void> {
  const { rows } = await pool.query<{ name: string; mode: string }>('select name, mode from installation');
  const [found] = rows;
  if (found === undefined) throw new Fault('NotFound', 'the database belongs to no installation yet: run keyturn migrate');
  if (found.name !== installation)
    throw new Fault('Conflict', `the database belongs to the installation ${found.name}, the configuration says ${installation}`);
  if (found.mode !== mode) throw new Fault('Conflict', `the database is one of mode ${found.mode}, the configuration says ${mode}`);
}
