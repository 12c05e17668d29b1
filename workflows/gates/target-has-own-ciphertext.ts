import { revisionName } from '../places.ts';
import { type Gate, no, yes } from '../step.ts';

/**
 * The weights of the target can be opened without this revision's key: with no target, no key is
 * disabled (R14). Where the sealing was not taken its key is not disabled either, so nothing is asked.
 */
export const targetHasOwnCiphertext: Gate = {
  name: 'target-has-own-ciphertext',
  ask: async ({ subject, target }) => {
    if (!subject.sealing.taken) return yes({ taken: false });
    if (target === null) return no('Held', subject.release.workload);
    const { ciphertextDigest } = target.sealing.facts;
    if (target.state !== 'serving' || target.revoked) return no('TargetNotServing', revisionName(target));
    if (target.sealing.id === subject.sealing.id || ciphertextDigest === undefined) return no('TargetSharesCiphertext', revisionName(target));
    return yes({ target: target.rotation, ciphertextDigest });
  },
};
