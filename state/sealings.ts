import type { Db } from './database.ts';

/** A row of `sealings`. */
export interface SealingRow {
  readonly id: number;
  readonly workload: string;
  readonly epoch: number;
  readonly rotation: string;
  readonly taken: boolean;
}

/** A new sealing of a workload, under the next epoch: one that was never used before. `source`: the sealing that it is re-encrypted from. */
export async function insertSealing(tx: Db, workload: string, rotation: string, source: number | null): Promise<SealingRow> {
  const { rows } = await tx.query<SealingRow>(
    `insert into sealings (workload, epoch, rotation, source)
     select $1, coalesce(max(epoch), 0) + 1, $2, $3 from sealings where workload = $1
     returning id, workload, epoch, rotation, taken`,
    [workload, rotation, source],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('insert … returning gave no row');
  return row;
}

/** One sealing, its row locked for the caller's transaction: whoever keeps it, starts from it or takes it holds this lock. */
export async function lockSealing(tx: Db, id: number): Promise<SealingRow> {
  const { rows } = await tx.query<SealingRow>('select id, workload, epoch, rotation, taken from sealings where id = $1 for update', [id]);
  const [row] = rows;
  if (row === undefined) throw new Error(`there is no sealing ${id}`);
  return row;
}

/**
 * Takes a sealing when no other accepted revision of it is neither retired nor revoked. Under a lock
 * on its row, which acceptance takes too: two retirements that each see the other would take it never.
 */
export async function takeSealing(tx: Db, sealing: number): Promise<boolean> {
  await lockSealing(tx, sealing);
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

/** The sealings that are still being re-encrypted from this one, as `<workload> v<epoch>`: their ciphertext is not there, and they were not given up. */
export async function madeFrom(db: Db, sealing: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select s.workload || ' v' || s.epoch as name from sealings s
     where s.source = $1 and not s.taken and not exists (select 1 from receipts c where c.run = s.rotation and c.step = 'encrypt-weights') order by s.epoch`,
    [sealing],
  );
  return rows.map((row) => row.name);
}
