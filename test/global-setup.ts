import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { openPostgres } from '#src/lab/postgres.ts';
import { openDatabase } from '#state/database.ts';
import { checkInstallation, migrate } from '#state/migrate.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Answers with the URL of the one PostgreSQL of this run, which the first question starts. */
    postgresAt: string;
  }
}

/** Every test's database begins as a copy of this one. */
const TEMPLATE = 'keyturn_template';

interface Started {
  readonly url: string;
  readonly close: () => Promise<void>;
}

/** One PostgreSQL for all files of a run; it starts when a test first asks for it. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  let started: Promise<Started> | null = null;
  const server = createServer((_, response) => {
    started ??= start();
    started.then(
      ({ url }) => response.end(url),
      (thrown: unknown) => response.writeHead(500).end(String(thrown)),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  project.provide('postgresAt', `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/`);
  return async () => {
    server.close();
    server.closeAllConnections();
    await (await started?.catch(() => null))?.close();
  };
}

async function start(): Promise<Started> {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-test-'));
  // PostgreSQL runs as another user where we are root.
  await chmod(folder, 0o755);
  const postgres = await openPostgres({ folder, insecureNoSync: true, temporary: true });
  const close = async () => {
    await postgres.close();
    // Its watchdog removes the data at the same time.
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    await makeTemplate(postgres.url);
    return { url: postgres.url, close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

async function makeTemplate(server: string): Promise<void> {
  const admin = openDatabase({ url: server, poolSize: 1 });
  await admin.query(`create database ${TEMPLATE}`);
  await admin.end();
  const url = new URL(server);
  url.pathname = `/${TEMPLATE}`;
  const pool = openDatabase({ url: url.href, poolSize: 1 });
  try {
    await migrate(pool);
    await checkInstallation(pool, { name: 'test', mode: 'lab' });
  } finally {
    await pool.end();
  }
}
