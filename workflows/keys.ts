import type { Known } from '#src/domain/release.ts';
import { later } from '#src/instant.ts';
import type { StoredKey } from '#src/world.ts';
import { type Look, type NotYet, notYet } from './step.ts';

/**
 * The enabled keys that a revision's key store holds for its sealing, each once. Those whose creation
 * was answered come first, since their id is certain; then what the listing shows. Never in order of
 * age: a listing that lags shows another oldest one later (R11). Throws Fault.
 */
export async function enabledKeysOf(look: Look, known: Known): Promise<readonly StoredKey[]> {
  const store = look.world.keyStore(known.release.key.store);
  const { rotation } = known.sealing;
  const found = new Map<string, StoredKey>();
  for (const sent of await look.ledger.keySends(store.name, rotation)) {
    const made = sent.verb === 'create' && sent.answer?.type === null ? sent.answer.detail.keyId : undefined;
    const key = made === undefined ? null : await store.describe(made);
    if (key !== null) found.set(key.keyId, key);
  }
  for (const key of await store.find(rotation)) if (!found.has(key.keyId)) found.set(key.keyId, key);
  return [...found.values()].filter((key) => key.state === 'active');
}

/**
 * What is waited for before the opposite of a write to the sealing's key is believed: one that was sent,
 * never answered, and may still land. null: there is none. A key store has no fence, so that the last
 * write to arrive wins, however long it slept. `lateSeconds`: older ones are not waited for; null: all are.
 */
export async function pendingWrite(
  { world, ledger, now }: Look<unknown>,
  { sealing, release }: Known,
  verb: 'disable' | 'enable',
  lateSeconds: number | null,
): Promise<NotYet | null> {
  const store = world.keyStore(release.key.store);
  for (const sent of await ledger.keySends(store.name, sealing.rotation)) {
    if (sent.verb !== verb || sent.path !== sealing.facts.keyId || sent.answer !== null) continue;
    const until = lateSeconds === null ? null : later(sent.at, lateSeconds);
    if (until === null || until > now) return notYet('KeyWriteUnanswered', `${store.name} ${verb} ${sent.path} of ${sent.at}`, until);
  }
  return null;
}
