import type pg from 'pg';
import type { Digest } from '#src/digest.ts';
import type { Head, HeadBody } from '#src/domain/receipts.ts';

/** Receipts of some kilobytes each: a page is a megabyte, an export never more than one in memory. */
const RECEIPT_PAGE = 200;
const HEAD_PAGE = 1000;

/** A receipt at its place in the log, from 1. */
export interface Numbered {
  readonly seq: number;
  readonly body: string;
  readonly digest: Digest;
}

/** Page by page, by number: rows with a number never change, so that no transaction has to stay open. */
export async function* numbered(pool: pg.Pool, after: number, upTo: number): AsyncGenerator<Numbered> {
  let from = after;
  for (;;) {
    const { rows } = await pool.query<Numbered>('select seq, body, digest from receipts where seq > $1 and seq <= $2 order by seq limit $3', [
      from,
      upTo,
      RECEIPT_PAGE,
    ]);
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < RECEIPT_PAGE) return;
    from = last.seq;
  }
}

interface HeadRow {
  readonly body: string;
  readonly signature: string;
}

function headOfRow({ body, signature }: HeadRow): Head {
  return { head: JSON.parse(body) as HeadBody, signature };
}

/** The head over most receipts; null: none was made yet. */
export async function newestHead(pool: pg.Pool): Promise<Head | null> {
  const { rows } = await pool.query<HeadRow>('select body, signature from heads order by tree_size desc limit 1');
  return rows[0] === undefined ? null : headOfRow(rows[0]);
}

/** The heads over at most so many receipts, smallest first. */
export async function* headsUpTo(pool: pg.Pool, upTo: number): AsyncGenerator<Head> {
  let from = -1;
  for (;;) {
    const { rows } = await pool.query<HeadRow & { tree_size: number }>(
      'select tree_size, body, signature from heads where tree_size > $1 and tree_size <= $2 order by tree_size limit $3',
      [from, upTo, HEAD_PAGE],
    );
    for (const row of rows) yield headOfRow(row);
    const last = rows.at(-1);
    if (last === undefined || rows.length < HEAD_PAGE) return;
    from = last.tree_size;
  }
}
