/** The watches that are open at the lab's API server. */
import type { ApiObject, JsonMap } from './kubernetes-json.ts';
import type { Selector } from './kubernetes-select.ts';
import { expired } from './kubernetes-status.ts';
import type { Change, Store } from './kubernetes-store.ts';

/** A real server sends one about once a minute, and one shortly before the end that was asked for. Seconds. */
const BOOKMARK_SECONDS = 60;
const LAST_BOOKMARK_SECONDS = 2;

/** Where none is asked for. Seconds; the real server draws between 1800 and 3600. */
const TIMEOUT_SECONDS = 1800;

/** Nobody needs more against one lab. */
const WATCHES_MAX = 512;

/** What a watch shows. */
export interface WatchOrder {
  readonly resource: string;
  readonly namespace: string;
  /** Changes after this version; 0: what is there now first. */
  readonly from: number;
  readonly selected: Selector;
  readonly bookmarks: boolean;
  /** 0: the server's own. */
  readonly timeoutSeconds: number;
  readonly bookmark: (resourceVersion: string) => JsonMap;
}

/** All watches of one server. */
export interface Watchers {
  /** Begins a watch; returns how to end it from the client's side. */
  readonly open: (order: WatchOrder, frame: (type: string, object: JsonMap | ApiObject) => void, end: () => void) => () => void;
  /** Ends all, as a server does that goes down. */
  readonly end: () => void;
}

/** Watches over this store. */
export function openWatchers(store: Store): Watchers {
  const open = new Set<() => void>();
  return {
    open: (order, frame, end) => {
      if (open.size >= WATCHES_MAX) {
        end();
        return () => undefined;
      }
      const stop = begin(store, order, frame, () => {
        open.delete(stop);
        end();
      });
      open.add(stop);
      return () => {
        open.delete(stop);
        stop();
      };
    },
    end: () => {
      for (const stop of [...open]) stop();
      open.clear();
    },
  };
}

function begin(store: Store, order: WatchOrder, frame: (type: string, object: JsonMap | ApiObject) => void, ended: () => void): () => void {
  const timers: NodeJS.Timeout[] = [];
  let quiet: () => void = () => undefined;
  const stop = (): void => {
    quiet();
    for (const timer of timers) clearTimeout(timer);
    ended();
  };
  if (order.from !== 0 && order.from < store.oldest()) {
    frame('ERROR', expired(order.from, store.oldest()));
    // Not before the caller has its way to end it.
    timers.push(setTimeout(stop, 0));
    return stop;
  }
  if (order.from === 0) for (const object of store.list(order.resource, order.namespace)) if (order.selected(object)) frame('ADDED', object);
  if (order.from !== 0) for (const change of store.since(order.from)) show(order, change, frame);
  quiet = store.listen((change) => {
    if (change.version > order.from) show(order, change, frame);
  });
  const seconds = order.timeoutSeconds > 0 ? order.timeoutSeconds : TIMEOUT_SECONDS;
  timers.push(setTimeout(stop, seconds * 1000));
  if (order.bookmarks) {
    const bookmark = (): void => frame('BOOKMARK', order.bookmark(String(store.version())));
    timers.push(setInterval(bookmark, BOOKMARK_SECONDS * 1000));
    if (seconds > LAST_BOOKMARK_SECONDS) timers.push(setTimeout(bookmark, (seconds - LAST_BOOKMARK_SECONDS) * 1000));
  }
  return stop;
}

/** An object that begins to match appears as ADDED; one that no longer does as DELETED, as it last was, with the new version. */
function show({ resource, namespace, selected }: WatchOrder, change: Change, frame: (type: string, object: JsonMap | ApiObject) => void): void {
  const { object, previous } = change;
  if (change.resource !== resource || (namespace !== '' && object.metadata.namespace !== namespace)) return;
  const was = previous !== null && selected(previous);
  const is = change.type !== 'DELETED' && selected(object);
  if (is) frame(was ? 'MODIFIED' : 'ADDED', object);
  else if (was && previous !== null) {
    const shown = change.type === 'DELETED' ? object : { ...previous, metadata: { ...previous.metadata, resourceVersion: object.metadata.resourceVersion } };
    frame('DELETED', shown);
  }
}
