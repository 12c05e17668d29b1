import type { Revoked } from '#src/domain/revocation-run.ts';
import { adoptRevision } from './adopt-revision.ts';
import { destroyKey } from './destroy-key.ts';
import { reinstate } from './reinstate.ts';
import { retireRevision } from './retire-revision.ts';
import { revoke } from './revoke.ts';
import type { Workflow } from './step.ts';

/** Every workflow on a revision, by its public name: the product on one screen. */
export const workflows: readonly Workflow[] = [
  adoptRevision, //  a new release, or the same one under a new key: everything new beside the old
  retireRevision, // whatever is live and not the target: withdrawn, refused, disabled
  destroyKey, //     the key of what was retired, and its ciphertext, for good
];

/** Those on a revocation, made or lifted. */
export const emergencies: readonly Workflow<Revoked>[] = [
  revoke, //    what must not be trusted any more: refused at once, everywhere, whatever else goes on
  reinstate, // a suspension that was lifted: the same key and ciphertext, at a new path
];
