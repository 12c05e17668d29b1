import { type Reason, reasons } from '#src/domain/reasons.ts';
import { type Instant, later, secondsBetween } from '#src/instant.ts';
import type { Board } from '#state/dashboard.ts';
import type { DocumentStatus, HeldStatus, RunStatus } from '#state/status.ts';
import { idOfRevocation } from '#state/status-emergencies.ts';
import { code, html, type Markup } from './markup.ts';

/** Something that goes no further without a person, or that nobody would notice otherwise. */
export interface Attention {
  readonly title: string;
  /** A workload, document or branch that it is about; null where the title says all. */
  readonly subject: string | null;
  /** Null where it is our own machinery that is silent. */
  readonly reason: string | null;
  readonly about: string | null;
  readonly help: string | null;
  readonly since: Instant | null;
  readonly deadline: Instant | null;
  /** A page of ours that tells more. */
  readonly href: string | null;
}

/** An outside system that is expected to recover gets this long before somebody is told to look: a failover or a restart takes less. Seconds. */
const RETRY_SECONDS = 300;
/** Polls that may be missed, and what one may take: more, and the branch is not being read. */
const POLLS_MISSED = 3;
const POLL_TAKES_SECONDS = 30;

const BLIND = 'Revocations are not seen meanwhile.';

/**
 * What needs a person, first what makes us blind, then refused revocations, held workloads, runs (those that wait longest
 * first) and other documents. Runs of revocations are not among them: whatever they wait for, they stand above all of this. `pollSeconds`: how often the branch is to be read.
 */
export function attentionOf(board: Board, pollSeconds: number): readonly Attention[] {
  const { status } = board;
  const documents = refused(status.documents);
  return [
    ...branchesOf(board, pollSeconds),
    ...overdueOf(board),
    ...brokersOf(board),
    ...documents.filter(({ kind }) => kind === 'Revocation').map(documentItem),
    ...status.workloads.flatMap(({ name, held }) => (held === null ? [] : [heldItem(name, held)])),
    ...status.runs.filter((run) => run.revocation === null && isUrgent(run, status.at)).map(runItem),
    ...documents.filter(({ kind }) => kind !== 'Revocation').map(documentItem),
    ...status.branches.flatMap(({ unread }) => unread.map((entry) => unreadItem(entry))),
  ];
}

/** Whether a run waits for a person: its reason says so, its time is over, or what should recover by itself has not for some minutes. */
export function isUrgent({ waitingFor, since, deadline }: Pick<RunStatus, 'waitingFor' | 'since' | 'deadline'>, now: Instant): boolean {
  if (waitingFor === null) return false;
  if (deadline !== null && deadline <= now) return true;
  const next = Object.hasOwn(reasons, waitingFor) ? reasons[waitingFor as Reason].next : 'stop';
  return next === 'stop' || (next === 'retry' && since !== null && secondsBetween(since, now) >= RETRY_SECONDS);
}

/**
 * The documents that are refused and still matter: a file never leaves the branch, so one of a series whose successor
 * was accepted is settled, and stays on the page of documents alone.
 */
export function refused(documents: readonly DocumentStatus[]): readonly DocumentStatus[] {
  const accepted = new Map<string, number>();
  for (const { path, verdict } of documents) {
    const place = seriesOf(path);
    if (verdict === 'accepted' && place !== null) accepted.set(place.folder, Math.max(accepted.get(place.folder) ?? 0, place.number));
  }
  return documents.filter(({ path, verdict }) => {
    const place = seriesOf(path);
    return verdict === 'refused' && (place === null || (accepted.get(place.folder) ?? 0) < place.number);
  });
}

function seriesOf(path: string): { readonly folder: string; readonly number: number } | null {
  const [, folder, number] = /^(.*)\/(\d{1,10})\.yaml$/.exec(path) ?? [];
  return folder === undefined ? null : { folder, number: Number(number) };
}

function branchesOf({ status }: Board, pollSeconds: number): readonly Attention[] {
  const silentSince = later(status.at, -(POLLS_MISSED * pollSeconds + POLL_TAKES_SECONDS));
  const polls = status.polls.flatMap(({ branch, readAt, failingSince, reason, about, help }): Attention[] => {
    const item = { subject: branch, deadline: null, href: null };
    if (failingSince !== null)
      return [{ ...item, title: 'The branch cannot be read', reason, about, help: `${help ?? ''} ${BLIND}`.trim(), since: failingSince }];
    if (readAt === null || readAt >= silentSince) return [];
    const silent = `It is to be read every ${pollSeconds} seconds. See whether the controller runs, and what it logs. ${BLIND}`;
    return [{ ...item, title: 'The branch has not been read', reason: null, about: null, help: silent, since: readAt }];
  });
  const rewritten = status.branches.flatMap(({ name, commit, rewrittenTo, seenAt }): Attention[] =>
    rewrittenTo === null
      ? []
      : [
          {
            ...{ title: 'The branch was rewritten', subject: name, reason: 'HistoryRewritten', deadline: null, href: null },
            ...{ about: `from ${commit} to ${rewrittenTo}: releases are held`, help: reasons.HistoryRewritten.help, since: seenAt },
          },
        ],
  );
  return [...polls, ...rewritten];
}

function overdueOf({ overdue }: Board): readonly Attention[] {
  if (overdue.runs === 0) return [];
  const title = overdue.runs === 1 ? 'A run was due, and nobody has looked at it' : `${overdue.runs} runs were due, and nobody has looked at them`;
  const help = 'The controller does not work through its queue. See what it logs, and whether its database has sessions left.';
  return [{ title, subject: null, reason: null, about: null, help, since: overdue.since, deadline: null, href: null }];
}

function brokersOf({ status }: Board): readonly Attention[] {
  return status.brokers.flatMap(({ name, proxies }): Attention[] => {
    if (proxies.length === 0 || !proxies.every(({ silent }) => silent)) return [];
    const since = proxies.map(({ seenAt }) => seenAt).reduce((latest, at) => (at > latest ? at : latest));
    const help = 'A proxy that cannot reach the database refuses every key: a pod that restarts gets none. See whether the proxies run, and what they log.';
    return [{ title: 'No proxy is heard from', subject: name, reason: null, about: null, help, since, deadline: null, href: null }];
  });
}

function heldItem(name: string, { reason, about, help, revocation }: HeldStatus): Attention {
  const id = revocation === null ? null : idOfRevocation(revocation);
  const [title, href] = id === null ? ['Held', historyPath(name)] : [`Held by the revocation ${id}`, revocationPath(id)];
  return { title, subject: name, reason, about, help, since: null, deadline: null, href };
}

function runItem(run: RunStatus): Attention {
  const { id, workflow, workload, step, waitingFor, about, help, since, deadline } = run;
  const title = step === null ? workflow : `${workflow} stands at ${step}`;
  return { title, subject: workload, reason: waitingFor, about, help, since, deadline, href: rotationPath(id) };
}

function documentItem({ path, reason, about, help, firstSeenAt }: DocumentStatus): Attention {
  return { title: 'Refused', subject: path, reason, about, help, since: firstSeenAt, deadline: null, href: '/documents' };
}

function unreadItem({
  path,
  reason,
  about,
  help,
}: {
  readonly path: string;
  readonly reason: string;
  readonly about: string;
  readonly help: string;
}): Attention {
  return { title: 'Not read', subject: path, reason, about, help, since: null, deadline: null, href: '/documents' };
}

/** The page of a run's rotation. */
export function rotationPath(run: string): string {
  return `/rotations/${encodeURIComponent(run)}`;
}

/** The page of a workload's rotations. */
export function historyPath(workload: string): string {
  return `/workloads/${encodeURIComponent(workload)}`;
}

/** The page of a revocation; of other bytes at its path, where their digest is given. */
export function revocationPath(id: string, digest: string | null = null): string {
  return `/revocations/${encodeURIComponent(id)}${digest === null ? '' : `?${new URLSearchParams({ digest })}`}`;
}

/** A page of the list of revocations, from 1. */
export function revocationsPath(page: number): string {
  return page === 1 ? '/revocations' : `/revocations?${new URLSearchParams({ page: String(page) })}`;
}

/** A revocation's document, with a link to its page where it has one. */
export function revocationLink(path: string): Markup {
  const id = idOfRevocation(path);
  return id === null ? code(path) : html`<a href="${revocationPath(id)}">${code(path)}</a>`;
}
