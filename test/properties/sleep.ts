import { later } from '#src/instant.ts';
import type { Clock, KeyBroker, KeyStore, Permit, Read, World } from '#src/world.ts';
import type { Step, Workflow } from '#workflows/step.ts';
import { crash } from '../world/hazards.ts';

/** Where a replica can fall asleep, as `<moment> <what>`: a look between two of its halves, a write between its leave and its sending. */
export type Point = `${'observed' | 'acting' | 'decided' | 'sending'} ${string}`;

/** One replica's sleep: it begins at the first point that matches, and lasts until somebody wakes it, or ends it. */
export interface Sleep {
  readonly at: Point;
  /** Resolves when it has fallen asleep. */
  readonly fallen: Promise<void>;
  readonly wake: () => void;
  /** Its process ends instead. */
  readonly die: () => void;
  /** Called wherever the replica comes by. */
  readonly pass: (point: Point) => Promise<void>;
}

/** A replica that will fall asleep at a point, once. */
export function openSleep(at: Point): Sleep {
  const fallen = Promise.withResolvers<void>();
  const woken = Promise.withResolvers<void>();
  const times = { left: 1 };
  return {
    at,
    fallen: fallen.promise,
    wake: woken.resolve,
    die: () => woken.reject(crash(at)),
    pass: async (point) => {
      if (!point.startsWith(at) || times.left === 0) return;
      times.left = 0;
      fallen.resolve();
      await woken.promise;
    },
  };
}

/** The workflows of a replica that may sleep between looking and acting, and between deciding and writing it down. */
export function sleepyWorkflows<S>(workflows: readonly Workflow<S>[], sleep: Sleep): readonly Workflow<S>[] {
  return workflows.map((workflow) => ({ ...workflow, steps: workflow.steps.map((step) => sleepyStep(step, sleep)) }));
}

function sleepyStep<S>(step: Step<S>, sleep: Sleep): Step<S> {
  if (step.kind === 'decision') {
    const decide: typeof step.decide = async (look) => {
      const found = await step.decide(look);
      if (found.kind === 'seen') await sleep.pass(`decided ${step.name}`);
      return found;
    };
    return { ...step, decide };
  }
  return {
    ...step,
    observe: async (look) => {
      const found = await step.observe(look);
      await sleep.pass(`observed ${step.name}`);
      return found;
    },
    act: async (look) => {
      await sleep.pass(`acting ${step.name}`);
      await step.act(look);
    },
  };
}

/** How tokens are made in a copy of the world: before what is sent is read, or (rule R2 off) after it. */
export type Tokens = 'before-read' | 'after-read';

/** The world of a replica that may sleep right before it sends. A KBS refuses what comes with a token that has expired meanwhile. */
export function sleepyWorld(world: World, clock: Clock, sleep: Sleep, tokens: Tokens): World {
  return {
    ...world,
    keyStore: (name) => sleepyStore(world.keyStore(name), sleep),
    broker: (name) => sleepyBroker(world.broker(name), clock, sleep, tokens),
    cluster: (name) => {
      const cluster = world.cluster(name);
      const pass = async (mine: () => Promise<boolean>): Promise<boolean> => {
        const answer = await mine();
        await sleep.pass(`sending ${name} patch`);
        return answer;
      };
      return { ...cluster, patch: (target, change, mine) => cluster.patch(target, change, () => pass(mine)) };
    },
  };
}

function sleepyStore(store: KeyStore, sleep: Sleep): KeyStore {
  const passing =
    <T>(read: Read<T>, verb: string): Read<T> =>
    async () => {
      const permit = await read();
      if (permit !== null) await sleep.pass(`sending ${store.name} ${verb}`);
      return permit;
    };
  return {
    ...store,
    create: (read) => store.create(passing(read, 'create')),
    disable: (read) => store.disable(passing(read, 'disable')),
    enable: (read) => store.enable(passing(read, 'enable')),
  };
}

function sleepyBroker(broker: KeyBroker, clock: Clock, sleep: Sleep, tokens: Tokens): KeyBroker {
  const passing = <T>(read: Read<T>, verb: string, seconds: number) => {
    const minted = clock();
    return async (): Promise<Permit<T> | null> => {
      const permit = await read();
      if (permit === null) return null;
      await sleep.pass(`sending ${broker.name} ${verb}`);
      const expired = tokens === 'before-read' && later(await minted, seconds) <= (await clock());
      return expired ? null : permit;
    };
  };
  const { policy, referenceValue, resource } = broker.lateWriteSeconds;
  return {
    ...broker,
    publishPolicy: (read) => broker.publishPolicy(passing(read, 'policy', policy)),
    publishReferenceValues: (read) => broker.publishReferenceValues(passing(read, 'referenceValue', referenceValue)),
    putResource: (read, unwrap) => broker.putResource(passing(read, 'resource', resource), unwrap),
    deleteResource: (read) => broker.deleteResource(passing(read, 'delete', resource)),
  };
}
