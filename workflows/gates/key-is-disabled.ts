import { keyOf } from '../destruction.ts';
import { revisionName } from '../places.ts';
import { type Gate, no, yes } from '../step.ts';

/** The sealing is still taken, and its store still shows the key as disabled: whoever enabled it again wants it. */
export const keyIsDisabled: Gate = {
  name: 'key-is-disabled',
  ask: async (look) => {
    if (!look.subject.sealing.taken) return no('KeyInUse', `the key of ${revisionName(look.subject)} is in use again`);
    const { store, keyId } = keyOf(look);
    const state = (await store.describe(keyId))?.state ?? 'destroyed';
    return state === 'deactivated' || state === 'destroyed' ? yes({ store: store.name, keyId, state }) : no('KeyInUse', `${keyId} is ${state}`);
  },
};
