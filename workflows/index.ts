import { adoptRevision } from './adopt-revision.ts';
import { destroyKey } from './destroy-key.ts';
import { retireRevision } from './retire-revision.ts';
import type { Workflow } from './step.ts';

/** Every workflow, by its public name: the product on one screen. */
export const workflows: readonly Workflow[] = [
  adoptRevision, //  a new release, or the same one under a new key: everything new beside the old
  retireRevision, // whatever is live and not the target: withdrawn, refused, disabled
  destroyKey, //     the key of what was retired, and its ciphertext, for good
];
