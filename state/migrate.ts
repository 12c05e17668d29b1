import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { transaction } from './database.ts';

/** Two controllers that start at once take turns by it. The number is ours alone in this database: `keyturn` in base 36, cut to 31 bits. */
const MIGRATION_LOCK = 1_250_423_831;
/** Building an index over every receipt may take this long. Seconds. */
const MIGRATION_TIMEOUT_SECONDS = 3600;
/** `transaction_timeout` and the cascade of identity columns aside, nothing here needs more; 15 is the oldest release that we test. */
const OLDEST_SERVER = 150_000;
const MIGRATION_NAME = /^\d{4}_[a-z0-9_]+\.sql$/;
const DIRECTORY = fileURLToPath(new URL('migrations', import.meta.url));

/** Which migrations a call applied, in order; empty where there was nothing to do. */
export interface Migrated {
  readonly applied: readonly string[];
}

interface Migration {
  readonly name: string;
  readonly sql: string;
  /** Older code cannot live with it: its first line says `-- breaking`. */
  readonly breaking: boolean;
}

/**
 * Brings the database's schema up to this code: every file of `directory` that it does not name yet,
 * in the order of their names, each in a transaction of its own. Any number may call it at once.
 *
 * Throws Error where the database holds a breaking migration that this code does not have (a newer
 * Keyturn has been here), and where the server is older than PostgreSQL 15.
 */
export async function migrate(pool: pg.Pool, { directory = DIRECTORY }: { readonly directory?: string } = {}): Promise<Migrated> {
  const known = await readMigrations(directory);
  const applied: string[] = [];
  await transaction(pool, prepare);
  for (;;) {
    const name = await transaction(pool, (tx) => applyNext(tx, known));
    if (name === null) return { applied };
    applied.push(name);
  }
}

async function readMigrations(directory: string): Promise<readonly Migration[]> {
  const names = (await readdir(directory)).filter((name) => MIGRATION_NAME.test(name)).sort();
  return Promise.all(
    names.map(async (name) => {
      const sql = await readFile(join(directory, name), 'utf8');
      return { name, sql, breaking: sql.startsWith('-- breaking') };
    }),
  );
}

/** One at a time until the transaction ends; the wait for another's migration is no fault. */
async function takeTurn(tx: pg.PoolClient): Promise<void> {
  await tx.query(`set local lock_timeout = '${MIGRATION_TIMEOUT_SECONDS}s'; set local statement_timeout = '${MIGRATION_TIMEOUT_SECONDS}s'`);
  await tx.query('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
}

async function prepare(tx: pg.PoolClient): Promise<void> {
  const { rows } = await tx.query<{ version: string }>("select current_setting('server_version_num') as version");
  if (Number(rows[0]?.version) < OLDEST_SERVER) throw new Error('PostgreSQL is older than 15: Keyturn needs 15 or later');
  await takeTurn(tx);
  await tx.query(
    'create table if not exists migrations (name text primary key, breaking boolean not null, applied_at timestamptz(3) not null default clock_timestamp())',
  );
}

/** Applies the first that is missing. null: none is. */
async function applyNext(tx: pg.PoolClient, known: readonly Migration[]): Promise<string | null> {
  await takeTurn(tx);
  const { rows } = await tx.query<{ name: string; breaking: boolean }>('select name, breaking from migrations order by name');
  const names = new Set(known.map(({ name }) => name));
  const foreign = rows.find(({ name, breaking }) => breaking && !names.has(name));
  if (foreign !== undefined) {
    throw new Error(`the database has been migrated by a newer Keyturn (${foreign.name}), which this one cannot work with: run the newer one`);
  }
  const done = new Set(rows.map(({ name }) => name));
  const next = known.find(({ name }) => !done.has(name));
  if (next === undefined) return null;
  await tx.query('insert into migrations (name, breaking) values ($1, $2)', [next.name, next.breaking]);
  await tx.query(next.sql);
  return next.name;
}

/** Whose database this is. */
export interface Installation {
  readonly name: string;
  readonly mode: 'production' | 'lab';
}

/**
 * Writes the installation's name and mode on first use; afterwards throws Error where the
 * configuration says another name or mode than the database remembers, and where the server was told
 * not to wait for its disk at a commit (a lost *revoked* would un-revoke).
 */
export async function checkInstallation(pool: pg.Pool, { name, mode }: Installation): Promise<void> {
  await pool.query('insert into installation (name, mode) values ($1, $2) on conflict do nothing', [name, mode]);
  const { rows } = await pool.query<Installation & { synchronous: string }>(
    `select name, mode, current_setting('synchronous_commit') as synchronous from installation`,
  );
  const [found] = rows;
  if (found === undefined) throw new Error('the installation has no row');
  if (found.name !== name) throw new Error(`the database belongs to the installation ${found.name}, the configuration says ${name}`);
  if (found.mode !== mode) throw new Error(`the database is one of mode ${found.mode}, the configuration says ${mode}`);
  if (found.synchronous === 'off') throw new Error('the database has synchronous_commit = off: a commit could be lost after it was answered');
}
