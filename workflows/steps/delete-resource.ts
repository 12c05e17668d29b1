import type { Json } from '#src/domain/json.ts';
import type { Answer, Sent } from '#src/domain/kbs.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { type Instant, later } from '#src/instant.ts';
import { type Place, placesOf } from '../places.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/**
 * The old path is empty, and stays so: every write of it has its answer or can no longer land, and a
 * deletion sent after that was acknowledged (R5). Denied and deleted both, because a KBS that loses its policy releases what it has (R8).
 */
export const deleteResource: Effect = { kind: 'effect', name: 'delete-resource', observe, act };

/** The same for every path of what was revoked. */
export const deleteResources: Effect<Revoked> = {
  kind: 'effect',
  name: 'delete-resources',
  observe: (look) => deleted(look, placesOfAll(look)),
  act: (look) => deleteAt(look, placesOfAll(look)),
};

/** The same for every path that a revision had before it was reinstated: its present one is another. */
export const deleteFormerResources: Effect<Revoked> = {
  kind: 'effect',
  name: 'delete-former-resources',
  observe: (look) => deleted(look, formerPlaces(look)),
  act: (look) => deleteAt(look, formerPlaces(look)),
};

function formerPlaces({ world, subject }: Look<Revoked>): readonly Place[] {
  return subject.revisions.flatMap((known) => {
    const former = subject.facts.reinstated?.[known.rotation] ?? 0;
    return Array.from({ length: former }, (_, pathNumber) => placesOf(world, { ...known, pathNumber })).flat();
  });
}

function placesOfAll({ world, subject }: Look<Revoked>): readonly Place[] {
  return subject.revisions.flatMap((known) => placesOf(world, known));
}

function observe(look: Look): Promise<Seen | NotYet> {
  return deleted(look, placesOf(look.world, look.subject));
}

async function deleted(look: Look<unknown>, places: readonly Place[]): Promise<Seen | NotYet> {
  const deletions: Json[] = [];
  for (const place of places) {
    const standing = await standingOf(look, place);
    switch (standing.kind) {
      case 'empty':
        deletions.push({ ...place, put: 'never' });
        break;
      case 'late':
        return notYet('LateWritesPossible', `${place.kbs} ${place.path}`, standing.until);
      case 'present':
        return notYet('DeleteUnanswered', `${place.kbs} ${place.path}`);
      case 'deleted':
        deletions.push({ ...place, deletedAt: standing.deletion.at, answer: standing.deletion.answer?.type ?? null });
    }
  }
  return seen({ deletions });
}

function act(look: Look): Promise<void> {
  return deleteAt(look, placesOf(look.world, look.subject));
}

/** One KBS that does not answer keeps the path in none of the others. */
async function deleteAt(look: Look<unknown>, places: readonly Place[]): Promise<void> {
  const deletions = places.map(async (place) => {
    const { kind } = await standingOf(look, place);
    if (kind === 'present') await look.world.broker(place.kbs).deleteResource(look.ledger.gone(look.run, place.kbs, place.path));
  });
  const failed = (await Promise.allSettled(deletions)).find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

type Standing =
  | { readonly kind: 'empty' | 'present' }
  /** A write may still land, until then. */
  | { readonly kind: 'late'; readonly until: Instant }
  | { readonly kind: 'deleted'; readonly deletion: Sent };

async function standingOf(look: Look<unknown>, { kbs, path }: Place): Promise<Standing> {
  const puts = await look.ledger.sends(kbs, 'resource', path);
  if (puts.length === 0) return { kind: 'empty' };
  const { lateWriteSeconds } = look.world.broker(kbs);
  const settled = puts.map((put) => put.answeredAt ?? later(put.at, lateWriteSeconds.resource)).reduce((last, instant) => (instant > last ? instant : last));
  if (settled > look.now) return { kind: 'late', until: settled };
  const deletions = await look.ledger.sends(kbs, 'delete', path);
  const deletion = deletions.findLast((sent) => sent.at >= settled && isDone(sent.answer));
  return deletion === undefined ? { kind: 'present' } : { kind: 'deleted', deletion };
}

/** KBS says `PluginInternalError` where there was nothing to delete: as good as a deletion. */
function isDone(answer: Answer | null): boolean {
  return answer !== null && (answer.type === null || answer.type === 'PluginInternalError');
}
