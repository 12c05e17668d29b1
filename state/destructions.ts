import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { appendEvent } from './events.ts';
import { drawRunId, type Enlist, insertRun, lockWorkload } from './runs.ts';
import { lockSealing } from './sealings.ts';

/** A key that was disabled with its last revision, and that no run has begun to destroy. */
export interface DeactivatedKey {
  readonly workload: string;
  readonly sealing: number;
  readonly epoch: number;
  /** The revision whose retirement disabled it, and that retire run. */
  readonly revision: number;
  readonly retiring: string;
  /** When its refusal had been proven. */
  readonly disabledAt: Instant;
}

/**
 * Those whose `disable-key` really disabled something: of a sealing that others still shared, or that
 * never had a key, the receipt says so and holds no refusals. In the order in which they were disabled.
 */
export async function deactivatedKeys(db: Db): Promise<readonly DeactivatedKey[]> {
  const { rows } = await db.query<DeactivatedKey>(
    `select * from (
       select distinct on (s.id) s.workload, s.id as sealing, s.epoch, r.id as revision, u.id as retiring, c.at as "disabledAt"
       from sealings s
         join revisions r on r.sealing = s.id and r.state = 'retired'
         join runs u on u.revision = r.id and u.workflow = 'retire-revision'
         join receipts c on c.run = u.id and c.step = 'disable-key' and c.body::jsonb #> '{evidence,refusals}' is not null
       where s.taken and not exists (select 1 from runs d join revisions o on o.id = d.revision where d.workflow = 'destroy-key' and o.sealing = s.id)
       order by s.id, c.id desc) keys
     order by "disabledAt", sealing`,
  );
  return rows;
}

/**
 * Inserts the run that destroys a key, in the caller's transaction: once for each sealing, while it is
 * taken, and while the revision's release is the one that `because` was read from. Returns its id; null
 * where there is nothing to do any more.
 */
export async function startDestruction(
  tx: Db,
  key: DeactivatedKey,
  because: { readonly release: string; readonly dueAt: Instant },
  enlist: Enlist,
): Promise<string | null> {
  const { taken } = await lockSealing(tx, key.sealing);
  await lockWorkload(tx, key.workload);
  const { rows } = await tx.query<{ serial: number }>(
    `select r.serial from revisions r where r.id = $1 and r.sealing = $2 and r.release = $3 and r.state = 'retired'
       and not exists (select 1 from runs d join revisions o on o.id = d.revision where d.workflow = 'destroy-key' and o.sealing = $2)`,
    [key.revision, key.sealing, because.release],
  );
  const [revision] = rows;
  if (!taken || revision === undefined) return null;
  const id = drawRunId();
  await insertRun(tx, { id, workflow: 'destroy-key', revision: key.revision, workload: key.workload, cause: key.retiring });
  const body = { serial: revision.serial, epoch: key.epoch, disabledAt: key.disabledAt, dueAt: because.dueAt };
  await appendEvent(tx, { event: 'destruction-due', run: id, workload: key.workload, body });
  await enlist(tx, id, null);
  return id;
}
