import { hostname } from 'node:os';
import { type Command, InvalidArgumentError } from 'commander';
import pg from 'pg';
import { configWarnings, loadConfig } from '#src/config.ts';
import { type Intake, takeIn } from '#src/engine/intake.ts';
import type { Engine } from '#src/engine/look.ts';
import { startLoop } from '#src/engine/loop.ts';
import { openReplica } from '#src/engine/replicas.ts';
import { openWake, type Wake } from '#src/engine/wake.ts';
import { openLog } from '#src/log.ts';
import { openMetrics } from '#src/metrics.ts';
import { basisOf } from '#state/basis.ts';
import { ensureBrokers } from '#state/brokers.ts';
import { heldWorkloads } from '#state/document-holds.ts';
import { lastEvent, openEventTail, type StoredEvent } from '#state/events.ts';
import { checkHeads } from '#state/receipts.ts';
import { emergencies, workflows } from '#workflows/index.ts';
import { configOption } from './database.ts';
import { openListeners } from './listeners.ts';
import { misfitOf } from './misfit.ts';
import { type OpenedDatabase, type OpenedWorld, openConfigured, openWorld, prepare } from './open.ts';
import { refuseUnsupported } from './unsupported.ts';

interface ServeOptions {
  readonly config: string;
  readonly json?: true;
  readonly eventsAfter?: number;
}

/** Runs side by side: each holds one database session for moments only, so a few per session of the pool are enough. */
const CONCURRENCY = 6;
/** In production a resync is a safety net; in the lab a story waits for it. Seconds. */
const RESYNC_SECONDS = { production: 30, lab: 3 } as const;
/** From SIGTERM to the end, whatever hangs: looks have half a second to end at a step, the database gets two. Orchestrators kill after 30. */
const END_SECONDS = 3;
/** Events told at a time. */
const EVENTS_PAGE = 500;

/** Runs the controller until it is told to end (SIGTERM, SIGINT) or a bug is found. */
export async function serve(options: ServeOptions): Promise<void> {
  const config = await loadConfig(options.config, process.env);
  refuseUnsupported(options.config, config);
  const log = openLog('info');
  for (const warning of configWarnings(config)) log.warn({ config: options.config }, warning);
  const database = await openConfigured(config, (error) => log.warn({ error: error.message }, 'a database session broke'));
  await prepare(database.pool, config);
  const opened = await openWorld(config, database.pool);
  await checkHeads(database.pool, opened.world.signer);
  await ensureBrokers(
    database.pool,
    Object.entries(config.kbs).map(([name, { repository }]) => ({ name, repository })),
  );
  const wake = await openWake({ pool: database.pool, url: database.url, onError: (error) => log.warn({ error: error.message }, 'pg-boss') });
  const replica = await openReplica({ url: database.url, name: hostname(), wake, log });
  const engine = engineOf(database, opened, wake, log, replica.owner);
  const misfit = misfitOf(config, opened.loaders);
  const basis: Intake['basis'] = (tx, release) => basisOf(tx, opened.loaders.release, release);
  const intake: Intake = { ...opened.verifying, pool: database.pool, git: opened.git, enlist: wake.enlist, loaders: opened.loaders, misfit, basis, log };
  const metrics = openMetrics();
  const ended = Promise.withResolvers<number>();
  let isEnding = false;
  const onBug = (thrown: unknown): void => {
    // What was cut off finds everything closed.
    if (isEnding) return;
    log.error({ error: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) }, 'a bug: the process ends, and is safe to start again');
    ended.resolve(1);
  };
  const loop = await startLoop({
    engine,
    wake,
    takeIn: async (isUrgent) => void (await takeIn(intake, isUrgent)),
    pollSeconds: config.repository.pollSeconds,
    concurrency: CONCURRENCY,
    resyncSeconds: RESYNC_SECONDS[config.mode],
    metrics,
    onBug,
  });
  const watching = opened.clusters.map((cluster) => cluster.watch(loop.podsMoved));
  // The check in the database forbids it elsewhere.
  const clock = config.mode === 'lab' ? await listen(database.url, 'keyturn_clock', loop.clockMoved) : null;
  const listeners = await openListeners({ config, onHint: loop.hint, log, metrics, database });
  const told = options.json === true ? await tellEvents(database, options.eventsAfter ?? null) : null;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => ended.resolve(0));
  const { webhookUrl: webhook, dashboardUrl: dashboard } = listeners;
  log.info({ replica: replica.owner, installation: config.installation, mode: config.mode, webhook, dashboard }, 'serving');
  process.exitCode = await ended.promise;
  isEnding = true;
  // What was in hand is another replica's long before.
  setTimeout(() => process.exit(), END_SECONDS * 1000).unref();
  await Promise.all([loop.stop(), listeners.close(), ...watching.map((watch) => watch.close()), clock?.end().catch(() => undefined)]);
  await replica.close();
  await told?.();
  await opened.close();
  await database.pool.end();
}

function engineOf({ pool }: OpenedDatabase, opened: OpenedWorld, wake: Wake, log: Engine['log'], owner: string): Engine {
  const { world, ledger, loaders } = opened;
  const { revocation, reinstatement } = loaders;
  const documents = { revocation, reinstatement };
  return { pool, world, ledger, loaders, workflows, emergencies, ...documents, enlist: wake.enlist, log, owner, held: () => heldWorkloads(pool) };
}

/** Writes every event to standard output as it is committed: one JSON object a line. Returns what ends it, after the last one. */
async function tellEvents({ pool, url }: OpenedDatabase, after: number | null): Promise<() => Promise<void>> {
  const tail = openEventTail(pool, after ?? (await lastEvent(pool)));
  let telling: Promise<void> = Promise.resolve();
  const tell = async (): Promise<void> => {
    for (;;) {
      const events = await tail.next(EVENTS_PAGE);
      for (const event of events) process.stdout.write(`${JSON.stringify(lineOf(event))}\n`);
      if (events.length < EVENTS_PAGE) return;
    }
  };
  const turn = (): void => {
    telling = telling.then(tell).catch(() => undefined);
  };
  const listener = await listen(url, 'keyturn_event', turn);
  const timer = setInterval(turn, 500).unref();
  turn();
  return async () => {
    clearInterval(timer);
    turn();
    await telling;
    await listener.end().catch(() => undefined);
  };
}

function lineOf({ id, at, event, run, workload, body }: StoredEvent): Readonly<Record<string, unknown>> {
  // Last: a document's body may have members of these names.
  return { ...body, ...(run === null ? {} : { run }), ...(workload === null ? {} : { workload }), event, at, number: id };
}

/** A hint only: where the session breaks, the timer still tells. */
async function listen(url: string, channel: 'keyturn_event' | 'keyturn_clock', onNotify: () => void): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: channel === 'keyturn_event' ? 'keyturn-events' : 'keyturn-clock', keepAlive: true });
  client.on('error', () => undefined);
  client.on('notification', onNotify);
  await client.connect();
  await client.query(`listen ${channel}`);
  return client;
}

function eventNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('expected the number of an event');
  return Number(text);
}

/** Adds `keyturn serve`. */
export function register(program: Command): void {
  program
    .command('serve')
    .description('run the controller: watch the repository, carry every rotation, keep every KBS as it should be')
    .addOption(configOption())
    .option('--json', 'print events, one JSON object a line')
    .option('--events-after <number>', 'with --json: first tell what came after this event; otherwise from now on', eventNumber)
    .action(serve);
}
