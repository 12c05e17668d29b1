import type { Revoked } from '#src/domain/revocation-run.ts';
import type { Workflow } from './step.ts';
import { deleteFormerResources } from './steps/delete-resource.ts';
import { enableKeys } from './steps/enable-keys.ts';
import { liftAtProxies } from './steps/lift-at-proxies.ts';
import { liftRevocation } from './steps/lift-revocation.ts';
import { publishPolicy } from './steps/publish-policy.ts';
import { publishReferenceValues } from './steps/publish-reference-values.ts';

/**
 * Takes a suspension back: service after safety. Until `lift-revocation` commits, all that was revoked is
 * refused as before; after it each revision that came back is brought into service by its own adopt run,
 * which publishes and rolls it anew. Its key and ciphertext are the old ones, its path is a new one: the
 * old path is denied for ever, so that a deny which lands late denies what nobody uses.
 *
 * It has no window and no hold: like a revocation it is somebody's signed word about what is good.
 */
export const reinstate: Workflow<Revoked> = {
  name: 'reinstate',
  gates: [],
  steps: [
    enableKeys, //             effect: first, once no disabling can land any more: a key store has no fence
    liftRevocation, //         decision: the commit point; rows, paths, generations and lifts in one transaction, and only what no other revocation holds
    liftAtProxies, //          effect: every proxy has read the lift of a guest or a device, or refuses everything
    publishPolicy, //          effect: this generation's; the adopt run waits for it too, before it moves a pod
    publishReferenceValues, // effect: the measurements are good again
    deleteFormerResources, //  effect: what the revocation's own run may not have deleted before it was ended
  ],
};
