/** A pod's status, in the order and words of a kubelet. */
import { type ApiObject, type JsonMap, listAt, mapAt, numberAt, textAt } from './kubernetes-json.ts';

/** A container, as the node knows it. */
export interface ContainerState {
  readonly name: string;
  readonly image: string;
  readonly init: boolean;
  /** It is the one that fetches the key and opens the weights. */
  readonly opens: boolean;
  readonly phase: 'waiting' | 'running' | 'done' | 'crashed';
  /** '' before the first start, like the instants. */
  readonly id: string;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly ready: boolean;
  readonly restarts: number;
}

/** The status of a pod on the node. `address` null: it has not started. */
export function podStatus(pod: ApiObject, containers: readonly ContainerState[], address: string | null, ended: boolean, now: string): JsonMap {
  const main = containers.filter(({ init }) => !init);
  const init = containers.filter((container) => container.init);
  const unready = main.filter(({ ready }) => !ready).map(({ name }) => name);
  const initialized = init.every(({ phase }) => phase === 'done');
  const containersReady = !ended && unready.length === 0 && main.length > 0;
  const gate = gateProblem(pod);
  const because = ended ? { reason: 'PodCompleted' } : { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` };
  const conditions = [
    condition(pod, 'PodReadyToStartContainers', address !== null && !ended, {}, now),
    condition(pod, 'Initialized', initialized, ended ? { reason: 'PodCompleted' } : initialized ? {} : { reason: 'ContainersNotInitialized' }, now),
    condition(pod, 'Ready', containersReady && gate === null, containersReady ? (gate ?? {}) : because, now),
    condition(pod, 'ContainersReady', containersReady, containersReady ? {} : because, now),
    condition(pod, 'PodScheduled', true, {}, now),
  ];
  const known = new Set(conditions.map(({ type }) => type));
  const others = listAt(pod, 'status', 'conditions').filter((each) => !known.has(textAt(each, 'type')));
  const statuses = (list: readonly ContainerState[]): readonly JsonMap[] =>
    list.map((container) => containerStatus(container, address !== null && !initialized));
  return {
    observedGeneration: numberAt(pod, 'metadata', 'generation'),
    phase: ended ? 'Succeeded' : address !== null && initialized ? 'Running' : 'Pending',
    conditions: [...others, ...conditions],
    hostIP: '127.0.0.1',
    hostIPs: [{ ip: '127.0.0.1' }],
    ...(address === null ? {} : { podIP: address, podIPs: [{ ip: address }] }),
    startTime: textAt(pod, 'status', 'startTime') || now,
    ...(init.length > 0 ? { initContainerStatuses: statuses(init) } : {}),
    containerStatuses: statuses(main),
    qosClass: 'BestEffort',
  };
}

function containerStatus(container: ContainerState, initializing: boolean): JsonMap {
  const { name, image, id, phase, ready, restarts, startedAt, finishedAt } = container;
  const terminated = { exitCode: phase === 'crashed' ? 1 : 0, reason: phase === 'crashed' ? 'Error' : 'Completed', startedAt, finishedAt, containerID: id };
  const state: Readonly<Record<ContainerState['phase'], JsonMap>> = {
    waiting: { waiting: { reason: initializing ? 'PodInitializing' : 'ContainerCreating' } },
    running: { running: { startedAt } },
    done: { terminated },
    crashed: { waiting: { reason: 'CrashLoopBackOff', message: `back-off restarting failed container=${name}` } },
  };
  return {
    name,
    state: state[phase],
    lastState: phase === 'crashed' ? { terminated } : {},
    ready: ready || (container.init && phase === 'done'),
    restartCount: restarts,
    image,
    imageID: id === '' ? '' : image,
    ...(id === '' ? {} : { containerID: id }),
    started: phase === 'running',
  };
}

/** Why a readiness gate holds the pod back, in the kubelet's words; null where none does. */
function gateProblem(pod: ApiObject): JsonMap | null {
  for (const gate of listAt(pod, 'spec', 'readinessGates')) {
    const type = textAt(gate, 'conditionType');
    const found = listAt(pod, 'status', 'conditions').find((each) => textAt(each, 'type') === type);
    const reason = 'ReadinessGatesNotReady';
    if (found === undefined) return { reason, message: `corresponding condition of pod readiness gate "${type}" does not exist.` };
    if (textAt(found, 'status') !== 'True')
      return { reason, message: `the status of pod readiness gate "${type}" is not "True", but ${textAt(found, 'status')}` };
  }
  return null;
}

function condition(pod: ApiObject, type: string, holds: boolean, because: JsonMap, now: string): JsonMap {
  const status = holds ? 'True' : 'False';
  const before = mapAt(listAt(pod, 'status', 'conditions').find((each) => textAt(each, 'type') === type));
  const lastTransitionTime = before.status === status ? textAt(before, 'lastTransitionTime') : now;
  return { type, observedGeneration: numberAt(pod, 'metadata', 'generation'), status, lastProbeTime: null, lastTransitionTime, ...because };
}
