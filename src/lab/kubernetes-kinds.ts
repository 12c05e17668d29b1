/** The kinds that the lab serves: where they are, and which fields they have. */
import { isList, isMap, type Json, type JsonMap } from './kubernetes-json.ts';
import type { Named } from './kubernetes-status.ts';

/** A kind of object that the lab serves. */
export interface Kind extends Named {
  readonly apiVersion: string;
  readonly namespaced: boolean;
  /** The key under which the store keeps it. */
  readonly resource: string;
  /** A change of spec counts `metadata.generation` up. */
  readonly counted: boolean;
  /** `status` is written apart from the rest. */
  readonly withStatus: boolean;
}

function kind(group: string, version: string, name: string, plural: string, traits: { readonly cluster?: true; readonly counted?: true } = {}): Kind {
  return {
    group,
    kind: name,
    plural,
    apiVersion: group === '' ? version : `${group}/${version}`,
    namespaced: traits.cluster === undefined,
    resource: group === '' ? plural : `${group}/${plural}`,
    counted: traits.counted === true,
    withStatus: traits.counted === true,
  };
}

/** The kinds that the lab's own controllers work on. */
export const DEPLOYMENTS = kind('apps', 'v1', 'Deployment', 'deployments', { counted: true });
/** What a Deployment makes of each of its templates. */
export const REPLICA_SETS = kind('apps', 'v1', 'ReplicaSet', 'replicasets', { counted: true });
/** What runs. */
export const PODS = kind('', 'v1', 'Pod', 'pods', { counted: true });
/** What controllers and the node tell people. */
export const EVENTS = kind('', 'v1', 'Event', 'events');
/** Which guests the node can run. */
export const RUNTIME_CLASSES = kind('node.k8s.io', 'v1', 'RuntimeClass', 'runtimeclasses', { cluster: true });
/** Where objects live. */
export const NAMESPACES = kind('', 'v1', 'Namespace', 'namespaces', { cluster: true });

/** Every kind that the lab serves. */
export const KINDS: readonly Kind[] = [
  DEPLOYMENTS,
  REPLICA_SETS,
  PODS,
  EVENTS,
  RUNTIME_CLASSES,
  NAMESPACES,
  kind('', 'v1', 'ConfigMap', 'configmaps'),
  kind('', 'v1', 'ServiceAccount', 'serviceaccounts'),
];

/** A field's shape: a leaf's type in Go's words, a list of one shape, or members. */
type Shape = 'string' | 'int32' | 'bool' | 'map[string]string' | 'any' | readonly [Shape] | { readonly [member: string]: Shape };

function members(shape: Shape, names: string): { readonly [member: string]: Shape } {
  return Object.fromEntries(names.split(' ').map((name) => [name, shape]));
}

const METADATA: Shape = {
  ...members('string', 'name generateName namespace selfLink uid resourceVersion creationTimestamp deletionTimestamp'),
  ...members('map[string]string', 'labels annotations'),
  ...members('any', 'ownerReferences finalizers managedFields'),
  ...members('int32', 'generation deletionGracePeriodSeconds'),
};
const CONTAINER: Shape = {
  ...members('string', 'name image workingDir terminationMessagePath terminationMessagePolicy imagePullPolicy restartPolicy'),
  env: [{ name: 'string', value: 'string', valueFrom: 'any' }],
  ...members(
    'any',
    'command args ports envFrom resources resizePolicy restartPolicyRules volumeMounts volumeDevices livenessProbe readinessProbe startupProbe lifecycle',
  ),
  ...members('any', 'securityContext'),
  ...members('bool', 'stdin stdinOnce tty'),
};
const POD_SPEC: Shape = {
  containers: [CONTAINER],
  initContainers: [CONTAINER],
  ephemeralContainers: 'any',
  ...members(
    'string',
    'restartPolicy dnsPolicy serviceAccountName serviceAccount nodeName hostname subdomain schedulerName priorityClassName runtimeClassName preemptionPolicy hostnameOverride',
  ),
  ...members('bool', 'automountServiceAccountToken hostNetwork hostPID hostIPC shareProcessNamespace enableServiceLinks setHostnameAsFQDN hostUsers'),
  ...members('int32', 'terminationGracePeriodSeconds activeDeadlineSeconds priority'),
  ...members('any', 'volumes securityContext imagePullSecrets affinity tolerations hostAliases dnsConfig readinessGates overhead topologySpreadConstraints os'),
  ...members('any', 'schedulingGates resourceClaims resources schedulingGroup workloadRef'),
  nodeSelector: 'map[string]string',
};
const TEMPLATE: Shape = { metadata: METADATA, spec: POD_SPEC };
const SELECTOR: Shape = { matchLabels: 'map[string]string', matchExpressions: 'any' };
const OBJECT = { kind: 'string', apiVersion: 'string', metadata: METADATA } as const;

const SHAPES: Readonly<Record<string, Shape>> = {
  Deployment: {
    ...OBJECT,
    status: 'any',
    spec: {
      ...members('int32', 'replicas minReadySeconds revisionHistoryLimit progressDeadlineSeconds'),
      selector: SELECTOR,
      template: TEMPLATE,
      strategy: { type: 'string', rollingUpdate: { maxUnavailable: 'any', maxSurge: 'any' } },
      paused: 'bool',
    },
  },
  ReplicaSet: { ...OBJECT, status: 'any', spec: { ...members('int32', 'replicas minReadySeconds'), selector: SELECTOR, template: TEMPLATE } },
  Pod: { ...OBJECT, status: 'any', spec: POD_SPEC },
  ConfigMap: { ...OBJECT, data: 'map[string]string', binaryData: 'map[string]string', immutable: 'bool' },
};

/** What strict decoding says of an object: unknown fields in the order they stand, or the first wrong type. null: nothing. */
export function strictProblem(object: JsonMap, kindName: string): { readonly unknown: readonly string[]; readonly mistyped: string | null } {
  const unknown: string[] = [];
  const shape = SHAPES[kindName];
  const mistyped = shape === undefined ? null : walk(object, shape, '', unknown);
  return { unknown: unknown.map((path) => `unknown field "${path}"`), mistyped };
}

/** Returns the first wrong type in Go's words. */
function walk(value: Json | undefined, shape: Shape, path: string, unknown: string[]): string | null {
  if (value === undefined || value === null || shape === 'any') return null;
  if (typeof shape === 'string') {
    if (shape !== 'map[string]string') return leafFits(value, shape) ? null : mismatch(value, path, shape);
    if (!isMap(value)) return mismatch(value, path, shape);
    const wrong = Object.values(value).find((text) => typeof text !== 'string');
    return wrong === undefined ? null : mismatch(wrong, path, 'string');
  }
  if (isShapeList(shape)) {
    if (!isList(value)) return mismatch(value, path, '[]');
    return first(value, (element, index) => walk(element, shape[0], `${path}[${index}]`, unknown));
  }
  if (!isMap(value)) return mismatch(value, path, 'object');
  return first(Object.entries(value), ([name, inner]) => {
    const here = path === '' ? name : `${path}.${name}`;
    const innerShape = shape[name];
    if (innerShape !== undefined) return walk(inner, innerShape, here, unknown);
    unknown.push(here);
    return null;
  });
}

/** The object without the fields that its kind does not have: outside strict validation the server drops them. */
export function pruned(object: JsonMap, kindName: string): JsonMap {
  const shape = SHAPES[kindName];
  return shape === undefined ? object : (cut(object, shape) as JsonMap);
}

function cut(value: Json, shape: Shape): Json {
  if (typeof shape === 'string') return value;
  if (isShapeList(shape)) return isList(value) ? value.map((element) => cut(element, shape[0])) : value;
  if (!isMap(value)) return value;
  const known = Object.entries(value).flatMap(([name, inner]): [string, Json][] => {
    const innerShape = shape[name];
    return innerShape === undefined ? [] : [[name, cut(inner, innerShape)]];
  });
  return Object.fromEntries(known);
}

function first<T>(items: readonly T[], look: (item: T, index: number) => string | null): string | null {
  for (const [index, item] of items.entries()) {
    const found = look(item, index);
    if (found !== null) return found;
  }
  return null;
}

function isShapeList(shape: Shape): shape is readonly [Shape] {
  return Array.isArray(shape);
}

function leafFits(value: Json, shape: string): boolean {
  if (shape === 'string') return typeof value === 'string';
  return shape === 'bool' ? typeof value === 'boolean' : Number.isInteger(value);
}

function mismatch(value: Json, path: string, type: string): string {
  const found = isList(value) ? 'array' : typeof value === 'boolean' ? 'bool' : typeof value;
  return `json: cannot unmarshal ${found} into Go struct field .${path} of type ${type}`;
}
