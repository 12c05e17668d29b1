/** The lab's etcd and watch cache: objects by resource, one counter of versions, a bounded history for watches. In memory. */
import type { ApiObject } from './kubernetes-json.ts';
import { withMetadata } from './kubernetes-json.ts';

/** A change of one object. */
export interface Change {
  readonly version: number;
  /** `apps/deployments`, `pods` … */
  readonly resource: string;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: ApiObject;
  /** Before the change; null where it was added. */
  readonly previous: ApiObject | null;
}

/** What a server keeps. */
export interface Store {
  /** The version of the last change. */
  readonly version: () => number;
  /** The oldest version that a watch may still start from. */
  readonly oldest: () => number;
  readonly get: (resource: string, namespace: string, name: string) => ApiObject | null;
  /** By namespace, then by name; '' for all namespaces. */
  readonly list: (resource: string, namespace: string) => readonly ApiObject[];
  /** Stores an object under its next version and gives it back with it. */
  readonly put: (resource: string, object: ApiObject) => ApiObject;
  readonly remove: (resource: string, object: ApiObject) => ApiObject;
  /** Changes after this version, oldest first. */
  readonly since: (version: number) => readonly Change[];
  /** Hears every change, in order, at once. Returns how to stop. */
  readonly listen: (listener: (change: Change) => void) => () => void;
  /** Forgets all history: watches and pages from before are answered with 410. */
  readonly compact: () => void;
}

/** A real server keeps about as many in its watch cache. */
const HISTORY_MAX = 10_000;

/** A lab that makes more is out of hand. */
const OBJECTS_MAX = 20_000;

/** Where the counter starts: a real cluster's first object of ours is never its first. */
const FIRST_VERSION = 100;

/** Opens an empty store. */
export function openStore(): Store {
  const objects = new Map<string, Map<string, ApiObject>>();
  const listeners = new Set<(change: Change) => void>();
  let history: Change[] = [];
  let version = FIRST_VERSION;
  let oldest = FIRST_VERSION;
  let count = 0;

  const of = (resource: string): Map<string, ApiObject> => collection(objects, resource);
  const tell = (change: Change): void => {
    history.push(change);
    if (history.length > HISTORY_MAX) {
      const kept = history.slice(-HISTORY_MAX / 2);
      oldest = (kept[0]?.version ?? version) - 1;
      history = kept;
    }
    for (const listener of [...listeners]) listener(change);
  };

  return {
    version: () => version,
    oldest: () => oldest,
    get: (resource, namespace, name) => of(resource).get(`${namespace}/${name}`) ?? null,
    list: (resource, namespace) =>
      [...of(resource).values()]
        .filter((object) => namespace === '' || object.metadata.namespace === namespace)
        .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)),
    put: (resource, object) => {
      const key = keyOf(object);
      const previous = of(resource).get(key) ?? null;
      if (previous === null && count >= OBJECTS_MAX) throw new Error(`the lab keeps at most ${OBJECTS_MAX} objects`);
      version += 1;
      count += previous === null ? 1 : 0;
      const stored = withMetadata(object, { resourceVersion: String(version) });
      of(resource).set(key, stored);
      tell({ version, resource, type: previous === null ? 'ADDED' : 'MODIFIED', object: stored, previous });
      return stored;
    },
    remove: (resource, object) => {
      version += 1;
      count -= 1;
      of(resource).delete(keyOf(object));
      const last = withMetadata(object, { resourceVersion: String(version) });
      tell({ version, resource, type: 'DELETED', object: last, previous: object });
      return last;
    },
    since: (from) => history.filter((change) => change.version > from),
    listen: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    compact: () => {
      history = [];
      oldest = version;
    },
  };
}

function collection(objects: Map<string, Map<string, ApiObject>>, resource: string): Map<string, ApiObject> {
  const present = objects.get(resource) ?? new Map<string, ApiObject>();
  objects.set(resource, present);
  return present;
}

function keyOf({ metadata }: ApiObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}
