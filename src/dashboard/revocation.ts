import { liftBar } from '#src/domain/judge-reinstatement.ts';
import { reasons } from '#src/domain/reasons.ts';
import { subjectWords } from '#src/domain/revocation-words.ts';
import type { AffectedRevision, DeniedEntry, RevocationView } from '#state/dashboard-revocation.ts';
import type { RunView } from '#state/dashboard-runs.ts';
import { isHinted, type Lifting } from '#state/time-line.ts';
import { historyPath, isUrgent, revocationPath, rotationPath } from './attention.ts';
import type { WorkflowShape } from './ladder.ts';
import { type Content, code, html, type Markup, words } from './markup.ts';
import { pairs, table } from './page.ts';
import { instants, why } from './said.ts';
import { sentenceOf } from './sentences.ts';
import { moment, momentAndSpan } from './time.ts';
import { timeLineSection } from './time-line.ts';

/** A name that somebody else wrote, in a row. Characters. */
const NAME_MAX = 120;

/** A revocation's page: what is undone, the time line, what it took, who holds it still, how it is recovered from, its document. */
export function revocationMain(view: RevocationView, workflows: readonly WorkflowShape[]): Markup {
  const { at, id, origin, said, timeLine } = view;
  return html`
<p class="trail"><a href="/">Workloads</a> / <a href="/revocations">Revocations</a></p>
<h1>${code(id)} ${badgeOf(view)}</h1>
<p class="sum">${said === null ? 'What it says cannot be read.' : html`Of ${words(subjectWords(said.subject), 300)}, by ${peopleOf(origin.approvedBy)}: ${code(said.reason)}, ${words(said.why)}`}</p>
${bearing(view)}
${view.runs.filter(({ endedAt }) => endedAt === null).map((run) => undoneSection(run, view, workflows))}
${timeLineSection(timeLine, isHinted(origin), at)}
${affectedSection(view)}
${podsSection(view)}
${recoverySection(view)}
${deniedSection(view)}
${documentSection(view)}`;
}

/** Whether anything of it still moves. */
export function isRevocationOpen({ origin, runs }: RevocationView): boolean {
  return origin.verdict === 'waiting' || runs.some(({ endedAt }) => endedAt === null);
}

function badgeOf({ origin, runs }: RevocationView): Markup {
  if (origin.verdict !== 'accepted') return html`<strong class="badge urgent">${origin.verdict === 'waiting' ? 'not accepted yet' : 'not accepted'}</strong>`;
  if (origin.liftedBy !== null) return html`<span class="badge plain">lifted</span>`;
  const run = runs.find(({ workflow }) => workflow === 'revoke');
  if (run === undefined) return html`<strong class="badge urgent">not carried out</strong>`;
  if (run.endedAt !== null) return html`<span class="badge good">carried out</span>`;
  const refused = run.receipts.some(({ step }) => step === 'confirm-refused');
  return refused ? html`<span class="badge waits">refused, not all is done</span>` : html`<strong class="badge urgent">being refused</strong>`;
}

/** What stands against the document itself, and whether another one bears its name. */
function bearing({ id, origin, others }: RevocationView): Markup {
  const { reason, about, help, digest } = origin;
  const stands =
    reason === null
      ? null
      : html`<section class="callout urgent" aria-labelledby="stands"><h2 id="stands">${
          origin.verdict === 'accepted' ? 'This version does not carry it out' : 'It revokes nothing'
        }</h2>${why(reason, about, help)}</section>`;
  const links = others.map((other) => html` <a href="${revocationPath(id, other)}">${code(other)}</a>`);
  return html`${stands}${others.length === 0 ? null : html`<p class="sum">The bytes of this path were changed; this is ${code(digest)}, others are${links}.</p>`}`;
}

// ---------------------------------------------------------------- what is undone

/** One waits for another, so the run says of one at a time what it waits for. */
function undoneSection(run: RunView, { at, origin }: RevocationView, workflows: readonly WorkflowShape[]): Markup {
  const { id, workflow, step, waitingFor, about, help, since, nextRetryAt } = run;
  const done = new Set(run.receipts.map((receipt) => receipt.step));
  const undone = (workflows.find(({ name }) => name === workflow)?.steps ?? []).filter(({ name }) => !done.has(name));
  const asked = workflow === 'reinstate' ? run.createdAt : (origin.acceptedAt ?? run.createdAt);
  const rows = undone.map(({ name }) => [
    html`${sentenceOf(workflow, name)} <span class="small">${code(name)}</span>`,
    name !== step
      ? 'not told of yet'
      : waitingFor === null
        ? 'being looked at'
        : html`${why(waitingFor, about, help)}${instants([
            ['since', since === null ? null : momentAndSpan(since, at)],
            ['next look', nextRetryAt === null ? null : momentAndSpan(nextRetryAt, at)],
          ])}`,
    momentAndSpan(asked, at),
  ]);
  const title = workflow === 'reinstate' ? 'Not done yet of its lifting' : 'Not done yet';
  return html`<section class="${isUrgent(run, at) ? 'callout urgent' : 'callout'}" aria-labelledby="run-${id}"><h2 id="run-${id}">${title}</h2>
${rows.length === 0 ? html`<p>All steps are done.</p>` : table('What is tried until it is done; each then has its line below', ['Step', 'Waits for', 'Undone since'], rows)}</section>`;
}

// ---------------------------------------------------------------- what it took

function affectedSection({ affected }: RevocationView): Markup {
  const { workloads, workloadsTotal, revisions, revisionsTotal } = affected;
  if (revisionsTotal === 0)
    return html`<section aria-labelledby="affected"><h2 id="affected">What it took</h2><p>No revision of ours: it refuses what may come, and what the proxies see.</p></section>`;
  const runs = workloads.map(({ name, target }) => [
    html`<a href="${historyPath(name)}">${code(name, NAME_MAX)}</a>`,
    target === null ? html`<strong class="badge urgent">held</strong> nothing is left to run` : target,
  ]);
  return html`<section aria-labelledby="affected"><h2 id="affected">What it took</h2>
${table(`${counted(workloadsTotal, 'workload')}, and what each should run now`, ['Workload', 'Should run'], runs)}${left(workloadsTotal - runs.length)}
${table(`${counted(revisionsTotal, 'revision')}, the newest first`, ['Revision', 'State', 'Key', 'Rotation'], revisions.map(revisionRow))}${left(revisionsTotal - revisions.length)}</section>`;
}

function revisionRow({ workload, serial, epoch, rotation, state, revoked, keyId }: AffectedRevision): readonly Content[] {
  return [
    html`<a href="${rotationPath(rotation)}">${code(workload, NAME_MAX)} s${serial}-v${epoch}</a>`,
    html`<span class="badge plain">${state}</span>${revoked ? html` <strong class="badge urgent">revoked</strong>` : null}`,
    keyId === null ? 'none was made' : code(keyId, NAME_MAX),
    code(rotation),
  ];
}

const FATES = { gone: 'gone: none that held it is left', told: 'told to go', left: 'not told to go: it keeps what it has until it ends' } as const;

function podsSection({ holders, runs, at }: RevocationView): Markup {
  const { total, pods } = holders;
  const looked = runs.some(({ receipts }) => receipts.some(({ step }) => step === 'find-holders'));
  const rows = pods.map(({ target, uid, pod, lastSeenAt, fate }) => [
    html`${code(pod ?? uid, NAME_MAX)}<br><span class="small">${code(target, NAME_MAX)}</span>`,
    FATES[fate],
    lastSeenAt === null ? 'never sighted' : momentAndSpan(lastSeenAt, at),
  ]);
  const body =
    total === 0
      ? html`<p>${looked ? 'No pod had what was revoked.' : 'They are looked for once it is refused, so that nobody joins them afterwards.'}</p>`
      : html`${table(`${counted(total, 'pod')} that may have had it in memory when it was refused`, ['Pod', 'What became of it', 'Last sighted'], rows)}${left(total - rows.length)}`;
  return html`<section aria-labelledby="pods"><h2 id="pods">Pods that held it</h2>${body}</section>`;
}

// ---------------------------------------------------------------- how it is recovered from

function recoverySection({ said, origin, liftings, at }: RevocationView): Markup | null {
  if (said === null) return null;
  const bar = liftBar(origin.path, said);
  const lifting =
    bar === null
      ? 'it is a suspension: a reinstatement, signed by the recoverers, lifts it'
      : bar.reason === 'NotASuspension'
        ? `never: ${said.reason} says that it is not to be trusted any more, and only a successor is`
        : reasons[bar.reason].help;
  return html`<section aria-labelledby="recovery"><h2 id="recovery">Recovery</h2>
${pairs([
  ['approved how', words(said.recovery)],
  ['can be lifted', lifting],
])}
${
  liftings.length === 0
    ? html`<p class="told">No reinstatement names it.</p>`
    : table(
        'Reinstatements that name it',
        ['Reinstatement', 'Stands', 'Justification', 'Signed by'],
        liftings.map((one) => liftingRow(one, at)),
      )
}</section>`;
}

function liftingRow({ path, justification, approvedBy, verdict, reason, about, help, acceptedAt }: Lifting, at: RevocationView['at']): readonly Content[] {
  return [
    code(path, NAME_MAX),
    verdict === 'accepted'
      ? html`accepted${acceptedAt === null ? null : html` ${moment(acceptedAt, at)}`}`
      : html`<span class="badge waits">${verdict}</span> ${why(reason, about, help)}`,
    justification === null ? 'what it says cannot be read' : words(justification),
    peopleOf(approvedBy),
  ];
}

function deniedSection({ denied: { total, entries }, at }: RevocationView): Markup | null {
  if (total === 0) return null;
  const rows = entries.map((entry) => [
    nameOf(entry),
    html`${code(entry.kbs, NAME_MAX)}`,
    html`${moment(entry.at, at)}${entry.lifted ? html` <span class="badge plain">lifted</span>` : null}`,
  ]);
  return html`<section aria-labelledby="denied"><h2 id="denied">What the proxies refuse</h2>
${table(`${counted(total, 'entry', 'entries')} of the proxies’ lists, written with the acceptance`, ['Refused', 'Broker', 'Since'], rows)}${left(total - entries.length)}</section>`;
}

function nameOf({ path, initData, device }: DeniedEntry): Markup {
  if (path !== null) return html`the path ${code(path, NAME_MAX)}`;
  return initData === null ? html`the device ${code(device ?? '', NAME_MAX)}` : html`guests of the init-data ${code(initData, NAME_MAX)}`;
}

function documentSection({ origin, said, at }: RevocationView): Markup {
  const { path, digest, approvedBy, trustVersion, commit, present, hintedAt, firstSeenAt, acceptedAt } = origin;
  return html`<section aria-labelledby="document"><h2 id="document">Document</h2>
${pairs([
  ['document', code(path)],
  ['digest', code(digest)],
  ['signed by', peopleOf(approvedBy)],
  ['trust', trustVersion === null ? null : `version ${trustVersion}`],
  ['commit', commit === '' ? 'none: it was brought as a file, past Git' : code(commit)],
  ['on the branch', present ? 'yes' : 'not at its tip; what was accepted stands all the same'],
  ['webhook', hintedAt === null ? 'none: a poll found it, or it was brought' : moment(hintedAt, at)],
  ['first seen', momentAndSpan(firstSeenAt, at)],
  ['accepted', acceptedAt === null ? null : momentAndSpan(acceptedAt, at)],
  ['evict', said === null ? null : said.evict ? 'asked for' : 'not asked for'],
  ['destroy', said === null ? null : said.destroy ? 'asked for' : 'not asked for'],
])}</section>`;
}

function peopleOf(people: readonly string[]): Content {
  return people.length === 0 ? 'nobody known' : people.map((person, index) => html`${index === 0 ? null : ', '}${words(person, 200)}`);
}

function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`;
}

function left(count: number): Markup | null {
  return count <= 0 ? null : html`<p class="more">… and ${count} more, in keyturn receipts export.</p>`;
}
