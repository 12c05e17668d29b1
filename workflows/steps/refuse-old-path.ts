import type { Json } from '#src/domain/json.ts';
import type { KeyPath } from '#src/domain/paths.ts';
import { keyPath } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import { earliest } from '#src/instant.ts';
import type { KeyBroker, ProberEvidence } from '#src/world.ts';
import { type Place, placesOf } from '../places.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { initDataOf } from '../template.ts';

/** The old path is refused: by the broker's policy, and by every proxy before the broker is asked. Asked as a guest that gets the new one. */
export const refuseOldPath: Effect = { kind: 'effect', name: 'refuse-old-path', observe, act };

async function observe(look: Look): Promise<Seen | NotYet> {
  const refusals: Json[] = [];
  let observed = true;
  for (const place of placesOf(look.world, look.subject)) {
    if ((await look.ledger.sends(place.kbs, 'resource', place.path)).length === 0) {
      refusals.push({ ...place, asked: 'nothing was ever put there' });
      continue;
    }
    const found = await refusedAt(look, place);
    if ('kind' in found) return found;
    observed &&= found.observed;
    refusals.push({ ...place, ...found.evidence });
  }
  return seen({ refusals }, { proof: observed ? 'observed' : 'accepted' });
}

/**
 * Nothing: the policy was published by the step before and is kept by its keeper, and proxies follow
 * the deny-list by themselves. What is left is to wait until they say so.
 */
async function act(): Promise<void> {}

interface Refused {
  /** Whether a guest was asked, whose answers mean something: the same one gets the new path. */
  readonly observed: boolean;
  readonly evidence: { readonly [name: string]: Json };
}

async function refusedAt(look: Look, { kbs, path }: Place): Promise<Refused | NotYet> {
  const behind = await look.ledger.proxiesBehind(kbs, path);
  if (behind.length > 0) return notYet('ProxyNotCaughtUp', behind.map(({ proxy }) => proxy).join(', '), earliest(behind.map(({ until }) => until)));
  const guests = [look.target, look.subject].flatMap((known) => (known === null ? [] : evidenceOf(known, kbs)));
  // A hardened KBS has no sample verifier: nobody of ours can be attested there.
  if (guests.length === 0) return { observed: false, evidence: { asked: 'no guest asked' } };
  const broker = look.world.broker(kbs);
  const served = await servedTo(broker, path, guests);
  if (served !== null) return notYet('OldPathServed', `${path} ${served}`);
  const control = await controlOf(look, broker);
  return { observed: control === 'released', evidence: { guests: guests.length, control } };
}

/** By whom the path is not refused as it should be; null: refused to all, everywhere. */
export async function servedTo(broker: KeyBroker, path: KeyPath, guests: readonly ProberEvidence[]): Promise<string | null> {
  for (const guest of guests) {
    const atBroker = await broker.ask(path, guest, 'broker');
    const wrong = atBroker.find((answer) => answer.type !== 'PolicyDeny');
    if (atBroker.length === 0 || wrong !== undefined) return `at the broker: ${wrong?.type ?? wrong?.status ?? 'no answer'}`;
    const atProxy = await broker.ask(path, guest, 'proxy');
    const through = atProxy.find((answer) => answer.status === 200 || answer.type === null);
    if (atProxy.length === 0 || through !== undefined) return `at the proxy: ${through?.status ?? 'no answer'}`;
  }
  return null;
}

/** What the target's own guests get at the new path: a refusal proves little where nothing is released at all. */
async function controlOf(look: Look, broker: KeyBroker): Promise<string> {
  const guests = look.target === null ? [] : evidenceOf(look.target, broker.name);
  if (look.target === null || guests.length === 0) return 'not asked';
  for (const guest of guests) {
    const answers = await broker.ask(keyPath(broker.repository, look.target), guest, 'proxy');
    const refusal = answers.find((answer) => answer.status !== 200);
    if (answers.length === 0 || refusal !== undefined) return refusal?.type ?? 'no answer';
  }
  return 'released';
}

/** The guests of a revision at this KBS, each once, where their TEE is one that we can present. */
export function evidenceOf(known: Known, kbs: string): readonly ProberEvidence[] {
  const guests = new Map<string, ProberEvidence>();
  for (const target of known.release.targets.filter((place) => place.kbs === kbs)) {
    const guest = known.release.guests[target.guest];
    const svn = guest?.tee === 'sample' ? guest.referenceValues.svn?.[0] : undefined;
    if (svn !== undefined) guests.set(target.guest, { tee: 'sample', svn: String(svn), initData: initDataOf(known, target) });
  }
  return [...guests.values()];
}
