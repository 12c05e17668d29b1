import type { WriteKind } from '#src/domain/kbs.ts';
import { type Instant, later } from '#src/instant.ts';
import { type Place, placesOf } from '../places.ts';
import { type Decision, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { publishPolicy } from './publish-policy.ts';
import { publishReferenceValues } from './publish-reference-values.ts';
import { putResource } from './put-resource.ts';

const KINDS: readonly WriteKind[] = ['policy', 'referenceValue', 'resource'];

/** All three are there, looked at anew, and no write of an older generation can land any more: pods may rely on it (R4). */
export const confirmPublished: Decision = { kind: 'decision', name: 'confirm-published', moves: 'published', decide };

async function decide(look: Look): Promise<Seen | NotYet> {
  const places = placesOf(look.world, look.subject);
  // Late writes first: what is seen before they can no longer land proves nothing.
  for (const place of places) {
    const late = await lateWrite(look, place);
    if (late !== null) return late;
  }
  const evidence = [];
  for (const effect of [publishReferenceValues, putResource, publishPolicy]) {
    const found = await effect.observe(look);
    if (found.kind === 'not-yet') return found;
    evidence.push({ step: effect.name, evidence: found.evidence, proof: found.proof });
  }
  return seen({ effects: evidence });
}

/** A KBS has no compare-and-set: a write that was sent with an older want lands whenever it lands, until its token has expired there. */
async function lateWrite(look: Look, { kbs, path }: Place): Promise<NotYet | null> {
  const generation = look.run.generations[kbs];
  if (generation === undefined) return notYet('PolicyNotInstalled', `${kbs} was given no generation by go-live`);
  const { lateWriteSeconds } = look.world.broker(kbs);
  let until: Instant | null = null;
  for (const kind of KINDS) {
    const sends = await look.ledger.sends(kbs, kind, ...(kind === 'resource' ? [path] : []));
    for (const sent of sends) {
      const over = later(sent.at, lateWriteSeconds[kind]);
      if (sent.generation < generation && over > look.now && (until === null || over > until)) until = over;
    }
  }
  return until === null ? null : notYet('LateWritesPossible', `${kbs} generation ${generation}`, until);
}
