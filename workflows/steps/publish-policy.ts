import { randomBytes } from 'node:crypto';
import type { Json } from '#src/domain/json.ts';
import type { Answer } from '#src/domain/kbs.ts';
import { probePath } from '#src/domain/paths.ts';
import type { ProberEvidence } from '#src/world.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** What the policy lets ask for the probe path: any sample evidence. It gets nothing: nothing is stored there. */
const PROBER: ProberEvidence = { tee: 'sample', svn: '0', initData: null };

/**
 * What every KBS of the run's move releases keys on: one text over all workloads. It cannot be read,
 * so it is asked (DESIGN §8, *Reading a policy back*): the probe path of a generation that the text
 * knows is allowed and empty, and a path that no text of ours knows is denied.
 */
export const publishPolicy: Effect<unknown> = { kind: 'effect', name: 'publish-policy', observe, act };

async function observe(look: Look<unknown>): Promise<Seen | NotYet> {
  const found: Record<string, Json> = {};
  for (const [kbs, generation] of generationsOf(look)) {
    const answer = await installedIn(look, kbs, generation);
    if (answer.kind === 'not-yet') return answer;
    found[kbs] = { generation, replicas: answer.replicas };
  }
  return seen({ brokers: found });
}

async function act(look: Look<unknown>): Promise<void> {
  for (const [kbs, generation] of generationsOf(look)) {
    if ((await installedIn(look, kbs, generation)).kind === 'installed') continue;
    await look.world.broker(kbs).publishPolicy(look.ledger.want(look.run, kbs, 'policy'));
  }
}

function generationsOf(look: Look<unknown>): readonly (readonly [string, number])[] {
  return Object.entries(look.run.generations).sort(([a], [b]) => (a < b ? -1 : 1));
}

async function installedIn(look: Look<unknown>, kbs: string, generation: number): Promise<{ readonly kind: 'installed'; readonly replicas: number } | NotYet> {
  const broker = look.world.broker(kbs);
  const known = await broker.ask(probePath(generation), PROBER, 'broker');
  const unknown = await broker.ask(`keyturn/probe/x${randomBytes(8).toString('hex')}`, PROBER, 'broker');
  // No replica answered: nothing was proven.
  if (known.length === 0 || known.length !== unknown.length) return notYet('PolicyNotInstalled', `${kbs}: ${known.length} replicas answered`);
  for (const [replica, answer] of known.entries()) {
    const other = unknown[replica];
    if (isEmptyAndAllowed(answer) && isDenied(other)) continue;
    if (isDenied(answer) && isDenied(other)) return notYet('PolicyNotInstalled', `${kbs} generation ${generation}`);
    return notYet('PolicyOverwritten', `${kbs}: ${answer.type ?? answer.status}, ${other?.type ?? other?.status ?? 'no answer'}`);
  }
  return { kind: 'installed', replicas: known.length };
}

function isEmptyAndAllowed(answer: Answer): boolean {
  return answer.type === 'PluginInternalError';
}

function isDenied(answer: Answer | undefined): boolean {
  return answer?.type === 'PolicyDeny';
}
