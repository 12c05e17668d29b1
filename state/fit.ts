import { Fault } from '#src/errors.ts';
import type { Db } from './database.ts';
import { takenElsewhere } from './objects.ts';
import { knownRevisions } from './revisions.ts';
import { standingRefusal, type WantContext } from './want.ts';

/**
 * Asked in the transaction that brought these revisions back, under its locks, after the change: while they
 * were suspended nobody had to fit them, and another workload may move their objects by now, or a KBS be
 * told what does not go with them. Its policy, and with it every later revocation, could not be published
 * any more. Throws Fault, which leaves all as it was, where they do not fit.
 */
export async function requireFit(tx: Db, context: WantContext, rotations: readonly string[]): Promise<void> {
  const { release: load } = context.loaders;
  const freed = (await knownRevisions(tx, { all: true }, load)).filter(({ rotation }) => rotations.includes(rotation));
  for (const { release } of freed) {
    const taken = await takenElsewhere(tx, load, release);
    if (taken !== null) throw new Fault(taken.reason, taken.about);
  }
  const refusal = await standingRefusal(context, tx);
  if (refusal !== null) throw new Fault(refusal.reason, refusal.about);
}
