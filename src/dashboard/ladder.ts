import type { ReceiptView, RunView } from '#state/dashboard-runs.ts';

/** A workflow as far as a page shows it: its gates and steps, by name and in order. */
export interface WorkflowShape {
  readonly name: string;
  readonly gates: readonly { readonly name: string }[];
  readonly steps: readonly { readonly kind: 'effect' | 'decision'; readonly name: string; readonly gates?: readonly { readonly name: string }[] }[];
}

/** One step of a run, and how far it is. */
export interface Rung {
  readonly mark: false;
  readonly name: string;
  /** null: a step that this version does not know; another one wrote it. */
  readonly kind: 'effect' | 'decision' | null;
  /** Its own gates; those of the workflow stand in front of every step. */
  readonly gates: readonly string[];
  /** `now`: the run stands here; `never`: the run ended before. */
  readonly state: 'done' | 'now' | 'to-come' | 'never';
  /** The receipt that counts; null where none does. */
  readonly receipt: ReceiptView | null;
  /** Other receipts of this step, oldest first: those before a reopening count no more. */
  readonly before: readonly ReceiptView[];
}

/** Something that befell a run between its steps: it was reopened, a newer release amended it, or a revocation was lifted. */
export interface Mark {
  readonly mark: true;
  readonly receipt: ReceiptView;
}

/** Receipts that are of no step. */
const MARKS: ReadonlySet<string> = new Set(['reopened', 'amended', 'reinstated']);

/**
 * A run's steps in the workflow's order, each with its receipts, and marks before the first step that came about after them.
 * The run stands at the first step without a receipt that counts, as the engine takes it. Steps that this version does not
 * know come first.
 */
export function ladderOf(shape: WorkflowShape | undefined, run: RunView): readonly (Rung | Mark)[] {
  const steps = stepsOf(shape, run);
  const byStep = Map.groupBy(run.receipts, ({ step }) => step);
  const counted = (name: string): ReceiptView | null => byStep.get(name)?.findLast(({ counts }) => counts) ?? null;
  const present = steps.findIndex(({ name }) => counted(name) === null);
  const rungs = steps.map((step, index): Rung => {
    const receipt = counted(step.name);
    const open = run.endedAt !== null ? 'never' : index === present ? 'now' : 'to-come';
    return { ...step, mark: false, state: receipt === null ? open : 'done', receipt, before: (byStep.get(step.name) ?? []).filter((one) => one !== receipt) };
  });
  const marks = run.receipts.filter(({ step }) => MARKS.has(step));
  return marks.toReversed().reduce<readonly (Rung | Mark)[]>((ladder, receipt) => marked(ladder, { mark: true, receipt }), rungs);
}

/** Marks are put in from the last to the first, so that each stands before those that came after it. */
function marked(ladder: readonly (Rung | Mark)[], mark: Mark): readonly (Rung | Mark)[] {
  const place = ladder.findIndex(({ receipt }) => receipt === null || receipt.number > mark.receipt.number);
  return place < 0 ? [...ladder, mark] : ladder.toSpliced(place, 0, mark);
}

function stepsOf(shape: WorkflowShape | undefined, run: RunView): readonly Pick<Rung, 'name' | 'kind' | 'gates'>[] {
  const known = (shape?.steps ?? []).map(({ name, kind, gates = [] }) => ({ name, kind, gates: gates.map((gate) => gate.name) }));
  const names = new Set(known.map(({ name }) => name));
  const written = [...new Set(run.receipts.map(({ step }) => step))].filter((name) => !names.has(name) && !MARKS.has(name));
  // Of an unknown workflow only what it has done, and where it stands, can be told.
  const standing = shape === undefined && run.step !== null && run.endedAt === null && !written.includes(run.step) ? [run.step] : [];
  return [...[...written, ...standing].map((name) => ({ name, kind: null, gates: [] })), ...known];
}
