/** Taking revocations back: what a reinstatement frees, and the transactions of its acceptance and of its effect. */
import { type Digest, isDigest } from '#src/digest.ts';
import { parseDocument } from '#src/domain/documents/parse.ts';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { REINSTATED } from '#src/domain/fold.ts';
import { jsonOf } from '#src/domain/json.ts';
import { liftBar, type Reinstatement } from '#src/domain/judge-reinstatement.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Run } from '#src/domain/run.ts';
import { targetOf } from '#src/domain/target.ts';
import { brokerRows, lockBrokers, raiseGenerations } from './brokers.ts';
import type { Db } from './database.ts';
import { brokersNaming, liftEntries } from './deny-list.ts';
import { appendEvent } from './events.ts';
import { lockObjects } from './objects.ts';
import { appendReceipt } from './receipts.ts';
import { type Touched, touchedBy } from './revocations.ts';
import { drawRunId, type Enlist, endRun, lockWorkloads, openRun, runsWaitingFor } from './runs.ts';
import { changeTarget, reopen, standings } from './targets.ts';

// ---------------------------------------------------------------- acceptance

/** Which revocation a reinstatement lifts, or why it lifts none. */
export type Lifting =
  | { readonly kind: 'found'; readonly revocation: Digest }
  | { readonly kind: 'waiting' | 'refused'; readonly reason: Reason; readonly about: string };

interface RevocationRow {
  readonly path: string;
  readonly digest: string;
  readonly bytes: Buffer;
  readonly reason: Reason | null;
  readonly lifted: boolean;
}

/**
 * The accepted revocation that a reinstatement names. One that nobody has accepted yet may still be, so it
 * is waited for. Whoever accepts the reinstatement asks under a lock on the revocation (`lock`), so that
 * of two that name it the second is refused.
 */
export async function liftingOf(db: Db, { path, revocation: id }: Pick<Reinstatement, 'path' | 'revocation'>, lock = false): Promise<Lifting> {
  const { rows } = await db.query<RevocationRow>(
    `select path, digest, bytes, reason,
       exists (select 1 from documents l where l.kind = 'Reinstatement' and l.verdict = 'accepted' and l.subject ->> 'revocation' = d.digest) as lifted
     from documents d where kind = 'Revocation' and verdict = 'accepted' and path = 'revocations/' || $1 || '.yaml' order by seen${lock ? ' for update' : ''}`,
    [id],
  );
  const [row] = rows;
  if (row === undefined) return { kind: 'waiting', reason: 'NotFound', about: `${path}: revocation: no revocation ${id} was accepted` };
  const parsed = parseDocument(row.path, row.bytes);
  // Which of two was meant nobody can say; a row that cannot be read lifts nothing.
  if (rows.length > 1 || !isDigest(row.digest) || parsed.kind === 'bad' || parsed.document.kind !== 'Revocation')
    return { kind: 'refused', reason: 'DocumentChanged', about: `${path}: revocation: ${rows.length} revocations were accepted as ${id}` };
  if (row.lifted) return { kind: 'refused', reason: 'AlreadyReinstated', about: `${path}: revocation: ${id} was lifted before` };
  const bar = liftBar(path, parsed.document);
  if (bar !== null) return bar;
  if (row.reason !== null) return { kind: 'waiting', reason: row.reason, about: `${path}: revocation: ${id} is not carried out whole by this version` };
  return { kind: 'found', revocation: row.digest };
}

/**
 * A reinstatement is accepted: from here on no disabling of the keys that it frees may be sent, and its
 * run makes ready what the lifting needs. What was revoked stays so until that run says otherwise.
 */
export async function acceptReinstatement(tx: Db, reinstatement: Reinstatement, revocation: Digest, enlist: Enlist): Promise<void> {
  const { digest, id, justification, approvedBy, signatures } = reinstatement;
  const { revisions, workloads } = await touchedOf(tx, revocation);
  await lockSealingsOf(tx, revisions);
  await tx.query(
    `update documents set subject = jsonb_build_object('kind', 'reinstatement', 'revocation', $2::text), verdict = 'accepted'
     where digest = $1 and kind = 'Reinstatement'`,
    [digest, revocation],
  );
  const workload = workloads.length === 1 ? (workloads[0] ?? '*') : '*';
  const run = drawRunId();
  await tx.query(`insert into runs (id, workflow, revocation, reinstatement, workload) values ($1, 'reinstate', $2, $3, $4)`, [
    run,
    revocation,
    digest,
    workload,
  ]);
  await enlist(tx, run, null);
  const signed = { approvedBy: [...approvedBy], signatures: jsonOf(signatures) };
  const body = { ...{ id, revocation: reinstatement.revocation, justification }, ...signed, workloads: [...workloads] };
  await appendEvent(tx, { event: 'reinstatement-accepted', run, workload: workloads[0] ?? null, body });
}

/** What an accepted revocation touches. Throws Error where it was not accepted. */
async function touchedOf(db: Db, revocation: string): Promise<Touched> {
  const { rows } = await db.query<{ digest: Digest; subject: RevocationSubject | null }>(
    `select digest, subject from documents where digest = $1 and kind = 'Revocation' and verdict = 'accepted'`,
    [revocation],
  );
  const [row] = rows;
  const subject = row?.subject ?? null;
  if (row === undefined || subject === null) throw new Error(`the revocation ${revocation} was not accepted`);
  return touchedBy(db, { digest: row.digest, subject });
}

/** The sealings of these revisions, in the order of their ids. */
async function lockSealingsOf(tx: Db, revisions: readonly number[]): Promise<void> {
  await tx.query('select id from sealings where id in (select sealing from revisions where id = any($1)) order by id for update', [revisions]);
}

// ---------------------------------------------------------------- what would be freed

/**
 * The revisions that lifting a revocation frees: those that it revoked, that are not retired, and that no
 * other revocation in force names, each with that of the others which holds it (null: none does). A
 * second revocation therefore wins over a reinstatement of the first, whichever came first.
 */
async function heldOf(db: Db, revocation: string): Promise<ReadonlyMap<number, string | null>> {
  const { revisions } = await touchedOf(db, revocation);
  const { rows } = await db.query<{ id: number }>(`select id from revisions where id = any($1) and state <> 'retired' and revoked_by is not null order by id`, [
    revisions,
  ]);
  const held = new Map<number, string | null>(rows.map(({ id }) => [id, null]));
  const { rows: others } = await db.query<{ digest: Digest; subject: RevocationSubject }>(
    `select digest, subject from documents where kind = 'Revocation' and verdict = 'accepted' and subject is not null and lifted_by is null and digest <> $1
     order by seen`,
    [revocation],
  );
  for (const { digest, subject } of others) {
    const touched = await touchedBy(db, { digest, subject });
    for (const id of touched.revisions) if (held.get(id) === null) held.set(id, digest);
  }
  return held;
}

/** Ids of the revisions that lifting this revocation would free now, oldest first. */
export async function freedBy(db: Db, revocation: string): Promise<readonly number[]> {
  return [...(await heldOf(db, revocation))].flatMap(([id, holder]) => (holder === null ? [id] : []));
}

/** Whether a reinstatement that was accepted is about to free a revision of this sealing: its key is made ready, and not taken away. */
export async function isBeingFreed(db: Db, sealing: number): Promise<boolean> {
  const { rows } = await db.query<{ revocation: string }>(
    `select o.revocation from runs o join documents d on d.digest = o.reinstatement and d.kind = 'Reinstatement' and d.verdict = 'accepted'
       and d.subject ->> 'revocation' = o.revocation
     where o.workflow = 'reinstate' and o.ended_at is null order by o.id`,
  );
  for (const { revocation } of rows) {
    const { rowCount } = await db.query('select 1 from revisions where sealing = $1 and id = any($2)', [sealing, await freedBy(db, revocation)]);
    if (rowCount !== 0) return true;
  }
  return false;
}

/** What the run of a reinstatement carries out: digest of its document. Throws Error where the run is of none. */
export async function reinstatementOfRun(db: Db, run: string): Promise<string> {
  const { rows } = await db.query<{ reinstatement: string | null }>('select reinstatement from runs where id = $1', [run]);
  const digest = rows[0]?.reinstatement ?? null;
  if (digest === null) throw new Error(`run ${run} is of no reinstatement`);
  return digest;
}

/** By KBS, the last entry of the proxies' list that lifts something for this reinstatement. */
export async function liftedBy(db: Db, reinstatement: string): Promise<Readonly<Record<string, number>>> {
  const { rows } = await db.query<{ kbs: string; entry: number }>(
    'select kbs, max(id) as entry from deny_list where because = $1 and lifts is not null group by kbs order by kbs',
    [reinstatement],
  );
  return Object.fromEntries(rows.map(({ kbs, entry }) => [kbs, entry]));
}

// ---------------------------------------------------------------- the effect

/** A revocation that is being lifted, its rows locked. */
export interface Lift {
  readonly revocation: string;
  readonly reinstatement: string;
  readonly workloads: readonly string[];
}

/**
 * Locks all that lifting the run's revocation changes: brokers, objects, sealings, workloads with their runs, in
 * the order that holds everywhere.
 */
export async function lockLift(tx: Db, run: Run): Promise<Lift> {
  if (run.subject.kind !== 'revocation') throw new Error(`${run.workflow} ${run.id} is about no revocation`);
  const { revocation } = run.subject;
  const { revisions, workloads } = await touchedOf(tx, revocation);
  const { rows: brokers } = await tx.query<{ name: string }>('select name from brokers');
  await lockBrokers(
    tx,
    brokers.map(({ name }) => name),
  );
  await lockObjects(tx);
  await lockSealingsOf(tx, revisions);
  await lockWorkloads(tx, [...new Set([...workloads, run.workload])]);
  return { revocation, reinstatement: await reinstatementOfRun(tx, run.id), workloads };
}

interface FreedRow {
  readonly id: number;
  readonly workload: string;
  readonly rotation: string;
  readonly path_number: number;
  readonly went_live: boolean;
  readonly kbs: string[];
}

/**
 * Lifts a revocation, in the transaction that wrote the receipt of it: each revision that is freed has its
 * next path, is revoked no more, and is *live* again where it ever was; its sealing is not taken any
 * more; guests and devices are let in again by a lift of their entries. What another revocation names
 * stays revoked, by that one. The run that carried the revocation out ends. null: not what was made ready
 * is to be freed (`expected`, by rotation the number of the path): look again. Else the generations that it raised.
 */
export async function lift(
  tx: Db,
  { revocation, reinstatement, workloads }: Lift,
  expected: Readonly<Record<string, number>>,
  enlist: Enlist,
): Promise<Readonly<Record<string, number>> | null> {
  const held = await heldOf(tx, revocation);
  const ids = [...held].flatMap(([id, holder]) => (holder === null ? [id] : []));
  const { rows: freed } = await tx.query<FreedRow>(
    // An amendment may have added a KBS.
    `select id, workload, rotation, path_number + 1 as path_number, went_live,
       kbs || coalesce((select d.kbs from documents d where d.digest = r.release and d.kind = 'Release' limit 1), '{}') as kbs
     from revisions r where id = any($1) order by id`,
    [ids],
  );
  if (freed.length !== Object.keys(expected).length || freed.some((row) => expected[row.rotation] !== row.path_number)) return null;
  const naming = await brokersNaming(tx, revocation);
  const changed = (await isEverywhere(tx, revocation)) ? (await brokerRows(tx)).map(({ name }) => name) : naming;
  const generations = await raiseGenerations(tx, [...new Set([...changed, ...freed.flatMap((row) => (row.went_live ? row.kbs : []))])].sort());
  const because = `${await pathOf(tx, revocation)} was lifted by ${await pathOf(tx, reinstatement)}`;
  for (const kbs of naming) await liftEntries(tx, kbs, revocation, reinstatement);
  await changeAll(tx, workloads, enlist, async () => {
    await tx.query(`update documents set lifted_by = $2 where digest = $1 and kind = 'Revocation'`, [revocation, reinstatement]);
    for (const [id, holder] of held) if (holder !== null) await tx.query('update revisions set revoked_by = $2 where id = $1', [id, holder]);
    for (const row of freed) await free(tx, row, generations, because);
    for (const row of freed) await reopenFreed(tx, row, because);
  });
  await endRevoking(tx, revocation, because);
  // A baseline or a platform of a signer who counts again holds nobody any more.
  for (const run of await runsWaitingFor(tx, ['Revoked'])) await enlist(tx, run, null);
  return generations;
}

/**
 * Whether what any KBS should hold may change though no revision of it is freed: a value is good again for
 * whoever lists it, and a platform counts again with its signer.
 */
async function isEverywhere(db: Db, revocation: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `select 1 from documents where digest = $1 and kind = 'Revocation' and verdict = 'accepted' and subject ->> 'kind' in ('reference-value', 'signer')`,
    [revocation],
  );
  return rowCount !== 0;
}

async function pathOf(db: Db, digest: string): Promise<string> {
  const { rows } = await db.query<{ path: string }>(`select path from documents where digest = $1 and verdict = 'accepted'`, [digest]);
  return rows[0]?.path ?? digest;
}

/** Each workload's target is asked before the first change and after the last, whichever workloads one change touches. */
async function changeAll(tx: Db, workloads: readonly string[], enlist: Enlist, change: () => Promise<void>): Promise<void> {
  const [first, ...rest] = workloads;
  if (first === undefined) return change();
  await changeTarget(tx, first, enlist, () => changeAll(tx, rest, enlist, change));
}

async function free(tx: Db, { id, rotation, path_number, kbs }: FreedRow, generations: Readonly<Record<string, number>>, because: string): Promise<void> {
  await tx.query(`update revisions set path_number = $2, revoked_by = null, state = case when went_live then 'live' else state end where id = $1`, [
    id,
    path_number,
  ]);
  await tx.query('update sealings set taken = false where id = (select sealing from revisions where id = $1)', [id]);
  // It was to be taken away: where it is not the target, the plan says so anew.
  const retiring = await openRun(tx, 'retire-revision', id);
  if (retiring !== null) await endRun(tx, retiring);
  // What its own run publishes is this generation's: an older text knows nothing of the new path.
  const own = Object.fromEntries(Object.entries(generations).filter(([name]) => kbs.includes(name)));
  await tx.query('update runs set generations = generations || $2 where id = $1', [rotation, own]);
  const evidence = { because, pathNumber: path_number };
  await appendReceipt(tx, { run: rotation, step: REINSTATED, facts: {}, evidence, proof: 'observed', verdicts: [], kept: [], moves: null });
}

/** One that was ever live is so again, target or not; the target is reopened by whoever sees that it is the target again. */
async function reopenFreed(tx: Db, { id, workload, rotation, went_live }: FreedRow, because: string): Promise<void> {
  if (!went_live || targetOf(await standings(tx, workload))?.id === id) return;
  await reopen(tx, workload, { id, rotation }, because);
}

/** Whatever was left to do of the revocation is not done any more, and its chain says why. */
async function endRevoking(tx: Db, revocation: string, because: string): Promise<void> {
  const { rows } = await tx.query<{ id: string }>(
    `select id from runs where workflow = 'revoke' and revocation = $1 and ended_at is null order by id for no key update`,
    [revocation],
  );
  for (const { id } of rows) {
    await appendReceipt(tx, { run: id, step: REINSTATED, facts: {}, evidence: { because }, proof: 'observed', verdicts: [], kept: [], moves: null });
    await endRun(tx, id);
  }
}
