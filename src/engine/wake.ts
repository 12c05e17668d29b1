import type pg from 'pg';
import { type ConstructorOptions, PgBoss } from 'pg-boss';
import type { Instant } from '#src/instant.ts';
import { type Db, transaction } from '#state/database.ts';
import { type Freed, releaseRuns } from '#state/runs.ts';
import { database, enlistRuns, QUEUES, type Queue } from './enlist.ts';
import { type Hand, inTime, openHand } from './hand.ts';
import { openTimers, type Timers } from './timers.ts';

/**
 * Called for a run whose time has come. `signal` aborts where the queue gave the look to somebody else, and where this replica ends. A
 * throw is asked again after a second.
 */
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
  /** Ends the looks at these runs, whoever believes to be at them, and wakes them before all others that wait, in the caller's transaction. */
  readonly free: (tx: Db, runs: readonly Freed[]) => Promise<void>;
  /** The runs whose looks are under way in this process. */
  readonly inHand: () => ReadonlySet<string>;
  /** Looks that may be nobody's: no sign of life for a heartbeat, or handed out and in nobody's hand just now. At most 100. */
  readonly strays: (db: Db) => Promise<readonly Stray[]>;
  /** Starts to hand out one queue's runs, to so many looks at a time. */
  readonly work: (queue: Queue, handler: Handler, options: { readonly concurrency: number }) => Promise<void>;
  /**
   * Takes no more, and tells the looks at work to end at their next step: another replica goes on with
   * them at once. What has not ended after half a second is fenced and goes on elsewhere all the same.
   * Resolves within three seconds, also without a database.
   */
  readonly stop: () => Promise<void>;
}

/** A look that may be nobody's. */
export interface Stray {
  /** The run's. */
  readonly id: string;
  /** null: no open run is behind it. */
  readonly claim: number | null;
  /** The same only for the same attempt at the same look. */
  readonly attempt: string;
  /** No sign of life for a heartbeat. */
  readonly isSilent: boolean;
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
/** A look ends at its next step once it is told to, and most take a tenth of this. What takes longer goes on elsewhere: the others do not wait for it. */
const STOP_SECONDS = 0.5;
/** Of the same: what the database then takes. It may be gone itself. */
const CLOSE_SECONDS = 1;
/** What a dead replica had in hand was under way: it goes on before whatever waits in line. */
const FIRST = { priority: 1 };
/** pg-boss's own sessions beside the listener: fetching, completing, supervising. */
const SESSIONS = 4;

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
  const hand = openHand();
  const waking = { boss, timers };
  const enlist = async (tx: Db, run: string, at: Instant | null) => enlistRuns(waking, tx, [run], at);
  const enlistMany = async (tx: Db, runs: readonly string[], at: Instant | null) => enlistRuns(waking, tx, runs, at);
  const free = async (tx: Db, runs: readonly Freed[]): Promise<void> => {
    const ids = runs.map(({ id }) => id);
    await endActive(boss, tx, ids);
    for (const [at, due] of Map.groupBy(runs, (run) => run.at)) {
      const woken = due.map(({ id }) => id);
      await enlistRuns(waking, tx, woken, at, FIRST);
    }
  };
  const handBack = async (runs: readonly string[]): Promise<void> => {
    await transaction(pool, async (tx) => {
      const given = runs.map((id) => ({ id, claim: null }));
      await free(tx, await releaseRuns(tx, given));
    });
  };
  return {
    enlist,
    enlistMany,
    wake: (run) => transaction(pool, (tx) => enlist(tx, run, null)),
    wakeAt: (run, at) => transaction(pool, (tx) => enlist(tx, run, at)),
    free,
    inHand: hand.runs,
    strays: straysOf,
    work: (queue, handler, { concurrency }) => work({ boss, timers, hand, handBack }, queue, handler, concurrency),
    stop: async () => {
      timers.stop();
      hand.end();
      // Each hands its run back where it ends in time; whatever does not is fenced, and somebody else's.
      await inTime(Promise.all(QUEUES.map((queue) => boss.offWork(queue))), STOP_SECONDS, onError);
      const left = hand.empty();
      if (left.length > 0) await inTime(handBack(left), CLOSE_SECONDS, onError);
      await inTime(boss.stop({ graceful: false, close: true }), CLOSE_SECONDS, onError);
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

/**
 * Handed out and unowned: its replica died between the handing out and the claim, or between the rest and the look's end, or it could
 * not write that end down because the database was gone. No sign of life: it is frozen, or its host is lost.
 */
async function straysOf(db: Db): Promise<readonly Stray[]> {
  const { rows } = await db.query<Stray>(
    `select * from (
       select job.singleton_key as id, r.claim::float8, r.owner, job.id || '/' || job.retry_count || '/' || coalesce(r.claim, 0) as attempt,
         job.heartbeat_on < now() - make_interval(secs => $2) as "isSilent"
       from pgboss.job left join runs r on r.id = job.singleton_key and r.ended_at is null where job.name = any($1) and job.state = 'active'
     ) as looks where "isSilent" or owner is null order by id limit 100`,
    [QUEUES, HEARTBEAT_SECONDS],
  );
  return rows;
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
async function work(parts: Working, queue: Queue, handler: Handler, concurrency: number): Promise<void> {
  const { boss, timers, hand, handBack } = parts;
  const options = {
    pollingIntervalSeconds: POLL_SECONDS,
    notifyPollingIntervalSeconds: POLL_SECONDS,
    heartbeatRefreshSeconds: HEARTBEAT_REFRESH_SECONDS,
  };
  const look = async (run: string, signal: AbortSignal): Promise<void> => {
    const isOurs = hand.ending.aborted || (await hand.hold(run, () => handler(run, AbortSignal.any([signal, hand.ending]))));
    // The others were told of its next wake while this look stood in its way.
    if (hand.ending.aborted && isOurs) await handBack([run]);
  };
  for (let index = 0; index < concurrency; index += 1) {
    let worker = '';
    worker = await boss.work<{ run: string }>(queue, options, async (jobs) => {
      boss.notifyWorker(worker);
      for (const { data, signal } of jobs) await look(data.run, signal);
    });
    timers.add(queue, worker);
  }
}

/** What a worker stands on. */
interface Working {
  readonly boss: PgBoss;
  readonly timers: Timers;
  readonly hand: Hand;
  /** Lets go of a run, so that another replica looks at it when it is due. */
  readonly handBack: (runs: readonly string[]) => Promise<void>;
}
