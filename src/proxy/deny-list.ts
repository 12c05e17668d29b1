import type pg from 'pg';
import { DENY_CHANNEL, type DenyEntry, denyListSince, hasEntry } from '#state/deny-list.ts';
import { acknowledge, forgetProxy } from '#state/proxies.ts';

/** What a proxy refuses, whatever the KBS would say: in memory, read whole. A path stays refused; a guest or a device until its entry is lifted. */
export interface DenyList {
  /** Whether the database confirmed the list within `staleSeconds`. While it is false, no key passes. */
  readonly isConfirmed: () => boolean;
  /** The entry that names this path; null: none does. */
  readonly entryFor: (path: string) => DenyEntry | null;
  /** Whether any entry names a guest or a device, so that a request must show which it is. */
  readonly namesGuests: () => boolean;
  /** The entry that has one of these names, a guest's init-data and its devices; null: none does. */
  readonly entryForGuest: (names: readonly string[]) => DenyEntry | null;
  readonly size: () => number;
  /** Of the KBS, as of the last confirmation: the version of its policy. */
  readonly generation: () => number;
  /** Stops, and says that this proxy answers nobody any more. */
  readonly close: () => Promise<void>;
}

/** What a deny-list is opened with. */
export interface DenyListOptions {
  readonly pool: pg.Pool;
  readonly kbs: string;
  /** Of this process. */
  readonly proxy: string;
  readonly staleSeconds: number;
  /** Hears of every confirmation. */
  readonly onConfirmed: () => void;
  /** Hears why a confirmation failed; the next is tried a second later. */
  readonly onError: (thrown: unknown) => void;
}

/** How often the list is confirmed where nothing was notified. Seconds. */
const POLL_SECONDS = 1;

/**
 * Reads the list whole, and keeps it. Rejects where the database does not answer the first time.
 *
 * The order is what `refused at the proxy` rests on: the proxy is in `proxies` before it reads, so that
 * nothing denied after that reading is believed refused before it is acknowledged; and it acknowledges
 * only what is already in memory. A confirmation counts from before the question was sent. A database
 * that was restored, or lost its last seconds in a failover, gives numbers a second time: where the last
 * entry that was read is not there any more, all is read again.
 */
export async function openDenyList(options: DenyListOptions): Promise<DenyList> {
  const held = holding();
  let last = await confirm(options, held, true);
  const worker = watch(options, async () => {
    last = await confirm(options, held, false);
  });
  return {
    ...held.questions,
    isConfirmed: () => ageOf(last.asked) <= options.staleSeconds,
    generation: () => last.generation,
    close: async () => {
      await worker.close();
      // Where this fails the proxy is waited for until its silence is long enough: slower, and as safe.
      await forgetProxy(options.pool, options.proxy).catch(options.onError);
    },
  };
}

/** A moment on both clocks: the steady one stands still while a machine is suspended, the other may be set back. */
interface Moment {
  readonly steady: number;
  readonly wall: number;
}

function moment(): Moment {
  return { steady: performance.now(), wall: Date.now() };
}

function ageOf(then: Moment): number {
  const now = moment();
  return Math.max(now.steady - then.steady, now.wall - then.wall) / 1000;
}

interface Held {
  /** The entry of the highest number; null: none was read. */
  readonly last: () => DenyEntry | null;
  /** What is read from here on is read from the first number on. What was refused stays so. */
  readonly begin: () => void;
  readonly add: (entries: readonly DenyEntry[]) => void;
  readonly questions: Pick<DenyList, 'entryFor' | 'namesGuests' | 'entryForGuest' | 'size'>;
}

function holding(): Held {
  const paths = new Map<string, DenyEntry>();
  const guests = holdingGuests();
  let last: DenyEntry | null = null;
  let size = 0;
  return {
    last: () => last,
    begin: () => {
      last = null;
      size = 0;
    },
    add: (entries) => {
      for (const entry of entries) {
        if (entry.path !== null && !paths.has(entry.path)) paths.set(entry.path, entry);
        guests.add(entry);
        if (last === null || entry.id > last.id) last = entry;
        size += 1;
      }
    },
    questions: {
      entryFor: (path) => paths.get(path) ?? null,
      namesGuests: guests.hasAny,
      entryForGuest: (names) => names.map(guests.entryFor).find((entry) => entry !== null) ?? null,
      size: () => size,
    },
  };
}

/** Guests and devices by their names. One may be named by several revocations: a lift takes back one entry, and the others stand. */
function holdingGuests() {
  const byId = new Map<number, { readonly entry: DenyEntry; readonly names: readonly string[] }>();
  const byName = new Map<string, Set<DenyEntry>>();
  const refuse = (entry: DenyEntry): void => {
    const names = [entry.initData, entry.device].filter((name) => name !== null);
    const before = byId.get(entry.id)?.entry;
    // Read a second time: where it was lifted it stays so.
    if (before?.initData === entry.initData && before.device === entry.device && before.because === entry.because) return;
    if (names.length > 0) byId.set(entry.id, { entry, names });
    for (const name of names) byName.set(name, (byName.get(name) ?? new Set()).add(entry));
  };
  const lift = (id: number): void => {
    // An entry is read before its lift: ids grow in the order of the commits. What names no guest, such as a path, is never lifted.
    const lifted = byId.get(id);
    for (const name of lifted?.names ?? []) {
      const entries = byName.get(name);
      if (lifted !== undefined) entries?.delete(lifted.entry);
      if (entries?.size === 0) byName.delete(name);
    }
  };
  return {
    hasAny: (): boolean => byName.size > 0,
    entryFor: (name: string): DenyEntry | null => byName.get(name)?.values().next().value ?? null,
    add: (entry: DenyEntry): void => {
      refuse(entry);
      if (entry.lifts !== null) lift(entry.lifts);
    },
  };
}

interface Confirmation {
  readonly asked: Moment;
  readonly generation: number;
}

async function confirm({ pool, kbs, proxy, staleSeconds, onConfirmed }: DenyListOptions, held: Held, first: boolean): Promise<Confirmation> {
  const asked = moment();
  if (first) await acknowledge(pool, { id: proxy, kbs, acknowledged: 0, staleSeconds });
  const last = held.last();
  if (last !== null && !(await hasEntry(pool, kbs, last))) {
    held.begin();
    await acknowledge(pool, { id: proxy, kbs, acknowledged: 0, staleSeconds }, true);
  }
  const read = (): Promise<readonly DenyEntry[]> => denyListSince(pool, kbs, held.last()?.id ?? 0);
  for (let entries = await read(); entries.length > 0; entries = await read()) held.add(entries);
  const generation = await acknowledge(pool, { id: proxy, kbs, acknowledged: held.last()?.id ?? 0, staleSeconds });
  onConfirmed();
  return { asked, generation };
}

// ---------------------------------------------------------------- looking again

/** Looks when notified, and every second; one look at a time, and one more where something came meanwhile. */
function watch({ pool, kbs, onError }: DenyListOptions, look: () => Promise<void>): { close: () => Promise<void> } {
  let closed = false;
  let again = false;
  let looking: Promise<void> | null = null;
  const run = async (): Promise<void> => {
    do {
      again = false;
      await look().catch(onError);
    } while (again && !closed);
  };
  const ask = (): void => {
    again = true;
    if (looking !== null || closed) return;
    looking = run().finally(() => {
      looking = null;
    });
  };
  const timer = setInterval(ask, POLL_SECONDS * 1000);
  const listener = listen(pool, (heard) => (heard === kbs ? ask() : undefined), onError);
  return {
    close: async () => {
      closed = true;
      clearInterval(timer);
      await listener.close();
      await looking;
    },
  };
}

/** A session of its own that listens; opened again, after the poll's second, where it broke. What was missed meanwhile the poll finds. */
function listen(pool: pg.Pool, onNotice: (payload: string) => void, onError: (thrown: unknown) => void): { close: () => Promise<void> } {
  let closed = false;
  let session: pg.PoolClient | null = null;
  let retry: NodeJS.Timeout | null = null;
  let opening: Promise<void> = Promise.resolve();
  const lose = (client: pg.PoolClient, thrown: Error): void => {
    if (session !== client) return;
    session = null;
    client.release(true);
    if (closed) return;
    onError(thrown);
    retry = setTimeout(start, POLL_SECONDS * 1000);
  };
  const open = async (): Promise<void> => {
    const client = await pool.connect();
    session = client;
    client.on('notification', ({ payload }) => onNotice(payload ?? ''));
    client.on('error', (thrown) => lose(client, thrown));
    client.on('end', () => lose(client, new Error('the listening session ended')));
    await client.query(`listen ${DENY_CHANNEL}`).catch((thrown: Error) => lose(client, thrown));
    if (closed) lose(client, new Error('closed'));
  };
  const start = (): void => {
    opening = open().catch((thrown: unknown) => {
      if (closed) return;
      onError(thrown);
      retry = setTimeout(start, POLL_SECONDS * 1000);
    });
  };
  start();
  return {
    close: async () => {
      closed = true;
      if (retry !== null) clearTimeout(retry);
      await opening;
      if (session !== null) lose(session, new Error('closed'));
    },
  };
}
