import type { TargetDocument } from '#src/domain/documents/release.ts';
import type { Json } from '#src/domain/json.ts';
import type { Fetch } from '#src/domain/kbs.ts';
import { type Known, targetName } from '#src/domain/release.ts';
import { type Instant, later } from '#src/instant.ts';
import { type Place, placesOf } from '../places.ts';
import { PODS_GOOD_SECONDS } from '../pods.ts';
import { type Gate, type Look, no, type Verdict, yes } from '../step.ts';
import { ROTATION_ANNOTATION, rotationOf } from '../template.ts';

/** A guest that is refused asks again and again: one that has been silent for this long was given up. Seconds. */
const SILENT_SECONDS = 86_400;

/**
 * A last look at who still uses a retired key, over every revision that ever had it: no template names
 * one, no pod in any phase has the spec of one, nobody was given the key since it was disabled, no attested
 * guest has asked for it in the last day, and no other key's ciphertext is being made from its own.
 */
export const nobodyUsesKey: Gate = {
  name: 'nobody-uses-key',
  ask: async (look) => {
    const { sealing } = look.subject;
    const making = await look.ledger.madeFrom(sealing.id);
    if (making.length > 0) return no('KeyInUse', `${making.join(', ')} is being re-encrypted from it`);
    const revisions = await look.ledger.revisionsOf(sealing.id);
    const rotations = new Set(revisions.map(({ rotation }) => rotation));
    const objects: Record<string, Json> = {};
    for (const target of targetsOf(look, revisions)) {
      const found = await usedAt(look, target, rotations);
      if (typeof found === 'object') return found;
      objects[targetName(target)] = found;
    }
    const since = (await disabledAt(look)) ?? later(look.now, -SILENT_SECONDS);
    for (const place of revisions.flatMap((known) => placesOf(look.world, known))) {
      const asking = await askedAt(look, place, since);
      if (asking !== null) return asking;
    }
    return yes({ revisions: [...rotations], objects, silentSince: since }, later(look.now, PODS_GOOD_SECONDS));
  },
};

/** Where its revisions ran, and where the workload runs now; each object once. */
function targetsOf(look: Look, revisions: readonly Known[]): readonly TargetDocument[] {
  const all = [...revisions, ...(look.target === null ? [] : [look.target])].flatMap(({ release }) => release.targets);
  return [...new Map(all.map((target) => [targetName(target), target])).values()];
}

/** How many pods there are, none of them of these rotations; a verdict where one is. */
async function usedAt(look: Look, target: TargetDocument, rotations: ReadonlySet<string>): Promise<string | Verdict> {
  const cluster = look.world.cluster(target.cluster);
  const found = await cluster.object(target);
  if (found === null) return 'gone';
  if (rotations.has(rotationOf(found.object) ?? '')) return no('KeyInUse', `${targetName(target)} names it`);
  const pods = await cluster.pods(target);
  const old = pods.find((pod) => rotations.has(pod.annotations[ROTATION_ANNOTATION] ?? ''));
  return old === undefined ? `${pods.length} pods` : no('KeyInUse', `${targetName(target)} ${old.name}`);
}

async function askedAt(look: Look, { kbs, path }: Place, since: Instant): Promise<Verdict | null> {
  const fetches = await look.ledger.fetches(kbs, path, since);
  const released = fetches.find(({ decision }) => decision === 'released');
  if (released !== undefined) return no('OldKeyFetched', saidOf(released));
  // Anybody can ask: only who was attested has a machine that wants the key.
  const silent = later(look.now, -SILENT_SECONDS);
  const last = fetches.findLast(({ handshake, at }) => handshake !== null && at > silent);
  return last === undefined ? null : no('OldKeyFetched', saidOf(last), later(last.at, SILENT_SECONDS));
}

function saidOf({ path, address, at, decision }: Fetch): string {
  return `${path} ${decision} to ${address} at ${at}`;
}

/** When its key was told to be disabled for the last time; null where we never had to. */
async function disabledAt(look: Look): Promise<Instant | null> {
  const { sealing, release } = look.subject;
  const sends = await look.ledger.keySends(release.key.store, sealing.rotation);
  return sends.findLast(({ verb, path }) => verb === 'disable' && path === sealing.facts.keyId)?.at ?? null;
}
