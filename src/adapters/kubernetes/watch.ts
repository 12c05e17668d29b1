/**
 * Supervised watches: a hint to look, never the answer. Facts that shaped them: a healthy quiet
 * watch is silent for a minute (bookmarks); a server may end one at any moment; an old version is
 * answered by an ERROR frame with code 410 inside a 200; a watch that fails at once, again and
 * again, has a version that the server cannot serve, and must drop it.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import { Fault } from '#src/errors.ts';
import { faultOf } from './faults.ts';
import { jsonOf, pageOf } from './objects.ts';
import type { Wire } from './wire.ts';

/** The server ends a watch after this long; a random share of it more spreads the watches. Seconds. */
const WATCH_SECONDS = 240;
const WATCH_SPREAD_SECONDS = 60;

/** However well a watch goes, it starts from a new list after this long. Seconds. */
const RELIST_AFTER_SECONDS = 600;

/** Waits between attempts after a failure double between these. Seconds. */
const PAUSE_MIN_SECONDS = 0.2;
const PAUSE_MAX_SECONDS = 30;

/** So many failures in a row, each within a second, and the version is dropped. */
const FAST_FAILURES_MAX = 3;

/** Changes within this time make one hint: a roll-out changes each pod five times within a second. Seconds. */
const HINT_SECONDS = 0.1;

/** More namespaces than this are not watched; they are looked at when the engine's own clock says so. */
const NAMESPACES_MAX = 256;

/** Versions and names are all that a hint needs: objects come without specs and init-data. */
const METADATA_ONLY = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json';
const METADATA_LIST_ONLY = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json';

const frameSchema = z.object({
  type: z.enum(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK', 'ERROR']),
  object: z.object({
    metadata: z.object({ resourceVersion: z.string().max(128).optional() }).default({}),
    code: z.number().optional(),
    reason: z.string().optional(),
  }),
});

/** A watch that was opened. */
export interface Watching {
  /** Ends it; resolves when nothing of it is left. */
  readonly close: () => Promise<void>;
}

/** The watches of one cluster. */
export interface Watches {
  /** From now on this namespace is watched too. */
  readonly include: (namespace: string) => void;
  readonly open: (onChange: () => void) => Watching;
  readonly close: () => Promise<void>;
}

/** Nothing is watched before `open`. */
export function openWatches(name: string, wire: Wire): Watches {
  const namespaces = new Set<string>();
  const open = new Set<{ readonly include: (namespace: string) => void } & Watching>();
  return {
    include: (namespace) => {
      if (namespaces.has(namespace) || namespaces.size >= NAMESPACES_MAX) return;
      namespaces.add(namespace);
      for (const watching of open) watching.include(namespace);
    },
    open: (onChange) => {
      const watching = watchAll(name, wire, onChange);
      for (const namespace of namespaces) watching.include(namespace);
      open.add(watching);
      return {
        close: async () => {
          open.delete(watching);
          await watching.close();
        },
      };
    },
    close: async () => {
      await Promise.all([...open].map((watching) => watching.close()));
      open.clear();
    },
  };
}

function watchAll(name: string, wire: Wire, onChange: () => void): { readonly include: (namespace: string) => void } & Watching {
  const stop = new AbortController();
  const loops: Promise<void>[] = [];
  let timer: NodeJS.Timeout | null = null;
  const hint = (): void => {
    if (stop.signal.aborted) return;
    timer ??= setTimeout(() => {
      timer = null;
      onChange();
    }, HINT_SECONDS * 1000);
  };
  return {
    include: (namespace) => {
      const place = `namespaces/${encodeURIComponent(namespace)}`;
      for (const path of [`/apis/apps/v1/${place}/deployments`, `/api/v1/${place}/pods`]) loops.push(watchPath(name, wire, path, hint, stop.signal));
    },
    close: async () => {
      stop.abort();
      if (timer !== null) clearTimeout(timer);
      await Promise.all(loops);
    },
  };
}

/** One collection, for as long as the signal lets it. */
async function watchPath(name: string, wire: Wire, path: string, hint: () => void, signal: AbortSignal): Promise<void> {
  let version: string | null = null;
  let listedAt = 0;
  let failures = 0;
  while (!signal.aborted) {
    const startedAt = performance.now();
    try {
      if (version === null || startedAt - listedAt > RELIST_AFTER_SECONDS * 1000) {
        version = await list(name, wire, path);
        listedAt = startedAt;
        // Whatever happened since the last watch ended is in this list.
        hint();
      }
      version = await watchOnce(name, wire, path, version, signal, hint);
      // A stream that ends is normal; one that ends at once is not waited for less than a failure.
      failures = performance.now() - startedAt < 1000 ? failures + 1 : 0;
    } catch (error) {
      failures += 1;
      if (error instanceof Fault && error.reason === 'Conflict') version = null;
      if (failures >= FAST_FAILURES_MAX && performance.now() - startedAt < 1000) version = null;
    }
    if (failures > 0) await pauseAfter(failures, signal);
  }
}

/** The collection's version now. Throws Fault. */
async function list(name: string, wire: Wire, path: string): Promise<string> {
  const what = `kubernetes ${name} LIST ${path}`;
  const session = await wire.session();
  const reply = await session.send({ method: 'GET', path, query: { limit: '1' }, accept: METADATA_LIST_ONLY });
  if (reply.status !== 200) throw faultOf(reply, what);
  return pageOf(jsonOf(reply.text, what), what).resourceVersion;
}

/** Watches until the stream ends; returns the version that it came to. Throws Fault, with reason Conflict where the version is too old. */
async function watchOnce(name: string, wire: Wire, path: string, from: string, signal: AbortSignal, hint: () => void): Promise<string> {
  const what = `kubernetes ${name} WATCH ${path}`;
  let version = from;
  const session = await wire.session();
  const timeoutSeconds = String(WATCH_SECONDS + Math.floor(Math.random() * WATCH_SPREAD_SECONDS));
  const query = { watch: 'true', resourceVersion: from, allowWatchBookmarks: 'true', timeoutSeconds };
  const reply = await session.lines({ method: 'GET', path, query, accept: METADATA_ONLY }, signal, (text) => {
    const frame = frameSchema.safeParse(jsonOf(text, what));
    if (!frame.success) throw new Fault('UnexpectedAnswer', `${what}: a frame that is none`);
    const { type, object } = frame.data;
    if (type === 'ERROR') throw new Fault(object.code === 410 ? 'Conflict' : 'ServerError', `${what}: ${object.code ?? 0} ${object.reason ?? ''}`);
    version = object.metadata.resourceVersion ?? version;
    if (type !== 'BOOKMARK') hint();
  });
  if (reply.status !== 200) throw faultOf(reply, what);
  return version;
}

async function pauseAfter(failures: number, signal: AbortSignal): Promise<void> {
  const seconds = Math.min(PAUSE_MAX_SECONDS, PAUSE_MIN_SECONDS * 2 ** Math.min(failures - 1, 10));
  await pause(seconds * 1000 * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
}
