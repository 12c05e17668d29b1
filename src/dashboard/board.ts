import type { Board, BoardRun } from '#state/dashboard.ts';
import { subjectName } from '#state/holds.ts';
import type { BrokerStatus, RevisionStatus, RunStatus, Status, WorkloadStatus } from '#state/status.ts';
import { idOfRevocation } from '#state/status-emergencies.ts';
import { type Attention, attentionOf, historyPath, isUrgent, revocationLink, revocationPath, rotationPath } from './attention.ts';
import { emergenciesSection, emergencyName } from './emergencies.ts';
import type { WorkflowShape } from './ladder.ts';
import { type Content, code, html, type Markup, words } from './markup.ts';
import { table } from './page.ts';
import { instants, progressLine, why } from './said.ts';
import { momentAndSpan } from './time.ts';

/** More than these at once are one trouble: the rest is counted. */
const ATTENTION_SHOWN = 50;
/** Workloads in motion, and runs of one. */
const MOVING_SHOWN = 100;
const RUNS_SHOWN = 20;
/** Workloads at rest are one line each. */
const RESTING_SHOWN = 300;
const WAITING_DOCUMENTS_SHOWN = 20;

/** What a store makes us wait for weeks: no rotation is under way because of it. */
const SLOW_WORKFLOWS: ReadonlySet<string> = new Set(['destroy-key']);

/** A workload, and its open runs that a person may wait for. */
interface Standing {
  readonly workload: WorkloadStatus;
  readonly runs: readonly RunStatus[];
  /** 0: a person has to look; 1: it moves; 2: it rests. */
  readonly rank: 0 | 1 | 2;
}

/** The board: its title, whether anything moves, and its parts. */
export interface BoardView {
  readonly title: string;
  readonly open: boolean;
  readonly main: Markup;
  readonly foot: Markup;
}

/** What is beside the rows. */
export interface BoardParts {
  /** How often the branch is to be read. */
  readonly pollSeconds: number;
  readonly workflows: readonly WorkflowShape[];
}

/** What needs a person, then what moves, then what rests. */
export function boardView(board: Board, { pollSeconds, workflows }: BoardParts): BoardView {
  const { status } = board;
  const isSlow = (run: RunStatus): boolean => SLOW_WORKFLOWS.has(run.workflow) && !isUrgent(run, status.at);
  const attention = attentionOf(board, pollSeconds);
  const standings = standingsOf(status, isSlow);
  const waiting = status.documents.filter(({ verdict }) => verdict === 'waiting');
  const title = titleOf(status.emergencies.length, attention.length);
  const calm = attention.length === 0 && status.emergencies.length === 0;
  const main = html`
<h1 class="${calm ? 'calm' : 'urgent'}">${title}</h1>
<p class="sum">${sumOf(standings, waiting.length)}</p>
${emergenciesSection(status, workflows)}
${attention.length === 0 ? null : attentionSection(attention, status)}
${status.holds.length === 0 ? null : holdsSection(status)}
${movingSection(standings, board, workflows)}
${waiting.length === 0 ? null : waitingSection(status)}
${restingSection(standings, status)}
${slowSection(status.runs.filter(isSlow), board)}
${status.brokers.length === 0 ? null : brokersSection(status)}`;
  return { title, open: standings.some(({ runs }) => runs.length > 0) || waiting.length + status.emergencies.length > 0, main, foot: footOf(board) };
}

/** A revocation under way is told first: nothing else is as urgent. */
function titleOf(emergencies: number, attention: number): string {
  const needs = attention === 0 ? 'nothing needs a person' : attention === 1 ? '1 thing needs a person' : `${attention} things need a person`;
  if (emergencies === 0) return needs.replace('nothing', 'Nothing');
  return `${emergencies === 1 ? '1 revocation' : `${emergencies} revocations`} under way, ${needs}`;
}

function standingsOf(status: Status, isSlow: (run: RunStatus) => boolean): readonly Standing[] {
  const byWorkload = Map.groupBy(
    status.runs.filter((run) => !isSlow(run)),
    ({ workload }) => workload,
  );
  const standings = status.workloads.map((workload): Standing => {
    const runs = byWorkload.get(workload.name) ?? [];
    const urgent = workload.held !== null || runs.some((run) => isUrgent(run, status.at));
    return { workload, runs, rank: urgent ? 0 : runs.length > 0 ? 1 : 2 };
  });
  return standings.sort((a, b) => a.rank - b.rank || sinceOf(a).localeCompare(sinceOf(b)) || a.workload.name.localeCompare(b.workload.name));
}

/** The instant since which it waits; one that waits for nothing comes last. */
function sinceOf({ runs }: Standing): string {
  return runs.map(({ since }) => since ?? '9').sort()[0] ?? '9';
}

function sumOf(standings: readonly Standing[], waiting: number): string {
  const moving = standings.filter(({ runs }) => runs.length > 0).length;
  const parts = [
    `${moving} ${moving === 1 ? 'workload' : 'workloads'} in motion`,
    `${standings.length - moving} at rest`,
    ...(waiting === 0 ? [] : [`${waiting} ${waiting === 1 ? 'document waits' : 'documents wait'}`]),
  ];
  return `${parts.join(', ')}.`;
}

// ---------------------------------------------------------------- what needs a person

function attentionSection(attention: readonly Attention[], { at }: Status): Markup {
  const shown = attention.slice(0, ATTENTION_SHOWN);
  return html`<section aria-labelledby="attention"><h2 id="attention">Needs a person</h2>
<ol class="attention">${shown.map(
    ({ title, subject, reason, about, help, since, deadline, href }) => html`<li>
<h3>${subject === null ? null : html`${code(subject)} `}${href === null ? title : html`<a href="${href}">${title}</a>`}</h3>
${why(reason, about, help)}
${instants([
  ['since', since === null ? null : momentAndSpan(since, at)],
  ['deadline', deadline === null ? null : momentAndSpan(deadline, at)],
])}</li>\n`,
  )}</ol>${more(attention.length - shown.length, 'keyturn status tells them all')}</section>`;
}

function more(count: number, where: string): Markup | null {
  return count <= 0 ? null : html`<p class="more">… and ${count} more: ${where}.</p>`;
}

// ---------------------------------------------------------------- what moves

/** What people stopped. It is no trouble, and it ends when somebody says so. */
function holdsSection({ holds, at }: Status): Markup {
  const shown = holds.slice(0, ATTENTION_SHOWN);
  return html`<section aria-labelledby="holds"><h2 id="holds">On hold</h2>
${table(
  'What somebody stopped with keyturn hold; keyturn resume lets it go on',
  ['Held', 'Why', 'By', 'Since'],
  shown.map(({ subject, why: because, by, at: since }) => [code(subjectName(subject)), words(because), words(by, 200), momentAndSpan(since, at)]),
)}${more(holds.length - shown.length, 'keyturn status tells them all')}</section>`;
}

function movingSection(standings: readonly Standing[], board: Board, workflows: readonly WorkflowShape[]): Markup | null {
  const moving = standings.filter(({ runs }) => runs.length > 0);
  if (moving.length === 0) return null;
  const shown = moving.slice(0, MOVING_SHOWN);
  return html`<section aria-labelledby="moving"><h2 id="moving">In motion</h2>
${shown.map((standing) => movingWorkload(standing, board, workflows))}${more(moving.length - shown.length, 'keyturn status tells them all')}</section>`;
}

function movingWorkload({ workload, runs, rank }: Standing, board: Board, workflows: readonly WorkflowShape[]): Markup {
  const { status } = board;
  const order = (a: RunStatus, b: RunStatus): number => Number(isUrgent(b, status.at)) - Number(isUrgent(a, status.at)) || a.workflow.localeCompare(b.workflow);
  const shown = [...runs].sort(order).slice(0, RUNS_SHOWN);
  return html`<article class="${rank === 0 ? 'workload urgent' : 'workload'}">
<h3>${code(workload.name)}</h3>
<p class="standing">${standingOf(workload)} <a href="${historyPath(workload.name)}">all rotations<span class="hidden"> of ${workload.name}</span></a></p>
<ul class="runs">${shown.map((run) => runItem(run, board, workflows))}</ul>${more(runs.length - shown.length, 'keyturn status tells them all')}
</article>`;
}

/** `in service s1-v1 → target s2-v2`, and whether it is held. */
function standingOf({ target, held, revisions }: WorkloadStatus): Markup {
  const serving = inService(revisions);
  const now = serving === null ? html`nothing in service` : html`in service ${revisionLink(serving)}`;
  const serves = serving !== null && target === nameOf(serving);
  const next = serves ? null : target === null ? html` · no target` : html` → target ${targetLink(target, revisions)}`;
  return html`${now}${next}${held === null ? null : html` <strong class="badge urgent">held</strong>${held.revocation === null ? null : html` by ${revocationLink(held.revocation)}`}`}`;
}

/** The revision that serves; while the next one is confirmed, the one that is not gone yet. */
function inService(revisions: readonly RevisionStatus[]): RevisionStatus | null {
  return revisions.find(({ state }) => state === 'serving') ?? revisions.find(({ state }) => state === 'closing') ?? null;
}

/** `s<serial>-v<epoch>`, as `status` writes it. */
function nameOf({ serial, epoch }: Pick<RevisionStatus, 'serial' | 'epoch'>): string {
  return `s${serial}-v${epoch}`;
}

function revisionLink(revision: RevisionStatus): Markup {
  const facts = [revision.withdrawn ? 'withdrawn' : '', revision.revoked ? 'revoked' : ''].filter((fact) => fact !== '');
  return html`<a class="revision" href="${rotationPath(revision.rotation)}">${nameOf(revision)}</a>${facts.map((fact) => html` <strong class="badge urgent">${fact}</strong>`)}`;
}

function targetLink(target: string, revisions: readonly RevisionStatus[]): Markup {
  const revision = revisions.find((one) => nameOf(one) === target);
  return revision === undefined ? html`${target}` : revisionLink(revision);
}

function runItem(run: RunStatus, { status: { at }, runs }: Board, workflows: readonly WorkflowShape[]): Markup {
  const { id, workflow, step, waitingFor, about, help, since, nextRetryAt, deadline } = run;
  const working = runs.get(id)?.progress ?? null;
  const waits: Content =
    waitingFor === null
      ? html`<p class="why">${working !== null ? 'at work' : step === null ? 'under way' : 'being looked at'}</p>`
      : why(waitingFor, about, help);
  return html`<li class="${isUrgent(run, at) ? 'run urgent' : 'run'}"><p class="what">${linkOf(run, runs.get(id))}${step === null ? null : html` <span class="step">at ${code(step)}${placeOf(workflow, step, workflows)}</span>`}</p>
<div class="waits">${waits}${working === null ? null : progressLine(working, at)}${instants([
    ['since', since === null ? null : momentAndSpan(since, at)],
    ['next look', nextRetryAt === null ? null : momentAndSpan(nextRetryAt, at)],
    ['deadline', deadline === null ? null : momentAndSpan(deadline, at)],
  ])}</div></li>\n`;
}

function linkOf(run: RunStatus, known: BoardRun | undefined): Markup {
  const { id, workflow, revocation } = run;
  const named = revocation === null ? null : idOfRevocation(revocation);
  return named === null
    ? html`<a href="${rotationPath(id)}">${workflow} ${subjectOf(run, known)}</a>`
    : html`<a href="${revocationPath(named)}#run-${id}">${emergencyName({ workflow, id: named })}</a>`;
}

/** The revision that a run is about. */
function subjectOf({ serial }: RunStatus, run: BoardRun | undefined): string {
  if (run?.serial != null && run.epoch !== null) return nameOf({ serial: run.serial, epoch: run.epoch });
  return serial === null ? '' : `s${serial}`;
}

/** `, 10 of 11`. */
function placeOf(workflow: string, step: string, workflows: readonly WorkflowShape[]): string | null {
  const steps = workflows.find(({ name }) => name === workflow)?.steps ?? [];
  const place = steps.findIndex(({ name }) => name === step);
  return place < 0 ? null : `, ${place + 1} of ${steps.length}`;
}

// ---------------------------------------------------------------- what waits, what rests, what holds the keys

function waitingSection({ documents, at }: Status): Markup {
  const waiting = documents.filter(({ verdict }) => verdict === 'waiting');
  const shown = waiting.slice(0, WAITING_DOCUMENTS_SHOWN);
  const rows = shown.map(({ path, reason, about, help, firstSeenAt }) => [code(path), why(reason, about, help), momentAndSpan(firstSeenAt, at)]);
  return html`<section aria-labelledby="waiting"><h2 id="waiting">Documents that wait</h2>
${table('Documents that are neither accepted nor refused yet', ['Document', 'Waits for', 'First seen'], rows)}
${more(waiting.length - shown.length, 'see Documents')}</section>`;
}

function restingSection(standings: readonly Standing[], { at }: Status): Markup | null {
  const resting = standings.filter(({ runs }) => runs.length === 0);
  if (resting.length === 0 && standings.length > 0) return null;
  const shown = resting.slice(0, RESTING_SHOWN);
  const rows = shown.map(({ workload }) => {
    const serving = inService(workload.revisions);
    return [
      html`<a href="${historyPath(workload.name)}">${code(workload.name)}</a>`,
      standingOf(workload),
      serving === null ? null : momentAndSpan(serving.acceptedAt, at),
      workload.key?.rotationDueAt == null ? 'never by schedule' : momentAndSpan(workload.key.rotationDueAt, at),
    ];
  });
  const body =
    rows.length === 0
      ? html`<p>No release has been accepted yet. Commit one to the watched branch; what is wrong with it, or whose signature it lacks, is told here.</p>`
      : table('Workloads with nothing open', ['Workload', 'Stands', 'Accepted', 'Next key'], rows);
  return html`<section aria-labelledby="resting"><h2 id="resting">At rest</h2>${body}${more(resting.length - shown.length, 'keyturn status tells them all')}</section>`;
}

function slowSection(runs: readonly RunStatus[], { status: { at }, runs: subjects }: Board): Markup | null {
  if (runs.length === 0) return null;
  const shown = runs.slice(0, RESTING_SHOWN);
  const rows = shown.map((run) => [
    html`<a href="${rotationPath(run.id)}">${code(run.workload)} ${subjectOf(run, subjects.get(run.id))}</a>`,
    run.waitingFor === null ? 'under way' : why(run.waitingFor, run.about, run.help),
    run.since === null ? null : momentAndSpan(run.since, at),
  ]);
  return html`<section aria-labelledby="slow"><h2 id="slow">Keys on their way out</h2>
${table('Retired keys that are being destroyed', ['Key of', 'Waits for', 'Since'], rows)}${more(runs.length - shown.length, 'keyturn status tells them all')}</section>`;
}

function brokersSection({ brokers, at }: Status): Markup {
  const rows = brokers.map(({ name, generation, baseline, denied, proxies }: BrokerStatus) => [
    code(name),
    generation,
    baseline === null ? 'no baseline: nothing is written there' : 'in force',
    denied,
    proxies.length === 0
      ? 'none'
      : html`<ul class="list">${proxies.map(
          ({ id, seenAt, silent, caughtUp }) =>
            html`<li>${code(id, 80)} ${silent ? html`<strong class="badge waits">silent</strong> since ${momentAndSpan(seenAt, at)}` : caughtUp ? 'caught up' : html`<strong class="badge waits">behind</strong>`}</li>`,
        )}</ul>`,
  ]);
  return html`<section aria-labelledby="brokers"><h2 id="brokers">Key brokers</h2>
${table('What each key broker should hold, by number, and the proxies before it', ['Broker', 'Generation', 'Baseline', 'Denied', 'Proxies'], rows)}</section>`;
}

function footOf({ status, newestEventAt }: Board): Markup {
  const { branches, polls, receipts, at } = status;
  const signed = receipts.signedAt === null ? html`none signed` : html`${receipts.signed} signed ${momentAndSpan(receipts.signedAt, at)}`;
  return html`<p>${receipts.written} receipts, ${signed}.${newestEventAt === null ? null : html` Newest event ${momentAndSpan(newestEventAt, at)}.`}</p>
${branches.map(({ name, commit }) => {
  const readAt = polls.find(({ branch }) => branch === name)?.readAt ?? null;
  return html`<p>Branch ${code(name)} at ${code(commit.slice(0, 12))}${readAt === null ? ', not read yet' : html`, read ${momentAndSpan(readAt, at)}`}.</p>`;
})}
<p>Times are UTC, on the database’s clock. This page reads rows and changes nothing; <code>keyturn status</code> says the same.</p>`;
}
