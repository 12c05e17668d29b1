import { randomInt } from 'node:crypto';
import pg from 'pg';
import { transaction } from '#state/database.ts';
import { ownersOfOpenRuns, releaseOwner } from '#state/runs.ts';
import type { Log } from '../log.ts';
import type { Wake } from './wake.ts';

/** `keyturn` as a class of advisory locks; the second number is the replica's. */
const LOCK_CLASS = 1_802_728_564;
/** PostgreSQL's advisory lock numbers are 32 bits with a sign. */
const REPLICA_MAX = 2 ** 31 - 1;
/** How often the others are tried. A dead one is seen after half of it on average (measured 0.35 s p50). */
const TRY_SECONDS = 0.5;

/** This process among those that serve one database. */
export interface Replica {
  /** In `runs.owner` while it looks at a run: `<name>#<lock number>`. */
  readonly owner: string;
  readonly close: () => Promise<void>;
}

/** What a replica stands on. */
export interface ReplicaOptions {
  readonly pool: pg.Pool;
  /** For the session that holds the lock: direct, no transaction pooling. */
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
 * its lock: pg-boss's heartbeat is the second net. A wrong guess is harmless: the claim fences.
 */
export async function openReplica(options: ReplicaOptions): Promise<Replica> {
  const number = randomInt(1, REPLICA_MAX);
  const owner = `${options.name}#${number}`;
  const holding = await hold(options, number);
  const timer = setInterval(() => void holding.alone(() => takeOver(options, owner, holding.session())), TRY_SECONDS * 1000).unref();
  return {
    owner,
    close: async () => {
      clearInterval(timer);
      await holding.close();
    },
  };
}

interface Holding {
  /** The session of now; null while it is being opened again. */
  readonly session: () => pg.Client | null;
  /** One turn at a time; what it throws is only logged: the next turn looks again. */
  readonly alone: (turn: () => Promise<void>) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Keeps a session that holds the replica's lock; one that breaks is opened again at the next turn. */
async function hold({ url, log }: ReplicaOptions, number: number): Promise<Holding> {
  let session: pg.Client | null = null;
  let busy: Promise<void> | null = null;
  const open = async (): Promise<void> => {
    const client = new pg.Client({ connectionString: url, application_name: 'keyturn-replica', keepAlive: true });
    client.on('error', () => {
      session = null;
    });
    await client.connect();
    await client.query('select pg_advisory_lock($1, $2)', [LOCK_CLASS, number]);
    session = client;
  };
  await open();
  const work = async (turn: () => Promise<void>): Promise<void> => {
    try {
      if (session === null) await open();
      await turn();
    } catch (thrown) {
      log.debug({ error: String(thrown) }, 'the other replicas could not be looked at');
    }
  };
  return {
    session: () => session,
    alone: async (turn) => {
      if (busy !== null) return;
      busy = work(turn);
      await busy;
      busy = null;
    },
    close: async () => {
      await busy;
      await session?.end().catch(() => undefined);
    },
  };
}

async function takeOver({ pool, wake, log }: ReplicaOptions, own: string, session: pg.Client | null): Promise<void> {
  if (session === null) return;
  for (const owner of await ownersOfOpenRuns(pool)) {
    const number = Number(/#(\d{1,10})$/.exec(owner)?.[1]);
    if (owner === own || !(number > 0 && number <= REPLICA_MAX)) continue;
    const { rows } = await session.query<{ dead: boolean }>('select pg_try_advisory_lock($1, $2) as dead', [LOCK_CLASS, number]);
    if (rows[0]?.dead !== true) continue;
    try {
      const runs = await transaction(pool, async (tx) => {
        const freed = await releaseOwner(tx, owner);
        await wake.free(tx, freed);
        return freed;
      });
      log.warn({ owner, runs }, 'a replica died: its runs are taken over');
    } finally {
      await session.query('select pg_advisory_unlock($1, $2)', [LOCK_CLASS, number]);
    }
  }
}
