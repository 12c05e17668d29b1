import type { Workflow } from './step.ts';
import { confirmDestroyed } from './steps/confirm-destroyed.ts';
import { deleteCiphertext } from './steps/delete-ciphertext.ts';
import { scheduleDestruction } from './steps/schedule-destruction.ts';

/**
 * Ends a key for good, `destroyAfterDays` after it was disabled. Its subject is the revision whose
 * retirement disabled it: the last that used it.
 *
 * The gates are a last look at who still uses it, and stand in front of what cannot be undone. The third
 * step only looks: what was scheduled can still be called back by whoever operates the store.
 */
export const destroyKey: Workflow = {
  name: 'destroy-key',
  // None over all: what became of a key that is pending deletion has to be told, whatever becomes of the target.
  gates: [],
  steps: [
    deleteCiphertext, //    effect [key-is-disabled, target-has-own-ciphertext, nobody-uses-key]: first, because without the key it is noise, and with it a risk as long as the store's waiting time
    scheduleDestruction, // effect [the same]: once, ever; asked again, since deleting may have taken long
    confirmDestroyed, //    effect: nothing is done: it waits until the store has no such key any more, or shows that it was called back
  ],
};
