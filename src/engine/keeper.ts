import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { brokerRows } from '#state/brokers.ts';
import type { Answer } from '../domain/kbs.ts';
import { probePath } from '../domain/paths.ts';
import type { KeyBroker, ProberEvidence } from '../world.ts';
import type { Engine } from './look.ts';

/** The prober's face where only the probe paths are asked: it needs to be nobody in particular. */
const NOBODY: ProberEvidence = { tee: 'sample', svn: '0', initData: null };

/** What the keeper found and did at one KBS. */
export type Kept = 'in-order' | 'published' | 'not-taken-over' | 'not-begun';

/**
 * Holds a KBS to what it should hold, whoever wrote there last: where the installed policy or a
 * reference value is behind or foreign, both are published again, whole (DESIGN §5, *A keeper per
 * KBS*). It asks no claim, because whatever it sends is read in one transaction right before it is
 * sent (P10 of the model): it can be late, never wrong. The policy comes first, and neither waits for the
 * other: what is revoked is refused although the service of reference values is down. Throws Fault.
 */
export async function keep(engine: Engine, kbs: string): Promise<Kept> {
  const { ledger, world } = engine;
  if (!(await ledger.takenOver(kbs))) return 'not-taken-over';
  // The first write is a run's: it looks for values of others that the baseline forgot, and the keeper must not be faster.
  if (!(await ledger.sends(kbs, 'referenceValue')).some(({ answer }) => answer?.type === null)) return 'not-begun';
  const broker = world.broker(kbs);
  const wanted = await ledger.wanted(kbs);
  const policy = async (): Promise<boolean> => {
    const inOrder = (await policyInOrder(broker, wanted.generation)) && !(await isFromLater(engine, broker, wanted.generation));
    if (!inOrder) await broker.publishPolicy(ledger.want(null, kbs, 'policy'));
    return inOrder;
  };
  const values = async (): Promise<boolean> => {
    const inOrder = await valuesInOrder(broker, wanted.referenceValues);
    if (!inOrder) await broker.publishReferenceValues(ledger.want(null, kbs, 'referenceValue'));
    return inOrder;
  };
  const [first] = await Promise.allSettled([policy()]);
  const second = await values();
  if (first.status === 'rejected') throw first.reason;
  return first.value && second ? 'in-order' : 'published';
}

/** `keep` for every KBS; one that fails delays none of the others. */
export async function keepAll(engine: Engine): Promise<void> {
  const { pool, log } = engine;
  const brokers = await brokerRows(pool);
  const outcomes = await Promise.allSettled(brokers.map(async ({ name }) => ({ name, kept: await keep(engine, name) })));
  outcomes.forEach((outcome, place) => {
    const kbs = brokers[place]?.name;
    if (outcome.status === 'rejected') log.warn({ kbs, fault: String(outcome.reason) }, 'the keeper could not look at a KBS');
    else if (outcome.value.kept === 'published') log.info({ kbs }, 'the keeper published what was behind or foreign');
  });
}

async function valuesInOrder(broker: KeyBroker, values: Readonly<Record<string, unknown>>): Promise<boolean> {
  for (const [name, value] of Object.entries(values)) {
    if (!isDeepStrictEqual(await broker.referenceValue(name), value)) return false;
  }
  return true;
}

/**
 * Whether the installed text knows a number that we have not come to: it is from before our database was set
 * back, and would pass for every text up to that number, whatever was revoked since. A number that rose while
 * we asked is a later want of ours.
 */
async function isFromLater({ ledger }: Engine, broker: KeyBroker, generation: number): Promise<boolean> {
  const next = await broker.ask(probePath(generation + 1), NOBODY, 'broker');
  return next.some(({ type }) => type !== 'PolicyDeny') && (await ledger.wanted(broker.name)).generation === generation;
}

async function policyInOrder(broker: KeyBroker, generation: number): Promise<boolean> {
  const own = await broker.ask(probePath(generation), NOBODY, 'broker');
  const strange = await broker.ask(`keyturn/probe/x${randomBytes(6).toString('hex')}`, NOBODY, 'broker');
  const all = (answers: readonly Answer[], type: string): boolean => answers.length > 0 && answers.every((answer) => answer.type === type);
  return all(own, 'PluginInternalError') && all(strange, 'PolicyDeny');
}
