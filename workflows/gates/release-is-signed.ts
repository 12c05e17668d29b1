import { jsonOf } from '#src/domain/json.ts';
import { type Gate, no, yes } from '../step.ts';

/** The release's bytes and signatures verify now, under the trust version that it was accepted by: rows are not believed. */
export const releaseIsSigned: Gate = {
  name: 'release-is-signed',
  ask: async ({ subject, world }) => {
    const { release } = subject;
    const wrong = await world.documents.signedStill(release);
    if (wrong !== null) return no(wrong.reason, wrong.about);
    return yes({ release: release.digest, approvedBy: release.approvedBy, signatures: jsonOf(release.signatures), trustVersion: release.trustVersion });
  },
};
