import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import type { Setting } from '#src/lab/setting.ts';
import { REPLICAS } from './chaos-draw.ts';
import type { DatabaseGate, Gate } from './gate.ts';
import type { Proof } from './proof.ts';

/** The gates in front of what one controller calls. */
export interface ReplicaGates {
  readonly kms: Gate;
  readonly kbs: Gate;
  readonly kubernetes: Gate;
}

/** A run in somebody's hand, as of a claim. */
export interface Held {
  readonly id: string;
  readonly owner: string;
  readonly claim: number;
}

/** The lab, as whoever disturbs it sees it. */
export interface House {
  readonly proof: Proof;
  readonly setting: Setting;
  readonly gates: readonly ReplicaGates[];
  readonly database: DatabaseGate;
  /** Asks the database; its statements are the proof's own. */
  readonly query: <T extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => Promise<readonly T[]>;
  /** Open runs in hand, of one owner where given. */
  readonly held: (owner?: string) => Promise<readonly Held[]>;
  /** What a controller's present process calls itself; null until it serves. */
  readonly ownerOf: (replica: number) => string | null;
  /** The controllers that serve now. */
  readonly serving: () => readonly number[];
  /** Before a process is ended: its name must not be taken for its successor's. */
  readonly forget: (replica: number) => void;
  /** Resolves when so many serve. */
  readonly untilServing: (count: number) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Of `runs`: open, and soon looked at. A key that is to be destroyed is looked at once a day, for weeks. */
export const UNDER_WAY = `ended_at is null and (owner is not null or coalesce(next_retry_at, created_at) < instant() + interval '10 minutes')`;

/** Wakes are late by a poll; this is more than any of them. Seconds. */
const OVERDUE_SECONDS = 30;

/** A run that is open, and what it says of itself. */
export interface Waiting {
  readonly run: string;
  readonly workflow: string;
  readonly workload: string;
  readonly waitingFor: string | null;
  readonly about: string | null;
  readonly overdue: boolean;
}

/** All open runs. */
export function openRuns({ query }: House): Promise<readonly Waiting[]> {
  return query<Waiting>(
    `select id as run, workflow, workload, waiting_for as "waitingFor", about,
       owner is null and coalesce(next_retry_at, wake_at, created_at) < instant() - make_interval(secs => $1) as overdue
     from runs where ended_at is null order by id`,
    [OVERDUE_SECONDS],
  );
}

/** A line for a person. */
export function tellWaiting({ workflow, workload, waitingFor, about }: Waiting): string {
  return `       ${workflow} of ${workload} waits for ${waitingFor}: ${about}`;
}

/** A controller starts in two seconds; on a machine that does much else it was seen to need twenty. Seconds. */
const START_SECONDS = 90;
/** Looks at who has something in hand; a look lasts 20 to 400 ms. Milliseconds. */
const LOOK_MILLISECONDS = 3;
/** From a run in hand to the signal, drawn up to this: anywhere in a look. Milliseconds. */
const INTO_LOOK_MILLISECONDS = 60;
/** With several workloads under way somebody looks every second or two. Seconds. */
const IN_HAND_SECONDS = 60;

/** Opens the house over a lab of several controllers. */
export function openHouse(proof: Proof, setting: Setting, gates: readonly ReplicaGates[], database: DatabaseGate): House {
  const pool = new pg.Pool({ connectionString: database.url, max: 4, connectionTimeoutMillis: 5000, query_timeout: 10_000 });
  pool.on('error', () => undefined);
  const forgotten = new Map<number, string | null>();
  const ownerOf = (replica: number): string | null => {
    const owner = setting.pid('serve', replica) === null ? null : lastOwner(setting, replica);
    return owner === forgotten.get(replica) ? null : owner;
  };
  const serving = (): readonly number[] => Array.from({ length: REPLICAS }, (_, replica) => replica).filter((replica) => ownerOf(replica) !== null);
  const query: House['query'] = async <T extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []) =>
    (await pool.query<T>(text, [...values])).rows;
  return {
    proof,
    setting,
    gates,
    database,
    query,
    held: (owner) =>
      query<Held>('select id, owner, claim::int from runs where ended_at is null and owner is not null and ($1::text is null or owner = $1)', [owner ?? null]),
    ownerOf,
    serving,
    forget: (replica) => void forgotten.set(replica, lastOwner(setting, replica)),
    untilServing: async (count) => {
      await proof.until(`${count} controllers serve`, START_SECONDS, () => (serving().length >= count ? true : null));
    },
    close: () => pool.end(),
  };
}

/** Every process says its name once, when it serves. */
function lastOwner({ folder }: Setting, replica: number): string | null {
  const log = readFileSync(join(folder, 'logs', replica === 0 ? 'serve.log' : `serve-${replica + 1}.log`), 'utf8');
  return (
    log
      .match(/"replica":"([^"]+)"/g)
      ?.at(-1)
      ?.slice('"replica":"'.length, -1) ?? null
  );
}

/** A process that stands still, and the runs that it has in hand. */
export interface Stopped {
  readonly replica: number;
  readonly pid: number;
  readonly owner: string;
  readonly runs: readonly Held[];
}

/**
 * Stops (SIGSTOP) a controller at some point of a look: the preferred one where it has something in hand soon, else another.
 * Whoever has let go of everything when it stands still goes on, and the next is taken.
 */
export async function stopInHand(house: House, preferred: number, chance: () => number): Promise<Stopped> {
  const { proof, setting } = house;
  const beganAt = performance.now();
  return proof.until('a controller has a run in hand', IN_HAND_SECONDS, async () => {
    // A second for the preferred one.
    const candidates = performance.now() - beganAt < 1000 ? [preferred] : house.serving();
    for (let tries = 0; tries < 30; tries += 1) {
      const holders = new Set((await house.held()).map(({ owner }) => owner));
      const replica = candidates.find((one) => holders.has(house.ownerOf(one) ?? ''));
      const owner = replica === undefined ? null : house.ownerOf(replica);
      const pid = replica === undefined ? null : setting.pid('serve', replica);
      if (replica === undefined || owner === null || pid === null) {
        await pause(LOOK_MILLISECONDS, null, { signal: proof.signal });
        continue;
      }
      await pause(Math.floor(chance() * INTO_LOOK_MILLISECONDS), null, { signal: proof.signal });
      process.kill(pid, 'SIGSTOP');
      const runs = await house.held(owner);
      if (runs.length > 0) return { replica, pid, owner, runs };
      process.kill(pid, 'SIGCONT');
    }
    return null;
  });
}
