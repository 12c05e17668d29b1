import type { Sent } from '#src/domain/kbs.ts';
import { type Place, placesOf } from '../places.ts';
import { unwrapResource } from '../resource.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** The key, at the revision's own path of every KBS. What a KBS stores cannot be read back: its answer is all there is. */
export const putResource: Effect = { kind: 'effect', name: 'put-resource', observe, act };

async function observe(look: Look): Promise<Seen | NotYet> {
  const places = placesOf(look.world, look.subject);
  for (const place of places) if ((await acknowledged(look, place)) === null) return notYet('ResourceUnanswered', `${place.kbs} ${place.path}`);
  return seen({ places: places.map(({ kbs, path }) => ({ kbs, path })) }, { proof: 'accepted' });
}

async function act(look: Look): Promise<void> {
  for (const place of placesOf(look.world, look.subject)) {
    if ((await acknowledged(look, place)) !== null) continue;
    const read = look.ledger.bytes(look.run, place.kbs, place.path);
    await look.world.broker(place.kbs).putResource(read, (wrapped) => unwrapResource(look.world, look.subject, wrapped));
  }
}

/** The write that the KBS said it took, with no deletion sent since. */
async function acknowledged(look: Look, place: Place): Promise<Sent | null> {
  const puts = await look.ledger.sends(place.kbs, 'resource', place.path);
  const deletions = await look.ledger.sends(place.kbs, 'delete', place.path);
  const lastDeletion = Math.max(0, ...deletions.map((sent) => sent.id));
  return puts.findLast((sent) => sent.id > lastDeletion && sent.answer !== null && sent.answer.type === null) ?? null;
}
