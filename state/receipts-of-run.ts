import { counting, factsOf, type Link } from '#src/domain/fold.ts';
import type { Facts } from '#src/domain/release.ts';
import type { Db } from './database.ts';

/** The names of a run's steps that have a receipt that counts. */
export async function countingSteps(db: Db, run: string): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<Omit<Link, 'facts'>>('select number, step, at from receipts where run = $1 order by number', [run]);
  return new Set(counting(rows.map((row) => ({ ...row, facts: {} }))).map((link) => link.step));
}

/** What a run's receipts that count have recorded. */
export async function factsOfRun(db: Db, run: string): Promise<Facts> {
  const { rows } = await db.query<Omit<Link, 'facts'> & { readonly body: string }>(
    'select number, step, at, body from receipts where run = $1 order by number',
    [run],
  );
  return factsOf(counting(rows.map(({ body, ...link }) => ({ ...link, facts: (JSON.parse(body) as { readonly facts?: Facts }).facts ?? {} }))));
}
