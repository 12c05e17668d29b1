import type { Json } from '#src/domain/json.ts';
import type { LetGo, Predecessor } from '#src/domain/predecessors.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Instant } from '#src/instant.ts';
import { brokerRows, lockBrokers, raiseGenerations } from './brokers.ts';
import type { Db } from './database.ts';
import { appendEvent } from './events.ts';
import { appendReceipt } from './receipts.ts';
import { insertChain } from './runs.ts';
import { storable } from './text.ts';

/** A value of a platform that is kept though its newest document has it no longer, and why. */
export interface KeptPredecessor extends LetGo {
  readonly reason: Reason;
  readonly about: string;
  readonly since: Instant;
}

/** What was let go of every platform, for good. */
export async function letGoValues(db: Db): Promise<readonly LetGo[]> {
  const { rows } = await db.query<LetGo>(
    'select platform, serial, name, value from predecessors where let_go_at is not null order by platform, serial, name, value',
  );
  return rows;
}

/** What is kept, and why, those that wait longest first. */
export async function keptPredecessors(db: Db): Promise<readonly KeptPredecessor[]> {
  const { rows } = await db.query<KeptPredecessor>(
    'select platform, serial, name, value, reason, about, since from predecessors where let_go_at is null order by since, platform, name, value',
  );
  return rows;
}

/** Writes down what is kept, and why; what is no predecessor any more is forgotten. `since` goes on while the reason stays the same. */
export async function noteKept(tx: Db, kept: readonly Omit<KeptPredecessor, 'since'>[]): Promise<void> {
  const rows = JSON.stringify(
    kept.map(({ platform, serial, name, value, reason, about }) => ({ platform, serial, name, value, reason, about: storable(about) })),
  );
  const given = 'jsonb_to_recordset($1::jsonb) as k (platform text, serial integer, name text, value jsonb, reason text, about text)';
  await tx.query(
    `delete from predecessors p where let_go_at is null
       and not exists (select 1 from ${given} where k.platform = p.platform and k.serial = p.serial and k.name = p.name and k.value = p.value)`,
    [rows],
  );
  await tx.query(
    `insert into predecessors as p (platform, serial, name, value, reason, about) select platform, serial, name, value, reason, about from ${given}
     order by platform, serial, name, value
     on conflict (platform, serial, name, value) do update set reason = excluded.reason, about = excluded.about, since = instant()
       where p.let_go_at is null and (p.reason, p.about) is distinct from (excluded.reason, excluded.about)`,
    [rows],
  );
}

/** Whether what was looked at is still all that there is, asked under the lock of every broker. */
export type StillSo = (tx: Db) => Promise<boolean>;

/**
 * Lets values of one platform go, in the caller's transaction: rows, receipt, event, and the next generation of every KBS, whose
 * keeper publishes without them. Returns the chain of the receipt; null: it is no longer so, and nothing is done.
 */
export async function letGo(tx: Db, values: readonly Predecessor[], evidence: Readonly<Record<string, Json>>, stillSo: StillSo): Promise<string | null> {
  const [first] = values;
  if (first === undefined) return null;
  const names = (await brokerRows(tx)).map(({ name }) => name);
  await lockBrokers(tx, names);
  if (!(await stillSo(tx))) return null;
  const generations = await raiseGenerations(tx, names);
  const chain = await insertChain(tx, 'let-go', '*');
  for (const { platform, serial, name, value } of values) {
    await tx.query(
      `insert into predecessors (platform, serial, name, value, let_go_at, chain) values ($1, $2, $3, $4, instant(), $5)
       on conflict (platform, serial, name, value) do update set reason = null, about = null, let_go_at = excluded.let_go_at, chain = excluded.chain`,
      [platform, serial, name, JSON.stringify(value), chain],
    );
  }
  const said = { platform: first.platform, serial: first.serial, values: values.map(({ name, value }) => ({ name, value })) };
  const receipt = { run: chain, step: 'let-go', facts: {}, proof: 'observed' as const, verdicts: [], kept: [], moves: null, generations };
  await appendReceipt(tx, { ...receipt, evidence: { ...said, ...evidence } });
  await appendEvent(tx, { event: 'platform-let-go', run: null, workload: null, body: { ...said, chain } });
  return chain;
}

/** The newest handshake's id. */
export async function lastHandshake(db: Db): Promise<number> {
  const { rows } = await db.query<{ id: number }>('select coalesce(max(id), 0) as id from handshakes');
  return rows[0]?.id ?? 0;
}

/** A look at all boots takes seconds: who sees more attestations in it is being flooded, and looks again later. */
const TOKENS_MAX = 1000;
/** Ids are drawn before the commit: some before the last that was seen may have come after it. */
const LATE_IDS = 1000;

/** Tokens of all guests that attested since a moment, which the id of the last handshake before it tells too; null: more than anybody would look at. */
export async function tokensSince(db: Db, last: number, since: Instant): Promise<readonly string[] | null> {
  const { rows } = await db.query<{ token: string }>('select token from handshakes where id > $1 and at >= $2 order by id limit $3', [
    ...[last - LATE_IDS, since, TOKENS_MAX + 1],
  ]);
  return rows.length > TOKENS_MAX ? null : rows.map(({ token }) => token);
}
