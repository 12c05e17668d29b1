import { canonicalJson, type Json } from './json.ts';
import { type Known, type Release, targetName } from './release.ts';

/**
 * Whether a `keep` release only amends the revision that it would follow: other settings, or targets
 * beside those that it has. Then no revision is made and nothing else moves. Images, guests, and where
 * and how each present target is set must be the same; and an added target must use a guest that this
 * KBS knows already: another grant has to be published before a pod relies on it, by a revision. Pure.
 */
export function amends(known: Known, next: Release): boolean {
  const now = known.release;
  if (!same(now.images, next.images) || !same(guestsOf(now), guestsOf(next))) return false;
  const kept = now.targets.every((target) => next.targets.some((other) => same(placed(target), placed(other))));
  const granted = new Set(now.targets.map(({ kbs, guest }) => `${kbs} ${guest}`));
  return kept && next.targets.every(({ kbs, guest }) => granted.has(`${kbs} ${guest}`));
}

/** The targets that an amendment adds, by name. */
export function addedTargets(now: Release, next: Release): readonly string[] {
  const there = new Set(now.targets.map(targetName));
  return next.targets.map(targetName).filter((name) => !there.has(name));
}

/** What of a target an amendment must leave as it is: all but how many are waited for, and how long. */
function placed({ minimumAttested: _, retireWithoutSeconds: __, ...target }: Release['targets'][number]): object {
  return target;
}

/** The file that a guest's init-data lies in may have another name; its bytes may not differ. */
function guestsOf(release: Release): object {
  const entries = Object.entries(release.guests).map(([name, { initData, ...guest }]) => [name, { ...guest, initData: initData.digest }]);
  return Object.fromEntries(entries);
}

function same(a: object, b: object): boolean {
  return canonicalJson(a as Json) === canonicalJson(b as Json);
}
