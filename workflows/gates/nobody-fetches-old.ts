import { type Place, placesOf } from '../places.ts';
import { type Gate, type Look, no, type Verdict, yes } from '../step.ts';

/**
 * Nobody fetched the old key since the target serves, and everybody who ever did is a pod that was
 * seen. Independent of what the cluster says now: it catches consumers that nobody listed. Silence
 * alone would prove nothing, since guests fetch at their start.
 */
export const nobodyFetchesOld: Gate = {
  name: 'nobody-fetches-old',
  ask: async (look) => {
    const servingSince = look.target?.at['confirm-serving'];
    if (servingSince === undefined) return no('TargetNotServing', look.subject.release.workload);
    const fetches: Record<string, number> = {};
    for (const place of placesOf(look.world, look.subject)) {
      const found = await releasedAt(look, place, servingSince);
      if (typeof found !== 'number') return found;
      fetches[place.path] = found;
    }
    return yes({ servingSince, fetches });
  },
};

/** How many fetches of the path are accounted for; a verdict where one is not. */
async function releasedAt(look: Look, { kbs, path }: Place, servingSince: string): Promise<number | Verdict> {
  const released = (await look.ledger.fetches(kbs, path, null)).filter((fetch) => fetch.decision === 'released');
  const late = released.find((fetch) => fetch.at >= servingSince);
  if (late !== undefined) return no('OldKeyFetched', `${path} by ${late.address} at ${late.at}`);
  for (const fetch of new Map(released.map((one) => [one.address, one])).values()) {
    // Any boot, earlier or later: two pods never share an address at once, so whoever had it before a
    // pod of ours is gone, and a container that was restarted is a new boot of the same pod.
    const boots = await look.ledger.sightings(fetch.address);
    if (boots.length === 0) return no('OldKeyFetched', `${path} by ${fetch.address} at ${fetch.at}, where no pod was seen`);
  }
  return released.length;
}
