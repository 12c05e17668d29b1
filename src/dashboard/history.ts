import type { History } from '#state/dashboard.ts';
import { rotationPath } from './attention.ts';
import { code, html, type Markup } from './markup.ts';
import { table } from './page.ts';
import { momentAndSpan } from './time.ts';

/** A workload's rotations, newest first. */
export function historyMain(workload: string, { at, total, rotations }: History): Markup {
  const rows = rotations.map(({ id, serial, epoch, state, withdrawn, revoked, acceptedAt, endedAt }) => [
    html`<a href="${rotationPath(id)}">s${serial}-v${epoch}</a>`,
    html`<span class="badge ${state === 'serving' ? 'good' : 'plain'}">${state}</span>${withdrawn ? html` <strong class="badge urgent">withdrawn</strong>` : null}${revoked ? html` <strong class="badge urgent">revoked</strong>` : null}`,
    momentAndSpan(acceptedAt, at),
    endedAt === null ? 'open' : momentAndSpan(endedAt, at),
    code(id),
  ]);
  const left = total - rotations.length;
  return html`
<p class="trail"><a href="/">Workloads</a></p>
<h1>${code(workload)}</h1>
${table(`${total} ${total === 1 ? 'rotation' : 'rotations'}, the newest first`, ['Revision', 'State', 'Accepted', 'Run ended', 'Rotation'], rows)}
${left > 0 ? html`<p class="more">… and ${left} older ones, in keyturn receipts export.</p>` : null}`;
}
