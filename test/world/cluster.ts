import { gunzipSync } from 'node:zlib';
import type { Json } from '#src/domain/json.ts';
import { type PatchOperation, patchOf, readPointer } from '#src/domain/pointer.ts';
import { Fault } from '#src/errors.ts';
import type { Instant } from '#src/instant.ts';
import type { Change, Clock, Cluster, Pod, TargetRef, WorkloadObject } from '#src/world.ts';
import type { TestBroker } from './broker.ts';
import { done, type Network, refused } from './hazards.ts';
import type { TestWeights } from './weights.ts';

/** Longer than any test's clock is moved on between two ticks. */
const STORY_SECONDS = 86_400 * 365;

/** How a Deployment of the test world starts out: three replicas whose template names no key. */
export interface DeploymentOptions {
  readonly name?: string;
  readonly replicas?: number;
  readonly maxUnavailable?: number | string;
  readonly maxSurge?: number | string;
  readonly paused?: boolean;
  /** The image of a second container. */
  readonly sidecar?: string;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
/** A pod, and what its guest was started with. */
export type TestPod = Mutable<Pod> & { readonly template: Json; readonly deployment: string };

interface Deployment {
  object: Json;
  resourceVersion: number;
  generation: number;
  managers: WorkloadObject['managers'];
}

/** The cluster of the test world, and what people and the platform do in it. */
export interface TestCluster extends Cluster {
  /** A test sets them when it likes. */
  windows: Cluster['windows'];
  readonly add: (options?: DeploymentOptions) => void;
  /** The Deployment controller and the kubelets do one thing: replace at most one pod of each Deployment, start what is down. */
  readonly tick: () => Promise<void>;
  readonly all: () => readonly TestPod[];
  /** A human writes a field of an object, past everybody. */
  readonly edit: (name: string, fields: Readonly<Record<string, string | number>>) => void;
  readonly managedBy: (name: string, managers: WorkloadObject['managers']) => void;
  /** Its containers start again: a new boot, which has to attest and fetch anew. */
  readonly restart: (pod: TestPod) => Promise<void>;
  /** A pod that the controller does not know of. The returned function takes it away again. */
  readonly inject: (pod: TestPod) => () => void;
  /** What `kubectl rollout undo` brings back: the template that the object had before its last change. */
  readonly undo: (name: string) => void;
  /** Somebody deletes an object, and its pods with it. */
  readonly remove: (name: string) => void;
  /** Its API answers nobody; what runs in it goes on. */
  silent: boolean;
}

interface Parts {
  readonly network: Network;
  readonly clock: Clock;
  /** Guests find theirs by the address in their init-data. */
  readonly brokers: readonly TestBroker[];
  readonly weights: TestWeights;
  readonly name: string;
  /** The first two numbers of its pods' addresses. */
  readonly network16: string;
}

/** One cluster with a Deployment controller that surges by none, and guests that are ready only once they opened the weights. */
export function openTestCluster(parts: Parts): TestCluster {
  const { network, clock, name: own } = parts;
  const deployments = new Map<string, Deployment>();
  const histories = new Map<string, Json[]>();
  const pods: TestPod[] = [];
  const strays: TestPod[] = [];
  const counter = { pods: 0, boots: 0 };
  const deploymentOf = ({ kind, name }: Pick<TargetRef, 'kind' | 'name'>): Deployment | null => {
    if (cluster.silent) throw new Fault('Unreachable', `${own}: no answer`);
    return kind === 'Deployment' ? (deployments.get(name) ?? null) : null;
  };
  const write = (name: string, operations: readonly PatchOperation[]): void => {
    const deployment = deployments.get(name);
    if (deployment === undefined) return;
    const before = templateOf(deployment.object);
    deployment.object = applied(deployment.object, operations);
    deployment.resourceVersion += 1;
    if (same(before, templateOf(deployment.object))) return;
    deployment.generation += 1;
    histories.get(name)?.push(before);
  };
  const boot = async (pod: TestPod): Promise<void> => {
    counter.boots += 1;
    pod.containerId = `c-${counter.boots}`;
    pod.startedAt = await clock();
    pod.ready = await starts(parts, pod);
    pod.phase = 'Running';
  };
  const cluster: TestCluster = {
    name: own,
    silent: false,
    clockBoundSeconds: 1,
    windows: [],
    all: () => pods,
    add: (options = {}) => {
      const name = options.name ?? 'chat';
      deployments.set(name, { object: deploymentObject(name, options), resourceVersion: 1, generation: 1, managers: [] });
      histories.set(name, []);
    },
    remove: (name) => {
      deployments.delete(name);
      for (const gone of pods.filter((pod) => pod.deployment === name)) pods.splice(pods.indexOf(gone), 1);
    },
    managedBy: (name, managers) => {
      const deployment = deployments.get(name);
      if (deployment !== undefined) deployment.managers = managers;
    },
    edit: (name, fields) => write(name, operationsOf(deployments.get(name)?.object ?? null, fields)),
    undo: (name) => {
      const before = histories.get(name)?.at(-1);
      if (before !== undefined) write(name, [{ op: 'replace', path: '/spec/template', value: before }]);
    },
    restart: boot,
    inject: (pod) => {
      strays.push(pod);
      return () => void strays.splice(strays.indexOf(pod), 1);
    },
    object: async (target) => {
      const deployment = deploymentOf(target);
      return deployment === null ? null : viewOf(deployment);
    },
    patch: async (target, change, mine) => {
      const read = deploymentOf(target);
      if (read === null) throw new Fault('NotFound', `deployment ${target.name}`);
      const { resourceVersion } = read;
      const operations = operationsOf(read.object, fieldsOf(change));
      if (!(await mine())) return;
      const answer = { conflict: false };
      const effect = () => {
        answer.conflict = read.resourceVersion !== resourceVersion;
        if (answer.conflict) return refused(409, 'Conflict');
        write(target.name, operations);
        return done();
      };
      const what = change.templateAnnotations['keyturn.dev/rotation'] ?? target.name;
      await network.send({ system: own, verb: 'patch', what, effect, answered: async () => {}, landsUntil: () => null });
      if (answer.conflict) throw new Fault('Conflict', `patch of ${target.name}`);
    },
    rehearse: async (target, change) => {
      const read = deploymentOf(target);
      if (read === null) throw new Fault('NotFound', `deployment ${target.name}`);
      return viewOf({ ...read, object: applied(read.object, operationsOf(read.object, fieldsOf(change))) });
    },
    evict: async (target, { name, uid }, mine) => {
      deploymentOf(target);
      if (!(await mine())) return;
      const effect = () => {
        const pod = [...pods, ...strays].find((one) => one.uid === uid);
        if (pod === undefined) return refused(404, 'NotFound');
        pod.terminating = true;
        return done();
      };
      await network.send({ system: own, verb: 'evict', what: name, effect, answered: async () => {}, landsUntil: () => null });
    },
    pods: async (target) => {
      deploymentOf(target);
      return [...pods, ...strays].filter((pod) => pod.deployment === target.name).map((pod) => ({ ...pod }));
    },
    tick: async () => {
      for (const [name, { object }] of deployments) {
        for (const gone of pods.filter((pod) => pod.deployment === name && pod.terminating)) pods.splice(pods.indexOf(gone), 1);
        const wanted = replicasOf(object);
        const running = pods.filter((pod) => pod.deployment === name);
        const old = running.find((pod) => !same(pod.template, templateOf(object)));
        // In the world's terms a pod that has to be ready for longer than any story takes is never available.
        const isHeld = Number(readPointer(object, '/spec/minReadySeconds') ?? 0) > STORY_SECONDS;
        const allUp = running.length === wanted && running.every((pod) => !same(pod.template, templateOf(object)) || (pod.ready && !isHeld));
        if (old !== undefined && allUp) old.terminating = true;
        for (let missing = wanted - running.length; missing > 0; missing -= 1) {
          counter.pods += 1;
          pods.push(newPod(parts, name, counter.pods, templateOf(object)));
        }
        for (const pod of running.filter((one) => !one.ready && !one.terminating)) await boot(pod);
      }
    },
  };
  return cluster;
}

/** What the guest in a pod does at its start: attest, fetch the key that its template names, open the weights with it. */
async function starts({ brokers, weights }: Parts, pod: TestPod): Promise<boolean> {
  const environment = (name: string) => textAt(pod.template, `/spec/containers/name=chat/env/name=${name}/value`);
  const annotation = textAt(pod.template, '/metadata/annotations/io.katacontainers.config.hypervisor.cc_init_data');
  const path = environment('KEY_URI').replace('kbs:///', '');
  if (path === '' || annotation === '' || pod.address === null) return false;
  const svn = textAt(pod.template, '/spec/runtimeClassName').replace('kata-lab-', '');
  const initData = gunzipSync(Buffer.from(annotation, 'base64')).toString();
  const url = /^url = "([^"]+)"/m.exec(initData)?.[1];
  const broker = brokers.find(({ publicUrl }) => publicUrl === url) ?? brokers[0];
  if (broker === undefined) return false;
  const key = await broker.fetch(path, { tee: 'sample', svn, initData }, pod.address);
  return key !== null && weights.opens(environment('ARTIFACT'), key);
}

function newPod({ name, network16 }: Parts, deployment: string, number: number, template: Json): TestPod {
  const annotations = readPointer(template, '/metadata/annotations') as Record<string, string>;
  return {
    uid: `uid-${name}-${number}`,
    name: `${deployment}-${number}`,
    deployment,
    template,
    phase: 'Pending',
    terminating: false,
    ready: false,
    hostNetwork: false,
    address: `${network16}.${Math.floor(number / 250)}.${(number % 250) + 1}`,
    annotations,
    containerId: null,
    startedAt: null as Instant | null,
    images: [textAt(template, '/spec/containers/name=chat/image')],
  };
}

function deploymentObject(name: string, options: DeploymentOptions): Json {
  const container = {
    name: 'chat',
    image: 'registry.test/empty',
    env: ['KEY_URI', 'ARTIFACT'].map((variable) => ({ name: variable, value: '' })),
  };
  const { maxSurge = 0, maxUnavailable = 1, replicas = 3 } = options;
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: 'inference', annotations: {} },
    spec: {
      replicas,
      progressDeadlineSeconds: 600,
      ...(options.paused === true ? { paused: true } : {}),
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge, maxUnavailable } },
      template: {
        metadata: { annotations: {} },
        spec: {
          runtimeClassName: 'kata-lab-0',
          containers: [container, ...(options.sidecar === undefined ? [] : [{ name: 'sidecar', image: options.sidecar }])],
        },
      },
    },
  };
}

function fieldsOf(change: Change): Readonly<Record<string, string | number>> {
  const pointers = (base: string, annotations: Readonly<Record<string, string>>) =>
    Object.entries(annotations).map(([key, value]) => [`${base}/${key.replaceAll('/', '~1')}`, value]);
  return {
    ...change.fields,
    ...change.numbers,
    ...Object.fromEntries(pointers('/spec/template/metadata/annotations', change.templateAnnotations)),
    ...Object.fromEntries(pointers('/metadata/annotations', change.annotations)),
  };
}

function operationsOf(object: Json, fields: Readonly<Record<string, string | number>>): readonly PatchOperation[] {
  const patch = patchOf(object, fields);
  if (patch.kind === 'bad') throw new Fault('PreflightFailed', `${patch.pointer}: ${patch.what}`);
  return patch.operations;
}

/** RFC 6902 for the operations that `patchOf` writes. */
function applied(object: Json, operations: readonly PatchOperation[]): Json {
  const copy = structuredClone(object) as Json;
  for (const { op, path, value } of operations) {
    if (op === 'test') continue;
    const segments = path
      .split('/')
      .slice(1)
      .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = segments.pop() ?? '';
    const parent = segments.reduce<Record<string, unknown>>((node, segment) => node[segment] as Record<string, unknown>, copy as Record<string, unknown>);
    parent[last] = value;
  }
  return copy;
}

function viewOf({ object, resourceVersion, generation, managers }: Deployment): WorkloadObject {
  const annotations = readPointer(object, '/metadata/annotations') as Record<string, string>;
  return { uid: 'uid-object', resourceVersion: String(resourceVersion), generation, annotations, object, managers, replicas: replicasOf(object) };
}

function templateOf(object: Json): Json {
  return readPointer(object, '/spec/template') ?? null;
}

function replicasOf(object: Json): number {
  return Number(readPointer(object, '/spec/replicas') ?? 0);
}

function textAt(object: Json, pointer: string): string {
  const value = readPointer(object, pointer);
  return typeof value === 'string' ? value : '';
}

function same(one: Json, other: Json): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
