/** A Deployment's status, in the steps and texts that were recorded: zero counters are absent, `terminatingReplicas` never is. */
import { type ApiObject, at, type JsonMap, listAt, numberAt, textAt } from './kubernetes-json.ts';

/** The next status. `current` null: no ReplicaSet has this template yet. `unavailable`: how many may be missing. */
export function rolloutStatus(deployment: ApiObject, current: ApiObject | null, others: readonly ApiObject[], unavailable: number, now: string): JsonMap {
  const sets = current === null ? others : [current, ...others];
  const sum = (...path: readonly string[]): number => sets.reduce((total, set) => total + numberAt(set, ...path), 0);
  const wanted = numberAt(deployment, 'spec', 'replicas');
  const replicas = sum('status', 'replicas');
  const available = sum('status', 'availableReplicas');
  const counters = {
    replicas,
    updatedReplicas: current === null ? 0 : numberAt(current, 'status', 'replicas'),
    readyReplicas: sum('status', 'readyReplicas'),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, sum('spec', 'replicas') - available),
  };
  const shown = Object.fromEntries(Object.entries(counters).filter(([, count]) => count > 0));
  const failure = listAt(current ?? deployment, 'status', 'conditions').find((condition) => textAt(condition, 'type') === 'ReplicaFailure');
  const complete = counters.updatedReplicas === wanted && replicas === wanted && available === wanted;
  return {
    observedGeneration: numberAt(deployment, 'metadata', 'generation'),
    ...shown,
    terminatingReplicas: sum('status', 'terminatingReplicas'),
    conditions: [
      availability(deployment, available >= wanted - unavailable, now),
      progress(deployment, current, complete, counters, now),
      ...(failure === undefined
        ? []
        : [
            {
              type: 'ReplicaFailure',
              status: 'True',
              lastUpdateTime: now,
              lastTransitionTime: textAt(failure, 'lastTransitionTime'),
              reason: 'FailedCreate',
              message: textAt(failure, 'message'),
            },
          ]
      ).map((condition) => settled(deployment, condition, now)),
    ],
  };
}

function availability(deployment: ApiObject, available: boolean, now: string): JsonMap {
  const words = available
    ? { status: 'True', reason: 'MinimumReplicasAvailable', message: 'Deployment has minimum availability.' }
    : { status: 'False', reason: 'MinimumReplicasUnavailable', message: 'Deployment does not have minimum availability.' };
  return settled(deployment, { type: 'Available', ...words }, now);
}

function progress(deployment: ApiObject, current: ApiObject | null, complete: boolean, counters: JsonMap, now: string): JsonMap {
  const name = current?.metadata.name ?? '';
  const before = conditionOf(deployment, 'Progressing');
  const say = (status: string, reason: string, message: string): JsonMap => settled(deployment, { type: 'Progressing', status, reason, message }, now);
  if (at(deployment, 'spec', 'paused') === true) return say('Unknown', 'DeploymentPaused', 'Deployment is paused');
  if (complete) return say('True', 'NewReplicaSetAvailable', `ReplicaSet "${name}" has successfully progressed.`);
  if (numberAt(deployment, 'status', 'observedGeneration') < numberAt(deployment, 'metadata', 'generation') || before === null) {
    return { ...say('True', 'NewReplicaSetCreated', `Created new replica set "${name}"`), lastUpdateTime: now };
  }
  const moved = ['updatedReplicas', 'readyReplicas', 'availableReplicas'].some(
    (counter) => numberAt(counters, counter) > numberAt(deployment, 'status', counter),
  );
  if (moved) return { ...say('True', 'ReplicaSetUpdated', `ReplicaSet "${name}" is progressing.`), lastUpdateTime: now };
  const lateSeconds = (Date.parse(now) - Date.parse(textAt(before, 'lastUpdateTime'))) / 1000;
  if (lateSeconds > numberAt(deployment, 'spec', 'progressDeadlineSeconds') && textAt(before, 'reason') !== 'NewReplicaSetAvailable') {
    return say('False', 'ProgressDeadlineExceeded', `ReplicaSet "${name}" has timed out progressing.`);
  }
  return before;
}

function conditionOf(deployment: ApiObject, type: string): JsonMap | null {
  const found = listAt(deployment, 'status', 'conditions').find((condition) => textAt(condition, 'type') === type);
  return found === undefined ? null : (found as JsonMap);
}

/** The condition with its times: those of before where it says the same. */
function settled(deployment: ApiObject, condition: JsonMap, now: string): JsonMap {
  const before = conditionOf(deployment, textAt(condition, 'type'));
  const { type, status, reason, message } = condition;
  if (before !== null && before.status === status && before.reason === reason && before.message === message) return before;
  const lastTransitionTime = before !== null && before.status === status ? textAt(before, 'lastTransitionTime') : now;
  return { type: type ?? '', status: status ?? '', lastUpdateTime: now, lastTransitionTime, reason: reason ?? '', message: message ?? '' };
}
