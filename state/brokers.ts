import type { Db } from './database.ts';
import { inheritDenials } from './deny-list.ts';

/** A row of `brokers`: what one KBS should hold is counted by its generation. */
export interface BrokerRow {
  readonly name: string;
  readonly repository: string;
  readonly generation: number;
  readonly names_sent: readonly string[];
  readonly baseline: string | null;
}

/** Makes the rows of the configured brokers, each with what was revoked before it came. Safe when repeated. */
export async function ensureBrokers(db: Db, brokers: readonly { name: string; repository: string }[]): Promise<void> {
  for (const { name, repository } of [...brokers].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    await db.query('insert into brokers (name, repository) values ($1, $2) on conflict (name) do update set repository = excluded.repository', [
      name,
      repository,
    ]);
    await inheritDenials(db, name);
  }
}

/** Locks these brokers in the order of their names, before any other row: two facts would deadlock otherwise. */
export async function lockBrokers(tx: Db, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  await tx.query('select name from brokers where name = any($1) order by name for update', [names]);
}

/** Adds 1 to the generation of each; returns the new numbers. */
export async function raiseGenerations(tx: Db, names: readonly string[]): Promise<Readonly<Record<string, number>>> {
  const { rows } = await tx.query<{ name: string; generation: number }>(
    'update brokers set generation = generation + 1 where name = any($1) returning name, generation',
    [names],
  );
  return Object.fromEntries(rows.map((row) => [row.name, row.generation]));
}

/** One broker's row; null where there is none. `lock` holds its generation still until the transaction ends. */
export async function brokerRow(db: Db, name: string, lock: 'none' | 'share' | 'update' = 'none'): Promise<BrokerRow | null> {
  const suffix = { none: '', share: ' for share', update: ' for no key update' }[lock];
  const { rows } = await db.query<BrokerRow>(`select name, repository, generation, names_sent, baseline from brokers where name = $1${suffix}`, [name]);
  return rows[0] ?? null;
}

/** Every broker's row, by name. */
export async function brokerRows(db: Db): Promise<readonly BrokerRow[]> {
  const { rows } = await db.query<BrokerRow>('select name, repository, generation, names_sent, baseline from brokers order by name');
  return rows;
}

/** Remembers names that are about to be sent: from now on they are part of every `Want`. */
export async function rememberNames(tx: Db, name: string, names: readonly string[]): Promise<void> {
  await tx.query('update brokers set names_sent = (select array_agg(distinct n order by n) from unnest(names_sent || $2::text[]) n) where name = $1', [
    name,
    names,
  ]);
}

/** Puts an accepted baseline in force. */
export async function setBaseline(tx: Db, name: string, digest: string): Promise<void> {
  await tx.query('update brokers set baseline = $2 where name = $1', [name, digest]);
}
