/** What the lab's controllers share: how they write, what they read off pods, and the events they leave. */
import { type ApiObject, at, type JsonMap, listAt, numberAt, textAt } from './kubernetes-json.ts';
import { EVENTS, PODS } from './kubernetes-kinds.ts';
import type { Store } from './kubernetes-store.ts';
import { controllerOf, type Verbs, type WriteOptions } from './kubernetes-verbs.ts';

/** What the controllers work with. */
export interface Ground {
  readonly store: Store;
  readonly verbs: Verbs;
  readonly now: () => string;
}

/** How the controllers write. */
export const AS_CONTROLLER: WriteOptions = { dryRun: false, fieldValidation: 'Ignore', manager: 'kube-controller-manager', force: false };

/** Records an event about an object, as the real controllers word it. */
export function recordEvent(
  { store, verbs, now }: Ground,
  about: ApiObject,
  type: 'Normal' | 'Warning',
  reason: string,
  message: string,
  component: string,
): void {
  const namespace = about.metadata.namespace ?? 'default';
  const repeated = store
    .list(EVENTS.resource, namespace)
    .findLast((event) => textAt(event, 'involvedObject', 'uid') === about.metadata.uid && event.reason === reason && event.message === message);
  if (repeated !== undefined) return void store.put(EVENTS.resource, { ...repeated, count: numberAt(repeated, 'count') + 1, lastTimestamp: now() });
  const body = {
    metadata: { generateName: `${about.metadata.name}.` },
    involvedObject: {
      kind: about.kind,
      namespace,
      name: about.metadata.name,
      uid: about.metadata.uid,
      apiVersion: about.apiVersion,
      resourceVersion: about.metadata.resourceVersion,
    },
    reason,
    message,
    source: { component },
    firstTimestamp: now(),
    lastTimestamp: now(),
    count: 1,
    type,
    eventTime: null,
    reportingComponent: component,
    reportingInstance: '',
  };
  verbs.create({ kind: EVENTS, namespace, name: '', subresource: '' }, body, AS_CONTROLLER);
}

/** The pods of a ReplicaSet, in any phase. */
export function podsOf(store: Store, owner: ApiObject): readonly ApiObject[] {
  return store.list(PODS.resource, owner.metadata.namespace ?? '').filter((pod) => controllerOf(pod)?.uid === owner.metadata.uid);
}

/** Neither ended nor about to. */
export function isActive(pod: ApiObject): boolean {
  return at(pod, 'metadata', 'deletionTimestamp') === undefined && !['Succeeded', 'Failed'].includes(textAt(pod, 'status', 'phase'));
}

/** Whether the pod's Ready condition is True. */
export function isReady(pod: ApiObject): boolean {
  return listAt(pod, 'status', 'conditions').some((condition) => textAt(condition, 'type') === 'Ready' && textAt(condition, 'status') === 'True');
}

/** Whether the pod has been ready for as long as its owner asks: what counts as serving while a Deployment rolls. */
export function isAvailable(pod: ApiObject, minReadySeconds: number, now: string): boolean {
  const ready = listAt(pod, 'status', 'conditions').find((condition) => textAt(condition, 'type') === 'Ready' && textAt(condition, 'status') === 'True');
  if (ready === undefined || minReadySeconds === 0) return ready !== undefined;
  return Date.parse(textAt(ready, 'lastTransitionTime')) + minReadySeconds * 1000 <= Date.parse(now);
}

/** The reference of what an owner made to it. */
export function ownerOf(owner: ApiObject): JsonMap {
  return { apiVersion: owner.apiVersion, kind: owner.kind, name: owner.metadata.name, uid: owner.metadata.uid, controller: true, blockOwnerDeletion: true };
}
