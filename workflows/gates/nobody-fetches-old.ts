import { type Place, placesOf } from '../places.ts';
import { asTargetSays, isGoneWithout } from '../reach.ts';
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
  const { clusters, silent } = await clustersAt(look, kbs);
  const last = [...released].sort((a, b) => (a.at < b.at ? -1 : 1));
  // The last of each address: whether it came after the target served is all that counts.
  for (const fetch of new Map(last.map((one) => [one.address, one])).values()) {
    // Any boot, earlier or later: two pods never share an address at once, so whoever had it before a
    // pod of ours is gone, and a container that was restarted is a new boot of the same pod. But only
    // where guests of this KBS run: another cluster may use the same network.
    const boots = (await look.ledger.sightings(fetch.address)).filter(({ cluster }) => clusters.has(cluster));
    const late = fetch.at >= servingSince && !(boots.length > 0 && boots.every(({ cluster }) => silent.has(cluster)));
    if (late) return no('OldKeyFetched', `${path} by ${fetch.address} at ${fetch.at}`);
    if (boots.length === 0) return no('OldKeyFetched', `${path} by ${fetch.address} at ${fetch.at}, where no pod was seen`);
  }
  return released.length;
}

/** The clusters whose guests fetch at this KBS; `silent`: those of them that are no longer waited for, so that their pods' fetches are not either. */
async function clustersAt(look: Look, kbs: string): Promise<{ readonly clusters: ReadonlySet<string>; readonly silent: ReadonlySet<string> }> {
  const clusters = new Set<string>();
  const silent = new Set<string>();
  for (const place of look.subject.release.targets.filter((target) => target.kbs === kbs)) {
    clusters.add(place.cluster);
    const since = await look.ledger.silentSince(place.cluster);
    if (since !== null && isGoneWithout(asTargetSays(look.target, place), since, look.now)) silent.add(place.cluster);
  }
  return { clusters, silent };
}
