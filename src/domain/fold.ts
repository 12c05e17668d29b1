import type { Instant } from '../instant.ts';
import type { Facts } from './release.ts';

/** What folding needs of a receipt. */
export interface Link {
  readonly number: number;
  readonly step: string;
  readonly at: Instant;
  readonly facts: Facts;
}

/** The step whose receipt a reopening leaves standing, with all before it (DESIGN §5, *Falling back*). */
const LAST_STANDING = 'confirm-published';
/** The same of a reinstatement: what was published is at a path that is refused for ever. */
const LAST_REINSTATED = 'go-live';
/** The receipt that says that what came after has to come about again. */
export const REOPENED = 'reopened';
/** The receipt that says that a lifted revocation gave the revision its next path. */
export const REINSTATED = 'reinstated';

/**
 * The receipts of a run that count. After a `reinstated` those up to `go-live` do, and those that came
 * later than it: the revision is published anew. After a `reopened`, those that were written between
 * `confirm-published` and it do not, so that the run patches, moves and confirms again.
 */
export function counting<L extends Link>(receipts: readonly L[]): readonly L[] {
  const reinstated = receipts.findLastIndex((receipt) => receipt.step === REINSTATED);
  if (reinstated < 0) return sinceReopened(receipts);
  const live = receipts.findIndex((receipt) => receipt.step === LAST_REINSTATED);
  // One that was never live has published nothing: all of it stands.
  const standing = live < 0 || live > reinstated ? reinstated : live + 1;
  return [...receipts.slice(0, standing), ...sinceReopened(receipts.slice(reinstated))];
}

function sinceReopened<L extends Link>(receipts: readonly L[]): readonly L[] {
  const reopened = receipts.findLast((receipt) => receipt.step === REOPENED);
  if (reopened === undefined) return receipts;
  const standing = receipts.find((receipt) => receipt.step === LAST_STANDING);
  if (standing === undefined) return receipts;
  return receipts.filter((receipt) => receipt.number <= standing.number || receipt.number >= reopened.number);
}

/** The facts that these receipts recorded. Each name is set by one step; a step that was seen twice says it anew. */
export function factsOf(receipts: readonly Link[]): Facts {
  return Object.assign({}, ...receipts.map((receipt) => receipt.facts)) as Facts;
}

/** When each step's receipt was written. */
export function instantsOf(receipts: readonly Link[]): Readonly<Record<string, Instant>> {
  return Object.fromEntries(receipts.map((receipt) => [receipt.step, receipt.at]));
}
