/** The ReplicaSet controller: as many pods as are wanted, made and deleted in the order that was recorded. */

import { AS_CONTROLLER, type Ground, isActive, isAvailable, isReady, ownerOf, podsOf, recordEvent } from './kubernetes-ground.ts';
import { type ApiObject, at, listAt, mapAt, numberAt, same, textAt } from './kubernetes-json.ts';
import { PODS, REPLICA_SETS } from './kubernetes-kinds.ts';
import { selectorOf } from './kubernetes-select.ts';
import { isRefusal } from './kubernetes-status.ts';

/** Makes the pods that are missing, deletes those that are too many (what does not serve first, then the youngest), and writes the status. */
export function fillReplicaSet(ground: Ground, seen: ApiObject): void {
  const { store, verbs } = ground;
  const set = store.get(REPLICA_SETS.resource, seen.metadata.namespace ?? '', seen.metadata.name) ?? seen;
  const matches = selectorOf(mapAt(set, 'spec', 'selector'));
  const active = podsOf(store, set).filter((pod) => isActive(pod) && matches(pod));
  const wanted = numberAt(set, 'spec', 'replicas');
  let failure: string | null = null;
  for (let missing = wanted - active.length; missing > 0 && failure === null; missing -= 1) failure = makePod(ground, set);
  const surplus = active.toSorted((a, b) => Number(isReady(a)) - Number(isReady(b)) || Number(b.metadata.resourceVersion) - Number(a.metadata.resourceVersion));
  for (const pod of surplus.slice(0, Math.max(0, active.length - wanted))) {
    verbs.remove({ kind: PODS, namespace: pod.metadata.namespace ?? '', name: pod.metadata.name, subresource: '' }, {}, null, false);
    recordEvent(ground, set, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`, 'replicaset-controller');
  }
  tellSetStatus(ground, set, failure);
}

/** null where it was made; what the server said otherwise. */
function makePod(ground: Ground, set: ApiObject): string | null {
  const template = mapAt(set, 'spec', 'template');
  const metadata = { ...mapAt(template, 'metadata'), generateName: `${set.metadata.name}-`, ownerReferences: [ownerOf(set)] };
  try {
    const { body } = ground.verbs.create(
      { kind: PODS, namespace: set.metadata.namespace ?? '', name: '', subresource: '' },
      { metadata, spec: mapAt(template, 'spec') },
      AS_CONTROLLER,
    );
    recordEvent(ground, set, 'Normal', 'SuccessfulCreate', `Created pod: ${textAt(body, 'metadata', 'name')}`, 'replicaset-controller');
    return null;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    recordEvent(ground, set, 'Warning', 'FailedCreate', `Error creating: ${error.message}`, 'replicaset-controller');
    return error.message;
  }
}

function tellSetStatus({ store, now }: Ground, set: ApiObject, failure: string | null): void {
  const pods = podsOf(store, set);
  const active = pods.filter(isActive);
  const ready = active.filter(isReady).length;
  const available = active.filter((pod) => isAvailable(pod, numberAt(set, 'spec', 'minReadySeconds'), now())).length;
  const before = listAt(set, 'status', 'conditions')[0];
  const condition = {
    type: 'ReplicaFailure',
    status: 'True',
    lastTransitionTime: textAt(before, 'lastTransitionTime') || now(),
    reason: 'FailedCreate',
    message: textAt(before, 'message') || failure,
  };
  const status = {
    replicas: active.length,
    ...(active.length > 0 ? { fullyLabeledReplicas: active.length } : {}),
    ...(ready > 0 ? { readyReplicas: ready } : {}),
    ...(available > 0 ? { availableReplicas: available } : {}),
    terminatingReplicas: pods.filter((pod) => at(pod, 'metadata', 'deletionTimestamp') !== undefined).length,
    observedGeneration: numberAt(set, 'metadata', 'generation'),
    ...(failure !== null ? { conditions: [condition] } : {}),
  };
  const present = store.get(REPLICA_SETS.resource, set.metadata.namespace ?? '', set.metadata.name);
  if (present !== null && !same(mapAt(present, 'status'), status)) store.put(REPLICA_SETS.resource, { ...present, status });
}
