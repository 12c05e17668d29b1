import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import type { Config } from '#src/config.ts';
import type { Digest } from '#src/digest.ts';
import type { Verifying } from '#state/document-loaders.ts';

/** What documents are verified with, as the configuration says it. */
export function verifyingOf({ trust, mode }: Config): Verifying {
  return {
    verifyBundle,
    initialDigest: trust.initialDigest as Digest,
    formerDigests: trust.formerDigests as readonly Digest[],
    sample: mode === 'lab',
  };
}
