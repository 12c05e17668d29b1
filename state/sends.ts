import type { Answer, Sent } from '#src/domain/kbs.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** What is about to be sent. */
export interface Sending {
  readonly system: string;
  readonly verb: Sent['verb'];
  readonly path: string | null;
  readonly generation: number;
  readonly run: string | null;
  /** The sealing's, for key stores. */
  readonly rotation: string | null;
}

/** Journals a write before it is sent; its id answers later. */
export async function insertSend(tx: Db, sending: Sending): Promise<number> {
  const { rows } = await tx.query<{ id: number }>(
    'insert into sends (system, verb, path, generation, run, rotation) values ($1, $2, $3, $4, $5, $6) returning id',
    [sending.system, sending.verb, sending.path, sending.generation, sending.run, sending.rotation],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('insert … returning gave no row');
  return row.id;
}

/** Records the answer, once. */
export async function answerSend(db: Db, id: number, answer: Answer): Promise<void> {
  await db.query('update sends set answered_at = instant(), status = $2, type = $3, detail = $4 where id = $1 and answered_at is null', [
    id,
    answer.status,
    answer.type,
    answer.detail,
  ]);
}

interface SendRow {
  readonly id: number;
  readonly system: string;
  readonly verb: Sent['verb'];
  readonly path: string | null;
  readonly generation: number;
  readonly run: string | null;
  readonly at: Instant;
  readonly answered_at: Instant | null;
  readonly status: number | null;
  readonly type: string | null;
  readonly detail: Record<string, string>;
}

/** Writes of one kind to one system, oldest first; of one path or one rotation where given. */
export async function sendsOf(db: Db, system: string, verb: Sent['verb'] | null, only: { path?: string; rotation?: string } = {}): Promise<readonly Sent[]> {
  const { rows } = await db.query<SendRow>(
    `select id, system, verb, path, generation, run, at, answered_at, status, type, detail from sends
     where system = $1 and ($2::text is null or verb = $2) and ($3::text is null or path = $3) and ($4::text is null or rotation = $4) order by id`,
    [system, verb, only.path ?? null, only.rotation ?? null],
  );
  return rows.map(sentOf);
}

function sentOf(row: SendRow): Sent {
  const answer = row.answered_at === null || row.status === null ? null : { status: row.status, type: row.type, detail: row.detail };
  const { id, system, verb, path, generation, run, at } = row;
  return { id, system, verb, path, generation, run, at, answeredAt: row.answered_at, answer };
}
