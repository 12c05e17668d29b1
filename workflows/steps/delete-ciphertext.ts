import { ciphertextPrefix } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import { keyIsDisabled } from '../gates/key-is-disabled.ts';
import { nobodyUsesKey } from '../gates/nobody-uses-key.ts';
import { targetHasOwnCiphertext } from '../gates/target-has-own-ciphertext.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** The ciphertext that only this key opens is in no store any more. No undo. */
export const deleteCiphertext: Effect = {
  kind: 'effect',
  name: 'delete-ciphertext',
  gates: [keyIsDisabled, targetHasOwnCiphertext, nobodyUsesKey],
  observe,
  act,
};

async function observe(look: Look): Promise<Seen | NotYet> {
  const { weights } = look.world;
  const { prefix, stores } = placesOfCiphertext(look.subject);
  for (const store of stores) if (await weights.present(store, prefix)) return notYet('CiphertextStillThere', `${store} ${prefix}`);
  const { ciphertextDigest = null } = look.subject.sealing.facts;
  // What a store keeps beside its objects (versions, snapshots, replicas, tapes) is out of our sight, and useless without the key.
  return seen({ prefix, stores: [...stores], ciphertextDigest, mayStillHold: stores.map((store) => `backups, snapshots and old versions of ${store}`) });
}

async function act(look: Look): Promise<void> {
  const { weights } = look.world;
  const { prefix, stores } = placesOfCiphertext(look.subject);
  const mine = look.ledger.mine(look.run);
  for (const store of stores) if (await weights.present(store, prefix)) await weights.remove(store, prefix, mine);
}

/** Also of a sealing that was never whole: what was written of it lies there. */
function placesOfCiphertext({ sealing, release }: Known): { readonly prefix: string; readonly stores: readonly string[] } {
  return { prefix: ciphertextPrefix(sealing), stores: sealing.facts.stores ?? release.artifact.stores };
}
