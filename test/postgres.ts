import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { inject } from 'vitest';
import { openDatabase } from '#state/database.ts';

/** As many sessions as a replica has. */
const POOL_SIZE = 10;

let asked: Promise<string> | null = null;

/** The URL of the one PostgreSQL of this test run, as its superuser; started by the first who asks. */
export async function postgresUrl(): Promise<string> {
  asked ??= fetch(inject('postgresAt')).then(async (answer) => {
    if (!answer.ok) throw new Error(await answer.text());
    return answer.text();
  });
  return asked;
}

/**
 * Runs `fn` with a fresh database: migrated, installation `test` in mode `lab`, no other rows. Dropped
 * afterwards, whoever is still connected. Throws where `fn` kept a session of the pool.
 */
export async function withDatabase(fn: (pool: pg.Pool, url: string) => Promise<void>, template = 'keyturn_template'): Promise<void> {
  const server = await postgresUrl();
  const name = `t_${randomBytes(8).toString('hex')}`;
  const admin = openDatabase({ url: server, poolSize: 1 });
  try {
    // Copying files is twice as fast as writing every page to the log first.
    await admin.query(`create database ${name} template ${template} strategy file_copy`);
    const url = new URL(server);
    url.pathname = `/${name}`;
    const pool = openDatabase({ url: url.href, poolSize: POOL_SIZE });
    try {
      await fn(pool, url.href);
      const held = pool.totalCount - pool.idleCount;
      if (held > 0) throw new Error(`the test kept ${held} database sessions: a client was not released`);
    } finally {
      // A kept session would hold up `end` for ever: the drop below closes it.
      if (pool.totalCount === pool.idleCount) await pool.end();
    }
  } finally {
    await admin.query(`drop database if exists ${name} with (force)`);
    await admin.end();
  }
}
