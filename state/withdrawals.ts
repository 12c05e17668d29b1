import type { WithdrawalDocument } from '#src/domain/documents/trust.ts';
import { jsonOf } from '#src/domain/json.ts';
import type { Checked } from '#src/domain/judge.ts';
import type { Reason } from '#src/domain/reasons.ts';
import { targetOf } from '#src/domain/target.ts';
import type { Db } from './database.ts';
import { appendEvent } from './events.ts';
import type { Enlist } from './runs.ts';
import { changeTarget, type StandingOf, standings, targetOfWorkload } from './targets.ts';

/** A checked withdrawal. */
export type Withdrawal = Checked<WithdrawalDocument>;

/** Why a withdrawal is not accepted. */
export interface Barred {
  readonly kind: 'waiting' | 'refused';
  readonly reason: Reason;
  readonly about: string;
}

/**
 * What stands against a withdrawal; null: nothing. Whoever accepts it asks in the same transaction and
 * under the workload's lock (`lockWorkload`): what another retires is retired before, or not at all.
 *
 * A release that nobody has accepted yet may still be, so its withdrawal waits for it. The other noes
 * are final: a withdrawal speaks of what runs now, and one that came about months later, when some
 * release happens to make room for it, would take away what is then the last good one to fall back to.
 */
export async function withdrawalBar(db: Db, { path, workload, release }: Withdrawal): Promise<Barred | null> {
  const known = await standings(db, workload);
  const named = await namedBy(db, workload, release);
  if (named.length === 0) return { kind: 'waiting', reason: 'NotFound', about: `${path}: release: no release of ${workload} with this digest was accepted` };
  const standing = standingOf(known, named);
  if (standing.length === 0) return { kind: 'refused', reason: 'AlreadyRetired', about: `${path}: release: ${namesOf(known, named)}` };
  const left = targetOf(known.map((revision) => (standing.includes(revision.id) ? { ...revision, withdrawn: true } : revision)));
  return left === null
    ? { kind: 'refused', reason: 'NothingToFallBackTo', about: `${path}: without ${namesOf(known, standing)} nothing of ${workload} is left to run` }
    : null;
}

/**
 * A withdrawal is accepted: the revisions of the release are not what the workload should run any more,
 * nor what it falls back to. They stay wanted until they are retired, so that a pod of one that
 * restarts while it is moved off finds its key; no generation is raised.
 *
 * `release` is any that a revision has had: the one that made it, or one that amended it. The revision
 * is withdrawn whole, with all of them; a setting alone is taken back by another amendment. Of a
 * release that was given several keys by schedule every revision goes.
 *
 * The caller holds the workload, and has asked `withdrawalBar` since.
 */
export async function acceptWithdrawal(tx: Db, withdrawal: Withdrawal, enlist: Enlist): Promise<void> {
  const { digest, id, workload, release, why, approvedBy, signatures } = withdrawal;
  const known = await standings(tx, workload);
  const named = standingOf(known, await namedBy(tx, workload, release));
  await changeTarget(tx, workload, enlist, async () => {
    await tx.query('update revisions set withdrawn_by = $2 where id = any($1) and withdrawn_by is null', [named, digest]);
    await tx.query(`update documents set workload = $2, verdict = 'accepted' where digest = $1 and kind = 'Withdrawal'`, [digest, workload]);
  });
  const target = await targetOfWorkload(tx, workload);
  if (target === null) throw new Error(`the withdrawal ${id} leaves ${workload} nothing to run`);
  const serials = known.filter((revision) => named.includes(revision.id)).map((revision) => revision.release.serial);
  const signers = { approvedBy: [...approvedBy], signatures: jsonOf(signatures) };
  const body = { id, release, serials: [...new Set(serials)], why, ...signers, target: target.rotation, targetSerial: target.release.serial };
  await appendEvent(tx, { event: 'withdrawal-accepted', run: null, workload, body });
}

/** The revisions that have had this release, retired ones too. */
async function namedBy(db: Db, workload: string, release: string): Promise<readonly number[]> {
  const { rows } = await db.query<{ id: number }>('select id from revisions where workload = $1 and $2 = any(releases) order by id', [workload, release]);
  return rows.map((row) => row.id);
}

function standingOf(known: readonly StandingOf[], named: readonly number[]): readonly number[] {
  return known.filter(({ id, state }) => named.includes(id) && state !== 'retired').map(({ id }) => id);
}

function namesOf(known: readonly StandingOf[], named: readonly number[]): string {
  const names = known.filter(({ id }) => named.includes(id)).map(({ release, sealing, state }) => `s${release.serial}-v${sealing.epoch} (${state})`);
  return names.join(', ');
}
