import { type Facts, targetName } from '#src/domain/release.ts';
import { fieldsAreOurs } from '../gates/fields-are-ours.ts';
import { preflightPasses } from '../gates/preflight-passes.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';
import { changeOf, initDataOf, missingOf } from '../template.ts';

/**
 * Every target's object names the revision, by a write of ours that landed after the last change of
 * the target: the write moves `resourceVersion`, so that an older patch still on its way conflicts (R15, R16).
 */
export const patchTemplate: Effect = {
  kind: 'effect',
  name: 'patch-template',
  gates: [preflightPasses, fieldsAreOurs],
  observe,
  act,
  undoneReopens: true,
  startsDeadline: true,
};

async function observe(look: Look): Promise<Seen | NotYet> {
  const templates: Record<string, NonNullable<Facts['templates']>[string]> = {};
  for (const target of look.subject.release.targets) {
    const found = await look.world.cluster(target.cluster).object(target);
    if (found === null) return notYet('NotFound', targetName(target));
    const missing = missingOf(changeOf(look.world, look.subject, target), found.object, found.annotations, initDataOf(look.subject, target));
    if (missing !== null) return notYet('TemplateOutdated', `${targetName(target)} ${missing}`);
    const { uid, generation, resourceVersion } = found;
    templates[targetName(target)] = { uid, generation, resourceVersion };
  }
  return seen({ rotation: look.subject.rotation, templates }, { facts: { templates } });
}

async function act(look: Look): Promise<void> {
  for (const target of look.subject.release.targets) {
    const cluster = look.world.cluster(target.cluster);
    const change = changeOf(look.world, look.subject, target);
    const found = await cluster.object(target);
    const done = found !== null && missingOf(change, found.object, found.annotations, initDataOf(look.subject, target)) === null;
    if (!done) await cluster.patch(target, change, look.ledger.mine(look.run));
  }
}
