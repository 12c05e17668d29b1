import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { type ConstructorOptions, PgBoss } from 'pg-boss';
import type { Instant } from '#src/instant.ts';
import { type Db, transaction } from '#state/database.ts';

/** Revocations and reinstatements never stand in line behind rotations. */
export type Queue = 'run' | 'revocation';

/** Called for a run whose time has come. `signal` aborts where the queue gave the look to somebody else. A throw is asked again after a second. */
export type Handler = (run: string, signal: AbortSignal) => Promise<void>;

/**
 * Wakes runs: now, at an instant, once however often it is asked. A wake says *look*, nothing more.
 *
 * No two handlers of one run are at work at the same time, in any replica, and a wake that comes during
 * a look is followed by another look. pg-boss is behind this and nowhere else.
 */
export interface Wake {
  /** Now. */
  readonly wake: (run: string) => Promise<void>;
  /** At an instant of the database's clock, or earlier where it is due earlier already; null: now. */
  readonly wakeAt: (run: string, at: Instant | null) => Promise<void>;
  /** The same in the caller's transaction: no wake without its commit, no commit without its wake. */
  readonly enlist: (tx: Db, run: string, at: Instant | null) => Promise<void>;
  /** Many at once, in an order in which two callers never block each other. */
  readonly enlistMany: (tx: Db, runs: readonly string[], at: Instant | null) => Promise<void>;
  /** Ends what a dead replica had in hand for these runs and wakes them, in the caller's transaction. */
  readonly free: (tx: Db, runs: readonly string[]) => Promise<void>;
  /** Starts to hand out one queue's runs, to so many looks at a time. */
  readonly work: (queue: Queue, handler: Handler, options: { readonly concurrency: number }) => Promise<void>;
  /** Takes no more; resolves when the looks at work have ended, or after half a minute. */
  readonly stop: () => Promise<void>;
}

/** What a Wake stands on. */
export interface WakeOptions {
  /** For our own rows. */
  readonly pool: pg.Pool;
  /** For pg-boss's own sessions, one of them listening: direct, no transaction pooling. */
  readonly url: string;
  /** Hears of what pg-boss could not do; it goes on by itself. */
  readonly onError: (error: Error) => void;
}

/** pg-boss's least. With it a frozen replica's runs are taken over after 10 to 12 s. */
const HEARTBEAT_SECONDS = 10;
const HEARTBEAT_REFRESH_SECONDS = 2;
/** How often it looks for handlers that fell silent. */
const SUPERVISE_SECONDS = 2;
/** A look lasts seconds: long work runs beside it. This bounds one that hangs. */
const LOOK_LIMIT_SECONDS = 3600;
/** Finished jobs are of no use to us; ten minutes of them help whoever debugs. */
const DELETE_AFTER_SECONDS = 600;
/** A deferred job is kept this long past its time where no replica runs at all. A resync would bring it back. */
const RETENTION_SECONDS = 365 * 24 * 3600;
/** A handler throws where the database failed under it: for ever, a second apart. */
const RETRY_LIMIT = 1_000_000;
const RETRY_DELAY_SECONDS = 1;
/** The floor under NOTIFY, which is not sent for a job whose time comes later. */
const POLL_SECONDS = 2;
/** Waits up to this long are also timed here, so that they end on time and not at the next poll. */
const TIMED_SECONDS = 60;
/** Due times closer than this share a timer. */
const TIMER_MILLISECONDS = 50;
const STOP_SECONDS = 30;
/** pg-boss's own sessions beside the listener: fetching, completing, supervising. */
const SESSIONS = 4;

const QUEUES: readonly Queue[] = ['run', 'revocation'];

const BOSS: ConstructorOptions = {
  schema: 'pgboss',
  max: SESSIONS,
  application_name: 'keyturn-wake',
  useListenNotify: true,
  monitorIntervalSeconds: SUPERVISE_SECONDS,
  superviseIntervalSeconds: SUPERVISE_SECONDS,
  // Nothing is fired by cron here: see src/engine/cron.ts.
  schedule: false,
  registerInstance: false,
  openTelemetry: { enabled: false },
};

/** Installs pg-boss's schema where it is missing (any number may start at once), and connects. */
export async function openWake({ pool, url, onError }: WakeOptions): Promise<Wake> {
  const boss = new PgBoss({ ...BOSS, connectionString: url });
  boss.on('error', onError);
  await boss.start();
  for (const queue of QUEUES) await openQueue(boss, queue);
  const timers = openTimers(boss);
  const enlist = async (tx: Db, run: string, at: Instant | null) => enlistRuns(boss, timers, tx, [run], at);
  const enlistMany = async (tx: Db, runs: readonly string[], at: Instant | null) => enlistRuns(boss, timers, tx, runs, at);
  return {
    enlist,
    enlistMany,
    wake: (run) => transaction(pool, (tx) => enlist(tx, run, null)),
    wakeAt: (run, at) => transaction(pool, (tx) => enlist(tx, run, at)),
    free: async (tx, runs) => {
      await endActive(boss, tx, runs);
      await enlistMany(tx, runs, null);
    },
    work: (queue, handler, { concurrency }) => work(boss, timers, queue, handler, concurrency),
    stop: async () => {
      timers.stop();
      await boss.stop({ graceful: true, timeout: STOP_SECONDS * 1000, close: true });
    },
  };
}

async function openQueue(boss: PgBoss, queue: Queue): Promise<void> {
  const options = {
    notify: true,
    heartbeatSeconds: HEARTBEAT_SECONDS,
    expireInSeconds: LOOK_LIMIT_SECONDS,
    deleteAfterSeconds: DELETE_AFTER_SECONDS,
    retentionSeconds: RETENTION_SECONDS,
    retryLimit: RETRY_LIMIT,
    retryDelay: RETRY_DELAY_SECONDS,
    retryBackoff: false,
  };
  // `stately`: one job a run that waits and one that is at work, held by a unique index.
  await boss.createQueue(queue, { ...options, policy: 'stately' });
  // One that an older version made keeps that version's options otherwise.
  await boss.updateQueue(queue, options);
}

interface DueRow {
  readonly id: string;
  readonly workflow: string;
  /** Until it is due, on the database's own clock; not above 0: now. */
  readonly milliseconds: number;
  /** The moment on the database's own clock, which pg-boss counts by: in the lab `instant()` is set apart from it. */
  readonly machine_at: string;
  /** A job that waits for this run waits for no later moment. */
  readonly in_time: boolean;
}

/**
 * The due time lives in our row, and pg-boss is told it: its `upsert` changes only what it is given,
 * so that a wake for now would leave a job deferred by an hour where it is, and a look that defers
 * itself would push away a wake that came meanwhile. Claiming a run sets its due time to null.
 */
async function enlistRuns(boss: PgBoss, timers: Timers, tx: Db, runs: readonly string[], at: Instant | null): Promise<void> {
  const { rows } = await tx.query<DueRow>(
    `with locked as (select id, wake_at as was from runs where id = any($1) and ended_at is null order by id for no key update)
     update runs set wake_at = least(was, coalesce($2, instant())) from locked where runs.id = locked.id
     returning runs.id, workflow, (extract(epoch from wake_at - instant()) * 1000)::double precision as milliseconds, was <= wake_at as in_time,
       to_char((clock_timestamp() + (wake_at - instant())) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as machine_at`,
    [runs, at],
  );
  const due = [...rows].sort((a, b) => (a.id < b.id ? -1 : 1));
  const inserted = due.length > 1 ? await insertJobs(boss, tx, due) : new Set<string>();
  for (const row of due) {
    const queue = queueOf(row.workflow);
    // Of one run alone it is always told: a wake must not rest on what another version wrote.
    const waits = inserted.has(row.id) || (due.length > 1 && row.in_time);
    if (!waits) await boss.upsert(queue, { run: row.id }, { singletonKey: row.id, startAfter: startAfter(row), db: database(tx) });
    timers.set(queue, row.milliseconds);
  }
}

/** One statement a queue for all that have no job waiting, instead of one a run. The runs that got one. */
async function insertJobs(boss: PgBoss, tx: Db, due: readonly DueRow[]): Promise<ReadonlySet<string>> {
  const inserted = new Set<string>();
  for (const queue of QUEUES) {
    const runs = new Map<string, DueRow>(due.filter(({ workflow }) => queueOf(workflow) === queue).map((row) => [randomUUID(), row]));
    if (runs.size === 0) continue;
    const jobs = [...runs].map(([id, row]) => ({ id, data: { run: row.id }, singletonKey: row.id, startAfter: startAfter(row) }));
    // Where one waits already, the unique index of a `stately` queue leaves the new one out.
    for (const id of (await boss.insert(queue, jobs, { returnId: true, db: database(tx) })) ?? []) inserted.add(runs.get(id)?.id ?? '');
  }
  return inserted;
}

/** 0 is counted from the transaction's start, so that it is due already and notifies. */
function startAfter({ milliseconds, machine_at }: DueRow): string | number {
  return milliseconds <= 0 ? 0 : machine_at;
}

function database(tx: Db): NonNullable<ConstructorOptions['db']> {
  return { executeSql: (text, values) => tx.query(text, values === undefined ? [] : [...values]) };
}

function queueOf(workflow: string): Queue {
  return workflow === 'revoke' || workflow === 'reinstate' ? 'revocation' : 'run';
}

/** By id and attempt: what another replica has taken meanwhile is left to it. */
async function endActive(boss: PgBoss, tx: Db, runs: readonly string[]): Promise<void> {
  const { rows } = await tx.query<{ name: string; id: string; retry_count: number }>(
    `select name, id, retry_count from pgboss.job where name = any($1) and state = 'active' and singleton_key = any($2) order by id`,
    [QUEUES, runs],
  );
  for (const { name, id, retry_count } of rows) await boss.complete(name, { id, retryCount: retry_count }, null, { db: database(tx) });
}

/**
 * One pg-boss worker for each look at a time. A worker that found something asks again at once: left
 * alone it would sleep until its next poll, and a queue of a thousand due runs would drain at one look
 * a worker in two seconds.
 */
async function work(boss: PgBoss, timers: Timers, queue: Queue, handler: Handler, concurrency: number): Promise<void> {
  const options = {
    pollingIntervalSeconds: POLL_SECONDS,
    notifyPollingIntervalSeconds: POLL_SECONDS,
    heartbeatRefreshSeconds: HEARTBEAT_REFRESH_SECONDS,
  };
  for (let index = 0; index < concurrency; index += 1) {
    let worker = '';
    worker = await boss.work<{ run: string }>(queue, options, async (jobs) => {
      boss.notifyWorker(worker);
      for (const { data, signal } of jobs) await handler(data.run, signal);
    });
    timers.add(queue, worker);
  }
}

// ---------------------------------------------------------------- timers

interface Timers {
  readonly add: (queue: Queue, worker: string) => void;
  readonly set: (queue: Queue, milliseconds: number) => void;
  readonly stop: () => void;
}

/** Makes this replica ask for its work at the moment when a wake that it sent falls due. Only ever earlier: the poll does not rest on it. */
function openTimers(boss: PgBoss): Timers {
  const workers = new Map<Queue, string[]>();
  const timers = new Map<string, NodeJS.Timeout>();
  return {
    add: (queue, worker) => {
      workers.set(queue, [...(workers.get(queue) ?? []), worker]);
    },
    set: (queue, milliseconds) => {
      if (milliseconds <= 0 || milliseconds > TIMED_SECONDS * 1000 || !workers.has(queue)) return;
      const slot = Math.ceil((performance.now() + milliseconds) / TIMER_MILLISECONDS) + 1;
      const name = `${queue} ${slot}`;
      if (timers.has(name)) return;
      const timer = setTimeout(
        () => {
          timers.delete(name);
          for (const worker of workers.get(queue) ?? []) boss.notifyWorker(worker);
        },
        slot * TIMER_MILLISECONDS - performance.now(),
      );
      timers.set(name, timer.unref());
    },
    stop: () => {
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
    },
  };
}
