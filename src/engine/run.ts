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
import { type Claimed, claimRun, instantOfMine, refreshRun, restRun } from '#state/runs.ts';
import { storable } from '#state/text.ts';
import type { Effect, Gate, Look, NotYet, Seen, Step, Verdict, Workflow } from '#workflows/step.ts';
import type { Reason } from '../domain/reasons.ts';
import type { Known } from '../domain/release.ts';
import type { Revoked } from '../domain/revocation-run.ts';
import type { Run } from '../domain/run.ts';
import { type Fault, isFault } from '../errors.ts';
import { earliest, type Instant, later } from '../instant.ts';
import { backoffSeconds } from './backoff.ts';
import { reopenDrifted } from './drift.ts';
import { type Engine, makeLook, makeRevokedLook } from './look.ts';

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
  switch (run.subject.kind) {
    case 'revision': {
      const workflow = engine.workflows.find(({ name }) => name === run.workflow);
      return workflow === undefined ? leave(engine, claimed) : follow(engine, claimed, ofRevision(engine, run, workflow));
    }
    case 'revocation': {
      const workflow = engine.emergencies.find(({ name }) => name === run.workflow);
      return workflow === undefined ? leave(engine, claimed) : follow(engine, claimed, ofRevocation(engine, run, workflow));
    }
  }
}

/** A workflow, and what differs by the kind of thing that it is about. */
interface Way<S> {
  readonly workflow: Workflow<S>;
  readonly open: () => Promise<Look<S>>;
  /** What stands in the way of every step; null: nothing. */
  readonly bar: (look: Look<S>, done: ReadonlySet<string>) => Promise<Omit<NotYet, 'kind'> | 'fenced' | null>;
  /** The revision that enters a state, and whose deadline runs; null: there is none. */
  readonly revision: (subject: S) => Known | null;
}

function ofRevision(engine: Engine, run: Run, workflow: Workflow): Way<Known> {
  const bar: Way<Known>['bar'] = async (look, done) => {
    const held = (await engine.held()).get(run.workload);
    if (held !== undefined) return { waitingFor: held.reason, about: held.about, lookAt: null };
    return (await reopenDrifted(engine, workflow, look, done)) === null ? null : 'fenced';
  };
  return { workflow, open: () => makeLook(engine, run), bar, revision: (subject) => subject };
}

/** Nothing that holds a workload stops its revocation, and nothing that a person undid reopens it. */
function ofRevocation(engine: Engine, run: Run, workflow: Workflow<Revoked>): Way<Revoked> {
  return { workflow, open: () => makeRevokedLook(engine, run), bar: async () => null, revision: () => null };
}

async function follow<S>(engine: Engine, claimed: Claimed, way: Way<S>): Promise<Looked | 'again'> {
  const { run } = claimed;
  const { steps, together = 0 } = way.workflow;
  const done = await countingSteps(engine.pool, run.id);
  const next = steps.find(({ name }) => !done.has(name));
  const name = next?.name ?? 'end';
  try {
    const stopped = await holdOn(engine.pool, run.id);
    if (stopped !== null) return await rest(engine, claimed, name, { waitingFor: 'OnHold', about: aboutHold(stopped), lookAt: null });
    const look = await way.open();
    const barred = await way.bar(look, done);
    if (barred === 'fenced') return { kind: 'fenced' };
    if (barred !== null) return await rest(engine, claimed, name, barred);
    if (next === undefined) return { kind: (await endSettledRun(engine.pool, run, way.revision(look.subject), engine.enlist)) ? 'ended' : 'fenced' };
    const begun = steps.slice(0, together).filter((step) => !done.has(step.name));
    return await take(engine, claimed, way, begun.length > 0 ? begun : [next], look);
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    return rest(engine, claimed, name, failed(engine, run, name, thrown));
  }
}

function failed(engine: Engine, run: Run, step: string, fault: Fault): Omit<NotYet, 'kind'> {
  engine.log.warn({ run: run.id, step, reason: fault.reason, fault: fault.message }, 'an outside system failed');
  return { waitingFor: fault.reason, about: fault.message, lookAt: null };
}

/** A workflow of another version's, whose replicas stand beside: soon, so that one of them gets it, however often it came to us. */
async function leave(engine: Engine, claimed: Claimed): Promise<Looked> {
  const lookAt = later(await clockOf(engine.pool)(), OTHER_VERSION_SECONDS);
  return rest(engine, claimed, 'start', { waitingFor: 'NotSupportedYet', about: claimed.run.workflow, lookAt });
}

/** How far a step came. */
type Tried =
  | { readonly kind: 'seen'; readonly point: Checkpoint }
  | { readonly kind: 'waits'; readonly step: string; readonly why: Omit<NotYet, 'kind'>; readonly gate?: string }
  | { readonly kind: 'fenced' };

/** Tries these steps at once, writes down what was seen, and rests where that was nothing. */
async function take<S>(engine: Engine, claimed: Claimed, way: Way<S>, steps: readonly Step<S>[], look: Look<S>): Promise<Looked | 'again'> {
  const outcomes = await Promise.allSettled(steps.map((step) => attempt(engine, way, step, look)));
  const tried = outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  });
  let went = false;
  const context = { installation: engine.world.installation, loaders: engine.loaders };
  for (const one of tried) {
    if (one.kind === 'fenced') return one;
    if (one.kind === 'waits') continue;
    if ((await commitStep(engine.pool, one.point, engine.enlist, context)).kind === 'fenced') return { kind: 'fenced' };
    went = true;
  }
  const waits = tried.find((one) => one.kind === 'waits');
  return went || waits === undefined ? 'again' : rest(engine, claimed, waits.step, waits.why, waits.gate);
}

/** Gates, observe, act, observe; or gates, decide. */
async function attempt<S>(engine: Engine, way: Way<S>, step: Step<S>, look: Look<S>): Promise<Tried> {
  try {
    const asked = await ask([...way.workflow.gates, ...(step.gates ?? [])], look);
    if (asked.kind === 'no')
      return { kind: 'waits', step: step.name, why: { waitingFor: asked.reason, about: asked.about, lookAt: asked.lookAt }, gate: asked.gate };
    const seen = step.kind === 'decision' ? await step.decide(look) : await settle(engine, way, step, look);
    if (seen === 'fenced') return { kind: 'fenced' };
    if (seen.kind === 'not-yet') return { kind: 'waits', step: step.name, why: seen };
    return { kind: 'seen', point: pointOf(way, step, look, seen, asked.verdicts) };
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    return { kind: 'waits', step: step.name, why: failed(engine, look.run, step.name, thrown) };
  }
}

async function settle<S>(engine: Engine, way: Way<S>, step: Effect<S>, look: Look<S>): Promise<Seen | NotYet | 'fenced'> {
  const before = await step.observe(look);
  if (before.kind === 'seen') return before;
  if (look.run.waitingFor === null) await announce(engine, way, step, look);
  const now = await instantOfMine(engine.pool, look.run);
  if (now === null) return 'fenced';
  // What rests on the hour, such as a cluster's windows, is asked of the clock as it stands now.
  await step.act({ ...look, now });
  return step.observe({ ...look, now: await clockOf(engine.pool)() });
}

/** Says once, at the first try, that a step begins to act. */
async function announce<S>(engine: Engine, way: Way<S>, step: Step<S>, { run, subject }: Look<S>): Promise<void> {
  const revision = way.revision(subject);
  const body = { step: step.name, workflow: run.workflow, ...(revision === null ? {} : { serial: revision.release.serial }) };
  await appendEvent(engine.pool, { event: 'step', run: run.id, workload: run.workload, body });
}

type Asked =
  | { readonly kind: 'yes'; readonly verdicts: readonly { gate: string; verdict: Extract<Verdict, { kind: 'yes' }> }[] }
  | (Extract<Verdict, { kind: 'no' }> & { readonly gate: string });

async function ask<S>(gates: readonly Gate<S>[], look: Look<S>): Promise<Asked> {
  const verdicts = [];
  for (const gate of gates) {
    const verdict = await gate.ask(look);
    if (verdict.kind === 'no') return { ...verdict, gate: gate.name };
    verdicts.push({ gate: gate.name, verdict });
  }
  return { kind: 'yes', verdicts };
}

function pointOf<S>(
  { workflow, revision }: Way<S>,
  step: Step<S>,
  look: Look<S>,
  seen: Seen,
  verdicts: Extract<Asked, { kind: 'yes' }>['verdicts'],
): Checkpoint {
  const subject = revision(look.subject);
  const { facts, evidence, proof } = seen;
  return {
    run: look.run,
    subject,
    step: step.name,
    facts,
    evidence,
    proof,
    keep: seen.keep ?? [],
    goodUntil: earliest([seen.goodUntil, ...verdicts.map(({ verdict }) => verdict.goodUntil)]),
    verdicts: verdicts.map(({ gate, verdict }) => ({ gate, evidence: verdict.evidence, goodUntil: verdict.goodUntil })),
    ownGates: (step.gates ?? []).map(({ name }) => name),
    moves: step.kind === 'decision' ? (step.moves ?? null) : null,
    lifts: step.kind === 'decision' && step.lifts === true,
    last: workflow.steps.at(-1)?.name === step.name,
    deadlineSeconds: step.kind === 'effect' && step.startsDeadline === true ? (subject?.release.rollout.deadlineSeconds ?? null) : null,
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
