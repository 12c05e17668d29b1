import type { Json } from '#src/domain/json.ts';
import { type PatchOperation, patchOf, readPointer } from '#src/domain/pointer.ts';
import { Fault } from '#src/errors.ts';
import type { Change, Cluster, Mine, Pod, TargetRef, WorkloadObject } from '#src/world.ts';
import type { KubernetesConfig } from './config.ts';
import { faultOf, type Reply, saysMissing, saysNotApplicable } from './faults.ts';
import { jsonOf, pageOf, podOf, workloadOf } from './objects.ts';
import { openWatches, type Watching } from './watch.ts';
import { openWire, type Session } from './wire.ts';

/** Pods asked for at once: with the largest annotations that the API takes, a page stays below the body limit. */
const PAGE_PODS = 200;

/** More pods than this in one workload is not a workload that rolls one at a time. */
const PODS_MAX = 10_000;

/** How often a listing is started anew whose snapshot the server dropped between pages. */
const LISTINGS_MAX = 3;

/** Under which name our fields appear in `metadata.managedFields`. */
const FIELD_MANAGER = 'keyturn';

/** A cluster, and a hint when something in it changes. */
export interface Kubernetes extends Cluster {
  /**
   * Calls `onChange` soon after a Deployment or pod changes in a namespace that was asked about, and
   * after every gap in which something could have been missed. Only a hint to look: what it saw is
   * not told, and a hint may be lost.
   */
  readonly watch: (onChange: () => void) => Watching;
  /** Ends all watches and connections. */
  readonly close: () => Promise<void>;
}

/** Opens a cluster. Nothing is sent before the first call. Every function throws Fault and nothing else. */
export function openKubernetes(name: string, config: KubernetesConfig): Kubernetes {
  const wire = openWire(name, config);
  const watches = openWatches(name, wire);

  /** The session to ask `target` with, and the object in it: credentials are made before anything is read. */
  async function read(target: TargetRef): Promise<{ readonly session: Session; readonly found: Found | null }> {
    const path = pathOf(target);
    const session = await wire.session();
    watches.include(target.namespace);
    return { session, found: await get(session, name, target, path) };
  }

  async function send(session: Session, target: TargetRef, found: Found, operations: readonly PatchOperation[], dryRun: boolean): Promise<Reply> {
    const query = { fieldManager: FIELD_MANAGER, fieldValidation: 'Strict', ...(dryRun ? { dryRun: 'All' } : {}) };
    const body = { type: 'application/json-patch+json', text: JSON.stringify(operations) };
    const reply = await session.send({ method: 'PATCH', path: pathOf(target), query, body });
    // The API says of a patch that does not fit only that. Where the object moved under it, it is a conflict.
    if (!saysNotApplicable(reply)) return reply;
    const now = await get(session, name, target, pathOf(target));
    return now?.workload.resourceVersion === found.workload.resourceVersion ? reply : { status: 409, text: '' };
  }

  return {
    name,
    clockBoundSeconds: config.clockBoundSeconds,
    windows: config.windows,
    object: async (target) => (await read(target)).found?.workload ?? null,
    patch: async (target, change, mine: Mine) => {
      const { session, found } = await read(target);
      if (found === null) throw missing(name, target);
      const operations = operationsOf(found.workload, change, whatOf(name, 'PATCH', target));
      if (!(await mine())) return;
      const reply = await send(session, target, found, operations, false);
      if (reply.status !== 200) throw faultOf(reply, whatOf(name, 'PATCH', target));
    },
    rehearse: async (target, change) => {
      const { session, found } = await read(target);
      if (found === null) throw missing(name, target);
      const what = whatOf(name, 'PATCH (dry run)', target);
      const reply = await send(session, target, found, operationsOf(found.workload, change, what), true);
      if (reply.status === 200) return workloadOf(jsonOf(reply.text, what), what).workload;
      const fault = faultOf(reply, what);
      throw fault.reason === 'InvalidRequest' || fault.reason === 'LimitExceeded' ? new Fault('PreflightFailed', fault.message) : fault;
    },
    evict: async (target, pod, mine) => evict(await wire.session(), target, pod, whatOf(name, 'EVICT a pod of', target), mine),
    pods: async (target) => {
      const { session, found } = await read(target);
      // Without the object there is no selector: an empty answer would say that nobody runs.
      if (found === null) throw missing(name, target);
      return listPods(session, target.namespace, found.selector, whatOf(name, 'LIST pods of', target));
    },
    watch: (onChange) => watches.open(onChange),
    close: async () => {
      await watches.close();
      await wire.close();
    },
  };
}

/** One POST, with the pod's uid as its precondition. */
async function evict(session: Session, target: TargetRef, { name, uid }: Pick<Pod, 'name' | 'uid'>, what: string, mine: Mine): Promise<void> {
  const path = `/api/v1/namespaces/${encodeURIComponent(target.namespace)}/pods/${encodeURIComponent(name)}/eviction`;
  const metadata = { name, namespace: target.namespace };
  const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata, deleteOptions: { preconditions: { uid } } };
  if (!(await mine())) return;
  const reply = await session.send({ method: 'POST', path, query: {}, body: { type: 'application/json', text: JSON.stringify(eviction) } });
  // Gone, or another pod of that name: the one that was meant is not there any more.
  if (saysMissing(reply, name) || reply.status === 409) return;
  // 429: a disruption budget forbids it now; it is asked again at the next look.
  if (reply.status !== 200 && reply.status !== 201) throw faultOf(reply, `${what}: ${name}`);
}

interface Found {
  readonly workload: WorkloadObject;
  readonly selector: string;
}

async function get(session: Session, name: string, target: TargetRef, path: string): Promise<Found | null> {
  const what = whatOf(name, 'GET', target);
  const reply = await session.send({ method: 'GET', path, query: {} });
  if (saysMissing(reply, target.name)) return null;
  if (reply.status !== 200) throw faultOf(reply, what);
  return workloadOf(jsonOf(reply.text, what), what);
}

/** All pods of one snapshot. A listing whose snapshot is gone starts again: the server's offer to go on without it could leave a pod out. */
async function listPods(session: Session, namespace: string, labelSelector: string, what: string): Promise<readonly Pod[]> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
  for (let listing = 0; listing < LISTINGS_MAX; listing += 1) {
    const pods = await listOnce(session, path, labelSelector, what);
    if (pods !== null) return pods;
  }
  throw new Fault('Conflict', `${what}: the listing expired ${LISTINGS_MAX} times between its pages`);
}

/** null: the snapshot was dropped between two pages. */
async function listOnce(session: Session, path: string, labelSelector: string, what: string): Promise<readonly Pod[] | null> {
  const pods: Pod[] = [];
  let next: string | null = '';
  while (next !== null) {
    const reply: Reply = await session.send({
      method: 'GET',
      path,
      query: { labelSelector, limit: String(PAGE_PODS), ...(next === '' ? {} : { continue: next }) },
    });
    if (reply.status === 410 && next !== '') return null;
    if (reply.status !== 200) throw faultOf(reply, what);
    const page = pageOf(jsonOf(reply.text, what), what);
    // A page that is empty and not the last would be asked for without end.
    if (page.items.length === 0 && page.next !== null) throw new Fault('UnexpectedAnswer', `${what}: an empty page that is not the last`);
    for (const item of page.items) pods.push(podOf(item, what));
    if (pods.length > PODS_MAX) throw new Fault('LimitExceeded', `${what}: more than ${PODS_MAX} pods`);
    next = page.next;
  }
  return pods;
}

/**
 * The JSON patch (RFC 6902). Its first operation writes the `resourceVersion` that was read: the
 * API compares a version that comes with an update, whatever kind of patch brings it, and answers
 * 409 where the object moved. A `test` of it would answer 422 like any other broken patch.
 */
function operationsOf(workload: WorkloadObject, change: Change, what: string): readonly PatchOperation[] {
  const maps = ['/metadata/annotations', '/spec/template/metadata/annotations'];
  const absent = maps.filter((pointer) => readPointer(workload.object, pointer) === undefined);
  const object = absent.reduce((json, pointer) => withEmptyMap(json, pointer.slice(1).split('/')), workload.object);
  const fields = {
    ...change.fields,
    ...change.numbers,
    ...under('/metadata/annotations', change.annotations),
    ...under('/spec/template/metadata/annotations', change.templateAnnotations),
  };
  const patch = patchOf(object, fields);
  if (patch.kind === 'bad') throw new Fault('PreflightFailed', `${what}: ${patch.pointer}: ${patch.what}`);
  return [
    { op: 'replace', path: '/metadata/resourceVersion', value: workload.resourceVersion },
    ...absent
      .map((path): PatchOperation => ({ op: 'add', path, value: {} }))
      .filter(({ path }) => patch.operations.some((operation) => operation.path.startsWith(`${path}/`))),
    ...patch.operations,
  ];
}

function under(pointer: string, annotations: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(annotations).map(([key, value]) => [`${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`, value]));
}

/** The same object with an empty map at this path, whose parents may be missing too: a template without metadata has none. */
function withEmptyMap(json: Json, [first, ...rest]: readonly string[]): Json {
  const map = typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as { readonly [key: string]: Json }) : {};
  if (first === undefined) return {};
  return { ...map, [first]: withEmptyMap(map[first] ?? {}, rest) };
}

function pathOf(target: TargetRef): string {
  if (target.kind !== 'Deployment' || target.apiVersion !== 'apps/v1') {
    throw new Fault('NotSupportedYet', `kubernetes ${target.cluster}: ${target.apiVersion} ${target.kind}; this version moves apps/v1 Deployment`);
  }
  return `/apis/apps/v1/namespaces/${encodeURIComponent(target.namespace)}/deployments/${encodeURIComponent(target.name)}`;
}

function whatOf(name: string, verb: string, target: TargetRef): string {
  return `kubernetes ${name} ${verb} ${target.namespace}/deployments/${target.name}`;
}

function missing(name: string, target: TargetRef): Fault {
  return new Fault('NotFound', `${whatOf(name, 'GET', target)}: there is no such object`);
}
