/**
 * The transactions in which Git's word becomes ours. The caller has verified the document, holds the
 * transaction, and has set the document's own verdict in it.
 */
import type { Digest } from '#src/digest.ts';
import type { BaselineDocument, PlatformDocument } from '#src/domain/documents/release.ts';
import { jsonOf } from '#src/domain/json.ts';
import { keyPathFrom } from '#src/domain/paths.ts';
import type { Release, Revocation } from '#src/domain/release.ts';
import { mayBeSucceeded } from '#src/domain/revoked.ts';
import type { Succession } from '#src/domain/trust-chain.ts';
import { PLAINTEXT, type Resting } from './basis.ts';
import { brokerRows, lockBrokers, raiseGenerations, setBaseline } from './brokers.ts';
import type { Db } from './database.ts';
import { deny } from './deny-list.ts';
import { appendEvent } from './events.ts';
import { appendReceipt } from './receipts.ts';
import { amendRevision } from './revisions.ts';
import { type Reach, reachOf } from './revocations.ts';
import { type Enlist, insertRevokeRun, lockWorkloads, runsWaitingFor } from './runs.ts';
import { changeTarget, reopen, standings, startSuccessor, targetOfWorkload } from './targets.ts';
import type { Loaders } from './want.ts';

/**
 * A release is accepted: it is the workload's target from here on, unless a revocation already forbids
 * it. Its brokers are locked first, as a revocation locks them all: of the two, whichever comes second
 * sees the other, whatever replicas take them in.
 */
export async function acceptRelease(
  tx: Db,
  release: Release,
  enlist: Enlist,
  { basis, amended }: Extract<Resting, { kind: 'found' }> = PLAINTEXT,
): Promise<void> {
  const { workload, serial, digest, path } = release;
  const kbs = [...new Set(release.targets.map((target) => target.kbs))].sort();
  await lockBrokers(tx, kbs);
  await changeTarget(tx, workload, enlist, async () => {
    await tx.query(`update documents set kbs = $2, workload = $3, serial = $4, basis = $5, verdict = 'accepted' where digest = $1 and kind = 'Release'`, [
      ...[digest, kbs, workload, serial, basis],
    ]);
    if (amended !== null) await amend(tx, release, amended);
  });
  const body = { serial, digest, approvedBy: [...release.approvedBy], signatures: jsonOf(release.signatures), path, amends: amended !== null };
  await appendEvent(tx, { event: 'release-accepted', run: null, workload: release.workload, body });
}

/** The revision goes on under other settings. Where it was rolled already and targets were added, it is rolled again: there nothing moves, and here all is new. */
async function amend(tx: Db, release: Release, { revision, added }: NonNullable<Extract<Resting, { kind: 'found' }>['amended']>): Promise<void> {
  const standing = (await standings(tx, release.workload)).find(({ id }) => id === revision);
  if (standing === undefined) throw new Error(`there is no revision ${revision} to amend`);
  await amendRevision(tx, revision, release);
  const { digest, serial, path } = release;
  const evidence = { release: digest, serial, path, approvedBy: [...release.approvedBy], signatures: jsonOf(release.signatures), added: [...added] };
  await appendReceipt(tx, { run: standing.rotation, step: 'amended', facts: {}, evidence, proof: 'observed', verdicts: [], kept: [], moves: null });
  const { rowCount: patched } = await tx.query(`select 1 from receipts where run = $1 and step = 'patch-template'`, [standing.rotation]);
  if (added.length > 0 && patched !== 0) await reopen(tx, release.workload, standing, `${path} adds ${added.join(', ')}`);
}

/**
 * A revocation is accepted: fact, claims, generations and deny-list in this one transaction. From its
 * commit on no `Want` holds what it names, no run of it may act, and every proxy refuses its paths, and
 * the guests and devices that it names.
 */
export async function acceptRevocation(tx: Db, revocation: Revocation, enlist: Enlist, loaders: Loaders): Promise<void> {
  const brokers = await brokerRows(tx);
  await lockBrokers(
    tx,
    brokers.map((broker) => broker.name),
  );
  const touched = await reachOf(tx, revocation.subject, loaders);
  await tx.query('select id from sealings where id = any($1) order by id for update', [touched.sealings]);
  await tx.query(`update documents set subject = $2, verdict = 'accepted' where digest = $1 and kind = 'Revocation'`, [revocation.digest, revocation.subject]);
  await tx.query('update sealings set taken = true where id = any($1)', [touched.sealings]);
  await tx.query('insert into denials (revocation, revision) select $1, unnest($2::bigint[]) on conflict do nothing', [revocation.digest, touched.revisions]);
  for (const { name, repository } of brokers) await deny(tx, name, await deniedFor(tx, repository, touched), revocation.digest);
  const generations = await raiseGenerations(
    tx,
    brokers.map((broker) => broker.name),
  );
  await lockWorkloads(tx, touched.workloads);
  const before = new Map<string, number | null>();
  for (const workload of touched.workloads) before.set(workload, (await targetOfWorkload(tx, workload))?.id ?? null);
  const run = await insertRevokeRun(tx, {
    revocation: revocation.digest,
    workload: touched.workloads.length === 1 ? (touched.workloads[0] ?? '*') : '*',
    generations,
  });
  const change = async (): Promise<void> => {
    await tx.query('update revisions set revoked_by = $2 where id = any($1) and revoked_by is null', [touched.revisions, revocation.digest]);
    await takeUnused(tx, touched.revisions);
  };
  await changeAll(tx, touched.workloads, enlist, change);
  for (const workload of mayBeSucceeded(revocation) ? touched.workloads : []) await startSuccessor(tx, workload, before.get(workload) ?? null, enlist);
  await enlist(tx, run, null);
  const body = {
    id: revocation.id,
    subject: jsonOf(revocation.subject),
    reason: revocation.reason,
    why: revocation.why,
    approvedBy: [...revocation.approvedBy],
    signatures: jsonOf(revocation.signatures),
    recovery: revocation.recovery,
  };
  await appendEvent(tx, {
    event: 'revocation-accepted',
    run,
    workload: touched.workloads[0] ?? null,
    body: { ...body, workloads: [...touched.workloads], initData: [...touched.denied.initData], sharing: [...touched.sharing] },
  });
}

/** Each workload's target is asked before the first change and after the last, whichever workloads one change touches. */
async function changeAll(tx: Db, workloads: readonly string[], enlist: Enlist, change: () => Promise<void>): Promise<void> {
  const [first, ...rest] = workloads;
  if (first === undefined) return change();
  await changeTarget(tx, first, enlist, () => changeAll(tx, rest, enlist, change));
}

/** A sealing whose revisions are all retired or revoked is taken with them. */
async function takeUnused(tx: Db, revisions: readonly number[]): Promise<void> {
  await tx.query(
    `update sealings set taken = true where id in (select sealing from revisions where id = any($1))
       and not exists (select 1 from revisions r where r.sealing = sealings.id and r.state <> 'retired' and r.revoked_by is null)`,
    [revisions],
  );
}

/** What a KBS is to refuse: where the touched revisions stand there, and what the revocation names itself. */
async function deniedFor(tx: Db, repository: string, { revisions, denied }: Reach): Promise<Reach['denied']> {
  const { rows } = await tx.query<{ workload: string; serial: number; rotation: string; path_number: number; epoch: number }>(
    'select r.workload, r.serials[1] as serial, r.rotation, r.path_number, s.epoch from revisions r join sealings s on s.id = r.sealing where r.id = any($1) order by r.id',
    [revisions],
  );
  const paths = rows.map((row) =>
    keyPathFrom(repository, { rotation: row.rotation, pathNumber: row.path_number, workload: row.workload, serial: row.serial, epoch: row.epoch }),
  );
  return { ...denied, paths: [...new Set([...paths, ...denied.paths])] };
}

/** A baseline is accepted: what else lives in that KBS, and the permission to write it whole. Who waited for one is woken. */
export async function acceptBaseline(tx: Db, baseline: BaselineDocument & { readonly digest: Digest }, enlist: Enlist): Promise<void> {
  await lockBrokers(tx, [baseline.kbs]);
  await setBaseline(tx, baseline.kbs, baseline.digest);
  await raiseGenerations(tx, [baseline.kbs]);
  for (const run of await runsWaitingFor(tx, ['BaselineMissing'])) await enlist(tx, run, null);
  await appendEvent(tx, {
    event: 'baseline-accepted',
    run: null,
    workload: null,
    body: { kbs: baseline.kbs, version: baseline.version, digest: baseline.digest },
  });
}

/** A platform is accepted: its values are added at once, to every KBS. */
export async function acceptPlatform(tx: Db, platform: PlatformDocument & { readonly digest: Digest }, _enlist: Enlist): Promise<void> {
  const names = (await brokerRows(tx)).map((broker) => broker.name);
  await lockBrokers(tx, names);
  await raiseGenerations(tx, names);
  await appendEvent(tx, { event: 'platform-accepted', run: null, workload: null, body: { id: platform.id, serial: platform.serial, digest: platform.digest } });
}

/** The next version of the trust document is accepted: whatever is judged from here on is judged under it. What was accepted stands. */
export async function acceptTrust(tx: Db, { trust, approvedBy, signatures }: Succession): Promise<void> {
  const { version, digest, expires, history } = trust;
  await appendEvent(tx, {
    event: 'trust-accepted',
    run: null,
    workload: null,
    body: { version, digest, expires, history, approvedBy: [...approvedBy], signatures: jsonOf(signatures) },
  });
}
