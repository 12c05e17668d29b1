import type { TargetDocument } from '#src/domain/documents/release.ts';
import { type Facts, type Known, targetName } from '#src/domain/release.ts';
import type { Cluster } from '#src/world.ts';
import { fieldsAreOurs, ownerAt } from '../gates/fields-are-ours.ts';
import { preflightPasses, rehearsalOf } from '../gates/preflight-passes.ts';
import { windowIsOpen } from '../gates/window-is-open.ts';
import { pacedChange } from '../hold-roll.ts';
import { askEach, requireAnswers, withoutOf } from '../reach.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { changeOf, initDataOf, missingOf } from '../template.ts';
import { leaveToMove } from '../windows.ts';

/**
 * Every target's object names the revision, by a write of ours that landed after the last change of
 * the target: the write moves `resourceVersion`, so that an older patch still on its way conflicts (R15, R16).
 */
export const patchTemplate: Effect = {
  kind: 'effect',
  name: 'patch-template',
  // The window last: what a rehearsal finds wrong is told by day, and not when the window opens.
  gates: [preflightPasses, fieldsAreOurs, windowIsOpen],
  observe,
  act,
  undoneReopens: true,
  startsDeadline: true,
};

async function observe(look: Look): Promise<Seen | NotYet> {
  const templates: Record<string, NonNullable<Facts['templates']>[string]> = {};
  const round = await askEach(look, look.subject.release.targets, (target, cluster) => cluster.object(target));
  for (const { target, value: found } of round.answered) {
    const name = targetName(target);
    if (found === null) return notYet('NotFound', name);
    const missing = missingOf(changeOf(look.world, look.subject, target), found.object, found.annotations, initDataOf(look.subject, target));
    if (missing !== null) return notYet('TemplateOutdated', `${name} ${missing}`);
    if (wasGoneWithout(look.subject, name)) return notYet('TemplateOutdated', `${name} answers again`);
    const { uid, generation, resourceVersion } = found;
    templates[name] = { uid, generation, resourceVersion };
  }
  requireAnswers(round);
  return seen({ rotation: look.subject.rotation, templates, ...withoutOf(round) }, { facts: { templates } });
}

/** Whether a target was gone without by this step or the next, and answers now: it has to be patched, moved and confirmed too. */
function wasGoneWithout({ facts: { templates, boots } }: Known, name: string): boolean {
  return [templates, boots].some((fact) => fact !== undefined && !Object.hasOwn(fact, name));
}

/** What is patched rolls by itself and is stopped by no window; a target whose window has closed since the gate was asked waits for the next. */
async function act(look: Look): Promise<void> {
  const { failure } = await askEach(look, look.subject.release.targets, (target, cluster) => patchAt(look, target, cluster));
  if (failure !== null) throw failure;
}

/** Asks again what the gates ask: of a cluster that was silent then they know nothing. */
async function patchAt(look: Look, target: TargetDocument, cluster: Cluster): Promise<void> {
  const found = await cluster.object(target);
  const leave = found === null ? null : await leaveToMove(look, target, found);
  if (found === null || leave?.kind !== 'now' || leave.why === 'in-order') return;
  if (typeof (await rehearsalOf(look, target, cluster)) === 'string' || (await ownerAt(target, cluster)) !== 'ours') return;
  await cluster.patch(target, pacedChange(changeOf(look.world, look.subject, target), look.subject, found), look.ledger.mine(look.run));
}
