import type pg from 'pg';
import type { Digest } from '#src/digest.ts';
import type { Json } from '#src/domain/json.ts';
import type { Wrapped } from '#src/domain/kbs.ts';
import { keyPath } from '#src/domain/paths.ts';
import type { Facts, Known, RevisionState } from '#src/domain/release.ts';
import type { Run } from '#src/domain/run.ts';
import { type Instant, later } from '#src/instant.ts';
import { brokerRow, lockBrokers, raiseGenerations } from './brokers.ts';
import { type Db, transaction } from './database.ts';
import { denyPaths } from './deny-list.ts';
import { appendEvent, appendEvents } from './events.ts';
import { requireFit } from './fit.ts';
import { appendReceipt } from './receipts.ts';
import { lift, lockLift } from './reinstatements.ts';
import { keepResource } from './resources.ts';
import { moveRevision, wentLive } from './revisions.ts';
import { advanceRun, type Enlist, endRun, lockWorkload, openRuns, refreshRun } from './runs.ts';
import { lockSealing, takeSealing } from './sealings.ts';
import type { WantContext } from './want.ts';

/** A verdict that a look relied on, as the receipt keeps it. */
export interface RelyingOn {
  readonly gate: string;
  readonly evidence: Json;
  readonly goodUntil: Instant | null;
}

/** A step that was seen, ready to be written down. */
export interface Checkpoint {
  readonly run: Run;
  /** null: the run is about no revision. */
  readonly subject: Known | null;
  readonly step: string;
  readonly facts: Facts;
  readonly evidence: Json;
  readonly proof: 'observed' | 'accepted';
  readonly keep: readonly Wrapped[];
  /** The earliest of the Seen's and of every verdict's; null where nothing ages. */
  readonly goodUntil: Instant | null;
  readonly verdicts: readonly RelyingOn[];
  /** The names of the step's own gates: each is told as an event; the workflow's are the same at every step. */
  readonly ownGates: readonly string[];
  readonly moves: RevisionState | null;
  /** Whether it lifts the revocation that the run is about. */
  readonly lifts: boolean;
  /** Whether this was the workflow's last step. */
  readonly last: boolean;
  /** Seconds from this receipt until the run counts as late; null: this step starts no deadline. */
  readonly deadlineSeconds: number | null;
}

/** `fenced`: somebody else has the run. `stale`: what was seen is no longer good; look again. */
export type Committed = { readonly kind: 'committed'; readonly receipt: string } | { readonly kind: 'fenced' } | { readonly kind: 'stale' };

/** The states whose entry changes what a KBS should hold. */
const RAISES: readonly RevisionState[] = ['live', 'retired'];

/**
 * Writes a step down: receipt, state, generations, event and the next wakes in one transaction, where
 * the claim is still mine and nothing that it rests on has aged (rules R7 and R21). Locks are taken in
 * one order everywhere: brokers by name, sealings by id, the workload, its runs. The clock is read under them.
 * Throws Fault where what a lifting brings back does not fit what is there by now: nothing is lifted then.
 */
export function commitStep(pool: pg.Pool, point: Checkpoint, enlist: Enlist, context: WantContext): Promise<Committed> {
  return transaction(pool, async (tx): Promise<Committed> => {
    const moving = await movingOf(tx, point);
    const raises = moving !== null && RAISES.includes(moving.to);
    const raised = raises && (moving.to === 'live' || (await wentLive(tx, moving.subject.id))) ? moving.kbs : [];
    const lifting = point.lifts ? await lockLift(tx, point.run) : null;
    await lockBrokers(tx, raises ? moving.kbs : []);
    if (moving?.to === 'retired') await lockSealing(tx, moving.subject.sealing.id);
    await lockWorkload(tx, point.run.workload);
    if ((await refreshRun(tx, point.run, true)) === null) return { kind: 'fenced' };
    const now = await readInstant(tx);
    if (point.goodUntil !== null && now >= point.goodUntil) return { kind: 'stale' };
    const lifted = lifting === null ? {} : await lift(tx, lifting, point.facts.reinstated ?? {}, enlist);
    if (lifted === null) return { kind: 'stale' };
    if (lifting !== null) await requireFit(tx, context, Object.keys(point.facts.reinstated ?? {}));
    const generations = { ...lifted, ...(raised.length === 0 ? {} : await raiseGenerations(tx, raised)) };
    if (moving !== null) await move(tx, moving);
    for (const row of point.keep) await keepResource(tx, row);
    const receipt = await receive(tx, point, moving?.to ?? null, generations);
    await advanceRun(tx, point.run, { generations, deadline: point.deadlineSeconds === null ? null : later(now, point.deadlineSeconds) });
    await finish(tx, point, enlist);
    return { kind: 'committed', receipt };
  });
}

/**
 * Ends a run all of whose steps have receipts that count: a version that had one more step wrote the last of
 * them, and this one has nothing left to do. false: fenced.
 */
export function endSettledRun(pool: pg.Pool, run: Run, subject: Known | null, enlist: Enlist): Promise<boolean> {
  return transaction(pool, async (tx) => {
    await lockWorkload(tx, run.workload);
    if ((await refreshRun(tx, run, true)) === null) return false;
    await finish(tx, { run, subject, moves: null, last: true }, enlist);
    return true;
  });
}

/** A revision that enters a state. */
interface Moving {
  readonly subject: Known;
  readonly to: RevisionState;
  /** The names of the KBSs that it concerns, in order. */
  readonly kbs: readonly string[];
}

/** A retire run of a revision that never went live takes nothing away: its `closing` is not made (DESIGN §4). */
async function movingOf(tx: Db, { subject, moves: to }: Checkpoint): Promise<Moving | null> {
  if (subject === null || to === null || (to === 'closing' && !(await wentLive(tx, subject.id)))) return null;
  return { subject, to, kbs: [...new Set(subject.release.targets.map((target) => target.kbs))].sort() };
}

async function readInstant(tx: Db): Promise<Instant> {
  const { rows } = await tx.query<{ now: Instant }>('select instant() as now');
  const [row] = rows;
  if (row === undefined) throw new Error('select instant() gave no row');
  return row.now;
}

async function move(tx: Db, { subject, to, kbs }: Moving): Promise<void> {
  await moveRevision(tx, subject.id, to);
  if (to !== 'retired') return;
  await takeSealing(tx, subject.sealing.id);
  for (const name of kbs) {
    const repository = (await brokerRow(tx, name))?.repository;
    if (repository === undefined) throw new Error(`the database has no broker ${name}`);
    await denyPaths(tx, name, [keyPath(repository, subject)], 'retired');
  }
}

async function receive(tx: Db, point: Checkpoint, moves: RevisionState | null, generations: Readonly<Record<string, number>>): Promise<string> {
  const { run, subject, step, facts, evidence, proof, verdicts } = point;
  const kept = point.keep.map((row) => row.digest);
  const { digest } = await appendReceipt(tx, {
    run: run.id,
    step,
    facts,
    evidence,
    proof,
    verdicts,
    kept,
    moves,
    generations: { ...run.generations, ...generations },
  });
  const said = { step, workflow: run.workflow, ...(subject === null ? {} : { serial: subject.release.serial }) };
  const about = { run: run.id, workload: run.workload };
  const gates = point.ownGates.map((gate) => ({ ...about, event: 'gate', body: { ...said, gate, verdict: 'yes' } }));
  await appendEvents(tx, [...gates, { ...about, event: 'receipt', body: { ...said, facts: facts as Json, proof, moves, receipt: digest } }]);
  return digest;
}

async function finish(tx: Db, point: Pick<Checkpoint, 'run' | 'subject' | 'moves' | 'last'>, enlist: Enlist): Promise<void> {
  const { run } = point;
  if (point.last) await endRun(tx, run.id);
  // An adopt run that was parked ends with its revision's retirement.
  if (point.last && run.workflow === 'retire-revision' && point.subject !== null) await endRun(tx, point.subject.rotation);
  // Whoever waits for this subject's state is woken; the run itself goes on in this very look.
  const woken = point.moves !== null || point.last ? await openRuns(tx, run.workload) : [];
  for (const id of woken) if (id !== run.id) await enlist(tx, id, null);
  if (!point.last) return;
  if (run.subject.kind === 'revocation') await announceCarriedOut(tx, run, run.subject.revocation);
  else await announceFinished(tx, run);
}

/** All that a revocation asks for is done, and proven by a receipt each. */
async function announceCarriedOut(tx: Db, run: Run, digest: Digest): Promise<void> {
  const { rows } = await tx.query<{ path: string; touched: string[] }>(
    `select path, array(select distinct workload from revisions where revoked_by = $1 order by workload) as touched
     from documents where digest = $1 and kind = 'Revocation' and verdict = 'accepted' limit 1`,
    [digest],
  );
  const path = rows[0]?.path ?? '';
  const body = { path, id: path.replace(/^revocations\/|\.yaml$/g, ''), workloads: rows[0]?.touched ?? [], workflow: run.workflow };
  await appendEvent(tx, { event: 'revocation-finished', run: run.id, workload: run.workload === '*' ? null : run.workload, body });
}

/** A rotation is finished when its adopt run and every retire run that it caused have ended. */
async function announceFinished(tx: Db, run: Run): Promise<void> {
  const rotation = run.workflow === 'adopt-revision' ? run.id : run.cause;
  const { rows } = await tx.query<{ serial: number; workload: string; retired: number[]; open: number }>(
    `select r.serial, r.workload,
       (select count(*)::int from runs o where (o.id = $1 or o.cause = $1) and o.ended_at is null) as open,
       array(select v.serial from runs o join revisions v on v.id = o.revision where o.cause = $1 and v.state = 'retired' order by v.serial) as retired
     from revisions r where r.rotation = $1 and r.state = 'serving'`,
    [rotation],
  );
  const [row] = rows;
  if (rotation === null || row === undefined || row.open > 0) return;
  await appendEvent(tx, { event: 'rotation-finished', run: rotation, workload: row.workload, body: { serial: row.serial, retired: row.retired } });
}
