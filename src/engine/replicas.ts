import { randomInt } from 'node:crypto';
import pg from 'pg';
import { openDatabase, transaction } from '#state/database.ts';
import { type Freed, releaseOwner, releaseRuns, runsInHand } from '#state/runs.ts';
import type { Log } from '../log.ts';
import type { Stray, Wake } from './wake.ts';

/** `keyturn` as a class of advisory locks; the second number is the replica's. */
const LOCK_CLASS = 1_802_728_564;
/** PostgreSQL's advisory lock numbers are 32 bits with a sign. */
const REPLICA_MAX = 2 ** 31 - 1;
/** How often the others are tried. A dead one is seen after half of it on average (measured 0.35 s p50). */
const TRY_SECONDS = 0.5;
/** A database that is well answers these within milliseconds. */
const ANSWER_SECONDS = 5;
/** Between a run's handing out and its claim lie milliseconds, and as many between its rest and the end of its look. What is in nobody's hand for longer is nobody's. */
const GAP_SECONDS = 1;

/** This process among those that serve one database. */
export interface Replica {
  /** In `runs.owner` while it looks at a run: `<name>#<lock number>`. */
  readonly owner: string;
  readonly close: () => Promise<void>;
}

/** What a replica stands on. */
export interface ReplicaOptions {
  /** For sessions of its own, one of which holds the lock: direct, no transaction pooling. Looks that keep the engine's busy delay no takeover. */
  readonly url: string;
  /** For people: the host's name. */
  readonly name: string;
  readonly wake: Wake;
  readonly log: Log;
}

/**
 * Makes a dead replica seen at once (DESIGN §5): each holds a session advisory lock for its life, which
 * the server takes away when the process dies, and every half second tries the locks of those that
 * have runs in hand. Whoever gets one frees the dead one's runs and wakes them. A frozen process keeps
 * its lock: its looks are freed when they gave no sign of life for a heartbeat. The same turn frees
 * what this replica itself had in hand when the database went away, and looks that nobody owns. A
 * wrong guess is harmless: the claim fences.
 */
export async function openReplica(options: ReplicaOptions): Promise<Replica> {
  const pool = openDatabase({ url: options.url, poolSize: 1 });
  const number = randomInt(1, REPLICA_MAX);
  const owner = `${options.name}#${number}`;
  const session = await openSession(options, number);
  const unowned = openUnowned();
  let busy: Promise<void> | null = null;
  const turn = async (): Promise<void> => {
    try {
      await session.stand();
      await look({ ...options, pool }, owner, session.isDead, unowned);
    } catch (thrown) {
      // The next turn looks again.
      options.log.debug({ error: String(thrown) }, 'the other replicas could not be looked at');
    }
  };
  const timer = setInterval(() => {
    busy ??= turn().finally(() => {
      busy = null;
    });
  }, TRY_SECONDS * 1000).unref();
  return {
    owner,
    close: async () => {
      clearInterval(timer);
      await busy;
      await session.close();
      await pool.end();
    },
  };
}

interface Session {
  /** Opens it again where it broke. Throws where it cannot. */
  readonly stand: () => Promise<void>;
  /** Whether the replica with this number is dead; `then` is done while nobody else can find the same. */
  readonly isDead: (number: number, then: () => Promise<void>) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Keeps a session that holds the replica's lock. */
async function openSession({ url }: ReplicaOptions, number: number): Promise<Session> {
  let session: pg.Client | null = null;
  const drop = (client: pg.Client): void => {
    if (session === client) session = null;
    void client.end().catch(() => undefined);
  };
  /** A session that does not answer is as good as broken, and its lock with it. */
  const ask = async <T extends pg.QueryResultRow>(client: pg.Client, text: string, values: readonly number[]): Promise<readonly T[]> => {
    try {
      return (await client.query<T>(text, [...values])).rows;
    } catch (thrown) {
      drop(client);
      throw thrown;
    }
  };
  const stand = async (): Promise<void> => {
    if (session !== null) return;
    const limits = { connectionTimeoutMillis: ANSWER_SECONDS * 1000, query_timeout: ANSWER_SECONDS * 1000 };
    const client = new pg.Client({ connectionString: url, application_name: 'keyturn-replica', keepAlive: true, ...limits });
    client.on('error', () => drop(client));
    await client.connect();
    await ask(client, 'select pg_advisory_lock($1, $2)', [LOCK_CLASS, number]);
    session = client;
  };
  await stand();
  return {
    stand,
    isDead: async (other, then) => {
      const client = session;
      if (client === null) return;
      const [row] = await ask<{ dead: boolean }>(client, 'select pg_try_advisory_lock($1, $2) as dead', [LOCK_CLASS, other]);
      if (row?.dead !== true) return;
      try {
        await then();
      } finally {
        await ask(client, 'select pg_advisory_unlock($1, $2)', [LOCK_CLASS, other]);
      }
    },
    close: async () => {
      await session?.end().catch(() => undefined);
    },
  };
}

/** Those of the looks that have been in nobody's hand for longer than a gap, by this process's own clock, or are silent. */
type Unowned = (strays: readonly Stray[]) => readonly Stray[];

function openUnowned(): Unowned {
  let since = new Map<string, number>();
  return (strays) => {
    const now = performance.now();
    since = new Map(strays.map(({ attempt }) => [attempt, since.get(attempt) ?? now]));
    return strays.filter(({ attempt, isSilent }) => isSilent || now - (since.get(attempt) ?? now) > GAP_SECONDS * 1000);
  };
}

async function look({ pool, wake, log }: ReplicaOptions & { readonly pool: pg.Pool }, own: string, isDead: Session['isDead'], unowned: Unowned): Promise<void> {
  const before = wake.inHand();
  const held = await runsInHand(pool);
  const mine = held.filter(({ id, owner }) => owner === own && !before.has(id) && !wake.inHand().has(id));
  const free = async (release: (tx: pg.PoolClient) => Promise<readonly Freed[]>, details: object, message: string): Promise<void> => {
    const runs = await transaction(pool, async (tx) => {
      const freed = await release(tx);
      await wake.free(tx, freed);
      return freed.map(({ id }) => id);
    });
    if (runs.length > 0) log.warn({ ...details, runs }, message);
  };
  for (const owner of new Set(held.map((run) => run.owner))) {
    const number = Number(/#(\d{1,10})$/.exec(owner)?.[1]);
    if (owner === own || !(number > 0 && number <= REPLICA_MAX)) continue;
    await isDead(number, () => free((tx) => releaseOwner(tx, owner), { owner }, 'a replica died: its runs are taken over'));
  }
  if (mine.length > 0) await free((tx) => releaseRuns(tx, mine), {}, 'looks that ended without a word are asked for again');
  const strays = unowned(await wake.strays(pool));
  if (strays.length > 0) await free((tx) => releaseStrays(tx, strays), {}, 'looks that nobody was at are asked for again');
}

/** Where no open run is behind a stray, only the look is ended. */
async function releaseStrays(tx: pg.PoolClient, strays: readonly Stray[]): Promise<readonly Freed[]> {
  const freed = await releaseRuns(tx, strays);
  const ended = strays.filter(({ claim }) => claim === null).map(({ id }) => ({ id, at: null }));
  return [...freed, ...ended];
}
