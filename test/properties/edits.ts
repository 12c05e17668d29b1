/** How parts of the world, the ledger and the workflows are taken over in a copy, one at a time. */
import type { Revoked } from '#src/domain/revocation-run.ts';
import type { Ledger } from '#src/ledger.ts';
import type { Cluster, KeyBroker, World } from '#src/world.ts';
import type { Look, Step, Workflow } from '#workflows/step.ts';
import type { Copy } from './copy.ts';

type Workflows = readonly Workflow[];

/** Changes one step of every workflow that has it. */
export function withStep(name: string, change: (step: Step) => Step): (workflows: Workflows) => Workflows {
  return (workflows) => workflows.map((workflow) => ({ ...workflow, steps: workflow.steps.map((step) => (step.name === name ? change(step) : step)) }));
}

/** Orders the steps of one workflow anew; a step that is not named is left out. */
export function inOrder(name: string, steps: (names: readonly string[]) => readonly string[]): (workflows: Workflows) => Workflows {
  return (workflows) =>
    workflows.map((workflow) => {
      if (workflow.name !== name) return workflow;
      const names = steps(workflow.steps.map((step) => step.name));
      return { ...workflow, steps: names.flatMap((one) => workflow.steps.find((step) => step.name === one) ?? []) };
    });
}

/** A step that sees another ledger, or another world. */
export function seeing(step: Step, change: (look: Look) => Partial<Look>): Step {
  const through =
    <T>(fn: (look: Look) => Promise<T>) =>
    (look: Look): Promise<T> =>
      fn({ ...look, ...change(look) });
  return step.kind === 'decision' ? { ...step, decide: through(step.decide) } : { ...step, observe: through(step.observe), act: through(step.act) };
}

/** The same of a step of a revocation or a reinstatement. */
export function seeingRevoked(name: string, change: (look: Look<Revoked>) => Partial<Look<Revoked>>): NonNullable<Copy['emergencies']> {
  const through =
    <T>(fn: (look: Look<Revoked>) => Promise<T>) =>
    (look: Look<Revoked>): Promise<T> =>
      fn({ ...look, ...change(look) });
  return (workflows) =>
    workflows.map((workflow) => ({
      ...workflow,
      steps: workflow.steps.map((step) =>
        step.kind === 'effect' && step.name === name ? { ...step, observe: through(step.observe), act: through(step.act) } : step,
      ),
    }));
}

/** A step without gates of its own. */
export function ungated(step: Step): Step {
  return { ...step, gates: [] };
}

/** A look whose ledger gives writes to KBSs otherwise. */
export function withSends(look: Look, change: (sends: Awaited<ReturnType<Ledger['sends']>>) => Awaited<ReturnType<Ledger['sends']>>): Partial<Look> {
  return { ledger: { ...look.ledger, sends: async (kbs, verb, path) => change(await look.ledger.sends(kbs, verb, path)) } };
}

/** A world whose KBSs behave otherwise. */
export function withBroker(change: (broker: KeyBroker) => Partial<KeyBroker>): (world: World) => World {
  return (world) => ({ ...world, broker: (name) => ({ ...world.broker(name), ...change(world.broker(name)) }) });
}

/** A world whose clusters behave otherwise. */
export function withCluster(change: (cluster: Cluster) => Partial<Cluster>): (world: World) => World {
  return (world) => ({ ...world, cluster: (name) => ({ ...world.cluster(name), ...change(world.cluster(name)) }) });
}

/** An annotation of an object, as a look is to see it. */
export function annotated(look: Pick<Look, 'world'>, name: string, value: string): Pick<Look, 'world'> {
  const world = withCluster((cluster) => ({
    object: async (target) => {
      const found = await cluster.object(target);
      return found === null ? null : { ...found, annotations: { ...found.annotations, [name]: value } };
    },
  }))(look.world);
  return { world };
}
