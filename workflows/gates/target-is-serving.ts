import { revisionName } from '../places.ts';
import { type Gate, no, yes } from '../step.ts';

/** Another revision is the target, and it serves: only then may anything of this one be taken away. */
export const targetIsServing: Gate = {
  name: 'target-is-serving',
  ask: async ({ subject, target }) => {
    if (target === null) return no('Held', subject.release.workload);
    const servingSince = target.at['confirm-serving'];
    const serves = target.id !== subject.id && target.state === 'serving' && !target.revoked && servingSince !== undefined;
    return serves ? yes({ target: target.rotation, servingSince }) : no('TargetNotServing', revisionName(target));
  },
};
