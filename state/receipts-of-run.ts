import { counting, type Link } from '#src/domain/fold.ts';
import type { Db } from './database.ts';

/** The names of a run's steps that have a receipt that counts. */
export async function countingSteps(db: Db, run: string): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<Omit<Link, 'facts'>>('select number, step, at from receipts where run = $1 order by number', [run]);
  return new Set(counting(rows.map((row) => ({ ...row, facts: {} }))).map((link) => link.step));
}
