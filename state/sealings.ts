import type { Db } from './database.ts';

/** A row of `sealings`. */
export interface SealingRow {
  readonly id: number;
  readonly workload: string;
  readonly epoch: number;
  readonly rotation: string;
  readonly taken: boolean;
}

/** A new sealing of a workload, under the next epoch: one that was never used before. */
export async function insertSealing(tx: Db, workload: string, rotation: string): Promise<SealingRow> {
  const { rows } = await tx.query<SealingRow>(
    `insert into sealings (workload, epoch, rotation)
     select $1, coalesce(max(epoch), 0) + 1, $2 from sealings where workload = $1
     returning id, workload, epoch, rotation, taken`,
    [workload, rotation],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('insert … returning gave no row');
  return row;
}

/**
 * Takes a sealing when no other accepted revision of it is neither retired nor revoked. Under a lock
 * on its row, which acceptance takes too: two retirements that each see the other would take it never.
 */
export async function takeSealing(tx: Db, sealing: number): Promise<boolean> {
  await tx.query('select id from sealings where id = $1 for update', [sealing]);
  const { rowCount } = await tx.query(
    `update sealings set taken = true
     where id = $1 and not exists (select 1 from revisions r where r.sealing = $1 and r.state <> 'retired' and r.revoked_by is null)`,
    [sealing],
  );
  return rowCount === 1;
}

/** The revisions that keep a sealing from being taken, as `<workload>/<serial>`. */
export async function sharersOf(db: Db, sealing: number, except: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select workload || '/' || serial as name from revisions
     where sealing = $1 and id <> $2 and state <> 'retired' and revoked_by is null order by serial`,
    [sealing, except],
  );
  return rows.map((row) => row.name);
}
