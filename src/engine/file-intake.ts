import type { RepositoryFile } from '#src/domain/signatures.ts';
import { Fault } from '#src/errors.ts';
import { documentAt } from '#state/documents.ts';
import { withFile } from '#state/file-intake.ts';
import { insistent } from '#state/insistent.ts';
import { type Outcome, type Settling, settleIn } from './verdict.ts';

/**
 * Takes in a revocation that somebody brings as a file, past Git: the same judgement and the same
 * acceptance as of one that the branch shows. Where it is not accepted nothing at all is stored. When the
 * same bytes appear on the branch they are known already; when they never do, the revocation stands all
 * the same. `already`: it was accepted before. Throws Fault where the file is no revocation, or the
 * database or the pinned trust does not answer.
 */
export async function takeInFile(
  settling: Settling,
  file: RepositoryFile,
  bundles: readonly RepositoryFile[],
): Promise<{ readonly outcome: Outcome; readonly already: boolean }> {
  let refused: Outcome | null = null;
  try {
    return await insistent(settling.pool, (tx) =>
      withFile(tx, file, bundles, async (row) => {
        if (row.kind !== 'Revocation') throw new Fault('WrongPlace', `${file.path}: only a revocation is taken in without Git`);
        const settled = await settleIn(tx, settling, row, null);
        const now = await documentAt(tx, row.path, row.digest);
        const outcome = settled ?? { ...row, verdict: now?.verdict ?? 'waiting', reason: now?.reason ?? null, about: now?.about ?? null };
        if (outcome.verdict === 'accepted') return { outcome, already: settled === null };
        refused = outcome;
        // Nothing of it stays: whoever signs it anew brings it again.
        throw new Fault(outcome.reason ?? 'UnsignedRevocation', outcome.about ?? file.path);
      }),
    );
  } catch (thrown) {
    if (refused === null) throw thrown;
    return { outcome: refused, already: false };
  }
}
