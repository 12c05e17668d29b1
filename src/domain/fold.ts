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
/** The receipt that says that what came after has to come about again. */
export const REOPENED = 'reopened';

/**
 * The receipts of a run that count: after a `reopened`, those that were written between
 * `confirm-published` and it do not, so that the run patches, moves and confirms again.
 */
export function counting<L extends Link>(receipts: readonly L[]): readonly L[] {
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
