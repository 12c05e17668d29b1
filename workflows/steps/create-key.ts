import { earliest, type Instant, later } from '#src/instant.ts';
import type { KeyStore } from '#src/world.ts';
import { enabledKeysOf } from '../keys.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/**
 * A creation without an answer may show up this late in a listing: key stores speak of seconds, and
 * longer in bad hours. Only money hangs on it: a twin that a shorter wait makes is swept, because
 * the key in use is the one in the fact.
 */
const KEY_PROPAGATION_SECONDS = 30;

/** The sealing's key, in its store, tagged with the sealing's rotation, enabled. */
export const createKey: Effect = { kind: 'effect', name: 'create-key', observe, act };

async function observe(look: Look): Promise<Seen | NotYet> {
  const { sealing, release } = look.subject;
  const store = look.world.keyStore(release.key.store);
  const { keyId } = sealing.facts;
  if (keyId !== undefined) return observeKnown(store, keyId);
  const [key] = await enabledKeysOf(look, look.subject);
  if (key !== undefined) return seen({ store: store.name, keyId: key.keyId, rotation: sealing.rotation }, { facts: { keyId: key.keyId } });
  return notYet('KeyMissing', `${store.name} ${sealing.rotation}`, await allowedAgainAt(look, store));
}

/** Once a fact names the key, it is that key or none: another one would not open what is sealed. */
async function observeKnown(store: KeyStore, keyId: string): Promise<Seen | NotYet> {
  const key = await store.describe(keyId);
  if (key?.state === 'active') return seen({ store: store.name, keyId });
  return notYet('KeyDisabled', `${store.name} ${keyId} is ${key?.state ?? 'not there'}`);
}

/** The ledger gives no leave where a fact names the key already. */
async function act(look: Look): Promise<void> {
  const { sealing, release } = look.subject;
  const store = look.world.keyStore(release.key.store);
  if ((await allowedAgainAt(look, store)) !== null) return;
  await store.create(look.ledger.key(look.run, store.name, 'create', { rotation: sealing.rotation, keyId: null }));
}

/** While a creation may still show up, no other is sent; null: one may be sent now. */
async function allowedAgainAt(look: Look, store: KeyStore): Promise<Instant | null> {
  const creations = (await look.ledger.keySends(store.name, look.subject.sealing.rotation)).filter((sent) => sent.verb === 'create');
  const pending = creations.filter((sent) => sent.answer === null || sent.answer.type === null);
  return earliest(pending.map((sent) => later(sent.at, KEY_PROPAGATION_SECONDS)).filter((instant) => instant > look.now));
}
