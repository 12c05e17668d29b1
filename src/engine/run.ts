/**
 * One look at one run: claim it, and do what its next steps allow.
 *
 * Level-triggered: nothing is remembered between looks but rows. What is next is the first step, by
 * name, without a receipt that counts, so a step may be inserted or removed between two versions while
 * runs are open.
 */
import { type Checkpoint, commitStep, endSettledRun } from '#state/checkpoint.ts';
import { clockOf, transaction } from '#state/database.ts';
import { appendEvent } from '#state/events.ts';
import { aboutHold, holdOn } from '#state/holds.ts';
import { countingSteps } from '#state/receipts-of-run.ts';
import { type Claimed, claimRun, refreshRun, restRun, stillMine } from '#state/runs.ts';
import { storable } from '#state/text.ts';
import type { Gate, Look, NotYet, Seen, Step, Verdict, Workflow } from '#workflows/step.ts';
import type { Reason } from '../domain/reasons.ts';
import { isFault } from '../errors.ts';
import { earliest, type Instant, later } from '../instant.ts';
import { backoffSeconds } from './backoff.ts';
import { reopenDrifted } from './drift.ts';
import { type Engine, makeLook } from './look.ts';

/** How a look ended. */
export type Looked =
  | { readonly kind: 'ended' }
  | { readonly kind: 'fenced' }
  | {
      readonly kind: 'resting';
      readonly workflow: string;
      readonly step: string;
      readonly waitingFor: Reason;
      readonly about: string;
      readonly nextRetryAt: Instant;
    };

/** A look does at most this many steps, so that one long workflow cannot keep a worker for itself. */
const STEPS_PER_LOOK = 40;
/** Until a run of a workflow that this version does not know is offered to the others again. A rollout lasts minutes. */
const OTHER_VERSION_SECONDS = 2;

/** Looks at a run until it rests, ends, or belongs to somebody else. Throws only what is a bug. */
export async function lookAt(engine: Engine, id: string, signal?: AbortSignal): Promise<Looked> {
  const claimed = await claimRun(engine.pool, id, engine.owner);
  if (claimed === null) return { kind: 'ended' };
  let current: Claimed = claimed;
  for (let done = 0; done < STEPS_PER_LOOK && signal?.aborted !== true; done += 1) {
    const looked = await lookOnce(engine, current);
    if (looked !== 'again') return looked;
    const refreshed = await refreshRun(engine.pool, current.run);
    if (refreshed === null) return (await isOpen(engine, id)) ? { kind: 'fenced' } : { kind: 'ended' };
    current = refreshed;
  }
  await transaction(engine.pool, (tx) => engine.enlist(tx, id, null));
  return { kind: 'fenced' };
}

async function isOpen(engine: Engine, id: string): Promise<boolean> {
  const { rowCount } = await engine.pool.query('select 1 from runs where id = $1 and ended_at is null', [id]);
  return rowCount === 1;
}

async function lookOnce(engine: Engine, claimed: Claimed): Promise<Looked | 'again'> {
  const { run } = claimed;
  const workflow = engine.workflows.find(({ name }) => name === run.workflow);
  if (workflow === undefined) return leave(engine, claimed);
  const done = await countingSteps(engine.pool, run.id);
  const step = workflow.steps.find(({ name }) => !done.has(name));
  const name = step?.name ?? 'end';
  try {
    const stopped = await holdOn(engine.pool, run.id);
    if (stopped !== null) return await rest(engine, claimed, name, { waitingFor: 'OnHold', about: aboutHold(stopped), lookAt: null });
    const look = await makeLook(engine, run);
    const held = (await engine.held()).get(run.workload);
    if (held !== undefined) return await rest(engine, claimed, name, { waitingFor: held.reason, about: held.about, lookAt: null });
    if ((await reopenDrifted(engine, workflow, look, done)) !== null) return { kind: 'fenced' };
    if (step === undefined) return { kind: (await endSettledRun(engine.pool, run, look.subject, engine.enlist)) ? 'ended' : 'fenced' };
    return await take(engine, claimed, workflow, step, look);
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    engine.log.warn({ run: run.id, step: name, reason: thrown.reason, fault: thrown.message }, 'an outside system failed');
    return rest(engine, claimed, name, { waitingFor: thrown.reason, about: thrown.message, lookAt: null });
  }
}

/** A workflow of another version's, whose replicas stand beside: soon, so that one of them gets it, however often it came to us. */
async function leave(engine: Engine, claimed: Claimed): Promise<Looked> {
  const lookAt = later(await clockOf(engine.pool)(), OTHER_VERSION_SECONDS);
  return rest(engine, claimed, 'start', { waitingFor: 'NotSupportedYet', about: claimed.run.workflow, lookAt });
}

/** Gates, observe, act, observe; or gates, decide. */
async function take(engine: Engine, claimed: Claimed, workflow: Workflow, step: Step, look: Look): Promise<Looked | 'again'> {
  const asked = await ask([...workflow.gates, ...(step.gates ?? [])], look);
  if (asked.kind === 'no') return rest(engine, claimed, step.name, { waitingFor: asked.reason, about: asked.about, lookAt: asked.lookAt }, asked.gate);
  const seen = step.kind === 'decision' ? await step.decide(look) : await settle(engine, step, look);
  if (seen === 'fenced') return { kind: 'fenced' };
  if (seen.kind === 'not-yet') return rest(engine, claimed, step.name, seen);
  const committed = await commitStep(engine.pool, pointOf(workflow, step, look, seen, asked.verdicts), engine.enlist);
  if (committed.kind === 'fenced') return { kind: 'fenced' };
  return 'again';
}

async function settle(engine: Engine, step: Extract<Step, { kind: 'effect' }>, look: Look): Promise<Seen | NotYet | 'fenced'> {
  const before = await step.observe(look);
  if (before.kind === 'seen') return before;
  if (look.run.waitingFor === null) await announce(engine, step, look);
  if (!(await stillMine(engine.pool, look.run))) return 'fenced';
  // What rests on the hour, such as a cluster's windows, is asked of the clock as it stands now.
  await step.act({ ...look, now: await clockOf(engine.pool)() });
  return step.observe({ ...look, now: await clockOf(engine.pool)() });
}

/** Says once, at the first try, that a step begins to act. */
async function announce(engine: Engine, step: Step, { run, subject }: Look): Promise<void> {
  const body = { step: step.name, workflow: run.workflow, serial: subject.release.serial };
  await transaction(engine.pool, (tx) => appendEvent(tx, { event: 'step', run: run.id, workload: run.workload, body }));
}

type Asked =
  | { readonly kind: 'yes'; readonly verdicts: readonly { gate: string; verdict: Extract<Verdict, { kind: 'yes' }> }[] }
  | (Extract<Verdict, { kind: 'no' }> & { readonly gate: string });

async function ask(gates: readonly Gate[], look: Look): Promise<Asked> {
  const verdicts = [];
  for (const gate of gates) {
    const verdict = await gate.ask(look);
    if (verdict.kind === 'no') return { ...verdict, gate: gate.name };
    verdicts.push({ gate: gate.name, verdict });
  }
  return { kind: 'yes', verdicts };
}

function pointOf(workflow: Workflow, step: Step, look: Look, seen: Seen, verdicts: Extract<Asked, { kind: 'yes' }>['verdicts']): Checkpoint {
  const { facts, evidence, proof } = seen;
  return {
    run: look.run,
    subject: look.subject,
    step: step.name,
    facts,
    evidence,
    proof,
    keep: seen.keep ?? [],
    goodUntil: earliest([seen.goodUntil, ...verdicts.map(({ verdict }) => verdict.goodUntil)]),
    verdicts: verdicts.map(({ gate, verdict }) => ({ gate, evidence: verdict.evidence, goodUntil: verdict.goodUntil })),
    ownGates: (step.gates ?? []).map(({ name }) => name),
    moves: step.kind === 'decision' ? (step.moves ?? null) : null,
    last: workflow.steps.at(-1)?.name === step.name,
    deadlineSeconds: step.kind === 'effect' && step.startsDeadline === true ? look.subject.release.rollout.deadlineSeconds : null,
  };
}

/** Writes down what the run waits for, and wakes it again in time. */
async function rest(engine: Engine, claimed: Claimed, step: string, why: Omit<NotYet, 'kind'>, gate?: string): Promise<Looked> {
  const { run } = claimed;
  const now = await clockOf(engine.pool)();
  const late = claimed.deadline !== null && now >= claimed.deadline;
  const waitingFor = late ? 'DeadlinePassed' : why.waitingFor;
  // Compared with what was stored, so made as it is stored: a quotation of a foreign answer may hold anything.
  const about = storable(late ? `${why.waitingFor}: ${why.about}` : why.about);
  const same = run.waitingFor === waitingFor && run.about === about;
  const nextRetryAt = why.lookAt ?? later(now, backoffSeconds(waitingFor, same ? claimed.failures + 1 : 1, Math.random()));
  const mine = await transaction(engine.pool, async (tx) => {
    if (!(await restRun(tx, run, { step, waitingFor, about, nextRetryAt }))) return false;
    await engine.enlist(tx, run.id, nextRetryAt);
    const body = { step, waitingFor, about, nextRetryAt, workflow: run.workflow };
    const said = gate === undefined ? { event: 'waiting', body } : { event: 'gate', body: { ...body, gate, verdict: 'no', reason: why.waitingFor } };
    if (!same) await appendEvent(tx, { ...said, run: run.id, workload: run.workload });
    return true;
  });
  return mine ? { kind: 'resting', workflow: run.workflow, step, waitingFor, about, nextRetryAt } : { kind: 'fenced' };
}
