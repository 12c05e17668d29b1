import { imageIsBound } from '../gates/image-is-bound.ts';
import { placesOf } from '../places.ts';
import { type Decision, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** From here on every KBS of the revision should hold its path, its grant and its reference values: their generations rise. */
export const goLive: Decision = { kind: 'decision', name: 'go-live', gates: [imageIsBound], moves: 'live', decide };

async function decide(look: Look): Promise<Seen | NotYet> {
  const places = placesOf(look.world, look.subject);
  for (const { kbs } of places) if (!(await look.ledger.takenOver(kbs))) return notYet('BaselineMissing', kbs);
  return seen({ places: places.map(({ kbs, path }) => ({ kbs, path })) });
}
