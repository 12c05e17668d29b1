import type { AddressInfo } from 'node:net';
import { serve as listenHttp, type ServerType } from '@hono/node-server';
import { Hono } from 'hono';
import type pg from 'pg';
import type { Config } from '#src/config.ts';
import { openDashboard } from '#src/dashboard/index.ts';
import { openWebhook } from '#src/engine/webhook.ts';
import type { Log } from '#src/log.ts';
import type { Metrics } from '#src/metrics.ts';
import { openDatabase } from '#state/database.ts';
import { emergencies, workflows } from '#workflows/index.ts';
import type { OpenedDatabase } from './open.ts';

/** The controller's listeners, apart so that a network policy can tell them apart. */
export interface Listeners {
  readonly webhookUrl: string | null;
  readonly dashboardUrl: string;
  readonly close: () => Promise<void>;
}

interface ListenerParts {
  readonly config: Config;
  /** Somebody says that Git moved. */
  readonly onHint: () => void;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly database: OpenedDatabase;
}

/** Sessions of the dashboard, beside those of `database.poolSize`: a reader who waits for the other takes none from the engine. */
const DASHBOARD_POOL_SIZE = 2;

/** Opens the dashboard's listener, the webhook's where one is configured, and that of metrics and health. Throws Error naming the setting where a port is taken. */
export async function openListeners({ config, onHint, log, metrics, database }: ListenerParts): Promise<Listeners> {
  const servers: ServerType[] = [];
  const dashboardPool = openDatabase({ url: database.url, poolSize: DASHBOARD_POOL_SIZE });
  const close = async (): Promise<void> => {
    await closeAll(servers);
    await dashboardPool.end();
  };
  const { webhook } = config.repository;
  try {
    // Before the webhook, whose listener tells that the controller is up.
    const dashboard = await open(dashboardOf(config, dashboardPool, log), config.serve.dashboard.listen, 'serve.dashboard.listen');
    servers.push(dashboard);
    const hook = webhook === undefined ? null : openWebhook({ secret: webhook.secret, onHint, pool: database.pool, log });
    const hookServer = hook === null ? null : await open(hook, config.serve.webhook.listen, 'serve.webhook.listen');
    if (hookServer !== null) servers.push(hookServer);
    servers.push(await open(observability(metrics, database.pool), config.serve.metrics.listen, 'serve.metrics.listen'));
    return { webhookUrl: hookServer === null ? null : `${urlOf(hookServer)}/webhook`, dashboardUrl: urlOf(dashboard), close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

function dashboardOf({ installation, mode, repository, serve: { dashboard } }: Config, pool: pg.Pool, log: Log): Hono {
  return openDashboard({
    installation,
    mode,
    pool,
    workflows: [...workflows, ...emergencies],
    pollSeconds: repository.pollSeconds,
    listen: dashboard.listen,
    log,
  });
}

/** `/metrics` for Prometheus; `/healthz`: this process answers; `/readyz`: and so does its database. */
function observability(metrics: Metrics, pool: pg.Pool): Hono {
  const app = new Hono();
  app.get('/metrics', async (context) => {
    const { contentType, text } = await metrics.print();
    return context.text(text, 200, { 'content-type': contentType });
  });
  app.get('/healthz', (context) => context.text('ok'));
  app.get('/readyz', async (context) => {
    const ready = await pool.query('select 1').then(
      () => true,
      () => false,
    );
    return ready ? context.text('ok') : context.text('the database does not answer', 503);
  });
  return app;
}

function open(app: Hono, listen: string, setting: string): Promise<ServerType> {
  const colon = listen.lastIndexOf(':');
  const { promise, resolve, reject } = Promise.withResolvers<ServerType>();
  const server = listenHttp({ fetch: app.fetch, hostname: listen.slice(0, colon), port: Number(listen.slice(colon + 1)) }, () => resolve(server));
  server.once('error', (error: NodeJS.ErrnoException) => reject(new Error(`${setting}: cannot listen on ${listen}: ${error.code ?? error.message}`)));
  return promise;
}

function urlOf(server: ServerType): string {
  const { address, port } = server.address() as AddressInfo;
  return `http://${address}:${port}`;
}

async function closeAll(servers: readonly ServerType[]): Promise<void> {
  await Promise.all(servers.map((server) => new Promise<void>((resolve) => void server.close(() => resolve()))));
}
