import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { openPostgres } from '#src/lab/postgres.ts';
import { openDatabase } from '#state/database.ts';
import { checkInstallation, migrate } from '#state/migrate.ts';

/** One PostgreSQL with one database, for a program that tells many stories on it one after the other. */
export async function openStoryDatabase(): Promise<{ readonly pool: pg.Pool; readonly close: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-properties-'));
  // PostgreSQL runs as another user where we are root.
  await chmod(folder, 0o755);
  const postgres = await openPostgres({ folder, insecureNoSync: true, temporary: true });
  const pool = openDatabase({ url: postgres.url, poolSize: 10 });
  await migrate(pool);
  await checkInstallation(pool, { name: 'test', mode: 'lab' });
  const close = async () => {
    await pool.end();
    await postgres.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  return { pool, close };
}
