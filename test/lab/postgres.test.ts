import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openPostgres } from '#src/lab/postgres.ts';

let folder = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-postgres-'));
  await chmod(folder, 0o755);
});
afterEach(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));

async function ask(url: string, sql: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows[0];
  } finally {
    await client.end();
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('it is a real PostgreSQL on loopback, behind a password, with its disk in step', async () => {
  const postgres = await openPostgres({ folder });
  try {
    expect(
      await ask(
        postgres.url,
        `select current_setting('fsync') as fsync, current_setting('synchronous_commit') as commit,
      current_setting('listen_addresses') as addresses, current_setting('unix_socket_directories') as sockets`,
      ),
    ).toEqual({
      fsync: 'on',
      commit: 'on',
      addresses: '127.0.0.1',
      sockets: '',
    });
    const wrong = new URL(postgres.url);
    wrong.password = 'other';
    await expect(ask(wrong.href, 'select 1')).rejects.toMatchObject({ code: '28P01' });
    expect(await ask(postgres.url, 'select pg_backend_pid() as pid')).not.toEqual({ pid: postgres.pid });
  } finally {
    await postgres.close();
  }
  expect(isAlive(postgres.pid)).toBe(false);
  await expect(ask(postgres.url, 'select 1')).rejects.toThrow();
});

test('what was in it is there again when the same folder is opened', async () => {
  const first = await openPostgres({ folder, insecureNoSync: true });
  await ask(first.url, 'create table kept as select 7 as number');
  await first.close();
  const second = await openPostgres({ folder, insecureNoSync: true });
  expect(await ask(second.url, 'select number from kept')).toEqual({ number: 7 });
  await second.close();
});

test('a folder whose path is longer than a socket’s name may be is good', async () => {
  const long = join(folder, 'a'.repeat(120));
  await mkdir(long);
  const postgres = await openPostgres({ folder: long, insecureNoSync: true });
  expect(await ask(postgres.url, 'select 1 as one')).toEqual({ one: 1 });
  await postgres.close();
});

const OPENER = `
  import { openPostgres } from '#src/lab/postgres.ts';
  const [folder, outlives] = process.argv.slice(1);
  const { url, pid } = await openPostgres({ folder, outlives: outlives === 'yes', temporary: outlives === 'no', insecureNoSync: true });
  process.stdout.write(JSON.stringify({ url, pid }));
  setInterval(() => undefined, 1000);
`;

async function openAndKill(outlives: 'yes' | 'no'): Promise<{ readonly url: string; readonly pid: number }> {
  const opener = spawn(process.execPath, ['--input-type=module-typescript', '-e', OPENER, folder, outlives], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [answer] = await once(opener.stdout, 'data');
  opener.kill('SIGKILL');
  await once(opener, 'exit');
  return JSON.parse(String(answer));
}

test('one that outlives its opener stays up when that is killed', async () => {
  const { url, pid } = await openAndKill('yes');
  expect(await ask(url, 'select 1 as one')).toEqual({ one: 1 });
  process.kill(pid, 'SIGINT');
  // Not only deaf: it writes into its folder until it is gone.
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
});

test('one that does not ends by itself when its opener is killed, and a temporary one takes its data along', async () => {
  const { url } = await openAndKill('no');
  await expect
    .poll(
      () =>
        ask(url, 'select 1').then(
          () => 'up',
          () => 'down',
        ),
      { timeout: 10_000 },
    )
    .toBe('down');
  // As root the emptied folder stays: nobody may not take it out of ours.
  await expect.poll(() => readdir(join(folder, 'data')).catch(() => []), { timeout: 10_000 }).toEqual([]);
});

test.runIf(process.getuid?.() === 0)('as root, a folder that others cannot walk to is refused and named', async () => {
  await chmod(folder, 0o700);
  await expect(openPostgres({ folder: join(folder, 'data') })).rejects.toThrow(folder);
});
