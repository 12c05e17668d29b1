import type pg from 'pg';
import { Fault } from '#src/errors.ts';
import { type FetchRecord, recordFetches } from '#state/fetches.ts';
import { type HandshakeRecord, recordHandshake } from '#state/handshakes.ts';

/** Writes down what passed, many fetches in one statement when many come at once. */
export interface Recorder {
  /** Resolves when the handshake is committed. Rejects otherwise, after 5 seconds at the latest. */
  readonly handshake: (handshake: HandshakeRecord) => Promise<void>;
  /** Resolves when the release is committed: only then may the key go out. Rejects otherwise, after 5 seconds at the latest. */
  readonly released: (fetch: FetchRecord) => Promise<void>;
  /** Kept where there is room and time for it; false: this one was dropped. A refusal is a help for people, and whoever is refused may ask for ever. */
  readonly refused: (fetch: FetchRecord) => boolean;
  /** Writes what is still open. */
  readonly close: () => Promise<void>;
}

/** Fetches of one statement; at the bar of 300 a second one holds one or two. */
const BATCH_MAX = 256;
/** More go out while the first is committed, and PostgreSQL commits them together, so that few wait for a turn. */
const STATEMENTS_MAX = 4;
/** What waits beyond this is turned away: the database is not keeping up. */
const WAITING_MAX = 4096;
/** A guest's own timeout is 50 s; a commit that takes this long is a database in trouble. Seconds. */
const COMMIT_TIMEOUT_SECONDS = 5;
/** Refusals kept in a second, over all guests: a crash loop of a whole cluster is still seen, a flood does not fill the disk. */
const REFUSALS_A_SECOND = 50;

interface Waiting {
  readonly fetch: FetchRecord;
  readonly done: (failed: Error | null) => void;
}

/** `onError` hears of refusals that could not be kept; who waits for a release hears of it himself. */
export function openRecorder(pool: pg.Pool, onError: (thrown: unknown) => void): Recorder {
  const waiting: Waiting[] = [];
  const allowance = allowing(REFUSALS_A_SECOND);
  const open = new Set<Promise<void>>();
  const flush = (): void => {
    while (open.size < STATEMENTS_MAX && waiting.length > 0) {
      const batch = waiting.splice(0, BATCH_MAX);
      const writing = write(pool, batch).finally(() => {
        open.delete(writing);
        flush();
      });
      open.add(writing);
    }
  };
  const enqueue = (fetch: FetchRecord): Promise<void> => {
    if (waiting.length >= WAITING_MAX) return Promise.reject(new Fault('LimitExceeded', `proxy record fetch: ${WAITING_MAX} wait already`));
    return new Promise((resolve, reject) => {
      waiting.push({ fetch, done: (failed) => (failed === null ? resolve() : reject(failed)) });
      flush();
    });
  };
  return {
    handshake: async (handshake) => void (await inTime(recordHandshake(pool, handshake))),
    released: (fetch) => inTime(enqueue(fetch)),
    refused: (fetch) => {
      if (!allowance() || waiting.length >= WAITING_MAX / 2) return false;
      enqueue(fetch).catch(onError);
      return true;
    },
    close: async () => {
      while (open.size > 0) await Promise.all(open);
    },
  };
}

async function write(pool: pg.Pool, batch: readonly Waiting[]): Promise<void> {
  const failed = await recordFetches(
    pool,
    batch.map(({ fetch }) => fetch),
  ).then(
    () => null,
    (thrown: unknown) => (thrown instanceof Error ? thrown : new Error(String(thrown))),
  );
  for (const { done } of batch) done(failed);
}

/** The row may still come to be after this has rejected: then a release is on record that never went out, which only makes a retirement wait. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Fault('Unreachable', `postgres: no commit within ${COMMIT_TIMEOUT_SECONDS} s`)), COMMIT_TIMEOUT_SECONDS * 1000);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Says yes at most `perSecond` times in any second of the clock. */
function allowing(perSecond: number): () => boolean {
  let second = 0;
  let given = 0;
  return () => {
    const now = Math.floor(performance.now() / 1000);
    if (now !== second) {
      second = now;
      given = 0;
    }
    given += 1;
    return given <= perSecond;
  };
}
