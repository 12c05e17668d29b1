/**
 * Takes in what Git holds: reads the branch, stores what was never seen, judges everything that waits.
 *
 * One pass judges in an order of its own, whatever the commits were: trust, revocations, platforms,
 * baselines, releases by serial. Each acceptance is one transaction. Nothing wrong in one document stops
 * another; a rewritten history holds all but revocations and trust documents, one of which may accept it.
 */
import type pg from 'pg';
import { digestOf, isDigest } from '#src/digest.ts';
import { namedBy } from '#src/domain/documents/parse.ts';
import { type DocumentKind, documentOfBundle, FOLDERS, placeOf } from '#src/domain/documents/places.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Release } from '#src/domain/release.ts';
import type { Git, Poll, Snapshot, Unread } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import type { Refusal } from '#src/domain/want.ts';
import { isFault } from '#src/errors.ts';
import type { Log } from '#src/log.ts';
import type { Resting } from '#state/basis.ts';
import type { Db } from '#state/database.ts';
import type { Verifying } from '#state/document-loaders.ts';
import {
  acceptedHistory,
  type Branch,
  branchOf,
  moveBranch,
  setAcceptedHistory,
  settledReleases,
  storedBytes,
  type WaitingDocument,
  waitingDocuments,
} from '#state/documents.ts';
import { insistent } from '#state/insistent.ts';
import { noteFailedPoll, notePoll } from '#state/polls.ts';
import { judgeAgainWhatWasBeyond } from '#state/revocations.ts';
import type { Enlist } from '#state/runs.ts';
import { storeNamedFile, storeSnapshot } from '#state/snapshots.ts';
import { trustInForce } from '#state/trust-chain.ts';
import type { Arriving, Loaders } from '#state/want.ts';
import { type Outcome, settle } from './verdict.ts';

/** What a pass needs. A command opens the parts and puts them in this record. */
export interface Intake extends Verifying {
  readonly pool: pg.Pool;
  readonly git: Git;
  readonly enlist: Enlist;
  /** Whether a document that is about to be accepted fits what is configured and what every KBS holds; null: it does. */
  readonly misfit: (tx: Db, arriving: Arriving) => Promise<Refusal | null>;
  /** What a revocation asks which accepted releases it touches. */
  readonly loaders: Loaders;
  /** Which sealing a release rests on, under that sealing's lock. */
  readonly basis: (tx: Db, release: Release) => Promise<Resting>;
  readonly log: Log;
}

/** What a pass found. */
export interface Report {
  readonly commit: string;
  /** Whether the tip was not the one known. */
  readonly changed: boolean;
  /** A tip that does not descend from the last accepted commit; null: the history is whole. */
  readonly rewrittenTo: string | null;
  /** Documents whose verdict or reason changed in this pass. */
  readonly outcomes: readonly Outcome[];
  /** Entries of the watched folders that were not read. */
  readonly unread: readonly Unread[];
  /** Documents whose judgement could not be finished; they are judged again by the next pass. */
  readonly failures: readonly { readonly path: string; readonly reason: Reason; readonly about: string }[];
}

/**
 * One pass. Before each document that can wait it asks `isUrgent`; where that says yes, Git is read anew and what
 * can not wait is judged first: a thousand releases take minutes, and a revocation has none. Throws Fault where Git
 * or the database does not answer; a bug in one document's acceptance is thrown after all others were judged.
 */
export async function takeIn(intake: Intake, isUrgent: () => boolean = () => false): Promise<Report> {
  const { git } = intake;
  const { poll, next, snapshot, unread } = await readBranch(intake);
  const judged = await judgeAll(intake, next.rewrittenTo, isUrgent);
  const report = { commit: poll.commit, changed: poll.kind === 'changed', unread };
  if (await acceptHistory(intake, next, snapshot)) {
    const { outcomes, failures } = await judgeAll(intake, null, isUrgent);
    return { ...report, rewrittenTo: null, outcomes: [...judged.outcomes, ...outcomes], failures };
  }
  if (next.rewrittenTo !== null)
    intake.log.error({ branch: git.branch, known: next.commit, tip: next.rewrittenTo }, 'the history was rewritten: releases are held');
  return { ...report, rewrittenTo: next.rewrittenTo, outcomes: judged.outcomes, failures: judged.failures };
}

/** What a reading of the branch found; all of it is stored. */
interface Reading {
  readonly poll: Poll;
  readonly next: Branch;
  /** null: the tip is the known one. */
  readonly snapshot: Snapshot | null;
  readonly unread: readonly Unread[];
}

/** Replicas read the same branch: one that was overtaken while it read looks again, and not only at the next poll. */
const TRIES = 3;

async function readBranch(intake: Intake, tries = TRIES): Promise<Reading> {
  const { pool, git } = intake;
  const known = await branchOf(pool, git.branch);
  const poll = await watched(intake, () => git.poll(known?.commit ?? null));
  const unread = poll.kind === 'changed' ? poll.snapshot.unread : [];
  const next: Branch =
    poll.kind === 'unchanged' || poll.descends
      ? { commit: poll.commit, rewrittenTo: null }
      : { commit: known?.commit ?? poll.commit, rewrittenTo: poll.commit };
  // Back from a rewritten history, the tip is the known one and its revocations have to be seen again.
  const back = poll.kind === 'unchanged' && known !== null && known.rewrittenTo !== null;
  const snapshot = poll.kind === 'changed' ? poll.snapshot : back ? await watched(intake, () => git.tip()) : null;
  // Somebody meant to write a document there: told once for each tip, and shown by `status`.
  const isNew = next.commit !== known?.commit || next.rewrittenTo !== known.rewrittenTo;
  if (isNew) for (const { path, reason, about } of unread) intake.log.warn({ path, reason, about }, 'an entry of the repository was not read');
  // What is stored of a rewritten tip is not what the known commit has there.
  const moved = poll.kind === 'changed' && known?.rewrittenTo === null ? poll.moved : FOLDERS;
  const stands = await store(intake, known, next, snapshot?.commit === poll.commit ? { snapshot, moved } : null);
  if (!stands && tries > 1) return readBranch(intake, tries - 1);
  return { poll, next, snapshot, unread };
}

/**
 * Whether the trust document in force accepts the rewritten branch: the commit that it names is on the
 * branch's line. It does so once: what is rewritten behind that commit later is another rewriting. A commit
 * that the branch held anyway accepts nothing, and is remembered as done.
 */
async function acceptHistory(intake: Intake, branch: Branch, snapshot: Snapshot | null): Promise<boolean> {
  const { pool, git } = intake;
  const chain = await trustInForce(pool, intake);
  const history = chain.kind === 'trusted' ? chain.trust.history : null;
  if (history === null || history === (await acceptedHistory(pool, git.branch))) return false;
  const { rewrittenTo } = branch;
  if (!(await watched(intake, () => git.follows(rewrittenTo ?? branch.commit, history)))) return false;
  if (rewrittenTo === null) {
    await setAcceptedHistory(pool, git.branch, history);
    return false;
  }
  if (snapshot === null) return false;
  intake.log.warn({ branch: git.branch, known: branch.commit, tip: rewrittenTo, history }, 'a trust document accepts the rewritten history');
  // The branch may have moved since: the next pass asks again.
  return store(intake, branch, { commit: rewrittenTo, rewrittenTo: null }, { snapshot, moved: FOLDERS }, history);
}

/** Asks Git, and keeps how that went: while it does not answer no revocation is seen, and `status` has to say so. */
async function watched<T>({ pool, git }: Intake, asked: () => Promise<T>): Promise<T> {
  try {
    const answer = await asked();
    await notePoll(pool, git.branch);
    return answer;
  } catch (thrown) {
    if (isFault(thrown)) await noteFailedPoll(pool, git.branch, thrown.reason, thrown.message);
    throw thrown;
  }
}

/** What is stored of a rewritten history: it holds neither a revocation nor the trust document that accepts it. */
const HELD_BY_NOTHING: readonly string[] = ['revocations', 'trust'];

/** A snapshot, and in which watched folders it is another than the one that is stored. */
interface Shown {
  readonly snapshot: Snapshot;
  readonly moved: readonly string[];
}

/** Stores a snapshot and the branch's new tip together: a crash between cannot lose a document. Gives whether the branch was where `known` has it. */
async function store(intake: Intake, known: Branch | null, next: Branch, shown: Shown | null, history: string | null = null): Promise<boolean> {
  const { pool, git } = intake;
  if (shown === null && known?.rewrittenTo === next.rewrittenTo) return true;
  const rewritten = next.rewrittenTo !== null;
  const named = shown === null ? [] : await readNamed(intake, shown.snapshot, rewritten ? ['Trust'] : ['Trust', 'Release']);
  return insistent(pool, async (tx) => {
    if (!(await moveBranch(tx, git.branch, known, next, shown?.snapshot.unread ?? null))) return false;
    if (shown === null) return true;
    const { snapshot, moved } = shown;
    await storeSnapshot(
      tx,
      snapshot,
      moved.filter((folder) => !rewritten || HELD_BY_NOTHING.includes(folder)),
    );
    if (history !== null) await setAcceptedHistory(tx, git.branch, history);
    for (const file of named) await storeNamedFile(tx, snapshot.commit, file);
    return true;
  });
}

/** Files that documents of these kinds name by digest and that were never stored: read only where the path holds exactly those bytes. */
async function readNamed({ pool, git }: Intake, snapshot: Snapshot, kinds: readonly DocumentKind[]): Promise<readonly RepositoryFile[]> {
  const wanted = new Map<string, Set<string>>();
  // What was decided needs no more files, and thousands of old releases no second reading.
  const settled = await settledReleases(pool);
  for (const file of snapshot.files) {
    const kind = placeOf(file.path)?.kind;
    if (kind === undefined || !kinds.includes(kind) || settled.has(`${file.path} ${digestOf(file.bytes)}`)) continue;
    for (const { file: path, digest } of namedBy(file)) {
      // A document is taken in as one, or not at all.
      if (placeOf(path) !== null || documentOfBundle(path) !== null) continue;
      if (!isDigest(digest) || (await storedBytes(pool, path, digest)) !== null) continue;
      wanted.set(path, (wanted.get(path) ?? new Set()).add(digest));
    }
  }
  const files = await git.read(snapshot.commit, [...wanted.keys()]);
  return files.filter(({ path, bytes }) => wanted.get(path)?.has(digestOf(bytes)) === true);
}

/** The order in which kinds are judged; what is not named comes last. */
export const ORDER: readonly string[] = ['Trust', 'Revocation', 'Platform', 'Baseline', 'Release', 'Withdrawal', 'Reinstatement', 'Unknown'];

function inOrder(a: WaitingDocument, b: WaitingDocument): number {
  const byKind = ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind);
  return byKind !== 0 ? byKind : a.path.localeCompare(b.path, 'en', { numeric: true }) || (a.digest < b.digest ? -1 : 1);
}

/** Documents that nobody signed, judged in one pass: each costs a transaction, and a signed revocation may come in the meantime. */
const UNSIGNED_MAX = 200;

/** What may be accepted, and of the rest as much as a pass has time for: first what was never judged. */
function dueOf(waiting: readonly WaitingDocument[], initialDigest: string): readonly WaitingDocument[] {
  const mayPass = ({ hasBundle, digest }: WaitingDocument): boolean => hasBundle || digest === initialDigest;
  const rest = waiting.filter((one) => !mayPass(one)).sort((a, b) => Number(a.isJudged) - Number(b.isJudged));
  return [...waiting.filter(mayPass), ...rest.slice(0, UNSIGNED_MAX)].sort(inOrder);
}

/** What can not wait: who is believed, and what is to stop. They come first in a pass too. */
const URGENT: readonly string[] = ['Trust', 'Revocation'];

interface Judged {
  readonly outcomes: Outcome[];
  readonly failures: { readonly path: string; readonly reason: Reason; readonly about: string }[];
  readonly bugs: unknown[];
}

async function judgeAll(intake: Intake, rewrittenTo: string | null, isUrgent: () => boolean): Promise<Judged> {
  await judgeAgainWhatWasBeyond(intake.pool);
  const due = dueOf(await waitingDocuments(intake.pool), intake.initialDigest);
  const judged: Judged = { outcomes: [], failures: [], bugs: [] };
  let rewritten = rewrittenTo;
  for (const row of due) {
    if (!URGENT.includes(row.kind) && isUrgent()) rewritten = await judgeUrgent(intake, rewritten, judged);
    await judge(intake, row, rewritten, judged);
  }
  for (const { path, reason, about } of judged.failures) intake.log.warn({ path, reason, about }, 'a document could not be judged');
  if (judged.bugs.length > 0) throw judged.bugs[0];
  return judged;
}

/** Reads the branch in the middle of a pass, and judges what can not wait; gives the tip of a rewritten history. What else is new waits for the next pass. */
async function judgeUrgent(intake: Intake, rewrittenTo: string | null, judged: Judged): Promise<string | null> {
  try {
    const { next } = await readBranch(intake);
    const due = dueOf(await waitingDocuments(intake.pool), intake.initialDigest);
    for (const row of due.filter(({ kind }) => URGENT.includes(kind))) await judge(intake, row, next.rewrittenTo, judged);
    return next.rewrittenTo;
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    intake.log.warn({ reason: thrown.reason, fault: thrown.message }, 'the branch could not be read in the middle of a pass');
    return rewrittenTo;
  }
}

async function judge(intake: Intake, row: WaitingDocument, rewrittenTo: string | null, { outcomes, failures, bugs }: Judged): Promise<void> {
  try {
    const outcome = await settle(intake, row, rewrittenTo);
    if (outcome !== null) outcomes.push(outcome);
  } catch (cause) {
    if (isFault(cause)) failures.push({ path: row.path, reason: cause.reason, about: cause.message });
    else bugs.push(cause);
  }
}
