import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chown, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { canRead, findPostgres, type PostgresBinaries } from './postgres-binaries.ts';

/** How PostgreSQL is started. */
export interface PostgresOptions {
  /** Holds its data, log and password. Made where missing; one that was used before is started again with what it holds. */
  readonly folder: string;
  /** true: it stays up when this process dies, until `close`. false (the default): it ends within a second of this process, however that ends. */
  readonly outlives?: boolean;
  /** Its watchdog removes its data when it ends, also when the opener was killed. Not with `outlives`. */
  readonly temporary?: boolean;
  /** Where it listens: one that is started again is found by whoever knew it. A free one otherwise. */
  readonly port?: number;
  /** `fsync=off`: a lost host loses data, a killed process does not. For tests. */
  readonly insecureNoSync?: boolean;
}

/** A running PostgreSQL of our own. */
export interface Postgres {
  /** Of the database `postgres`, as its superuser `keyturn`, with the password. Loopback only. */
  readonly url: string;
  /** Of the server's first process. */
  readonly pid: number;
  /** Ends its sessions and stops it; its data stays. */
  readonly close: () => Promise<void>;
}

/** Starting takes under a second here; a machine under load was seen to need ten. */
const START_SECONDS = 60;
/** A fast shutdown writes one checkpoint. */
const STOP_SECONDS = 30;
/** Between looks at whether it is up, or gone. Milliseconds. */
const LOOK_MILLISECONDS = 20;
/** A free port can be taken by another between our look and PostgreSQL's. */
const PORT_ATTEMPTS = 5;
/** Three controllers with a pool, a listener and pg-boss each, proxies, and two test files at once. */
const MAX_CONNECTIONS = 200;

/**
 * Runs the program that follows, and ends it (fast shutdown) once standard input closes: the kernel
 * closes it when the opener dies. Afterwards removes the folder that `KEYTURN_REMOVE` names.
 */
const WATCHDOG = '"$@" <&- & server=$!; read -r _; kill -INT "$server" 2>/dev/null; wait "$server"; cd /; [ -z "$KEYTURN_REMOVE" ] || rm -rf "$KEYTURN_REMOVE"';

/**
 * Starts a real PostgreSQL on a free port of 127.0.0.1: the one of the npm package, no container and
 * no root needed. Password by SCRAM, random, kept in the folder. Throws Error, with the end of the
 * server's log, where it does not start.
 */
export async function openPostgres(options: PostgresOptions): Promise<Postgres> {
  const binaries = await findPostgres();
  const folder = resolve(options.folder);
  await mkdir(folder, { recursive: true, mode: 0o755 });
  const { user } = binaries;
  if (user !== null && !(await canRead(user, folder))) {
    throw new Error(`PostgreSQL cannot run as root, and the user nobody cannot reach ${folder}: choose a folder that everybody may walk to`);
  }
  const password = await prepareData(binaries, folder);
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort());
    const child = await spawnServer(binaries, folder, port, options);
    const url = `postgresql://keyturn:${password}@127.0.0.1:${port}/postgres`;
    const pid = await ready(folder, url, child);
    if (pid !== null) return { url, pid, close: () => stop(pid, child) };
    const log = await readFile(join(folder, 'log'), 'utf8');
    if (attempt === PORT_ATTEMPTS || !log.includes('Address already in use')) throw new Error(`PostgreSQL did not start: ${log.slice(-2000)}`);
  }
}

async function prepareData(binaries: PostgresBinaries, folder: string): Promise<string> {
  const data = join(folder, 'data');
  const passwordFile = join(folder, 'password');
  if (
    await readFile(join(data, 'PG_VERSION')).then(
      () => true,
      () => false,
    )
  )
    return (await readFile(passwordFile, 'utf8')).trim();
  await rm(data, { recursive: true, force: true });
  await mkdir(data, { mode: 0o700 });
  const password = randomBytes(16).toString('hex');
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (binaries.user !== null) for (const path of [data, passwordFile]) await chown(path, binaries.user.uid, binaries.user.gid);
  const child = spawn(
    binaries.initdb,
    ['-D', data, '-U', 'keyturn', '--pwfile', passwordFile, '--auth=scram-sha-256', '--encoding=UTF8', '--locale=C', '--no-sync', '--no-instructions'],
    { cwd: data, env: {}, stdio: ['ignore', 'ignore', 'pipe'], ...binaries.user },
  );
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-2000);
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`initdb ended with ${code}: ${said}`);
  return password;
}

async function spawnServer(binaries: PostgresBinaries, folder: string, port: number, options: PostgresOptions): Promise<ChildProcess> {
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    // Its path may pass the 107 bytes that a socket's name can have.
    unix_socket_directories: '',
    max_connections: MAX_CONNECTIONS,
    timezone: 'UTC',
    log_timezone: 'UTC',
    fsync: options.insecureNoSync === true ? 'off' : 'on',
  };
  const data = join(folder, 'data');
  const words = [binaries.postgres, '-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  const [program = '', ...rest] = options.outlives === true ? words : ['/bin/sh', '-c', WATCHDOG, 'postgres', ...words];
  // Anew for every start, so that its end tells of this one.
  const log = await open(join(folder, 'log'), 'w', 0o600);
  try {
    const child = spawn(program, rest, {
      cwd: data,
      env: options.temporary === true ? { KEYTURN_REMOVE: data } : {},
      // A session of its own: an interrupt typed at our terminal is ours to handle.
      detached: true,
      stdio: [options.outlives === true ? 'ignore' : 'pipe', log.fd, log.fd],
      ...binaries.user,
    });
    // What keeps this process running is its own work, not the server.
    child.unref();
    if (child.stdin !== null && 'unref' in child.stdin && typeof child.stdin.unref === 'function') child.stdin.unref();
    child.on('error', () => undefined);
    return child;
  } finally {
    await log.close();
  }
}

/** The server's pid once it answers; null where it ended before. */
async function ready(folder: string, url: string, child: ChildProcess): Promise<number | null> {
  const deadline = performance.now() + START_SECONDS * 1000;
  while (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
    if (await answers(url)) return Number((await readFile(join(folder, 'data', 'postmaster.pid'), 'utf8')).split('\n')[0]);
    if (await saysFailed(folder)) break;
    if (performance.now() > deadline) break;
    await pause(LOOK_MILLISECONDS);
  }
  child.stdin?.end();
  if (child.pid !== undefined && child.exitCode === null) child.kill('SIGINT');
  return null;
}

/** The watchdog waits on, whatever became of the server under it: the log tells. */
async function saysFailed(folder: string): Promise<boolean> {
  const log = await readFile(join(folder, 'log'), 'utf8');
  return log.includes('FATAL:  could not') || log.includes('database system is shut down');
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('select 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function stop(pid: number, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + STOP_SECONDS * 1000;
  // SIGINT is PostgreSQL's fast shutdown: sessions are ended, work in them is rolled back.
  if (isAlive(pid)) process.kill(pid, 'SIGINT');
  child.stdin?.end();
  while (isAlive(pid)) {
    if (performance.now() > deadline) {
      process.kill(pid, 'SIGKILL');
      return;
    }
    await pause(LOOK_MILLISECONDS);
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

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
