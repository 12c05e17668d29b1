/** The lab's one node: it takes every pod, gives it an address, and runs its guest. Pods start, crash, restart and stop as a kubelet was recorded to report it. */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { bootGuest, type GuestOptions, INIT_DATA_ANNOTATION } from './guest.ts';
import { type Ground, recordEvent } from './kubernetes-ground.ts';
import { type ApiObject, at, type JsonMap, listAt, mapAt, textAt, textsAt, withMetadata } from './kubernetes-json.ts';
import { PODS } from './kubernetes-kinds.ts';
import { type ContainerState, podStatus } from './kubernetes-pod-status.ts';

/** The node's name. */
const NODE = 'lab-node';

/** Of one pod's log. */
const LOG_LINES_MAX = 1000;

/** A crashed container starts again after this long, doubled each time. A kubelet begins with 10 s; a lab has less time. Seconds. */
const CRASH_PAUSE_SECONDS = 1;
const CRASH_PAUSE_MAX_SECONDS = 30;

/** How the node works. */
export interface KubeletOptions extends GuestOptions {
  /** From a pod's creation to its containers' start. */
  readonly startSeconds: number;
  /** From a pod's deletion to its containers' end. */
  readonly stopSeconds: number;
  readonly onLog: (pod: string, line: string) => void;
}

/** The node, running. */
export interface Kubelet {
  readonly logOf: (namespace: string, name: string) => readonly string[] | null;
  /** Stops every container of a pod and starts them again, as after a crash. false: there is no such pod. */
  readonly restart: (namespace: string, name: string) => boolean;
  /** Stops all pods' guests at once and waits for them. */
  readonly close: () => Promise<void>;
}

/** A pod on the node. */
interface Running {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly stop: AbortController;
  /** Of the present run of its containers. */
  crash: AbortController;
  readonly log: string[];
  address: string | null;
  containers: readonly ContainerState[];
}

/** Starts the node. */
export function openKubelet(ground: Ground, options: KubeletOptions): Kubelet {
  const pods = new Map<string, Running>();
  const works = new Set<Promise<void>>();
  const nextAddress = addresses();
  const node: Node = { ground, options, down: false };

  const quiet = ground.store.listen(({ resource, object }) => {
    if (resource !== PODS.resource) return;
    const pod = pods.get(object.metadata.uid);
    const deleted = at(object, 'metadata', 'deletionTimestamp') !== undefined;
    if (pod !== undefined && deleted) pod.stop.abort();
    if (pod !== undefined || deleted) return;
    const running: Running = {
      uid: object.metadata.uid,
      namespace: object.metadata.namespace ?? '',
      name: object.metadata.name,
      stop: new AbortController(),
      crash: new AbortController(),
      log: [],
      address: null,
      containers: containersOf(object),
    };
    pods.set(running.uid, running);
    const work = live(node, running, nextAddress).finally(() => {
      pods.delete(running.uid);
      works.delete(work);
    });
    works.add(work);
  });

  const find = (namespace: string, name: string): Running | undefined => [...pods.values()].find((pod) => pod.namespace === namespace && pod.name === name);
  return {
    logOf: (namespace, name) => find(namespace, name)?.log ?? null,
    restart: (namespace, name) => {
      const pod = find(namespace, name);
      pod?.crash.abort(new Error('killed'));
      return pod !== undefined;
    },
    close: async () => {
      quiet();
      node.down = true;
      for (const pod of pods.values()) pod.stop.abort();
      await Promise.all(works);
    },
  };
}

interface Node {
  readonly ground: Ground;
  readonly options: KubeletOptions;
  /** A node that goes down leaves its pods as they are. */
  down: boolean;
}

/** From a pod's appearance to its end. */
async function live(node: Node, pod: Running, nextAddress: () => string): Promise<void> {
  const { ground, options } = node;
  const { signal } = pod.stop;
  // Not within the change that announced the pod: the server has not answered yet.
  await pause(0);
  const created = present(node, pod);
  if (created !== null && !signal.aborted) {
    ground.store.put(PODS.resource, { ...created, spec: { ...mapAt(created, 'spec'), nodeName: NODE } });
    recordEvent(ground, created, 'Normal', 'Scheduled', `Successfully assigned ${pod.namespace}/${pod.name} to ${NODE}`, 'default-scheduler');
    report(node, pod);
    await pause(options.startSeconds * 1000, undefined, { signal }).catch(() => undefined);
    if (!signal.aborted) {
      pod.address = nextAddress();
      await run(node, pod);
    }
  }
  await untilAborted(signal);
  if (!node.down) await end(node, pod);
}

/** Runs the containers until the pod is stopped: again after each crash, later each time. */
async function run(node: Node, pod: Running): Promise<void> {
  for (let crashes = 0; !pod.stop.signal.aborted; crashes += 1) {
    pod.crash = new AbortController();
    const signal = AbortSignal.any([pod.stop.signal, pod.crash.signal]);
    start(node, pod);
    try {
      await serve(node, pod, signal);
    } catch (error) {
      if (pod.stop.signal.aborted) return;
      say(node, pod, error instanceof Error ? error.message : 'unknown');
      crash(node, pod);
      await pause(Math.min(CRASH_PAUSE_MAX_SECONDS, CRASH_PAUSE_SECONDS * 2 ** Math.min(crashes, 10)) * 1000, undefined, { signal: pod.stop.signal }).catch(
        () => undefined,
      );
    }
  }
}

/** Lets the guest come up, then stands until `signal`. Throws what ends it. */
async function serve(node: Node, pod: Running, signal: AbortSignal): Promise<void> {
  const object = present(node, pod);
  const opener = pod.containers.find(({ opens }) => opens);
  if (object === null) return untilAborted(signal);
  if (opener === undefined) {
    say(node, pod, 'the template names no key: nothing to serve');
    return untilAborted(signal).then(() => signal.throwIfAborted());
  }
  const variables = listAt(containerNamed(object, opener.name), 'env');
  const environment = (name: string): string =>
    textAt(
      variables.find((entry) => textAt(entry, 'name') === name),
      'value',
    );
  const order = {
    runtimeClass: textAt(object, 'spec', 'runtimeClassName'),
    initData: textsAt(object, 'metadata', 'annotations')[INIT_DATA_ANNOTATION] ?? '',
    keyUri: environment('KEY_URI'),
    artifact: environment('ARTIFACT'),
    images: pod.containers.map(({ image }) => image),
    address: pod.address ?? '',
  };
  await bootGuest(order, node.options, (line) => say(node, pod, line), signal);
  signal.throwIfAborted();
  const at = node.ground.now();
  pod.containers = pod.containers.map((container) => {
    if (container.init) return container.phase === 'running' ? { ...container, phase: 'done', finishedAt: at } : container;
    return { ...container, ...(container.phase === 'waiting' ? { phase: 'running', id: containerId(), startedAt: at } : {}), ready: true };
  });
  report(node, pod);
  await untilAborted(signal);
  signal.throwIfAborted();
}

/** Every container starts, or those up to the init container that opens the weights. */
function start(node: Node, pod: Running): void {
  const at = node.ground.now();
  const opener = pod.containers.findIndex(({ opens }) => opens);
  const blocking = opener >= 0 && pod.containers[opener]?.init === true ? opener : pod.containers.length;
  pod.containers = pod.containers.map((container, index) => {
    if (index > blocking) return { ...container, phase: 'waiting', ready: false };
    const started = { ...container, id: containerId(), startedAt: at };
    if (container.init && index < blocking) return { ...started, phase: 'done', finishedAt: at };
    return { ...started, phase: 'running', ready: opener >= 0 && !container.opens && !container.init };
  });
  report(node, pod);
}

/** What ran has failed; its next start is a restart. */
function crash(node: Node, pod: Running): void {
  const at = node.ground.now();
  pod.containers = pod.containers.map((container) => {
    if (container.phase !== 'running') return container;
    return { ...container, phase: 'crashed', ready: false, finishedAt: at, restarts: container.restarts + 1 };
  });
  report(node, pod);
}

async function end(node: Node, pod: Running): Promise<void> {
  const { ground, options } = node;
  await pause(options.stopSeconds * 1000);
  const at = ground.now();
  pod.containers = pod.containers.map((container) => ({
    ...container,
    ready: false,
    ...(container.phase === 'running' ? { phase: 'done', finishedAt: at } : {}),
  }));
  report(node, pod, true);
  const last = present(node, pod);
  if (last !== null) ground.store.remove(PODS.resource, withMetadata(last, { deletionTimestamp: at, deletionGracePeriodSeconds: 0 }));
}

function report(node: Node, pod: Running, ended = false): void {
  const { store, now } = node.ground;
  const object = present(node, pod);
  if (object === null || node.down) return;
  store.put(PODS.resource, { ...object, status: podStatus(object, pod.containers, pod.address, ended, now()) });
}

/** The pod's object, where it is still this pod. */
function present({ ground }: Node, pod: Running): ApiObject | null {
  const object = ground.store.get(PODS.resource, pod.namespace, pod.name);
  return object?.metadata.uid === pod.uid ? object : null;
}

function say({ options }: Node, pod: Running, line: string): void {
  if (pod.log.length < LOG_LINES_MAX) pod.log.push(line);
  options.onLog(`${pod.namespace}/${pod.name}`, line);
}

function containersOf(object: ApiObject): readonly ContainerState[] {
  const of = (list: string, init: boolean): readonly ContainerState[] =>
    listAt(object, 'spec', list).map((container) => ({
      name: textAt(container, 'name'),
      image: textAt(container, 'image'),
      init,
      opens: listAt(container, 'env').some((entry) => textAt(entry, 'name') === 'KEY_URI' && textAt(entry, 'value') !== ''),
      phase: 'waiting',
      id: '',
      startedAt: '',
      finishedAt: '',
      ready: false,
      restarts: 0,
    }));
  return [...of('initContainers', true), ...of('containers', false)];
}

function containerNamed(object: ApiObject, name: string): JsonMap {
  const all = [...listAt(object, 'spec', 'initContainers'), ...listAt(object, 'spec', 'containers')];
  return mapAt(all.find((container) => textAt(container, 'name') === name));
}

function containerId(): string {
  return `containerd://${randomBytes(32).toString('hex')}`;
}

/** 127.64.0.1 onwards; none twice. */
function addresses(): () => string {
  let count = 0;
  return () => {
    count += 1;
    const [high, low] = [Math.floor(count / 254), (count % 254) + 1];
    if (high > 255) throw new Error('a lab has addresses for 65,000 pods');
    return `127.64.${high}.${low}`;
  };
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((done) => signal.addEventListener('abort', () => done(), { once: true }));
}
