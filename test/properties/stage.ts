import type pg from 'pg';
import { keep } from '#src/engine/keeper.ts';
import type { Engine } from '#src/engine/look.ts';
import { lookAt } from '#src/engine/run.ts';
import { sightAll } from '#src/engine/sight.ts';
import { isFault } from '#src/errors.ts';
import { openLedger } from '#state/ledger.ts';
import { emergencies, workflows } from '#workflows/index.ts';
import { no, type Workflow, yes } from '#workflows/step.ts';
import { openTestEngine, type TestEngine } from '../world/engine.ts';
import { isCrash } from '../world/hazards.ts';
import { openTestWorld, type TestWorld } from '../world.ts';
import { type Copy, rewritten } from './copy.ts';
import { openSleep, type Point, type Sleep, sleepyWorkflows, sleepyWorld } from './sleep.ts';
import { openWatch, type Watch } from './watch.ts';

/** How far the clock goes where nothing else goes on. Seconds. */
const REST_SECONDS = 20;
const PODS = 2;
/** As many as a release takes to serve. */
const UNTIL_ROUNDS = 15;

/** A replica that sleeps in the middle of something. */
export interface Sleeper {
  readonly sleep: Sleep;
  readonly done: Promise<unknown>;
}

/** Holds runs of a workflow before a step. */
interface Brake {
  readonly workflow: string;
  readonly before: string | undefined;
  met: boolean;
}

/** All that a story plays with. */
export interface Stage {
  readonly pool: pg.Pool;
  readonly test: TestWorld;
  readonly accepting: TestEngine;
  readonly engine: Engine;
  readonly copy: Copy;
  readonly watch: Watch;
  readonly brake: { current: Brake | null };
  readonly sleepers: Sleeper[];
  readonly strays: (() => void)[];
  readonly last: { serial: number; svn: string; image: string | undefined; revocations: number; withdrawals: number };
}

/** Empties the database and opens a world on it, with one Deployment and, in a copy, what differs there. */
export async function openStage(pool: pg.Pool, copy: Copy): Promise<Stage> {
  await empty(pool);
  const test = await openTestWorld(pool, { listingLagSeconds: 3, disableLagSeconds: 2, disabledProofSeconds: 5 });
  copy.prepare?.(test);
  const accepting = await openTestEngine(rewritten(pool, copy, 'acceptance'), test);
  const looking = rewritten(pool, copy, 'looks');
  const brake: Stage['brake'] = { current: null };
  const { loaders } = accepting.engine;
  const engine: Engine = {
    ...accepting.engine,
    pool: looking,
    ledger: openLedger({ pool: looking, installation: 'test', signer: test.world.signer, loaders }),
    world: copy.world?.(test.world, test) ?? test.world,
    workflows: (copy.workflows?.(workflows) ?? workflows).map((workflow) => braked(workflow, brake)),
    emergencies: (copy.emergencies?.(emergencies) ?? emergencies).map((workflow) => braked(workflow, brake)),
    owner: 'replica-1',
  };
  test.cluster.add({ replicas: PODS });
  const last = { serial: 0, svn: '', image: undefined, revocations: 0, withdrawals: 0 };
  return { pool, test, accepting, engine, copy, brake, last, sleepers: [], strays: [], watch: openWatch({ pool, test, loaders }) };
}

/** Deleting rows is quicker than truncating two dozen tables. The rows' numbers go on. */
async function empty(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ name: string }>(
    `select quote_ident(tablename) as name from pg_tables where schemaname = 'public' and tablename not in ('installation', 'migrations')`,
  );
  await pool.query(`begin; set local session_replication_role = replica; ${rows.map(({ name }) => `delete from ${name};`).join(' ')}
    update installation set clock_offset = '0'; commit`);
}

function braked<S>(workflow: Workflow<S>, brake: Stage['brake']): Workflow<S> {
  const names = workflow.steps.map(({ name }) => name);
  return {
    ...workflow,
    steps: workflow.steps.map((step, place) => ({
      ...step,
      gates: [
        {
          name: 'brake',
          ask: async () => {
            const { current } = brake;
            const held = current?.workflow === workflow.name && current.before !== undefined && place >= names.indexOf(current.before);
            if (current === null || !held) return yes(null);
            current.met = true;
            return no('Held', 'the test');
          },
        },
        ...(step.gates ?? []),
      ],
    })),
  };
}

/** What another look would go on from. */
export async function surviving<T>(task: Promise<T>): Promise<T | null> {
  try {
    return await task;
  } catch (thrown) {
    if (isCrash(thrown) || isFault(thrown)) return null;
    throw thrown;
  }
}

/** An end of the process after so many steps of a look. */
function signalAfter(steps: number): AbortSignal {
  const left = { steps };
  const signal = new AbortController().signal;
  return new Proxy(signal, {
    get: (target, name) => {
      if (name !== 'aborted') return Reflect.get(target, name) as unknown;
      left.steps -= 1;
      return left.steps < 0;
    },
  });
}

/** The open runs, those of the oldest revision first. */
async function openRuns(pool: pg.Pool): Promise<readonly { readonly id: string; readonly workflow: string }[]> {
  const { rows } = await pool.query<{ id: string; workflow: string }>('select id, workflow from runs where ended_at is null order by revision, workflow');
  return rows;
}

/** A look at every open run, and what the cluster does meanwhile. Returns whether nothing went on, so that only time helps. */
export async function round(stage: Stage, steps = 40): Promise<'rest' | 'on' | 'none'> {
  const { pool, engine, test, watch } = stage;
  const looks: string[] = [];
  let receipts = await watch.written();
  for (const { id } of await openRuns(pool)) {
    const before = [receipts, test.network.log.length];
    const looked = await surviving(lookAt(engine, id, signalAfter(steps)));
    const written = await watch.written();
    looks.push(looked?.kind === 'resting' && written === receipts ? 'rest' : 'on');
    receipts = written;
    // A look that wrote nothing anywhere has changed nothing.
    if (before[0] !== receipts || before[1] !== test.network.log.length) await watch.check();
  }
  const before = podsOf(test);
  await test.cluster.tick();
  await surviving(sightAll(engine));
  if (before !== podsOf(test)) await watch.check();
  // A roll that a human began goes on where no run is open, too.
  if (looks.includes('on') || before !== podsOf(test)) return 'on';
  return looks.length === 0 ? 'none' : 'rest';
}

/** Without the name of the boot: a pod that cannot start tries for ever. */
function podsOf(test: TestWorld): string {
  return JSON.stringify(test.cluster.all().map(({ uid, terminating, ready }) => [uid, terminating, ready]));
}

/** Rounds; where all rest, time goes on. */
export async function rounds(stage: Stage, most: number, until: () => Promise<boolean> = async () => false, steps = 40): Promise<void> {
  for (let done = 0; done < most; done += 1) {
    const looked = await round(stage, steps);
    if (looked === 'none' || (await until())) return;
    if (looked === 'rest') await stage.test.advance(REST_SECONDS);
  }
}

/** Rounds until a run of the workflow has done this step and is held before the next; a look at others does all it can. */
export async function drivenUntil(stage: Stage, workflow: string, after: string): Promise<void> {
  const names = [...workflows, ...emergencies].find(({ name }) => name === workflow)?.steps.map(({ name }) => name) ?? [];
  const brake: Brake = { workflow, before: names[names.indexOf(after) + 1], met: false };
  const times = async (): Promise<number> => {
    const sql = 'select 1 from receipts c join runs r on r.id = c.run where r.workflow = $1 and c.step = $2';
    return (await stage.pool.query(sql, [workflow, after])).rowCount ?? 0;
  };
  const before = await times();
  stage.brake.current = brake;
  await rounds(stage, UNTIL_ROUNDS, async () => brake.met || (await times()) > before);
  stage.brake.current = null;
}

/** Another replica looks, and falls asleep where it is told; where it never comes by there, its look is over. */
export async function asleep(stage: Stage, at: Point, task: (engine: Engine) => Promise<unknown>): Promise<void> {
  const sleep = openSleep(at);
  const { engine, test, copy, sleepers } = stage;
  const other: Engine = {
    ...engine,
    owner: `replica-${sleepers.length + 2}`,
    world: sleepyWorld(engine.world, test.clock, sleep, copy.tokens ?? 'before-read'),
    workflows: sleepyWorkflows(engine.workflows, sleep),
    emergencies: sleepyWorkflows(engine.emergencies, sleep),
  };
  const done = surviving(task(other));
  // A bug is told when it is woken.
  done.catch(() => undefined);
  const fell = await Promise.race([sleep.fallen.then(() => true), done.then(() => false)]);
  if (fell) sleepers.push({ sleep, done });
}

/** Which step sends what. */
const SENT_BY: Readonly<Record<string, string>> = {
  'kms create': 'create-key',
  'main policy': 'publish-policy',
  'main referenceValue': 'publish-reference-values',
  'main resource': 'put-resource',
  'east patch': 'patch-template',
  'main delete': 'delete-resource',
  'kms disable': 'disable-key',
};

/** The same in emergencies, where it is another. */
const SENT_BY_IN: Readonly<Record<string, typeof SENT_BY>> = {
  revoke: { 'east patch': 'touch-objects', 'main delete': 'delete-resources', 'kms disable': 'disable-keys' },
  reinstate: { 'main delete': 'delete-former-resources', 'kms enable': 'enable-keys' },
};

/** The newest open run of a workflow comes to the step where another replica is to sleep; then that one looks. */
export async function looksAsleep(stage: Stage, workflow: string, at: Point): Promise<void> {
  const newestRun = async () => (await openRuns(stage.pool)).findLast((one) => one.workflow === workflow);
  if ((await newestRun()) === undefined) return;
  const what = at.slice(at.indexOf(' ') + 1);
  const brake: Brake = { workflow, before: SENT_BY_IN[workflow]?.[what] ?? SENT_BY[what] ?? what, met: false };
  stage.brake.current = brake;
  await rounds(stage, UNTIL_ROUNDS, async () => brake.met);
  stage.brake.current = null;
  const run = await newestRun();
  if (run !== undefined) await asleep(stage, at, (engine) => lookAt(engine, run.id));
}

/** The keeper of another replica, asleep before it sends a policy. */
export function keepsAsleep(stage: Stage): Promise<void> {
  return asleep(stage, 'sending main policy', (engine) => keep(engine, 'main'));
}

/** The first that fell asleep goes on. */
export async function woken({ sleepers, test }: Stage): Promise<void> {
  const sleeper = sleepers.shift();
  // What befalls its write is drawn for writes whose token is fresh.
  if (sleeper !== undefined) test.network.disarm();
  sleeper?.sleep.wake();
  await sleeper?.done;
}

/** The process of the first that fell asleep ends; another replica goes on from the rows. */
export async function ended({ sleepers }: Stage): Promise<void> {
  const sleeper = sleepers.shift();
  sleeper?.sleep.die();
  await sleeper?.done;
}
