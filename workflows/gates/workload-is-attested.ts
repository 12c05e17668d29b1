import { lookAtPods } from '../pods.ts';
import { type Gate, no, yes } from '../step.ts';

/** Every pod of the workload runs the target, was attested on its measurement, and holds its key: looked at now. */
export const workloadIsAttested: Gate = {
  name: 'workload-is-attested',
  ask: async (look) => {
    if (look.target === null) return no('Held', look.subject.release.workload);
    const pods = await lookAtPods(look, look.target);
    return pods.kind === 'good' ? yes(pods.evidence, pods.goodUntil) : no(pods.reason, pods.about);
  },
};
