import { type Json, jsonOf } from '#src/domain/json.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { placesOf } from '../places.ts';
import { type Decision, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { evidenceOf, servedTo } from './refuse-old-path.ts';

/**
 * Refused: denied by the broker and by every proxy, absent, and touched (DESIGN §8). The steps before
 * have seen each of these; here our own guest asks once more for every path that bytes were ever put
 * at. `accepted` where nobody of ours can be such a guest, or where devices were revoked, which no prober has.
 */
export const confirmRefused: Decision<Revoked> = { kind: 'decision', name: 'confirm-refused', decide };

async function decide({ subject, world, ledger }: Look<Revoked>): Promise<Seen | NotYet> {
  const refusals: Json[] = [];
  let observed = true;
  for (const known of subject.revisions) {
    for (const place of placesOf(world, known)) {
      if ((await ledger.sends(place.kbs, 'resource', place.path)).length === 0) {
        refusals.push({ ...place, asked: 'nothing was ever put there' });
        continue;
      }
      const guests = evidenceOf(known, place.kbs);
      const served = await servedTo(world.broker(place.kbs), place.path, guests);
      if (served !== null) return notYet('OldPathServed', `${place.path} ${served}`);
      observed &&= guests.length > 0;
      refusals.push({ ...place, guests: guests.length });
    }
  }
  const { id, reason, why, approvedBy, signatures, recovery } = subject.revocation;
  const asked = observed && refusals.length > 0;
  return seen(
    {
      ...{ revocation: id, subject: subject.revocation.subject as Json, reason, why },
      ...{ approvedBy: [...approvedBy], signatures: jsonOf(signatures), recovery, refusals },
    },
    { proof: asked ? 'observed' : 'accepted' },
  );
}
