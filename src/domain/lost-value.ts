import type { PlatformDocument, ReleaseDocument } from './documents/release.ts';
import type { Json } from './json.ts';
import type { IsRevokedValue } from './revoked.ts';
import { isGrantClaim } from './want.ts';

/**
 * A guest of the release's targets that has no other value left of a name that was revoked: nobody can be
 * that guest any more. null: there is none. Of a name that grants are written on only what the release
 * itself lists is good; of any other, what the guest's platform lists too.
 */
export function guestWithoutValue(release: ReleaseDocument, platforms: readonly PlatformDocument[], isRevoked: IsRevokedValue): string | null {
  const used = new Set(release.targets.map(({ guest }) => guest));
  const found = Object.entries(release.guests).find(([name, { tee, platform, referenceValues }]) => {
    if (!used.has(name)) return false;
    const machines = platforms.filter((one) => one.id === platform && one.tee === tee).flatMap((one) => Object.entries(one.referenceValues));
    const lists = Map.groupBy(
      [...Object.entries(referenceValues).map((list) => ({ list, own: true })), ...machines.map((list) => ({ list, own: false }))],
      ({ list }) => list[0],
    );
    return [...lists].some(([value, all]) => {
      const good = all.filter(({ own }) => own || !isGrantClaim(tee, value)).flatMap(({ list }): readonly Json[] => list[1]);
      return good.length > 0 && good.every((one) => isRevoked(value, one));
    });
  });
  return found?.[0] ?? null;
}
