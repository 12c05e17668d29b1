import { transaction } from '#state/database.ts';
import { makeHead } from '#state/receipts.ts';
import { overdueRuns, runsWaitingFor } from '#state/runs.ts';
import type { Reason } from '../domain/reasons.ts';
import { isFault } from '../errors.ts';
import type { Metrics } from '../metrics.ts';
import { fireDue, openCron } from './cron.ts';
import { checkDrifts } from './drift.ts';
import { inTime } from './hand.ts';
import { keepAll } from './keeper.ts';
import { letGoPredecessors } from './let-go.ts';
import type { Engine } from './look.ts';
import { type Hints, openHints, openUrgency, repeat } from './repeat.ts';
import { type Looked, lookAt } from './run.ts';
import { schedules } from './schedule.ts';
import { sightAll } from './sight.ts';
import { sweep } from './sweep.ts';
import type { Wake } from './wake.ts';

/** What keeps the engine going. */
export interface LoopParts {
  readonly engine: Engine;
  readonly wake: Wake;
  /** One pass over Git. While it judges it asks `isUrgent` again and again: Git may hold a revocation by now. */
  readonly takeIn: (isUrgent: () => boolean) => Promise<void>;
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
  /** The database's clock was moved, as only a lab's is: see what is due by now, and wake every run whose time has come. */
  readonly clockMoved: () => void;
  /** Ends every timer and hands over the looks that are under way. Resolves within three seconds, whatever hangs. */
  readonly stop: () => Promise<void>;
}

/** A head over the log at least this often (DESIGN §8, *Receipts*). */
const HEAD_SECONDS = 60;

/** Beside the rotations, never behind them: emergencies come one at a time, and one that waits for a far side keeps no other waiting. */
const REVOCATIONS_AT_ONCE = 4;

/** A pass over Git, or whatever else repeats, may wait for a far side: what it did not do, another replica does at its next turn. */
const TASKS_SECONDS = 1;

/** Looks at runs when they are woken, at Git when it is due or hinted at, and at everything now and then. */
export async function startLoop(parts: LoopParts): Promise<Loop> {
  const { engine, wake, onBug } = parts;
  const ending = new AbortController();
  const hints = openHints();
  const pods = openHints();
  const { installation, signer } = engine.world;
  const heads = openHints();
  const look = async (id: string, signal: AbortSignal): Promise<void> => {
    const looked = await lookAt(engine, id, signal);
    count(parts.metrics, looked);
    // What a finished run wrote is signed now, not in a minute.
    if (looked.kind === 'ended') heads.give();
  };
  const handle = (id: string, signal: AbortSignal): Promise<void> => asked(engine, () => look(id, signal), onBug);
  await wake.work('run', handle, { concurrency: parts.concurrency });
  await wake.work('revocation', handle, { concurrency: REVOCATIONS_AT_ONCE });
  // The windows may be others than those that it rests by.
  await guarded(engine, 'windows', async () => wakeAll(engine, wake, await runsWaitingFor(engine.pool, ['WindowClosed'])), onBug);
  const every = (seconds: number, name: string, task: () => Promise<unknown>, hinted?: Hints): Promise<void> =>
    repeat(seconds, () => guarded(engine, name, task, onBug), ending.signal, hinted);
  const { pollSeconds, resyncSeconds } = parts;
  const kept = openHints();
  const ticks = openHints();
  const moved = openHints();
  const endCron = openCron(schedules, engine.log, ticks.give);
  // What was revoked is refused by the policy now, not at the next resync; whatever else went wrong in the pass.
  const takeIn = (): Promise<void> => parts.takeIn(openUrgency(hints, pollSeconds)).finally(kept.give);
  const timers = [
    every(pollSeconds, 'git', takeIn, hints),
    every(resyncSeconds, 'resync', () => resync(engine, wake), moved),
    every(resyncSeconds, 'schedules', () => fireDue(engine, schedules, parts.metrics), ticks),
    every(resyncSeconds, 'pods', () => lookAtPods(engine, wake), pods),
    every(resyncSeconds, 'keeper', () => keepAll(engine), kept),
    every(resyncSeconds, 'sweeper', () => sweep(engine)),
    every(resyncSeconds, 'platforms', () => letGoPredecessors(engine)),
    every(HEAD_SECONDS, 'head', () => makeHead(engine.pool, signer, installation), heads),
  ];
  return {
    hint: hints.give,
    podsMoved: pods.give,
    clockMoved: () => {
      moved.give();
      ticks.give();
    },
    stop: async () => {
      ending.abort();
      await Promise.all([endCron(), wake.stop(), inTime(Promise.all(timers), TASKS_SECONDS, onBug)]);
    },
  };
}

/** What a run can wait for that a pod's change may bring about. */
const FOR_PODS: readonly Reason[] = [
  'PodsMissing',
  'PodsNotMoved',
  'PodNotReady',
  'PodNotAttested',
  'FirstPodsNotAttested',
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
  await checkDrifts(engine);
}

/** A look that the database failed under has put no wake of its own: what it threw is thrown on, and its queue asks again after a second. */
async function asked(engine: Engine, look: () => Promise<void>, onBug: (thrown: unknown) => void): Promise<void> {
  let fault: unknown = null;
  const task = async (): Promise<void> => {
    await look().catch((thrown: unknown) => {
      if (isFault(thrown)) fault = thrown;
      throw thrown;
    });
  };
  await guarded(engine, 'look', task, onBug);
  if (fault !== null) throw fault;
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
