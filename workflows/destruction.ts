import { Fault } from '#src/errors.ts';
import { type Instant, later } from '#src/instant.ts';
import type { KeyStore } from '#src/world.ts';
import type { Look } from './step.ts';

/**
 * A store tells what it was told last only after a while: one that shows a key as disabled right after
 * its destruction was scheduled may be late. Seen so without a break for this long, somebody called the
 * key back. Seconds.
 */
const CALLED_BACK_SECONDS = 300;

/** How far a key is from its end, as its store shows it now. */
export type KeyEnd =
  /** The store has no such key any more. */
  | { readonly kind: 'destroyed' }
  /** It will be gone `at` (null: the store does not say) and can be called back until then. */
  | { readonly kind: 'pending'; readonly at: Instant | null }
  /** Its destruction was scheduled and is not pending: called back from `at` on, unless the store shows it again before. */
  | { readonly kind: 'called-back'; readonly state: string; readonly at: Instant }
  /** Nobody has scheduled anything. */
  | { readonly kind: 'standing'; readonly state: string };

/** The store and the id of the subject's key. Throws Fault('Tampered') where it never had one. */
export function keyOf(look: Look): { readonly store: KeyStore; readonly keyId: string } {
  const { sealing, release } = look.subject;
  const { keyId } = sealing.facts;
  if (keyId === undefined) throw new Fault('Tampered', `disable-key of ${look.subject.rotation} has a receipt, but no key`);
  return { store: look.world.keyStore(release.key.store), keyId };
}

/** Looks at the subject's key. `wasPending`: its destruction was seen before. Throws Fault. */
export async function endOf(look: Look, wasPending: boolean): Promise<KeyEnd> {
  const { store, keyId } = keyOf(look);
  const key = await store.describe(keyId);
  if (key === null || key.state === 'destroyed') return { kind: 'destroyed' };
  if (key.destruction !== null) return { kind: 'pending', at: key.destruction.at };
  if (!wasPending && (await scheduledAt(look)) === null) return { kind: 'standing', state: key.state };
  const { waitingFor, about, since } = look.run;
  const seenSince = waitingFor === 'DestructionCalledBack' && about === keyId && since !== null ? since : look.now;
  return { kind: 'called-back', state: key.state, at: later(seenSince, CALLED_BACK_SECONDS) };
}

/** When the store said that it had scheduled the destruction; null: it never did. */
export async function scheduledAt(look: Look): Promise<Instant | null> {
  const { store, keyId } = keyOf(look);
  const sends = await look.ledger.keySends(store.name, look.subject.sealing.rotation);
  return sends.findLast((sent) => sent.verb === 'destroy' && sent.path === keyId && sent.answer?.type === null)?.answeredAt ?? null;
}
