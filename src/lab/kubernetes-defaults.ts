/** What the API server makes of an object before it stores it: what is filled in, what is refused. In the words that were recorded. */
import { type ApiObject, type JsonMap, listAt, mapAt, numberAt, same, textAt, textsAt } from './kubernetes-json.ts';
import type { Cause } from './kubernetes-status.ts';

/** What admission adds to every pod. */
const POD_DEFAULTS: JsonMap = {
  enableServiceLinks: true,
  serviceAccountName: 'default',
  serviceAccount: 'default',
  priority: 0,
  preemptionPolicy: 'PreemptLowerPriority',
  tolerations: ['not-ready', 'unreachable'].map((taint) => ({
    key: `node.kubernetes.io/${taint}`,
    operator: 'Exists',
    effect: 'NoExecute',
    tolerationSeconds: 300,
  })),
};

/** The object with what the API server fills in (as recorded), and without what it drops. */
export function withDefaults(object: ApiObject): ApiObject {
  const spec = mapAt(object, 'spec');
  switch (object.kind) {
    case 'Deployment':
      return {
        ...object,
        spec: {
          replicas: 1,
          ...spec,
          template: templateWithDefaults(mapAt(spec, 'template')),
          strategy: strategyWithDefaults(mapAt(spec, 'strategy')),
          revisionHistoryLimit: spec.revisionHistoryLimit ?? 10,
          progressDeadlineSeconds: spec.progressDeadlineSeconds ?? 600,
        },
        status: mapAt(object, 'status'),
      };
    case 'ReplicaSet':
      return {
        ...object,
        spec: { replicas: 1, ...spec, template: templateWithDefaults(mapAt(spec, 'template')) },
        status: { replicas: 0, ...mapAt(object, 'status') },
      };
    case 'Pod':
      return {
        ...object,
        spec: { ...POD_DEFAULTS, ...podSpecWithDefaults(spec) },
        status: { phase: 'Pending', qosClass: 'BestEffort', ...mapAt(object, 'status') },
      };
    default:
      return object;
  }
}

function strategyWithDefaults(strategy: JsonMap): JsonMap {
  if (strategy.type === 'Recreate') return strategy;
  return { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%', ...mapAt(strategy, 'rollingUpdate') } };
}

function templateWithDefaults(template: JsonMap): JsonMap {
  return { ...template, metadata: mapAt(template, 'metadata'), spec: podSpecWithDefaults(mapAt(template, 'spec')) };
}

function podSpecWithDefaults(spec: JsonMap): JsonMap {
  const lists = ['initContainers', 'containers'].filter((name) => listAt(spec, name).length > 0);
  return {
    ...spec,
    ...Object.fromEntries(lists.map((name) => [name, listAt(spec, name).map((container) => containerWithDefaults(mapAt(container)))])),
    restartPolicy: spec.restartPolicy ?? 'Always',
    terminationGracePeriodSeconds: spec.terminationGracePeriodSeconds ?? 30,
    dnsPolicy: spec.dnsPolicy ?? 'ClusterFirst',
    securityContext: spec.securityContext ?? {},
    schedulerName: spec.schedulerName ?? 'default-scheduler',
  };
}

function containerWithDefaults(container: JsonMap): JsonMap {
  // An empty value is not kept: `omitempty`.
  const env = listAt(container, 'env').map((entry) =>
    Object.fromEntries(Object.entries(mapAt(entry)).filter(([name, value]) => name !== 'value' || value !== '')),
  );
  return {
    ...container,
    ...(env.length > 0 ? { env } : {}),
    resources: container.resources ?? {},
    terminationMessagePath: container.terminationMessagePath ?? '/dev/termination-log',
    terminationMessagePolicy: container.terminationMessagePolicy ?? 'File',
    imagePullPolicy: container.imagePullPolicy ?? 'IfNotPresent',
  };
}

/** What validation refuses of an object with its defaults; `before` null at its creation. */
export function problemsOf(object: ApiObject, before: ApiObject | null): readonly Cause[] {
  if (object.kind === 'Pod') return podProblems(mapAt(object, 'spec'), 'spec');
  if (object.kind !== 'Deployment' && object.kind !== 'ReplicaSet') return [];
  const spec = mapAt(object, 'spec');
  const causes: Cause[] = [];
  const replicas = numberAt(spec, 'replicas');
  if (replicas < 0)
    causes.push({ reason: 'FieldValueInvalid', field: 'spec.replicas', message: `Invalid value: ${replicas}: must be greater than or equal to 0` });
  const selector = mapAt(spec, 'selector');
  const labels = textsAt(spec, 'template', 'metadata', 'labels');
  if (Object.keys(selector).length === 0) causes.push({ reason: 'FieldValueRequired', field: 'spec.selector', message: 'Required value' });
  else if (before !== null && !same(selector, mapAt(before, 'spec', 'selector'))) {
    causes.push({ reason: 'FieldValueInvalid', field: 'spec.selector', message: `Invalid value: ${JSON.stringify(selector)}: field is immutable` });
  } else if (!Object.entries(textsAt(selector, 'matchLabels')).every(([name, value]) => labels[name] === value)) {
    causes.push({
      reason: 'FieldValueInvalid',
      field: 'spec.template.metadata.labels',
      message: `Invalid value: ${JSON.stringify(labels)}: \`selector\` does not match template \`labels\``,
    });
  }
  return [...causes, ...podProblems(mapAt(spec, 'template', 'spec'), 'spec.template.spec'), ...strategyProblems(mapAt(spec, 'strategy'))];
}

function strategyProblems(strategy: JsonMap): readonly Cause[] {
  const zero = (name: string): boolean => ['0', '0%'].includes(String(mapAt(strategy, 'rollingUpdate')[name]));
  if (strategy.type !== 'RollingUpdate' || !zero('maxSurge') || !zero('maxUnavailable')) return [];
  return [{ reason: 'FieldValueInvalid', field: 'spec.strategy.rollingUpdate.maxUnavailable', message: 'Invalid value: 0: may not be 0 when `maxSurge` is 0' }];
}

function podProblems(spec: JsonMap, field: string): readonly Cause[] {
  const containers = listAt(spec, 'containers');
  if (containers.length === 0) return [{ reason: 'FieldValueRequired', field: `${field}.containers`, message: 'Required value' }];
  return containers.flatMap((container, index) => {
    const causes: Cause[] = [];
    const name = textAt(container, 'name');
    if (textAt(container, 'image') === '')
      causes.push({ reason: 'FieldValueRequired', field: `${field}.containers[${index}].image`, message: 'Required value' });
    if (name === '') causes.push({ reason: 'FieldValueRequired', field: `${field}.containers[${index}].name`, message: 'Required value' });
    else if (containers.findIndex((other) => textAt(other, 'name') === name) < index) {
      causes.push({ reason: 'FieldValueDuplicate', field: `${field}.containers[${index}].name`, message: `Duplicate value: "${name}"` });
    }
    return causes;
  });
}
