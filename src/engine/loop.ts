import { transaction } from '#state/database.ts';
import { makeHead } from '#state/receipts.ts';
import { overdueRuns, runsWaitingFor, workloads } from '#state/runs.ts';
import type { Reason } from '../domain/reasons.ts';
import { isFault } from '../errors.ts';
import type { Metrics } from '../metrics.ts';
import { checkDrift } from './drift.ts';
import { keepAll } from './keeper.ts';
import { type Hints, openHints, repeat } from './repeat.ts';
import { type Engine, type Looked, lookAt } from './run.ts';
import { sightAll } from './sight.ts';
import { sweep } from './sweep.ts';
import type { Wake } from './wake.ts';

/** What keeps the engine going. */
export interface LoopParts {
  readonly engine: Engine;
  readonly wake: Wake;
  /** One pass over Git. */
  readonly takeIn: () => Promise<void>;
  /** Seconds between two passes over Git where nothing hints. */
  readonly pollSeconds: number;
  /** Runs looked at side by side. */
  readonly concurrency: number;
  /** Seconds between two resyncs: lost wakes, drift, keeper, sweeper. */
  readonly resyncSeconds: number;
  readonly metrics: Metrics;
  /** Something was thrown that is no Fault: a bug. The process must end and be started again. */
  readonly onBug: (thrown: unknown) => void;
}

/** A running engine. */
export interface Loop {
  /** Somebody says that Git moved: look now. */
  readonly hint: () => void;
  /** Something changed in a cluster: see which pods live now, and wake who waits for pods. */
  readonly podsMoved: () => void;
  /** Ends every timer and waits for the looks that are under way. */
  readonly stop: () => Promise<void>;
}

/** A head over the log at least this often (DESIGN §8, *Receipts*). */
const HEAD_SECONDS = 60;

/** Looks at runs when they are woken, at Git when it is due or hinted at, and at everything now and then. */
export async function startLoop(parts: LoopParts): Promise<Loop> {
  const { engine, wake, onBug } = parts;
  const ending = new AbortController();
  const hints = openHints();
  const pods = openHints();
  const { installation, signer } = engine.world;
  const look = async (id: string, signal: AbortSignal): Promise<void> => count(parts.metrics, await lookAt(engine, id, signal));
  await wake.work('run', (id, signal) => guarded(engine, 'look', () => look(id, signal), onBug), { concurrency: parts.concurrency });
  const every = (seconds: number, name: string, task: () => Promise<unknown>, hinted?: Hints): Promise<void> =>
    repeat(seconds, () => guarded(engine, name, task, onBug), ending.signal, hinted);
  const { pollSeconds, resyncSeconds } = parts;
  const timers = [
    every(pollSeconds, 'git', parts.takeIn, hints),
    every(resyncSeconds, 'resync', () => resync(engine, wake)),
    every(resyncSeconds, 'pods', () => lookAtPods(engine, wake), pods),
    every(resyncSeconds, 'keeper', () => keepAll(engine)),
    every(resyncSeconds, 'sweeper', () => sweep(engine)),
    every(HEAD_SECONDS, 'head', () => makeHead(engine.pool, signer, installation)),
  ];
  return {
    hint: hints.give,
    podsMoved: pods.give,
    stop: async () => {
      ending.abort();
      await Promise.all([wake.stop(), ...timers]);
    },
  };
}

/** What a run can wait for that a pod's change may bring about. */
const FOR_PODS: readonly Reason[] = [
  'PodsMissing',
  'PodsNotMoved',
  'PodNotReady',
  'PodNotAttested',
  'TemplateOutdated',
  'OldRevisionInUse',
  'MeasurementMismatch',
];

async function lookAtPods(engine: Engine, wake: Wake): Promise<void> {
  await sightAll(engine);
  await wakeAll(engine, wake, await runsWaitingFor(engine.pool, FOR_PODS));
}

function wakeAll(engine: Engine, wake: Wake, runs: readonly string[]): Promise<void> {
  return transaction(engine.pool, (tx) => wake.enlistMany(tx, runs, null));
}

function count(metrics: Metrics, looked: Looked): void {
  if (looked.kind === 'resting') metrics.looks.inc({ workflow: looked.workflow, step: looked.step, outcome: 'waiting' });
  else metrics.looks.inc({ outcome: looked.kind });
}

/** Wakes what nobody woke in time, and looks whether a template was changed behind our back. */
async function resync(engine: Engine, wake: Wake): Promise<void> {
  await wakeAll(engine, wake, await overdueRuns(engine.pool));
  for (const workload of await workloads(engine.pool)) await checkDrift(engine, workload);
}

/** A fault is the outside world's, and passes; anything else is ours, and ends the process. */
async function guarded(engine: Engine, name: string, task: () => Promise<unknown>, onBug: (thrown: unknown) => void): Promise<void> {
  try {
    await task();
  } catch (thrown) {
    if (isFault(thrown)) engine.log.warn({ task: name, reason: thrown.reason, fault: thrown.message }, 'a task could not be done');
    else onBug(thrown);
  }
}
