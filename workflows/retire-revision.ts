import type { Workflow } from './step.ts';
import { close } from './steps/close.ts';
import { deleteResource } from './steps/delete-resource.ts';
import { disableKey } from './steps/disable-key.ts';
import { publishPolicy } from './steps/publish-policy.ts';
import { publishReferenceValues } from './steps/publish-reference-values.ts';
import { refuseOldPath } from './steps/refuse-old-path.ts';
import { retire } from './steps/retire.ts';

/**
 * Takes away whatever is live and not the target: withdrawn, refused, deleted, disabled, in that order.
 *
 * The gates stand at the steps, in brackets here, and ask about the *target*: it must serve, on pods that
 * answered for themselves, before anything of the old one goes. A sealing is *taken* when no revision that counts uses its key.
 */
export const retireRevision: Workflow = {
  name: 'retire-revision',
  // None over all: what was retired stays retired whatever becomes of the target, and has to be carried through.
  gates: [],
  steps: [
    close, //                  decision [target-is-serving, workload-is-attested]: first said, then looked: what the next look finds cannot be undone behind it
    retire, //                 decision [the same, fields-are-ours, nobody-fetches-old]: the commit point, on a second look; the generation rises, the path is denied, the sealing may be taken
    publishPolicy, //          effect: refused first, because this can be taken back by nobody but us
    publishReferenceValues, // effect: the old measurement is good for nobody any more; no refusal rests on it alone
    refuseOldPath, //          effect: asked, at the broker and at the proxy, while the bytes are still there: an empty path would refuse for the wrong reason
    deleteResource, //         effect: after the refusal is proven, so that a KBS that loses its policy has nothing left to release
    disableKey, //             effect [target-has-own-ciphertext]: last, because it is what the last pod in trouble would need; and never the key that the target's weights need
  ],
};
