import { revisionName } from '../places.ts';
import { type Gate, no, yes } from '../step.ts';

/** The revision is what its workload should run. A superseded one rests here until its successor serves and retires it. */
export const revisionIsTarget: Gate = {
  name: 'revision-is-target',
  ask: async ({ subject, target }) => {
    if (target === null) return no('Held', subject.release.workload);
    if (target.id !== subject.id) return no('Superseded', revisionName(target));
    return yes({ revision: revisionName(subject) });
  },
};
