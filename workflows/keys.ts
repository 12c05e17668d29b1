import type { Known } from '#src/domain/release.ts';
import type { StoredKey } from '#src/world.ts';
import type { Look } from './step.ts';

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
