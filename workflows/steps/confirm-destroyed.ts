import { earliest, later } from '#src/instant.ts';
import { endOf, keyOf } from '../destruction.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** A key that is called back is told of within this time; nobody waits for it. Seconds. */
const LOOK_SECONDS = 86_400;

/** The key is gone for good; or somebody called it back, and it is theirs from then on: it stays disabled, and no schedule destroys it again. */
export const confirmDestroyed: Effect = { kind: 'effect', name: 'confirm-destroyed', observe, act };

async function observe(look: Look): Promise<Seen | NotYet> {
  const { store, keyId } = keyOf(look);
  const end = await endOf(look, true);
  switch (end.kind) {
    case 'destroyed':
      return seen({ store: store.name, keyId }, { facts: { destruction: 'destroyed' } });
    case 'pending':
      return notYet('DestructionPending', `${keyId} until ${end.at ?? 'its store says otherwise'}`, earliest([end.at, later(look.now, LOOK_SECONDS)]));
    case 'called-back':
      if (end.at > look.now) return notYet('DestructionCalledBack', keyId, end.at);
      return seen({ store: store.name, keyId, state: end.state }, { facts: { destruction: 'called-back' } });
    case 'standing':
      throw new Error('a key whose destruction was seen cannot be one that nobody scheduled');
  }
}

/** Nothing: the store does it by itself, and only its operator can stop it. */
async function act(): Promise<void> {}
