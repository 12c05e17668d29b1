/**
 * What the clock alone makes due. A tick only says *look*: what is due is read from rows and from
 * documents that were verified again, on the database's clock.
 */
import { clockOf, transaction } from '#state/database.ts';
import { deactivatedKeys, startDestruction } from '#state/destructions.ts';
import { appendEvent } from '#state/events.ts';
import { knownRevision } from '#state/revisions.ts';
import { workloads } from '#state/runs.ts';
import { startEpoch, targetOfWorkload } from '#state/targets.ts';
import { dueAfterDays } from '../domain/key-age.ts';
import type { Known } from '../domain/release.ts';
import { Fault, isFault } from '../errors.ts';
import type { Instant } from '../instant.ts';
import type { Schedule } from './cron.ts';
import type { Engine } from './look.ts';

/** Every schedule, by its public name. Ages count in days: minutes are early enough, and a look at all workloads is cheap. */
export const schedules: readonly Schedule[] = [
  { name: 'rotate-keys', cron: '*/5 * * * *', task: startDueRotations }, //   a key that served for `rotateAfterDays`: the same release under the next epoch
  { name: 'destroy-keys', cron: '*/15 * * * *', task: startDueDestructions }, // a key that was disabled for `destroyAfterDays`
];

/**
 * Starts the next epoch of every workload whose target serves under a key that is older than its
 * release allows. By re-encryption, whatever `rotateBy` says: it names the least that is done. One
 * workload that cannot be looked at delays none of the others.
 */
export async function startDueRotations(engine: Engine): Promise<void> {
  const held = await engine.held();
  const names = (await workloads(engine.pool)).filter((workload) => !held.has(workload));
  await eachOf(engine, names, async (workload) => {
    const target = await targetOfWorkload(engine.pool, workload);
    if (target === null || target.state !== 'serving') return;
    const known = await knownRevision(engine.pool, target.id, engine.loaders.release);
    const dueAt = dueAfterDays(known.sealing.createdAt, known.release.key.rotateAfterDays);
    if (dueAt !== null && dueAt <= (await clockOf(engine.pool)())) await startRotation(engine, known, dueAt);
  });
}

/** Nothing where another replica, a release or a revocation was faster. */
async function startRotation(engine: Engine, known: Known, dueAt: Instant): Promise<void> {
  const { workload, serial, digest } = known.release;
  const rotation = await transaction(engine.pool, async (tx) => {
    const id = await startEpoch(tx, workload, known.id, engine.enlist);
    if (id === null) return null;
    // An amendment moves no revision, but it may have taken the schedule back since the document was read.
    const { rows } = await tx.query<{ release: string }>('select release from revisions where id = $1', [known.id]);
    if (rows[0]?.release !== digest) throw new Fault('Conflict', `${workload}/${serial} was amended meanwhile`);
    await appendEvent(tx, { event: 'rotation-due', run: id, workload, body: { serial, epoch: known.sealing.epoch, dueAt } });
    return id;
  });
  if (rotation !== null) engine.log.info({ workload, serial, epoch: known.sealing.epoch, dueAt, rotation }, 'a key has fallen due: its rotation begins');
}

/**
 * Starts the destruction of every key that was disabled for as long as the release of the revision
 * whose retirement disabled it says. A key is destroyed by schedule once: one that was called back is
 * left to whoever did so.
 */
export async function startDueDestructions(engine: Engine): Promise<void> {
  const held = await engine.held();
  const keys = (await deactivatedKeys(engine.pool)).filter(({ workload }) => !held.has(workload));
  await eachOf(engine, keys, async (key) => {
    const { release } = await knownRevision(engine.pool, key.revision, engine.loaders.release);
    const dueAt = dueAfterDays(key.disabledAt, release.key.destroyAfterDays);
    if (dueAt === null || dueAt > (await clockOf(engine.pool)())) return;
    const run = await transaction(engine.pool, (tx) => startDestruction(tx, key, { release: release.digest, dueAt }, engine.enlist));
    if (run !== null) engine.log.info({ workload: key.workload, serial: release.serial, epoch: key.epoch, dueAt, run }, 'a key is due for destruction');
  });
}

async function eachOf<T>(engine: Engine, items: readonly T[], task: (item: T) => Promise<void>): Promise<void> {
  for (const item of items) {
    try {
      await task(item);
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      engine.log.warn({ reason: thrown.reason, fault: thrown.message }, 'something due could not be started');
    }
  }
}
