import { nothingIsRevoked } from './gates/nothing-is-revoked.ts';
import { releaseIsSigned } from './gates/release-is-signed.ts';
import { revisionIsTarget } from './gates/revision-is-target.ts';
import type { Workflow } from './step.ts';
import { confirmPublished } from './steps/confirm-published.ts';
import { confirmServing } from './steps/confirm-serving.ts';
import { createKey } from './steps/create-key.ts';
import { encryptWeights } from './steps/encrypt-weights.ts';
import { goLive } from './steps/go-live.ts';
import { makeResource } from './steps/make-resource.ts';
import { movePods } from './steps/move-pods.ts';
import { patchTemplate } from './steps/patch-template.ts';
import { publishPolicy } from './steps/publish-policy.ts';
import { publishReferenceValues } from './steps/publish-reference-values.ts';
import { putResource } from './steps/put-resource.ts';
import { tryFirstPods } from './steps/try-first-pods.ts';

/**
 * Brings a revision into service beside the one in use, taking nothing away.
 *
 * Before every step its gates are asked anew: those of the whole workflow, then, in brackets here, the
 * step's own. An *effect* changes the world and counts when it was seen there; a *decision* is a
 * statement of ours. A *sealing* is the weights under one key; a *generation* counts what a KBS should hold.
 */
export const adoptRevision: Workflow = {
  name: 'adopt-revision',
  gates: [releaseIsSigned, revisionIsTarget, nothingIsRevoked],
  steps: [
    createKey, //              effect: first, because all that follows is wrapped by it; tagged with the sealing's rotation, so that a twin can be told and swept
    makeResource, //           decision: the bytes that guests will fetch, made once and kept before anything is sent: a second set would open nothing
    encryptWeights, //         effect: to new objects, before anybody is told of them; the old ciphertext stays readable
    goLive, //                 decision [image-is-bound]: only now, with key and ciphertext there, may a KBS be told; the generation rises in the same transaction
    publishReferenceValues, // effect: this and the next two in any order, because no pod names the new path yet
    putResource, //            effect: to a path that no other revision has or ever had, so that nothing is overwritten
    publishPolicy, //          effect: last of the three only because it is the one that can be asked whether it is there
    confirmPublished, //       decision: all three are there, and no older write can land on top of them: from here on pods may rely on it
    patchTemplate, //          effect [preflight-passes, fields-are-ours, window-is-open]: only after published, because a pod that restarts takes the new template at once
    tryFirstPods, //           effect: of what came back from a revocation, whose roll is held until its first pods have proven it; before the rest follows
    movePods, //               effect: watched pod by pod; ready is not attested
    confirmServing, //         decision [workload-is-attested, fields-are-ours]: a second look, when the soak is over; only this lets the old one be closed
  ],
};
