import type { Json } from '#src/domain/json.ts';
import { signerNames } from '#src/domain/signatures.ts';
import type { Instant } from '#src/instant.ts';
import type { CountedBoots, KeyRequest } from '#state/dashboard-pods.ts';
import type { Rotation, RotationView } from '#state/dashboard-rotation.ts';
import type { ReceiptView, RunView } from '#state/dashboard-runs.ts';
import { historyPath, isUrgent, revocationLink, rotationPath } from './attention.ts';
import { ladderOf, type Mark, type Rung, type WorkflowShape } from './ladder.ts';
import { type Content, code, html, type Markup, words } from './markup.ts';
import { pairs, table } from './page.ts';
import { instants, progressLine, why } from './said.ts';
import { sentenceOf } from './sentences.ts';
import { moment, momentAndSpan } from './time.ts';

/** Values of one fact or of one object in it. */
const MEMBERS_SHOWN = 12;
/** Receipts of one step that count no more. */
const BEFORE_SHOWN = 3;
const DEPTH_MAX = 3;

/** A rotation's page: what it waits for, its ladder, what it takes away, its pods, its release. */
export function rotationMain(view: RotationView, workflows: readonly WorkflowShape[]): Markup {
  const { rotation, runs, at, counted, requests, takenBy } = view;
  const [own, ...caused] = runs;
  const name = `s${rotation.serial}-v${rotation.epoch}`;
  return html`
<p class="trail"><a href="/">Workloads</a> / <a href="${historyPath(rotation.workload)}">${code(rotation.workload)}</a></p>
<h1>${code(rotation.workload)} ${name} ${stateBadge(rotation)}</h1>
<p class="sum">Rotation ${code(rotation.id)}, accepted ${momentAndSpan(rotation.acceptedAt, at)}${own?.endedAt ? html`, ended ${momentAndSpan(own.endedAt, at)}` : null}.</p>
${endsOf(rotation)}
${takenBy.map(
  (taker) =>
    html`<p class="sum">${taker.endedAt === null ? 'Being taken away' : 'Taken away'} by <a href="${rotationPath(taker.run)}">${taker.workflow} ${code(taker.run)}</a>.</p>`,
)}
${runs.filter(({ endedAt, waitingFor, progress }) => endedAt === null && (waitingFor !== null || progress !== null)).map((run) => waitsSection(run, at))}
${own === undefined ? null : runSection(own, workflows, at, 'own')}
${caused.length === 0 ? null : html`<section aria-labelledby="caused"><h2 id="caused">What it caused</h2>${caused.map((run) => runSection(run, workflows, at, 'caused'))}</section>`}
${podsSection(counted, at)}
${requestsSection(requests, rotation, at)}
${releaseSection(rotation, at)}`;
}

function stateBadge({ state }: Rotation): Markup {
  return html`<span class="badge ${state === 'serving' ? 'good' : 'plain'}">${state}</span>`;
}

function endsOf({ withdrawnBy, revokedBy }: Rotation): Markup | null {
  if (withdrawnBy === null && revokedBy === null) return null;
  return html`<p class="sum">${withdrawnBy === null ? null : html`<strong class="badge urgent">withdrawn</strong> by ${code(withdrawnBy)} `}${revokedBy === null ? null : html`<strong class="badge urgent">revoked</strong> by ${revocationLink(revokedBy)}`}</p>`;
}

function waitsSection(run: RunView, at: Instant): Markup {
  const { id, step, waitingFor, about, help, since, nextRetryAt, deadline, progress } = run;
  return html`<section class="${isUrgent(run, at) ? 'callout urgent' : 'callout'}" aria-labelledby="waits-${id}">
<h2 id="waits-${id}">${titleOf(run)} ${waitingFor === null ? 'is at work' : step === null ? 'waits' : html`waits at ${code(step)}`}</h2>
${why(waitingFor, about, help)}${progress === null ? null : progressLine(progress, at)}${instants([
  ['since', since === null ? null : momentAndSpan(since, at)],
  ['next look', nextRetryAt === null ? null : momentAndSpan(nextRetryAt, at)],
  ['deadline', deadline === null ? null : momentAndSpan(deadline, at)],
])}</section>`;
}

function titleOf({ workflow, serial, epoch, workload }: RunView): string {
  return serial === null || epoch === null ? `${workflow} of ${workload}` : `${workflow} of s${serial}-v${epoch}`;
}

// ---------------------------------------------------------------- the ladder

function runSection(run: RunView, workflows: readonly WorkflowShape[], at: Instant, which: 'own' | 'caused'): Markup {
  const shape = workflows.find(({ name }) => name === run.workflow);
  const gates = shape?.gates ?? [];
  const ladder = ladderOf(shape, run);
  const left = run.total - run.receipts.length;
  const heading = which === 'own' ? html`<h2 id="run-${run.id}">${titleOf(run)}</h2>` : html`<h3 id="run-${run.id}">${titleOf(run)}</h3>`;
  const subject = which === 'own' || run.rotation === null ? null : html` of <a href="${rotationPath(run.rotation)}">${code(run.rotation)}</a>`;
  return html`<section class="run-ladder" aria-labelledby="run-${run.id}">${heading}
<p class="sum">${which === 'own' ? null : html`Run ${code(run.id)}${subject}. `}${gates.length === 0 ? null : html`In front of every step: ${listed(gates.map(({ name }) => code(name)))}.`}${left > 0 ? ` ${left} receipts in between are not shown.` : null}</p>
<ol class="ladder">${ladder.map((item) => (item.mark ? markItem(item, at) : rungItem(item, run, shape, at)))}</ol></section>`;
}

const STATE_WORDS = { done: 'done', now: 'now', 'to-come': 'to come', never: 'not reached' } as const;

function rungItem(rung: Rung, run: RunView, shape: WorkflowShape | undefined, at: Instant): Markup {
  const { name, kind, state, receipt, before } = rung;
  const tone = state === 'done' ? 'good' : state === 'now' ? 'waits' : 'plain';
  return html`<li class="rung ${state}"${state === 'now' ? html` aria-current="step"` : null}>
<p class="rung-head"><strong class="rung-name">${words(name)}</strong> <span class="badge ${tone}">${STATE_WORDS[state]}</span>${kind === 'decision' ? html` <span class="kind">decision</span>` : null}${receipt === null ? null : html` <span class="rung-at">${moment(receipt.at, at)}</span>`}</p>
<p class="told">${sentenceOf(run.workflow, name)} ${gatesOf(rung, shape)}</p>
${state === 'now' ? standsAt(run) : null}
${receipt === null ? null : receiptPart(receipt)}
${before.slice(-BEFORE_SHOWN).map((one) => html`<p class="before">Receipt ${one.number} of ${moment(one.at, at)} ${one.counts ? 'was followed by another.' : 'counts no more.'}</p>`)}</li>\n`;
}

/** A step's own gates; once it is done, those that answered. The workflow's stand at its head. */
function gatesOf({ gates, receipt }: Rung, shape: WorkflowShape | undefined): Markup | null {
  const common = new Set((shape?.gates ?? []).map(({ name }) => name));
  const names = receipt === null ? gates : receipt.verdicts.map(({ gate }) => gate).filter((gate) => !common.has(gate));
  return names.length === 0 ? null : html`${receipt === null ? 'Gates' : 'Answered yes'}: ${listed(names.map((gate) => code(gate)))}.`;
}

/** With commas between. */
function listed(items: readonly Content[]): readonly Content[] {
  return items.map((item, index) => (index === 0 ? item : html`, ${item}`));
}

const MARK_WORDS: Readonly<Record<string, string>> = {
  reopened: 'what follows has to come about again.',
  amended: 'its settings, and nothing that was done.',
  reinstated: 'it has a path of its own again, and is published anew.',
};

function markItem({ receipt: { step, number, at: then, because } }: Mark, at: Instant): Markup {
  const told = MARK_WORDS[step] ?? '';
  return html`<li class="rung mark-item"><p class="rung-head"><strong class="rung-name">${words(step)}</strong> <span class="rung-at">${moment(then, at)}</span></p>
<p class="told">${because === null ? null : html`${words(because)}: `}${told} Receipt ${number}.</p></li>\n`;
}

/** Why is told at the head of the page. */
function standsAt({ waitingFor }: RunView): Markup {
  return waitingFor === null
    ? html`<p class="told">Being looked at.</p>`
    : html`<p class="told">Waits for <strong class="reason">${words(waitingFor)}</strong>.</p>`;
}

function receiptPart({ number, digest, proof, moves, facts }: ReceiptView): Markup {
  return pairs([
    ['receipt', html`${number}, ${code(digest)}${proof === 'accepted' ? ', accepted: the answer of a system that cannot be read back' : null}`],
    ['moved to', moves],
    ...Object.entries(isObject(facts) ? facts : {}).map(([name, value]): readonly [Content, Content] => [
      words(name, 80),
      name === 'boots' ? countOf(value) : factOf(value),
    ]),
  ]);
}

// ---------------------------------------------------------------- facts

function isObject(value: Json): value is { readonly [name: string]: Json } {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** How many boots a step counted: what they are, the table of pods says. */
function countOf(boots: Json): string {
  const count = isObject(boots) ? Object.values(boots).reduce<number>((sum, list) => sum + (Array.isArray(list) ? list.length : 0), 0) : 0;
  return `${count}: see Pods`;
}

/** A fact as people read it, without brackets: what is inside a list or an object stands in a line. */
function factOf(value: Json, depth = 0): Content {
  if (value === null) return 'none';
  if (typeof value === 'string') return code(value, 200);
  if (typeof value !== 'object') return String(value);
  if (depth >= DEPTH_MAX) return '…';
  const named: readonly (readonly [string | null, Json])[] = isObject(value) ? Object.entries(value) : value.map((item) => [null, item]);
  const shown = named.slice(0, MEMBERS_SHOWN).map(([name, item]) => html`${name === null ? null : html`${words(name, 200)} `}${factOf(item, depth + 1)}`);
  const all = named.length > shown.length ? [...shown, html`… and ${named.length - shown.length} more`] : shown;
  return depth === 0 ? html`<ul class="list">${all.map((item) => html`<li>${item}</li>`)}</ul>` : listed(all);
}

// ---------------------------------------------------------------- pods and requests

function podsSection(counted: CountedBoots | null, at: Instant): Markup {
  if (counted === null) return html`<section aria-labelledby="pods"><h2 id="pods">Pods</h2><p>No receipt has counted a pod of it yet.</p></section>`;
  const { boots, total, receipt, step } = counted;
  const rows = boots.map(({ target, uid, containerId, address, pod, attestedAt, fetchedAt, decision, path }) => [
    html`${code(pod ?? uid)}<br><span class="small">${code(target)}</span>`,
    code(address),
    attestedAt === null ? 'no row' : moment(attestedAt, at),
    fetchedAt === null ? 'no row' : html`${moment(fetchedAt, at)} ${decision}${path === null ? null : html`<br><span class="small">${code(path)}</span>`}`,
    html`<span class="small">pod ${code(uid)}<br>container ${code(containerId)}</span>`,
  ]);
  const columns = ['Pod', 'Address', 'Attested', 'Key', 'Boot'];
  return html`<section aria-labelledby="pods"><h2 id="pods">Pods</h2>
${table(html`${total} ${total === 1 ? 'boot' : 'boots'} that receipt ${receipt} (${code(step)}) rests on`, columns, rows)}
${total > boots.length ? html`<p class="more">… and ${total - boots.length} more, in keyturn receipts export.</p>` : null}</section>`;
}

function requestsSection(requests: readonly KeyRequest[], { keys }: Rotation, at: Instant): Markup | null {
  if (keys.length === 0) return null;
  const rows = requests.map(({ at: then, kbs, address, pod, decision, type, attestedAt }) => [
    moment(then, at),
    code(address),
    pod === null ? 'nobody known' : code(pod),
    html`<span class="badge ${decision === 'released' ? 'good' : 'waits'}">${decision}</span>${type === null ? null : html` ${code(type, 80)}`}`,
    attestedAt === null ? 'no' : moment(attestedAt, at),
    code(kbs),
  ]);
  const paths = listed(keys.map(({ kbs, path }) => html`${code(path)} at ${code(kbs)}`));
  const caption = html`The newest requests for its key, ${paths}`;
  return html`<section aria-labelledby="requests"><h2 id="requests">Requests for its key</h2>
${requests.length === 0 ? html`<p>Nobody has asked for ${paths} yet.</p>` : table(caption, ['At', 'Address', 'Pod there', 'Answer', 'Attested', 'Broker'], rows)}</section>`;
}

function releaseSection({ release, document, serial, epoch, workload }: Rotation, at: Instant): Markup {
  return html`<section aria-labelledby="release"><h2 id="release">Release</h2>
${pairs([
  ['document', document === null ? 'not known' : code(document.path)],
  ['digest', code(release)],
  ['approved by', document === null ? null : listed(signerNames(document.approvedBy, document.signatures).map((name) => words(name, 400)))],
  ['trust', document?.trustVersion == null ? null : `version ${document.trustVersion}`],
  ['commit', document === null ? null : code(document.commit)],
  ['first seen', document === null ? null : moment(document.firstSeenAt, at)],
  ['accepted', document?.judgedAt == null ? null : moment(document.judgedAt, at)],
  ['workload', code(workload)],
  ['serial', String(serial)],
  ['key epoch', String(epoch)],
])}</section>`;
}
