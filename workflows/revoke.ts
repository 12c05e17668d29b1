import type { Revoked } from '#src/domain/revocation-run.ts';
import type { Workflow } from './step.ts';
import { confirmRefused } from './steps/confirm-refused.ts';
import { deleteResources } from './steps/delete-resource.ts';
import { disableKeys } from './steps/disable-key.ts';
import { evictPods } from './steps/evict-pods.ts';
import { findHolders } from './steps/find-holders.ts';
import { publishPolicy } from './steps/publish-policy.ts';
import { publishReferenceValues } from './steps/publish-reference-values.ts';
import { refuseAtProxies } from './steps/refuse-at-proxies.ts';
import { touchObjects } from './steps/touch-objects.ts';

/**
 * Takes away what must not be trusted any more: safety before service. The fact itself, the claims of
 * all that it touches, the new generation and the proxies' deny-list are one transaction, made when the
 * revocation was accepted; this run carries it out, and proves each refusal.
 *
 * It has no gates, no window, no hold and no canary. The first five are begun at once: a KBS that is
 * down keeps no proxy from refusing and no template from being touched, and what is not done yet is
 * tried for ever. The workload's successor, where there is one, moves by its own run meanwhile.
 */
export const revoke: Workflow<Revoked> = {
  name: 'revoke',
  gates: [],
  together: 5,
  steps: [
    refuseAtProxies, //        effect: every proxy has acknowledged the entry, or has been silent for so long that it refuses everything
    publishPolicy, //          effect: the broker itself says no, also to who goes past the proxies
    deleteResources, //        effect: so that a broker that loses its policy has nothing left to release
    publishReferenceValues, // effect: the old measurement is good for nobody any more; no refusal rests on it alone
    touchObjects, //           effect: a patch to what was revoked that is still on its way lands nowhere
    confirmRefused, //         decision: asked once more, as a guest, at the broker and at the proxies: refused
    findHolders, //            decision: which pods may still have it in their memory; nobody joins them from here on
    evictPods, //              effect: they are told to go, where the document says so
    disableKeys, //            effect: last, and never the key that a target's weights need
  ],
};
