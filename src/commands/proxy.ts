import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { type Config, loadConfig } from '#src/config.ts';
import { Fault } from '#src/errors.ts';
import { openLog } from '#src/log.ts';
import { type Metrics, openMetrics } from '#src/metrics.ts';
import { type KbsProxy, openProxy } from '#src/proxy/index.ts';
import { readReference } from '#src/reference.ts';
import { checkInstallation } from '#state/migrate.ts';
import { configOption, openDatabaseOf, print } from './database.ts';

interface Options {
  readonly config: string;
  readonly json?: true;
}

type ProxyConfig = NonNullable<Config['proxy']>;

/** Runs the proxy until SIGTERM or SIGINT. */
async function run({ config: file, json }: Options): Promise<void> {
  const config = await loadConfig(file, process.env);
  const { proxy: settings } = config;
  const kbs = settings === undefined ? undefined : config.kbs[settings.kbs];
  if (settings === undefined || kbs === undefined) throw new Fault('NotConfigured', `${file}: has no proxy`);
  const log = openLog('info');
  const metrics = openMetrics();
  const pool = await openDatabaseOf(config, (error) => log.warn({ error: error.message }, 'a database session broke'));
  await checkInstallation(pool, { name: config.installation, mode: config.mode });
  const proxy = await openProxy({
    kbs: { name: settings.kbs, url: kbs.url, replicas: kbs.replicas, certificateAuthority: await authorityOf(kbs) },
    listen: settings.listen,
    tls: settings.tls ?? null,
    proxyProtocolFrom: settings.proxyProtocol.from,
    denyListStaleSeconds: settings.denyListStaleSeconds,
    pool,
    id: `${hostname()}-${randomBytes(6).toString('hex')}`,
    log,
    metrics,
  });
  const observed = await observe(settings, metrics, proxy);
  log.info({ kbs: settings.kbs, address: proxy.url, mode: config.mode, publicName: kbs.publicUrl }, 'the proxy is open');
  if (json === true) print(JSON.stringify({ event: 'proxy-ready', at: new Date().toISOString(), kbs: settings.kbs, address: proxy.url }));
  const signal = await new Promise<string>((end) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, end);
  });
  log.info({ signal }, 'the proxy closes');
  await proxy.close();
  observed?.close();
  observed?.closeAllConnections();
  await pool.end();
}

async function authorityOf({ certificateAuthority }: Config['kbs'][string]): Promise<string | null> {
  if (certificateAuthority === undefined) return null;
  using pem = await readReference(certificateAuthority);
  return pem.reveal().toString('utf8');
}

/** `/metrics`; `/healthz`: the process lives; `/readyz`: keys pass. On a listener of its own, since guests reach the other. */
async function observe({ metrics: listener }: ProxyConfig, metrics: Metrics, proxy: KbsProxy): Promise<Server | null> {
  if (listener === undefined) return null;
  const server = createServer(async (request, response) => {
    if (request.url === '/metrics') {
      const { contentType, text } = await metrics.print();
      response.writeHead(200, { 'content-type': contentType }).end(text);
    } else if (request.url === '/healthz') response.writeHead(200).end();
    else if (request.url === '/readyz') response.writeHead(proxy.isOpen() ? 200 : 503).end();
    else response.writeHead(404).end();
  });
  const colon = listener.listen.lastIndexOf(':');
  await new Promise<void>((done, failed) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      failed(new Fault('Conflict', `listen on ${listener.listen}: ${cause.code ?? cause.message}`, { cause })),
    );
    server.listen({ host: listener.listen.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(listener.listen.slice(colon + 1)) }, done);
  });
  return server;
}

/** Adds `keyturn proxy`. */
export function register(program: Command): void {
  program
    .command('proxy')
    .description('own a KBS’s public name: pass handshakes and key fetches on, record them, refuse what is revoked or retired; its log is on standard error')
    .addOption(configOption())
    .option('--json', 'print one JSON object when it listens')
    .action(run);
}
