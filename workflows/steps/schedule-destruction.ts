import type { Json } from '#src/domain/json.ts';
import { endOf, keyOf, scheduledAt } from '../destruction.ts';
import { keyIsDisabled } from '../gates/key-is-disabled.ts';
import { nobodyUsesKey } from '../gates/nobody-uses-key.ts';
import { targetHasOwnCiphertext } from '../gates/target-has-own-ciphertext.ts';
import { placesOf } from '../places.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** The key store will destroy the key after its waiting time. Told once: what somebody calls back stays theirs. */
export const scheduleDestruction: Effect = {
  kind: 'effect',
  name: 'schedule-destruction',
  gates: [keyIsDisabled, targetHasOwnCiphertext, nobodyUsesKey],
  observe,
  act,
};

async function observe(look: Look): Promise<Seen | NotYet> {
  const { keyId } = keyOf(look);
  const end = await endOf(look, false);
  switch (end.kind) {
    case 'standing':
      return notYet('DestructionNotScheduled', keyId);
    case 'called-back':
      if (end.at > look.now) return notYet('DestructionCalledBack', keyId, end.at);
      return seen({ ...(await toldOf(look)), calledBack: true }, { facts: { destructionAt: null }, proof: 'accepted' });
    case 'pending':
      return seen({ ...(await toldOf(look)), canBeCalledBackUntil: end.at }, { facts: { destructionAt: end.at } });
    case 'destroyed':
      return seen({ ...(await toldOf(look)), destroyed: true }, { facts: { destructionAt: look.now } });
  }
}

/** What is said of the destruction, however far it is. KBSs stored the bytes as they are: where theirs were backed up they may still be. */
async function toldOf(look: Look): Promise<{ readonly [name: string]: Json }> {
  const { store, keyId } = keyOf(look);
  const revisions = await look.ledger.revisionsOf(look.subject.sealing.id);
  const places = revisions.flatMap((known) => placesOf(look.world, known));
  const mayStillHold = places.map(({ kbs, path }) => `backups of the storage of ${kbs}: ${path}`);
  return { store: store.name, keyId, scheduledAt: await scheduledAt(look), mayStillHold };
}

async function act(look: Look): Promise<void> {
  const { store, keyId } = keyOf(look);
  const { rotation } = look.subject.sealing;
  const order = { rotation, keyId };
  const disabled = (await look.ledger.keySends(store.name, rotation)).some(
    (sent) => sent.verb === 'disable' && sent.path === keyId && sent.answer?.type === null,
  );
  // Its refusal was proven, but whoever disabled it, the store never told us so: only what it did for us is destroyed.
  if (!disabled) await store.disable(look.ledger.key(look.run, store.name, 'disable', order));
  await store.scheduleDestruction(look.ledger.key(look.run, store.name, 'destroy', order));
}
