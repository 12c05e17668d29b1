import type { Status } from '#state/status.ts';
import type { EmergencyStatus } from '#state/status-emergencies.ts';
import { revocationPath } from './attention.ts';
import type { WorkflowShape } from './ladder.ts';
import { code, html, type Markup, words } from './markup.ts';
import { instants, why } from './said.ts';
import { sentenceOf } from './sentences.ts';
import { momentAndSpan } from './time.ts';

/** More at once are one incident; the list has the others. */
const EMERGENCIES_SHOWN = 20;
/** Workloads that one names here. */
const WORKLOADS_SHOWN = 8;

/** Revocations that are not carried out whole yet: what people look for first while a key is out. null: there are none. */
export function emergenciesSection({ emergencies, at }: Status, workflows: readonly WorkflowShape[]): Markup | null {
  if (emergencies.length === 0) return null;
  const shown = emergencies.slice(0, EMERGENCIES_SHOWN);
  const more = emergencies.length - shown.length;
  return html`<section aria-labelledby="emergencies"><h2 id="emergencies">Revocations under way</h2>
<ol class="attention">${shown.map((one) => emergencyItem(one, at, workflows))}</ol>${more <= 0 ? null : html`<p class="more">… and ${more} more: see <a href="/revocations">Revocations</a>.</p>`}</section>`;
}

/** What a run of a revocation is called where it stands among others. */
export function emergencyName({ workflow, id }: Pick<EmergencyStatus, 'workflow' | 'id'>): string {
  return workflow === 'reinstate' ? `Lifting of the revocation ${id}` : `Revocation ${id}`;
}

function emergencyItem(one: EmergencyStatus, at: Status['at'], workflows: readonly WorkflowShape[]): Markup {
  const { workflow, id, subject, workloads, run, done, waitingFor, about, help, since, nextRetryAt, acceptedAt } = one;
  const steps = workflows.find(({ name }) => name === workflow)?.steps ?? [];
  const undone = steps.filter(({ name }) => !done.includes(name));
  const [next] = undone;
  const sentence = next === undefined ? null : sentenceOf(workflow, next.name);
  return html`<li>
<h3><a href="${revocationPath(id)}">${emergencyName(one)}</a> ${run === null ? html`<strong class="badge urgent">not carried out</strong>` : badgeOf(one)}</h3>
<p class="told">${subject === null ? null : html`Of ${words(subject, 300)}. `}${touching(workloads)}${run === null || steps.length === 0 ? null : ` ${steps.length - undone.length} of ${steps.length} are done.`}${sentence === null || run === null ? null : ` Not yet: ${sentence}`}</p>
${why(waitingFor, about, help)}
${instants([
  ['accepted', acceptedAt === null ? null : momentAndSpan(acceptedAt, at)],
  ['waits since', since === null ? null : momentAndSpan(since, at)],
  ['next look', nextRetryAt === null ? null : momentAndSpan(nextRetryAt, at)],
])}</li>\n`;
}

function badgeOf({ workflow, done }: EmergencyStatus): Markup {
  if (workflow === 'reinstate') return html`<strong class="badge waits">${done.includes('lift-revocation') ? 'lifted' : 'still refused'}</strong>`;
  return done.includes('confirm-refused') ? html`<strong class="badge good">refused</strong>` : html`<strong class="badge urgent">being refused</strong>`;
}

function touching(workloads: readonly string[]): Markup {
  if (workloads.length === 0) return html`It touches no workload of ours.`;
  const more = workloads.length - WORKLOADS_SHOWN;
  const names = workloads.slice(0, WORKLOADS_SHOWN).map((name, index) => html`${index === 0 ? null : ', '}${code(name, 200)}`);
  return html`It touches ${names}${more <= 0 ? null : ` and ${more} more`}.`;
}
