/**
 * A process may end anywhere (DESIGN §10, first bar): at each of these points the one that looks is
 * ended, or its answer lost, and another look goes on. The world must end as if nothing had happened.
 */
import type pg from 'pg';
import { afterAll, describe, expect, it } from 'vitest';
import { startDueDestructions } from '#src/engine/schedule.ts';
import { Fault } from '#src/errors.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { destroyKey } from '#workflows/destroy-key.ts';
import { workflows } from '#workflows/index.ts';
import { retireRevision } from '#workflows/retire-revision.ts';
import type { Decision, Effect, Step, Workflow } from '#workflows/step.ts';
import { withDatabase } from './postgres.ts';
import { openTestEngine, stepsOf, type TestEngine } from './world/engine.ts';
import { crash, type Hazard, isCrash, type Write } from './world/hazards.ts';
import { testRelease } from './world/release.ts';
import { openTestWorld, type TestWorld } from './world.ts';

type Moment = 'before' | 'after-effect' | 'after-record' | 'answer-lost' | 'before-commit' | 'after-commit' | 'commit-answer-lost';

const OF_EFFECT: readonly Moment[] = ['before', 'after-effect', 'after-record', 'answer-lost'];
const OF_DECISION: readonly Moment[] = ['before', 'before-commit', 'after-commit', 'commit-answer-lost'];

interface Point {
  readonly workflow: string;
  readonly step: string;
  readonly moment: Moment;
}

const POINTS: readonly Point[] = workflows.flatMap((workflow) =>
  workflow.steps.flatMap((step) => (step.kind === 'effect' ? OF_EFFECT : OF_DECISION).map((moment) => ({ workflow: workflow.name, step: step.name, moment }))),
);

/** What cannot be read back is sent again after its answer was lost: the same bytes, at the same path. */
const SENT_AGAIN = new Set(['put-resource after-effect', 'put-resource answer-lost']);

/** The point that is armed, and whether it was met. */
interface Trap {
  point: Point | null;
  met: number;
  commit: 'after-commit' | 'commit-answer-lost' | null;
}

const DAY_SECONDS = 86_400;

/** Chains of rotations, one point each, over databases of their own; two cores are kept busy by this many. */
const CHAINS = 3;
const met: Point[] = [];

describe('a process that ends anywhere', () => {
  afterAll(() => expect(new Set(met).size).toBeGreaterThanOrEqual(workflows.reduce((sum, { steps }) => sum + steps.length * 4, 0)));

  for (let chain = 0; chain < CHAINS; chain += 1) {
    const points = POINTS.filter((_, index) => index % CHAINS === chain);
    it.concurrent(`leaves the same world behind, from ${points.length} points (${chain + 1} of ${CHAINS})`, { timeout: 300_000 }, async () => {
      await withDatabase((pool) => sweep(pool, points));
    });
  }
});

async function sweep(pool: pg.Pool, points: readonly Point[]): Promise<void> {
  const test = await openTestWorld(pool);
  const trap: Trap = { point: null, met: 0, commit: null };
  const engine = await openTestEngine(pool, test, { workflows: workflows.map((workflow) => trapped(workflow, trap, test)), pool: trappedPool(pool, trap) });
  test.cluster.add();
  // What comes to its end at a point is what the release before it brought.
  const releaseOf = (serial: number) => testRelease({ serial, ...(isEnd(points[serial - 1]) ? { destroyAfterDays: 1 } : {}) });
  await engine.accept(releaseOf(1));
  await engine.drive();
  for (const [index, point] of points.entries()) {
    const serial = index + 2;
    Object.assign(trap, { point, met: 0, commit: null });
    const before = test.network.log.length;
    await engine.accept(releaseOf(serial));
    await driveThrough(engine);
    if (isEnd(point)) {
      await test.advance(DAY_SECONDS);
      await startDueDestructions(engine.engine);
      await driveThrough(engine);
    }
    const name = `${point.workflow} ${point.step} ${point.moment}`;
    expect(trap.met, `${name} was met`).toBe(1);
    met.push(point);
    expect(await endOf(pool, test, engine, serial), name).toEqual(expectedEnd(serial, isEnd(point)));
    const twice = writtenTwice(test.network.log.slice(before));
    expect(twice.length, `${name}: ${twice.join(', ')}`).toBe(SENT_AGAIN.has(`${point.step} ${point.moment}`) ? 1 : 0);
  }
}

function isEnd(point: Point | undefined): boolean {
  return point?.workflow === destroyKey.name;
}

/** Drives on whenever the process "ended": the next look is another one's. */
async function driveThrough(engine: TestEngine): Promise<void> {
  for (;;) {
    try {
      await engine.drive();
      return;
    } catch (thrown) {
      if (!isCrash(thrown)) throw thrown;
    }
  }
}

// ---------------------------------------------------------------- the end world

async function endOf(pool: pg.Pool, test: TestWorld, engine: TestEngine, serial: number) {
  const now = await engine.known(serial);
  const old = await engine.known(serial - 1);
  const { policy, referenceValues, resources } = test.kbs;
  const states = (rotation: string) => test.kms.keys(rotation).map((key) => key.state);
  const rows = await pool.query(`select 1 from resources where path like $1`, [`%/s${serial}-%`]);
  return {
    adopt: await stepsOf(pool, serial, 'adopt-revision'),
    retire: await stepsOf(pool, serial - 1, 'retire-revision'),
    destroy: await stepsOf(pool, serial - 1, 'destroy-key'),
    states: [now.state, old.state],
    keys: [states(now.rotation), states(old.rotation)],
    keyIsTheFact: test.kms.keys(now.rotation)[0]?.keyId === now.sealing.facts.keyId,
    sealed: [now, old].map(({ rotation }) => test.weights.sealed().filter((name) => name.includes(rotation)).length),
    rows: rows.rowCount,
    granted: typeof policy === 'string' ? policy : policy.grants.flatMap((grant) => grant.paths.map(serialOf)),
    measurements: referenceValues.get('svn'),
    stored: [...resources.keys()].map(serialOf),
    pods: test.cluster.all().map((pod) => [pod.annotations['keyturn.dev/rotation'] === now.rotation, pod.ready]),
    open: (await pool.query('select 1 from runs where ended_at is null')).rowCount,
    unsettled: (await pool.query(`select 1 from receipts group by run, step having count(*) > 1`)).rowCount,
  };
}

function expectedEnd(serial: number, destroyed: boolean): Awaited<ReturnType<typeof endOf>> {
  return {
    adopt: adoptRevision.steps.map(({ name }) => name),
    retire: retireRevision.steps.map(({ name }) => name),
    destroy: destroyed ? destroyKey.steps.map(({ name }) => name) : [],
    states: ['serving', 'retired'],
    keys: [['active'], destroyed ? [] : ['deactivated']],
    keyIsTheFact: true,
    sealed: [1, destroyed ? 0 : 1],
    rows: 1,
    granted: [serial],
    measurements: [String(serial)],
    stored: [serial],
    pods: [
      [true, true],
      [true, true],
      [true, true],
    ],
    open: 0,
    unsettled: 0,
  };
}

function serialOf(path: string): number {
  return Number(/\/s(\d+)-/.exec(path)?.[1]);
}

function writtenTwice(log: readonly Write[]): readonly string[] {
  const counts = new Map<string, number>();
  for (const { system, verb, what } of log) counts.set(`${system} ${verb} ${what}`, (counts.get(`${system} ${verb} ${what}`) ?? 0) + 1);
  return [...counts].filter(([, count]) => count > 1).map(([name]) => name);
}

// ---------------------------------------------------------------- the traps

function trapped(workflow: Workflow, trap: Trap, test: TestWorld): Workflow {
  const spring = (step: string): Moment | null => {
    const { point } = trap;
    return point?.workflow === workflow.name && point.step === step && trap.met === 0 ? point.moment : null;
  };
  const steps: readonly Step[] = workflow.steps.map((step) =>
    step.kind === 'decision' ? trappedDecision(step, trap, spring) : trappedEffect(step, trap, spring, test),
  );
  return { ...workflow, steps };
}

function trappedDecision(step: Decision, trap: Trap, spring: (step: string) => Moment | null): Decision {
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

function trappedEffect(step: Effect, trap: Trap, spring: (step: string) => Moment | null, test: TestWorld): Effect {
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
function trappedPool(pool: pg.Pool, trap: Trap): pg.Pool {
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
