/** A reinstatement’s process may end anywhere: another look goes on, and the world ends as if nothing had happened. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { Revocation } from '#src/domain/release.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { Fault } from '#src/errors.ts';
import { runReceipts } from '#state/receipts.ts';
import { emergencies } from '#workflows/index.ts';
import { reinstate } from '#workflows/reinstate.ts';
import type { Look, Step, Workflow } from '#workflows/step.ts';
import { withDatabase } from '../postgres.ts';
import { openTestEngine } from '../world/engine.ts';
import { crash, type Hazard, isCrash, type Network } from '../world/hazards.ts';
import { testRelease } from '../world/release.ts';
import { granted, type Story, stored, testReinstatement, testSuspension } from '../world/story.ts';
import { openTestWorld, type TestWorld } from '../world.ts';

type Moment = 'before' | 'after-effect' | 'after-record' | 'answer-lost' | 'before-commit' | 'after-commit' | 'commit-answer-lost';

const POINTS = reinstate.steps.flatMap(({ kind, name }) => {
  const moments: readonly Moment[] =
    kind === 'effect' ? ['before', 'after-effect', 'after-record', 'answer-lost'] : ['before', 'before-commit', 'after-commit', 'commit-answer-lost'];
  return moments.map((moment) => ({ step: name, moment }));
});

/** Two cores are kept busy by this many. */
const CHAINS = 3;

/** The point that is armed, and whether it was met. */
interface Trap {
  point: (typeof POINTS)[number] | null;
  met: number;
  commit: Moment | null;
}

describe('a process that ends anywhere in a reinstatement', () => {
  for (let chain = 0; chain < CHAINS; chain += 1) {
    const points = POINTS.filter((_, index) => index % CHAINS === chain);
    it.concurrent(`leaves the same world behind, from ${points.length} points (${chain + 1} of ${CHAINS})`, { timeout: 300_000 }, () => sweep(points));
  }
});

/** One suspension and reinstatement of the serving key after the other, each with one of the points. */
async function sweep(points: typeof POINTS): Promise<void> {
  const trap: Trap = { point: null, met: 0, commit: null };
  await withDatabase(async (pool) => {
    const test = await openTestWorld(pool);
    const traps = emergencies.map((workflow) => (workflow.name === reinstate.name ? trapped(workflow, trap, test) : workflow));
    const engine = await openTestEngine(pool, test, { emergencies: traps, pool: trappedPool(pool, trap) });
    const story = { pool, test, engine };
    test.cluster.add();
    await engine.accept(testRelease({ serial: 1, soakSeconds: 0, keepPreviousSeconds: 0 }));
    await engine.drive();
    const { rotation } = await engine.known(1);
    for (const [index, point] of points.entries()) {
      const revocation = testSuspension({ kind: 'key', workload: 'chat', epoch: 1 }, `suspected-${index}`);
      await engine.revoke(revocation);
      await engine.drive(
        async () => (await pool.query(`select 1 from runs where workflow = 'revoke' and waiting_for = 'Held' and ended_at is null`)).rowCount === 1,
      );
      // A held workload keeps its key: somebody else disabled it, so that there is something to enable.
      const [key] = test.kms.keys(rotation);
      await test.kms.disable(async () => ({ value: { rotation, keyId: key?.keyId ?? '' }, answered: async () => {} }));
      Object.assign(trap, { point, met: 0, commit: null });
      await engine.reinstate(testReinstatement(revocation), revocation);
      await driveThrough(story);
      const name = `${point.step} ${point.moment}`;
      expect(trap.met, `${name} was met`).toBe(1);
      expect(await endOf(story, revocation), name).toEqual({
        ...{ steps: reinstate.steps.map((step) => step.name), state: 'serving', pathNumber: index + 1, revoked: false, taken: false },
        ...{ keys: ['active'], granted: [1], stored: [1], lifted: index + 1, rows: index + 2, open: 0, sealed: 1 },
      });
    }
  });
}

/** Drives on whenever the process "ended": the next look is another one's. */
async function driveThrough({ engine }: Story): Promise<void> {
  for (;;) {
    try {
      await engine.drive();
      return;
    } catch (thrown) {
      if (!isCrash(thrown)) throw thrown;
    }
  }
}

async function endOf(story: Story, { digest }: Revocation) {
  const { engine, pool, test } = story;
  const { state, pathNumber, revoked, sealing, rotation } = await engine.known(1);
  const { rows } = await pool.query<{ id: string }>(`select id from runs where workflow = 'reinstate' and revocation = $1`, [digest]);
  const count = async (query: string) => (await pool.query(query)).rowCount;
  return {
    steps: (await runReceipts(pool, rows[0]?.id ?? '')).map(({ step }) => step),
    ...{ state, pathNumber, revoked, taken: sealing.taken },
    keys: test.kms.keys(rotation).map((key) => key.state),
    ...{ granted: granted(story), stored: stored(story), sealed: test.weights.sealed().length },
    lifted: await count('select 1 from documents where lifted_by is not null'),
    rows: await count('select 1 from resources'),
    open: await count('select 1 from runs where ended_at is null'),
  };
}

// ---------------------------------------------------------------- the traps

function trapped(workflow: Workflow<Revoked>, trap: Trap, test: TestWorld): Workflow<Revoked> {
  return { ...workflow, steps: workflow.steps.map((step) => trappedStep(step, trap, test)) };
}

function trappedStep(step: Step<Revoked>, trap: Trap, test: TestWorld): Step<Revoked> {
  const spring = (): Moment | null => (trap.point?.step === step.name && trap.met === 0 ? trap.point.moment : null);
  if (step.kind === 'effect') {
    const observe = async (look: Look<Revoked>) => {
      const seen = await step.observe(look);
      const moment = spring();
      // There without an act: every moment is the one before its receipt.
      if (seen.kind === 'seen' && moment !== null) meet(trap, moment);
      return seen;
    };
    return { ...step, observe, act: (look) => actTrapped(() => step.act(look), trap, spring(), test.network) };
  }
  const decide = async (look: Look<Revoked>) => {
    const moment = spring();
    if (moment === 'before') meet(trap, moment);
    const seen = await step.decide(look);
    if (seen.kind === 'not-yet' || moment === null) return seen;
    if (moment === 'before-commit') meet(trap, moment);
    trap.met += 1;
    trap.commit = moment;
    return seen;
  };
  return { ...step, decide };
}

async function actTrapped(act: () => Promise<void>, trap: Trap, moment: Moment | null, network: Network): Promise<void> {
  if (moment === null) return act();
  if (moment === 'before') meet(trap, moment);
  network.befall(/./, moment as Hazard);
  const writes = network.log.length;
  try {
    await act();
  } finally {
    if (network.armed() === 0) trap.met += 1;
    network.disarm();
  }
  if (trap.met === 0 && network.log.length === writes) meet(trap, moment);
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
    return new Proxy(client, { get: (target, name) => (name === 'query' ? query : bound(target, name)) });
  };
  return new Proxy(pool, { get: (target, name) => (name === 'connect' ? connect : bound(target, name)) });
}

function bound(target: object, name: string | symbol): unknown {
  const value: unknown = Reflect.get(target, name);
  return typeof value === 'function' ? value.bind(target) : value;
}
