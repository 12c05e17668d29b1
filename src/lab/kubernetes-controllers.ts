/**
 * The lab's controllers: Deployment → ReplicaSet → Pod, as the real ones were recorded. Level-triggered: every pass looks at
 * everything and takes each object one step further; a pass is made after each change and once a second.
 */
import { createHash } from 'node:crypto';
import { AS_CONTROLLER, type Ground, isActive, isAvailable, ownerOf, podsOf, recordEvent } from './kubernetes-ground.ts';
import { type ApiObject, at, type JsonMap, mapAt, numberAt, same, textAt, textsAt, withMetadata } from './kubernetes-json.ts';
import { DEPLOYMENTS, type Kind, PODS, REPLICA_SETS } from './kubernetes-kinds.ts';
import { fillReplicaSet } from './kubernetes-replica-sets.ts';
import { rolloutStatus } from './kubernetes-rollout-status.ts';
import type { Store } from './kubernetes-store.ts';
import { controllerOf } from './kubernetes-verbs.ts';

/** Between passes that nothing asked for: deadlines, and pods that were refused. Seconds. */
const PASS_SECONDS = 1;

const REVISION = 'deployment.kubernetes.io/revision';
const HASH = 'pod-template-hash';

/** Starts the controllers. */
export function openControllers(ground: Ground): { readonly close: () => void } {
  let scheduled: NodeJS.Immediate | null = null;
  const pass = (): void => {
    scheduled = null;
    for (const deployment of ground.store.list(DEPLOYMENTS.resource, '')) rollDeployment(ground, deployment);
    for (const set of ground.store.list(REPLICA_SETS.resource, '')) fillReplicaSet(ground, set);
    collect(ground);
    for (const deployment of ground.store.list(DEPLOYMENTS.resource, '')) tellStatus(ground, deployment);
  };
  const soon = (): void => {
    scheduled ??= setImmediate(pass);
  };
  const quiet = ground.store.listen(soon);
  const timer = setInterval(soon, PASS_SECONDS * 1000);
  timer.unref();
  soon();
  return {
    close: () => {
      quiet();
      clearInterval(timer);
      if (scheduled !== null) clearImmediate(scheduled);
    },
  };
}

/** The ReplicaSets of a Deployment, oldest first. */
function setsOf(store: Store, deployment: ApiObject): readonly ApiObject[] {
  return store
    .list(REPLICA_SETS.resource, deployment.metadata.namespace ?? '')
    .filter((set) => controllerOf(set)?.uid === deployment.metadata.uid)
    .toSorted((a, b) => revisionOf(a) - revisionOf(b));
}

function revisionOf(object: ApiObject): number {
  return Number(textsAt(object, 'metadata', 'annotations')[REVISION] ?? 0);
}

/** A name for a template, made of its content. */
function templateHash(template: JsonMap): string {
  const digest = createHash('sha256').update(JSON.stringify(template)).digest();
  return [...digest.subarray(0, 9)].map((byte) => 'bcdfghjklmnpqrstvwxz2456789'[byte % 27]).join('');
}

/** The current template's ReplicaSet, and the others. */
function sorted(store: Store, deployment: ApiObject): { readonly current: ApiObject | null; readonly others: readonly ApiObject[] } {
  const template = mapAt(deployment, 'spec', 'template');
  const sets = setsOf(store, deployment);
  const current = sets.find((set) => same(withoutHash(mapAt(set, 'spec', 'template')), template)) ?? null;
  return { current, others: sets.filter((set) => set !== current) };
}

function withoutHash(template: JsonMap): JsonMap {
  const labels = Object.fromEntries(Object.entries(mapAt(template, 'metadata', 'labels')).filter(([name]) => name !== HASH));
  return { ...template, metadata: { ...mapAt(template, 'metadata'), labels } };
}

function rollDeployment(ground: Ground, deployment: ApiObject): void {
  const { store } = ground;
  if (at(deployment, 'spec', 'paused') === true) return;
  const { current, others } = sorted(store, deployment);
  const set = current ?? makeReplicaSet(ground, deployment, others);
  const newest = Math.max(0, ...others.map(revisionOf));
  const revision = String(revisionOf(set) > newest ? revisionOf(set) : newest + 1);
  if (textsAt(set, 'metadata', 'annotations')[REVISION] !== revision) annotate(store, REPLICA_SETS, set, revision);
  askPatience(store, set, numberAt(deployment, 'spec', 'minReadySeconds'));
  if (textsAt(deployment, 'metadata', 'annotations')[REVISION] !== revision) annotate(store, DEPLOYMENTS, deployment, revision);
  if (textAt(deployment, 'spec', 'strategy', 'type') === 'Recreate') recreate(ground, deployment, set.metadata.name);
  else roll(ground, deployment, set.metadata.name);
}

function annotate(store: Store, kind: Kind, object: ApiObject, revision: string): void {
  const present = store.get(kind.resource, object.metadata.namespace ?? '', object.metadata.name) ?? object;
  store.put(kind.resource, withMetadata(present, { annotations: { ...textsAt(present, 'metadata', 'annotations'), [REVISION]: revision } }));
}

/** The set of the current template takes over how long its pods have to be ready; the others keep what they had. */
function askPatience(store: Store, set: ApiObject, minReadySeconds: number): void {
  const present = store.get(REPLICA_SETS.resource, set.metadata.namespace ?? '', set.metadata.name) ?? set;
  if (numberAt(present, 'spec', 'minReadySeconds') === minReadySeconds) return;
  store.put(REPLICA_SETS.resource, { ...present, spec: { ...mapAt(present, 'spec'), minReadySeconds } });
}

function makeReplicaSet({ store, verbs }: Ground, deployment: ApiObject, others: readonly ApiObject[]): ApiObject {
  const template = mapAt(deployment, 'spec', 'template');
  const hash = templateHash(template);
  const labels = { ...textsAt(template, 'metadata', 'labels'), [HASH]: hash };
  const selector = mapAt(deployment, 'spec', 'selector');
  const name = `${deployment.metadata.name}-${hash}`;
  const namespace = deployment.metadata.namespace ?? '';
  const body = {
    metadata: {
      name,
      labels,
      annotations: { [REVISION]: String(Math.max(0, ...others.map(revisionOf)) + 1) },
      ownerReferences: [ownerOf(deployment)],
    },
    spec: {
      replicas: 0,
      selector: { ...selector, matchLabels: { ...textsAt(selector, 'matchLabels'), [HASH]: hash } },
      template: { ...template, metadata: { ...mapAt(template, 'metadata'), labels } },
    },
  };
  verbs.create({ kind: REPLICA_SETS, namespace, name: '', subresource: '' }, body, AS_CONTROLLER);
  const made = store.get(REPLICA_SETS.resource, namespace, name);
  if (made === null) throw new Error(`the ReplicaSet ${name} was not made`);
  return made;
}

/** As `resolveFenceposts` does: surge rounds up, unavailable down, and both zero make one unavailable. */
function fenceposts(deployment: ApiObject, replicas: number): { readonly surge: number; readonly unavailable: number } {
  const rolling = mapAt(deployment, 'spec', 'strategy', 'rollingUpdate');
  const resolved = (value: unknown, round: (n: number) => number): number =>
    typeof value === 'string' ? round((Number.parseInt(value, 10) * replicas) / 100) : Number(value ?? 0);
  const surge = resolved(rolling.maxSurge, Math.ceil);
  const unavailable = resolved(rolling.maxUnavailable, Math.floor);
  return surge === 0 && unavailable === 0 ? { surge, unavailable: 1 } : { surge, unavailable };
}

/** One pass of a rolling update: first the new set up as far as it may, then the old ones down as far as they may. */
function roll(ground: Ground, deployment: ApiObject, currentName: string): void {
  const { store } = ground;
  const replicas = numberAt(deployment, 'spec', 'replicas');
  const { surge, unavailable } = fenceposts(deployment, replicas);
  const sets = setsOf(store, deployment);
  const current = sets.find((set) => set.metadata.name === currentName);
  if (current === undefined) return;
  const others = sets.filter((set) => set !== current && numberAt(set, 'spec', 'replicas') > 0);
  const wanted = (set: ApiObject): number => numberAt(set, 'spec', 'replicas');
  const ready = (set: ApiObject): number =>
    podsOf(store, set).filter((pod) => isActive(pod) && isAvailable(pod, numberAt(set, 'spec', 'minReadySeconds'), ground.now())).length;
  const total = sets.reduce((sum, set) => sum + wanted(set), 0);
  // One change a pass, as the real one: what it brings about is looked at first.
  const up = Math.min(replicas + surge - total, replicas - wanted(current));
  if (up > 0 || wanted(current) > replicas) {
    scale(ground, deployment, current, wanted(current) > replicas ? replicas : wanted(current) + up);
    return;
  }
  // Pods of the new set that do not serve yet count against what may be missing.
  let spare = total - (replicas - unavailable) - (wanted(current) - Math.min(ready(current), wanted(current)));
  // Old pods that do not serve go first: nobody misses them.
  for (const set of others) {
    const down = Math.min(spare, wanted(set) - Math.min(ready(set), wanted(set)));
    if (down > 0) {
      scale(ground, deployment, set, wanted(set) - down);
      spare -= down;
    }
  }
  let available = sets.reduce((sum, set) => sum + ready(set), 0) - (replicas - unavailable);
  for (const set of others.map((each) => store.get(REPLICA_SETS.resource, each.metadata.namespace ?? '', each.metadata.name) ?? each)) {
    const down = Math.min(Math.max(0, available), wanted(set), Math.max(0, spare));
    if (down > 0) {
      scale(ground, deployment, set, wanted(set) - down);
      available -= down;
      spare -= down;
    }
  }
}

/** All old pods gone, whatever they did, then all new ones. */
function recreate(ground: Ground, deployment: ApiObject, currentName: string): void {
  const sets = setsOf(ground.store, deployment);
  for (const set of sets) if (set.metadata.name !== currentName && numberAt(set, 'spec', 'replicas') > 0) scale(ground, deployment, set, 0);
  const current = sets.find((set) => set.metadata.name === currentName);
  const left = sets.filter((set) => set !== current).some((set) => podsOf(ground.store, set).length > 0);
  const replicas = numberAt(deployment, 'spec', 'replicas');
  if (current !== undefined && !left && numberAt(current, 'spec', 'replicas') !== replicas) scale(ground, deployment, current, replicas);
}

function scale(ground: Ground, deployment: ApiObject, set: ApiObject, replicas: number): void {
  const before = numberAt(set, 'spec', 'replicas');
  if (before === replicas) return;
  const present = ground.store.get(REPLICA_SETS.resource, set.metadata.namespace ?? '', set.metadata.name) ?? set;
  const generation = numberAt(present, 'metadata', 'generation') + 1;
  ground.store.put(REPLICA_SETS.resource, withMetadata({ ...present, spec: { ...mapAt(present, 'spec'), replicas } }, { generation }));
  const text = `Scaled ${replicas > before ? 'up' : 'down'} replica set ${set.metadata.name} from ${before} to ${replicas}`;
  recordEvent(ground, deployment, 'Normal', 'ScalingReplicaSet', text, 'deployment-controller');
}

function tellStatus({ store, now }: Ground, seen: ApiObject): void {
  const deployment = store.get(DEPLOYMENTS.resource, seen.metadata.namespace ?? '', seen.metadata.name);
  if (deployment === null) return;
  const { current, others } = sorted(store, deployment);
  const { surge: _surge, unavailable } = fenceposts(deployment, numberAt(deployment, 'spec', 'replicas'));
  const status = rolloutStatus(deployment, current, others, unavailable, now());
  if (!same(mapAt(deployment, 'status'), status)) store.put(DEPLOYMENTS.resource, { ...deployment, status });
}

/** Whatever belonged to something that is gone. */
function collect({ store, verbs }: Ground): void {
  for (const [owners, kind] of [
    [DEPLOYMENTS, REPLICA_SETS],
    [REPLICA_SETS, PODS],
  ] as const) {
    for (const object of store.list(kind.resource, '')) {
      const owner = controllerOf(object);
      const namespace = object.metadata.namespace ?? '';
      if (owner === null || owner.kind !== owners.kind || store.get(owners.resource, namespace, owner.name)?.metadata.uid === owner.uid) continue;
      if (at(object, 'metadata', 'deletionTimestamp') === undefined)
        verbs.remove({ kind, namespace, name: object.metadata.name, subresource: '' }, {}, null, false);
    }
  }
}
