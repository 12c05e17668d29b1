import { signerNames } from '#src/domain/signatures.ts';
import type { BranchStatus, DocumentStatus, Status } from '#state/status.ts';
import { refused } from './attention.ts';
import { code, html, type Markup, words } from './markup.ts';
import { table } from './page.ts';
import { why } from './said.ts';
import { momentAndSpan } from './time.ts';

/** Refused and waiting ones, and those accepted: the branch of a large installation holds thousands. */
const TROUBLED_SHOWN = 200;
const ACCEPTED_SHOWN = 200;

/** The documents of the branch's tip: refused and why, waiting, unread, accepted. */
export function documentsMain(status: Status): Markup {
  const unread = status.branches.flatMap((branch) => branch.unread.map((entry) => ({ ...entry, branch: branch.name })));
  const pressing = new Set(refused(status.documents));
  const of = (verdict: DocumentStatus['verdict']): readonly DocumentStatus[] => status.documents.filter((one) => one.verdict === verdict);
  const no = of('refused');
  return html`
<h1>Documents</h1>
<p class="sum">What the branch shows: ${no.length} refused, ${of('waiting').length} waiting, ${unread.length} not read, ${of('accepted').length} accepted.</p>
${troubled(
  'refused',
  'Refused',
  'Documents that are refused',
  no.filter((one) => pressing.has(one)),
  status,
)}
${troubled('waiting', 'Waiting', 'Documents that are neither accepted nor refused yet', of('waiting'), status)}
${unreadSection(unread)}
${troubled(
  'settled',
  'Refused, and followed by another',
  'Refused documents of a series whose successor was accepted',
  no.filter((one) => !pressing.has(one)),
  status,
)}
${acceptedSection(of('accepted'), status)}`;
}

function troubled(id: string, title: string, caption: string, documents: readonly DocumentStatus[], { at }: Status): Markup | null {
  if (documents.length === 0) return null;
  const shown = documents.slice(0, TROUBLED_SHOWN);
  const rows = shown.map(({ path, kind, reason, about, help, approvedBy, signatures, firstSeenAt }) => [
    code(path),
    html`${why(reason, about, help)}${approvedBy.length === 0 ? null : html`<p class="help">Signed by ${namesOf(signerNames(approvedBy, signatures))}.</p>`}`,
    words(kind, 80),
    momentAndSpan(firstSeenAt, at),
  ]);
  return html`<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2>${table(caption, ['Document', 'Why, and what to do', 'Kind', 'First seen'], rows)}${left(documents, shown)}</section>`;
}

function unreadSection(unread: readonly (BranchStatus['unread'][number] & { readonly branch: string })[]): Markup | null {
  if (unread.length === 0) return null;
  const shown = unread.slice(0, TROUBLED_SHOWN);
  const rows = shown.map(({ path, reason, about, help, branch }) => [code(path), why(reason, about, help), code(branch)]);
  return html`<section aria-labelledby="unread"><h2 id="unread">Not read</h2>${table('Entries of the watched folders that nobody reads', ['Entry', 'Why, and what to do', 'Branch'], rows)}${left(unread, shown)}</section>`;
}

function acceptedSection(documents: readonly DocumentStatus[], { at }: Status): Markup {
  const shown = [...documents].sort((a, b) => b.firstSeenAt.localeCompare(a.firstSeenAt) || a.path.localeCompare(b.path)).slice(0, ACCEPTED_SHOWN);
  const rows = shown.map(({ path, kind, digest, approvedBy, signatures, firstSeenAt }) => [
    code(path),
    words(kind, 80),
    approvedBy.length === 0 ? null : namesOf(signerNames(approvedBy, signatures)),
    momentAndSpan(firstSeenAt, at),
    code(digest),
  ]);
  const body =
    rows.length === 0 ? html`<p>None yet.</p>` : table('Accepted documents, the newest first', ['Document', 'Kind', 'Signed by', 'First seen', 'Digest'], rows);
  return html`<section aria-labelledby="accepted"><h2 id="accepted">Accepted</h2>${body}${left(documents, shown)}</section>`;
}

/** A person has 60 characters, an identity behind them seldom more than 200: beyond this it is a path in a URI. */
const NAME_SHOWN = 400;

function namesOf(people: readonly string[]): readonly Markup[] {
  return people.map((person, index) => html`${index === 0 ? null : ', '}${words(person, NAME_SHOWN)}`);
}

function left(all: readonly unknown[], shown: readonly unknown[]): Markup | null {
  return all.length === shown.length ? null : html`<p class="more">… and ${all.length - shown.length} more: keyturn status tells them.</p>`;
}
