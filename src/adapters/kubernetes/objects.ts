/** What the API gives, checked where we rely on it and turned into the port's words. */
import { z } from 'zod';
import type { Json } from '#src/domain/json.ts';
import { Fault } from '#src/errors.ts';
import { type Instant, instantOf } from '#src/instant.ts';
import type { Pod, WorkloadObject } from '#src/world.ts';

/** What is shown to people and kept in rows: Kubernetes' own names have no control characters, and PostgreSQL takes no U+0000. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what is refused
const plain = z.string().refine((text) => text.isWellFormed() && !/[\u0000-\u001f\u007f]/.test(text), 'expected text without control characters');
const annotations = z.record(z.string(), z.string()).default({});
const json = z.json();

const workloadSchema = z.object({
  metadata: z.object({
    uid: plain.min(1).max(128),
    resourceVersion: z.string().min(1).max(128),
    generation: z.int().min(0),
    annotations,
    managedFields: z.array(z.object({ manager: plain.default(''), operation: z.string(), fieldsV1: json.default({}) })).default([]),
  }),
  spec: z.object({
    // The API server fills it in; 1 is its own default.
    replicas: z.int().min(0).default(1),
    selector: z.object({
      matchLabels: z.record(z.string(), z.string()).default({}),
      matchExpressions: z.array(z.object({ key: z.string(), operator: z.string(), values: z.array(z.string()).default([]) })).default([]),
    }),
  }),
});

const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/;
const EARLIEST = Date.parse('2000-01-01T00:00:00Z');
const LATEST = Date.parse('2100-01-01T00:00:00Z');
/** No container started before Kubernetes was made; and neither Date nor PostgreSQL takes every year that a listing may claim. */
const instant = z.string().transform((text, context): Instant => {
  const milliseconds = RFC_3339.test(text) ? Date.parse(text) : Number.NaN;
  if (milliseconds >= EARLIEST && milliseconds < LATEST) return instantOf(milliseconds);
  context.addIssue('expected RFC 3339, in this century');
  return z.NEVER;
});
const started = z.object({ startedAt: instant.nullable().default(null), containerID: plain.max(300).default('') });
const state = z.object({ running: started.optional(), terminated: started.optional() }).default({});
const containerStatus = z.object({ containerID: plain.max(300).default(''), restartCount: z.int().min(0).default(0), state, lastState: state });
const container = z.object({ image: plain.default('') });

const podSchema = z.object({
  metadata: z.object({ name: plain.min(1).max(253), uid: plain.min(1).max(128), deletionTimestamp: z.string().optional(), annotations }),
  spec: z.object({
    hostNetwork: z.boolean().default(false),
    containers: z.array(container),
    initContainers: z.array(container).default([]),
    ephemeralContainers: z.array(container).default([]),
  }),
  status: z
    .object({
      phase: z.string().max(60).default('Unknown'),
      podIP: plain.max(60).optional(),
      conditions: z.array(z.object({ type: z.string(), status: z.string() })).default([]),
      initContainerStatuses: z.array(containerStatus).default([]),
      containerStatuses: z.array(containerStatus).default([]),
    })
    .default({ phase: 'Unknown', conditions: [], initContainerStatuses: [], containerStatuses: [] }),
});

const pageSchema = z.object({
  metadata: z.object({ resourceVersion: z.string().max(128).default(''), continue: z.string().default('') }),
  items: z.array(json),
});

type ContainerStatus = z.infer<typeof containerStatus>;
type PodObject = z.infer<typeof podSchema>;

/** Parses text from the API. Throws Fault('UnexpectedAnswer') for what is not JSON. */
export function jsonOf(text: string, what: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch (error) {
    throw new Fault('UnexpectedAnswer', `${what}: the answer is not JSON`, { cause: error });
  }
}

/** An object with a pod template, and the label selector of its pods in the API's syntax. Throws Fault('UnexpectedAnswer'). */
export function workloadOf(object: Json, what: string): { readonly workload: WorkloadObject; readonly selector: string } {
  const { metadata, spec } = checked(workloadSchema, object, what);
  const selector = [
    ...Object.entries(spec.selector.matchLabels).map(([key, value]) => `${key}=${value}`),
    ...spec.selector.matchExpressions.map((term) => expression(term, what)),
  ];
  // It would match every pod of the namespace, other people's too.
  if (selector.length === 0) throw new Fault('UnexpectedAnswer', `${what}: the object has an empty selector`);
  const workload: WorkloadObject = {
    uid: metadata.uid,
    resourceVersion: metadata.resourceVersion,
    generation: metadata.generation,
    annotations: metadata.annotations,
    object,
    managers: metadata.managedFields.map(({ manager, operation, fieldsV1 }) => ({ manager, operation, fields: fieldsV1 })),
    replicas: spec.replicas,
  };
  return { workload, selector: selector.join(',') };
}

/** A page of a list. Throws Fault('UnexpectedAnswer'). */
export function pageOf(object: Json, what: string): { readonly resourceVersion: string; readonly next: string | null; readonly items: readonly Json[] } {
  const { metadata, items } = checked(pageSchema, object, what);
  return { resourceVersion: metadata.resourceVersion, next: metadata.continue === '' ? null : metadata.continue, items };
}

/** A pod as the port shows it. Throws Fault('UnexpectedAnswer'). */
export function podOf(object: Json, what: string): Pod {
  const { metadata, spec, status } = checked(podSchema, object, what);
  return {
    uid: metadata.uid,
    name: metadata.name,
    phase: status.phase,
    terminating: metadata.deletionTimestamp !== undefined,
    ready: status.conditions.some((condition) => condition.type === 'Ready' && condition.status === 'True'),
    hostNetwork: spec.hostNetwork,
    address: status.podIP === undefined || status.podIP === '' ? null : status.podIP,
    annotations: metadata.annotations,
    ...bootOf(status),
    images: [...spec.initContainers, ...spec.containers, ...spec.ephemeralContainers].map(({ image }) => image),
  };
}

/** Container times have whole seconds: of those that started in the same one, the later in the pod's order started last. */
function bootOf(status: PodObject['status']): Pick<Pod, 'containerId' | 'startedAt'> {
  const starts = [...status.initContainerStatuses, ...status.containerStatuses].flatMap((container) => startOf(container) ?? []);
  const last = starts.reduce<Start | null>((latest, start) => (latest === null || start.at >= latest.at ? start : latest), null);
  const restarts = starts.filter((start) => start.restarted).map(({ at }) => at);
  const instants = (restarts.length > 0 ? restarts : starts.map(({ at }) => at)).toSorted();
  return { containerId: last?.id ?? null, startedAt: (restarts.length > 0 ? instants.at(-1) : instants[0]) ?? null };
}

interface Start {
  readonly id: string;
  readonly at: Instant;
  readonly restarted: boolean;
}

/** The latest start of one container; null where it never started. A waiting one that ran before still names its last run. */
function startOf({ containerID, restartCount, state, lastState }: ContainerStatus): Start | null {
  const run = state.running ?? state.terminated ?? lastState.running ?? lastState.terminated;
  const id = containerID === '' ? (run?.containerID ?? '') : containerID;
  if (run === undefined || run.startedAt === null || id === '') return null;
  return { id, at: run.startedAt, restarted: restartCount > 0 };
}

function expression({ key, operator, values }: { readonly key: string; readonly operator: string; readonly values: readonly string[] }, what: string): string {
  switch (operator) {
    case 'In':
      return `${key} in (${values.join(',')})`;
    case 'NotIn':
      return `${key} notin (${values.join(',')})`;
    case 'Exists':
      return key;
    case 'DoesNotExist':
      return `!${key}`;
    default:
      throw new Fault('UnexpectedAnswer', `${what}: the selector has an unknown operator`);
  }
}

function checked<S extends z.ZodType>(schema: S, object: Json, what: string): z.infer<S> {
  const result = schema.safeParse(object);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new Fault('UnexpectedAnswer', `${what}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unexpected'}`);
}
