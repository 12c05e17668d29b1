import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkInstallation, migrate } from '#state/migrate.ts';
import { printSchema } from '#state/schema.ts';
import { withDatabase } from '#test/postgres.ts';

/** PostgreSQL's own empty database. */
const EMPTY = 'template0';

async function withMigrations(files: Readonly<Record<string, string>>, fn: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'keyturn-migrations-'));
  try {
    for (const [name, sql] of Object.entries(files)) await writeFile(join(directory, name), sql);
    await fn(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test('every migration is applied once, however many start at the same moment', async () => {
  await withDatabase(async (pool) => {
    const done = await Promise.all([migrate(pool), migrate(pool), migrate(pool)]);
    const applied = done.flatMap((one) => one.applied);
    expect(applied).toContain('0001_initial.sql');
    expect(new Set(applied).size).toBe(applied.length);
    expect(await migrate(pool)).toEqual({ applied: [] });
  }, EMPTY);
});

test('a migration that fails leaves nothing, and the ones before it stand', async () => {
  await withMigrations({ '0001_a.sql': 'create table a ();', '0002_b.sql': 'create table b (); select 1/0;' }, async (directory) => {
    await withDatabase(async (pool) => {
      await expect(migrate(pool, { directory })).rejects.toThrow();
      const { rows } = await pool.query(`select relname from pg_class where relname in ('a', 'b')`);
      expect(rows).toEqual([{ relname: 'a' }]);
    }, EMPTY);
  });
});

test('a database that a newer version changed is refused only where that change is breaking', async () => {
  await withDatabase(async (pool) => {
    await migrate(pool);
    await pool.query(`insert into migrations (name, breaking) values ('9998_more.sql', false)`);
    expect(await migrate(pool)).toEqual({ applied: [] });
    await pool.query(`insert into migrations (name, breaking) values ('9999_other.sql', true)`);
    await expect(migrate(pool)).rejects.toThrow('9999_other.sql');
  }, EMPTY);
});

test('a breaking migration is told by its first line', async () => {
  await withMigrations({ '0001_a.sql': '-- breaking: because\ncreate table a ();', '0002_b.sql': 'create table b ();' }, async (directory) => {
    await withDatabase(async (pool) => {
      await migrate(pool, { directory });
      expect((await pool.query('select name, breaking from migrations order by name')).rows).toEqual([
        { name: '0001_a.sql', breaking: true },
        { name: '0002_b.sql', breaking: false },
      ]);
    }, EMPTY);
  });
});

test('a database belongs to one installation, in one mode, for good', async () => {
  await withDatabase(async (pool) => {
    await checkInstallation(pool, { name: 'test', mode: 'lab' });
    await expect(checkInstallation(pool, { name: 'other', mode: 'lab' })).rejects.toThrow(/test.*other/);
    await expect(checkInstallation(pool, { name: 'test', mode: 'production' })).rejects.toThrow(/lab.*production/);
    await pool.query('delete from installation');
    await checkInstallation(pool, { name: 'eu', mode: 'production' });
    await expect(pool.query(`update installation set clock_offset = '1 day'`)).rejects.toMatchObject({ code: '23514' });
  });
});

test('a database that answers commits before they are on disk is refused', async () => {
  await withDatabase(async (pool) => {
    const { rows } = await pool.query('select current_database() as name');
    await pool.query(`alter database ${rows[0].name} set synchronous_commit = off`);
    const fresh = await pool.connect();
    fresh.release(true);
    await expect(checkInstallation(pool, { name: 'test', mode: 'lab' })).rejects.toThrow('synchronous_commit');
  });
});

test('schema.sql is what the migrations make', async () => {
  await withDatabase(async (pool) => {
    await expect(await printSchema(pool)).toMatchFileSnapshot('../../state/schema.sql');
  });
});
