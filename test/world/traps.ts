/** Ends a process at a chosen point of a workflow, or loses its answer there. */
import type pg from 'pg';
import { Fault } from '#src/errors.ts';
import type { Decision, Effect, Step, Workflow } from '#workflows/step.ts';
import type { TestWorld } from '../world.ts';
import type { TestEngine } from './engine.ts';
import { crash, type Hazard, isCrash, type Write } from './hazards.ts';

type Moment = 'before' | 'after-effect' | 'after-record' | 'answer-lost' | 'before-commit' | 'after-commit' | 'commit-answer-lost';

const OF_EFFECT: readonly Moment[] = ['before', 'after-effect', 'after-record', 'answer-lost'];
const OF_DECISION: readonly Moment[] = ['before', 'before-commit', 'after-commit', 'commit-answer-lost'];

/** A moment of a step. */
export interface Point {
  readonly workflow: string;
  readonly step: string;
  readonly moment: Moment;
}

/** Every point of a workflow. */
export function pointsOf<S>({ name, steps }: Workflow<S>): readonly Point[] {
  return steps.flatMap((step) => (step.kind === 'effect' ? OF_EFFECT : OF_DECISION).map((moment) => ({ workflow: name, step: step.name, moment })));
}

/** The point that is armed, and whether it was met. */
export interface Trap {
  point: Point | null;
  met: number;
  commit: 'after-commit' | 'commit-answer-lost' | null;
}

/** Drives on whenever the process "ended": the next look is another one's. */
export async function driveThrough(engine: TestEngine): Promise<void> {
  for (;;) {
    try {
      await engine.drive();
      return;
    } catch (thrown) {
      if (!isCrash(thrown)) throw thrown;
    }
  }
}

/** Every effect that was written more than once. */
export function writtenTwice(log: readonly Write[]): readonly string[] {
  const counts = new Map<string, number>();
  for (const { system, verb, what } of log) counts.set(`${system} ${verb} ${what}`, (counts.get(`${system} ${verb} ${what}`) ?? 0) + 1);
  return [...counts].filter(([, count]) => count > 1).map(([name]) => name);
}

/** The workflow, in which the armed point ends the process once. */
export function trapped<S>(workflow: Workflow<S>, trap: Trap, test: TestWorld): Workflow<S> {
  const spring = (step: string): Moment | null => {
    const { point } = trap;
    return point?.workflow === workflow.name && point.step === step && trap.met === 0 ? point.moment : null;
  };
  const steps: readonly Step<S>[] = workflow.steps.map((step) =>
    step.kind === 'decision' ? trappedDecision(step, trap, spring) : trappedEffect(step, trap, spring, test),
  );
  return { ...workflow, steps };
}

function trappedDecision<S>(step: Decision<S>, trap: Trap, spring: (step: string) => Moment | null): Decision<S> {
  return {
    ...step,
    decide: async (look) => {
      const moment = spring(step.name);
      if (moment === 'before') meet(trap, moment);
      const seen = await step.decide(look);
      if (seen.kind === 'not-yet' || moment === null) return seen;
      if (moment === 'before-commit') meet(trap, moment);
      trap.met += 1;
      trap.commit = moment === 'after-commit' ? 'after-commit' : 'commit-answer-lost';
      return seen;
    },
  };
}

function trappedEffect<S>(step: Effect<S>, trap: Trap, spring: (step: string) => Moment | null, test: TestWorld): Effect<S> {
  return {
    ...step,
    observe: async (look) => {
      const seen = await step.observe(look);
      const moment = spring(step.name);
      // There without an act: every moment is the one before its receipt.
      if (seen.kind === 'seen' && moment !== null) meet(trap, moment);
      return seen;
    },
    act: async (look) => {
      const moment = spring(step.name);
      if (moment === null) return step.act(look);
      if (moment === 'before') meet(trap, moment);
      test.network.befall(/./, moment as Hazard);
      const writes = test.network.log.length;
      try {
        await step.act(look);
      } finally {
        if (test.network.armed() === 0) trap.met += 1;
        test.network.disarm();
      }
      if (trap.met === 0 && test.network.log.length === writes) meet(trap, moment);
    },
  };
}

function meet(trap: Trap, moment: Moment): never {
  trap.met += 1;
  if (moment === 'answer-lost') throw new Fault('Unreachable', 'no answer');
  throw crash(moment);
}

/** The engine's pool, whose next commit after an armed decision is answered to nobody. */
export function trappedPool(pool: pg.Pool, trap: Trap): pg.Pool {
  const connect = async (): Promise<pg.PoolClient> => {
    const client = await pool.connect();
    const query = async (...given: readonly unknown[]) => {
      const answer = await (client.query as (...all: unknown[]) => Promise<unknown>).apply(client, [...given]);
      const { commit } = trap;
      if (given[0] !== 'commit' || commit === null) return answer;
      trap.commit = null;
      throw commit === 'after-commit' ? crash(commit) : Object.assign(new Error('the session broke'), { code: 'ECONNRESET' });
    };
    return new Proxy(client, {
      get: (target, name) => (name === 'query' ? query : bound(target, name)),
    });
  };
  return new Proxy(pool, { get: (target, name) => (name === 'connect' ? connect : bound(target, name)) });
}

function bound(target: object, name: string | symbol): unknown {
  const value: unknown = Reflect.get(target, name);
  return typeof value === 'function' ? value.bind(target) : value;
}
