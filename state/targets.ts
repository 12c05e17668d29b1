import { REINSTATED, REOPENED } from '#src/domain/fold.ts';
import { type Accepted, type Basis, type Planned, type PlannedOf, plan } from '#src/domain/plan.ts';
import type { RevisionState } from '#src/domain/release.ts';
import { newestFirst, targetOf } from '#src/domain/target.ts';
import type { Db } from './database.ts';
import { appendEvent } from './events.ts';
import { appendReceipt } from './receipts.ts';
import { insertRevision, moveRevision } from './revisions.ts';
import { revokedBy } from './revocations.ts';
import { drawRunId, type Enlist, endRun, fenceWorkload, insertRun, lockWorkload, openRun, openRuns, reviveRun } from './runs.ts';
import { insertSealing, lockSealing, type SealingRow } from './sealings.ts';

interface StandingRow {
  readonly id: number;
  readonly serial: number;
  readonly epoch: number;
  readonly release: string;
  readonly rotation: string;
  readonly state: RevisionState;
  readonly withdrawn: boolean;
  readonly revoked: boolean;
  readonly went_live: boolean;
  readonly open: string[];
}

/** A revision, as target and plan see it. */
export interface StandingOf extends PlannedOf {
  readonly wentLive: boolean;
}

/** Every revision of a workload with its open runs; enough for `targetOf` and `plan`. */
export async function standings(db: Db, workload: string): Promise<readonly StandingOf[]> {
  const { rows } = await db.query<StandingRow>(
    `select r.id, r.serial, s.epoch, r.release, r.rotation, r.state, r.withdrawn_by is not null as withdrawn, r.revoked_by is not null as revoked, r.went_live,
       array(select workflow from runs where revision = r.id and ended_at is null order by workflow) as open
     from revisions r join sealings s on s.id = r.sealing where r.workload = $1 order by r.id`,
    [workload],
  );
  return rows.map((row) => ({
    id: row.id,
    digest: row.release,
    rotation: row.rotation,
    release: { serial: row.serial },
    sealing: { epoch: row.epoch },
    state: row.state,
    withdrawn: row.withdrawn,
    revoked: row.revoked,
    wentLive: row.went_live,
    open: row.open,
  }));
}

/** What a workload should run; null: held. */
export async function targetOfWorkload(db: Db, workload: string): Promise<StandingOf | null> {
  return targetOf(await standings(db, workload));
}

/**
 * Makes a change that can move what a workload should run, and all that follows from it, in the
 * caller's transaction (DESIGN §5, *Superseding stores nothing*): every open run is fenced, the
 * target that the workload falls back to is reopened, what the plan misses is inserted, and all wake.
 */
export async function changeTarget(tx: Db, workload: string, enlist: Enlist, change: () => Promise<void>): Promise<void> {
  await lockWorkload(tx, workload);
  const before = targetOf(await standings(tx, workload));
  await change();
  await fenceWorkload(tx, workload);
  const after = targetOf(await standings(tx, workload));
  if (after !== null && after.id !== before?.id && after.wentLive) await reopen(tx, workload, after, 'it is the target again');
  await replan(tx, workload);
  // A revocation of several workloads waits for the target of each; last, so that nothing more is locked behind its row.
  for (const run of [...(await openRuns(tx, workload)), ...(await openRuns(tx, '*'))]) await enlist(tx, run, null);
}

/** Inserts what the plan finds missing, until it finds nothing. */
async function replan(tx: Db, workload: string): Promise<void> {
  const { rows: accepted } = await tx.query<AcceptedRow>(
    // The path is part of what was judged: a serial that somebody wrote into the row makes no release newer.
    `select digest, serial, kbs, coalesce(basis, '{"kind":"new","source":null}') as basis from documents
     where kind = 'Release' and verdict = 'accepted' and workload = $1 and path = 'releases/' || workload || '/' || serial || '.yaml'`,
    [workload],
  );
  for (;;) {
    const missing = plan(accepted, await standings(tx, workload));
    if (missing.length === 0) return;
    for (const item of missing) await store(tx, workload, item, accepted);
  }
}

async function store(tx: Db, workload: string, item: Planned, accepted: readonly AcceptedRow[]): Promise<void> {
  if (item.kind === 'run') {
    await insertRun(tx, { id: drawRunId(), workflow: item.workflow, revision: item.revision, workload, cause: item.cause });
    return;
  }
  const release = accepted.find(({ digest }) => digest === item.release);
  if (release === undefined) throw new Error(`planned a release that was not accepted: ${item.release}`);
  await insertAdopted(tx, workload, release, item.basis);
}

interface AcceptedRow extends Accepted {
  readonly kbs: readonly string[];
}

/** A new revision of a release, with its adopt run; returns the rotation's id. */
async function insertAdopted(tx: Db, workload: string, { digest, serial, kbs }: Omit<AcceptedRow, 'basis'>, basis: Basis): Promise<string> {
  const id = drawRunId();
  const sealing: SealingRow = basis.kind === 'keep' ? await lockSealing(tx, basis.id) : await insertSealing(tx, workload, id, basis.source);
  const revocation = await revokedBy(tx, { workload, serial, epoch: sealing.epoch });
  const revision = await insertRevision(tx, { workload, serial, release: digest, sealing: sealing.id, rotation: id, kbs, revokedBy: revocation });
  await insertRun(tx, { id, workflow: 'adopt-revision', revision, workload, cause: null });
  return id;
}

/**
 * The same release under its workload's next key epoch, re-encrypted from the present one: what falls
 * due by a schedule. Done where the revision still is the target and serves, no adopt run of the
 * workload is open, and the key was not taken. In the caller's transaction; returns the rotation's id,
 * null where nothing was to do.
 */
export async function startEpoch(tx: Db, workload: string, revision: number, enlist: Enlist): Promise<string | null> {
  const { rows } = await tx.query<{ sealing: number; digest: string; serial: number; kbs: string[] }>(
    'select sealing, release as digest, serial, kbs from revisions where id = $1 and workload = $2',
    [revision, workload],
  );
  const [row] = rows;
  if (row === undefined || (await lockSealing(tx, row.sealing)).taken) return null;
  await lockWorkload(tx, workload);
  const known = await standings(tx, workload);
  const target = targetOf(known);
  if (target?.id !== revision || target.state !== 'serving' || target.digest !== row.digest) return null;
  if (known.some(({ open }) => open.includes('adopt-revision'))) return null;
  const started: { rotation: string | null } = { rotation: null };
  await changeTarget(tx, workload, enlist, async () => {
    started.rotation = await insertAdopted(tx, workload, row, { kind: 'new', source: row.sealing });
  });
  return started.rotation;
}

interface Sealed {
  readonly sealing: number;
  readonly digest: string;
  readonly serial: number;
  readonly kbs: string[];
}

/**
 * What a workload goes on with under the next key, where the revocation of a key leaves it with nothing
 * to run: what it ran until then (`before`), which need not be its newest, or where it was held already
 * its newest. null: nothing, and it is held: something is left to run, the release itself is revoked,
 * or it was never sealed. `known`: as revisions stand after the revocation.
 */
export async function successorOf(db: Db, workload: string, known: readonly PlannedOf[], before: number | null): Promise<Sealed | null> {
  const [newest] = [...known].sort(newestFirst);
  const last = known.find(({ id }) => id === before) ?? newest;
  if (last === undefined || targetOf(known) !== null || !last.revoked || last.withdrawn || last.state === 'retired') return null;
  // No key has the epoch 0: what is found forbids the release under any key.
  if ((await revokedBy(db, { workload, serial: last.release.serial, epoch: 0 })) !== null) return null;
  const { rows } = await db.query<Sealed>(
    `select r.sealing, r.release as digest, r.serial, r.kbs from revisions r join sealings s on s.id = r.sealing
     where r.id = $1 and exists (select 1 from receipts c where c.run = s.rotation and c.step = 'encrypt-weights')`,
    [last.id],
  );
  return rows[0] ?? null;
}

/**
 * Starts it (`successorOf`): the same release, re-encrypted, never rewrapped (R23), from the ciphertext
 * that is there. What is opened with a key that may be in wrong hands is checked against the manifest
 * that the release's signers named. In the caller's transaction, after the change; returns the rotation's id.
 */
export async function startSuccessor(tx: Db, workload: string, before: number | null, enlist: Enlist): Promise<string | null> {
  const row = await successorOf(tx, workload, await standings(tx, workload), before);
  if (row === null) return null;
  const started: { rotation: string | null } = { rotation: null };
  await changeTarget(tx, workload, enlist, async () => {
    started.rotation = await insertAdopted(tx, workload, row, { kind: 'new', source: row.sealing });
  });
  return started.rotation;
}

/**
 * Says that a revision has to be rolled again: it fell back to being the target, or its template was
 * changed by somebody else. Ends its retire run, sets it to *published* (*live* where it was never
 * published, or not since it was given its present path), and writes the receipt after which patching,
 * moving and confirming count anew. No generation is raised: it never left what its KBS should hold, or
 * whoever frees it has raised them.
 */
export async function reopen(tx: Db, workload: string, revision: Pick<StandingOf, 'id' | 'rotation'>, because: string): Promise<void> {
  const retiring = await openRun(tx, 'retire-revision', revision.id);
  if (retiring !== null) await endRun(tx, retiring);
  const { rowCount: published } = await tx.query(
    `select 1 from receipts where run = $1 and step = 'confirm-published'
       and number > coalesce((select max(number) from receipts where run = $1 and step = $2), 0)`,
    [revision.rotation, REINSTATED],
  );
  const moves = published === 0 ? 'live' : 'published';
  await moveRevision(tx, revision.id, moves);
  await reviveRun(tx, revision.rotation);
  await appendReceipt(tx, { run: revision.rotation, step: REOPENED, facts: {}, evidence: { because }, proof: 'observed', verdicts: [], kept: [], moves });
  await appendEvent(tx, { event: REOPENED, run: revision.rotation, workload, body: { because } });
}
