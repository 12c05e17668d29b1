import type { ListedRevocation, RevocationList } from '#state/dashboard-revocations.ts';
import { revocationPath, revocationsPath } from './attention.ts';
import { code, html, type Markup, words } from './markup.ts';
import { table } from './page.ts';
import { momentAndSpan } from './time.ts';

/** A page of the list of revocations: those under way first, then the newest. */
export function revocationsMain(list: RevocationList): Markup {
  const { at, total, open, waiting, revocations } = list;
  const rows = revocations.map((one) => [
    html`<a href="${revocationPath(one.id)}">${code(one.id, 200)}</a>`,
    html`${one.subject === null ? 'what it names cannot be read' : words(one.subject, 200)}<br><span class="small">${one.revisions} ${one.revisions === 1 ? 'revision' : 'revisions'}</span>`,
    html`${one.reason === null ? null : code(one.reason, 80)}<br><span class="small">by ${one.approvedBy.length === 0 ? 'nobody known' : words(one.approvedBy.join(', '), 200)}</span>`,
    one.acceptedAt === null ? null : momentAndSpan(one.acceptedAt, at),
    stateOf(one, at),
  ]);
  const body =
    rows.length === 0
      ? html`<p>Nothing was ever revoked. <code>keyturn revoke</code> writes and signs one.</p>`
      : table('Accepted revocations: those under way first, then the newest', ['Revocation', 'Of', 'Because', 'Accepted', 'Stands'], rows);
  return html`
<p class="trail"><a href="/">Workloads</a></p>
<h1>Revocations</h1>
<p class="sum">${total} accepted, ${open} under way.${waiting === 0 ? null : html` ${waiting} more ${waiting === 1 ? 'waits' : 'wait'} for a signature or a trust document: see <a href="/documents">Documents</a>.`}</p>
${body}
${pagesOf(list)}`;
}

function stateOf({ refusedAt, endedAt, liftedBy }: ListedRevocation, at: RevocationList['at']): Markup {
  if (liftedBy !== null) return html`<span class="badge plain">lifted</span> <span class="small">by ${code(liftedBy, 200)}</span>`;
  if (endedAt !== null) return html`<span class="badge good">carried out</span> <span class="small">${momentAndSpan(endedAt, at)}</span>`;
  if (refusedAt === null) return html`<strong class="badge urgent">being refused</strong>`;
  return html`<span class="badge waits">refused</span> <span class="small">since ${momentAndSpan(refusedAt, at)}; not all is done</span>`;
}

function pagesOf({ page, pages }: RevocationList): Markup | null {
  if (pages === 1) return null;
  const newer = page === 1 ? null : html`<a href="${revocationsPath(page - 1)}">Newer</a> · `;
  const older = page === pages ? null : html` · <a href="${revocationsPath(page + 1)}">Older</a>`;
  return html`<p class="more">${newer}page ${page} of ${pages}${older}</p>`;
}
