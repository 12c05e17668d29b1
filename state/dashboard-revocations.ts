/** Revocations as the dashboard lists them, from rows alone; what is never read is said in `dashboard.ts`. */

import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { subjectWords } from '#src/domain/revocation-words.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { idOfRevocation, readRevocation } from './status-emergencies.ts';

/** Revocations on one page of the list. */
const PAGE_ROWS = 50;

/** One line of the list. */
export interface ListedRevocation {
  readonly id: string;
  readonly path: string;
  readonly digest: string;
  /** What it names, in words; null: its bytes cannot be read. */
  readonly subject: string | null;
  /** RFC 5280, 5.3.1; null: its bytes cannot be read. */
  readonly reason: string | null;
  readonly approvedBy: readonly string[];
  readonly acceptedAt: Instant | null;
  /** Revisions that it took. */
  readonly revisions: number;
  /** When our own guest was refused once more, at every broker and proxy; null: not yet, or it was lifted before. */
  readonly refusedAt: Instant | null;
  /** When all of it was carried out, or it was lifted; null: it is under way. */
  readonly endedAt: Instant | null;
  /** The document that lifted it; null: it stands. */
  readonly liftedBy: string | null;
}

/** A page of the list. */
export interface RevocationList {
  readonly at: Instant;
  readonly total: number;
  /** How many are under way. */
  readonly open: number;
  /** Documents that are no revocation yet, since a signature or a trust document is missing. */
  readonly waiting: number;
  /** From 1; `pages` is at least 1. */
  readonly page: number;
  readonly pages: number;
  readonly revocations: readonly ListedRevocation[];
}

interface Row extends Omit<ListedRevocation, 'id' | 'subject' | 'reason'> {
  readonly bytes: Buffer;
  readonly named: RevocationSubject | null;
}

/** Reads a page of the accepted revocations: those under way first, then the newest. A page beyond the last is the last. */
export async function readRevocations(db: Db, wished: number): Promise<RevocationList> {
  const { rows: heads } = await db.query<{ at: Instant; total: number; open: number; waiting: number }>(
    `select instant() as at, (select count(*) from documents where kind = 'Revocation' and verdict = 'accepted') as total,
       (select count(*) from runs u join documents d on d.digest = u.revocation and d.kind = 'Revocation' and d.verdict = 'accepted'
         where u.workflow = 'revoke' and u.ended_at is null) as open,
       (select count(*) from documents where kind = 'Revocation' and verdict = 'waiting' and present) as waiting`,
  );
  const [head] = heads;
  if (head === undefined) throw new Error('the database gave no row');
  const pages = Math.max(1, Math.ceil(head.total / PAGE_ROWS));
  const page = Math.min(Math.max(1, wished), pages);
  const { rows } = await db.query<Row>(
    `select d.path, d.digest, d.bytes, d.subject as named, d.approved_by as "approvedBy", d.judged_at as "acceptedAt", u.ended_at as "endedAt",
       (select count(*) from denials n where n.revocation = d.digest) as revisions,
       (select min(c.at) from receipts c where c.run = u.id and c.step = 'confirm-refused') as "refusedAt",
       case when d.lifted_by is not null then coalesce((select min(l.path) from documents l where l.digest = d.lifted_by and l.kind = 'Reinstatement'), d.lifted_by) end as "liftedBy"
     from documents d left join runs u on u.revocation = d.digest and u.workflow = 'revoke'
     where d.kind = 'Revocation' and d.verdict = 'accepted'
     order by u.ended_at is null and d.lifted_by is null desc, d.seen desc limit $1 offset $2`,
    [PAGE_ROWS, (page - 1) * PAGE_ROWS],
  );
  const revocations = rows.map(({ bytes, named, ...row }) => {
    const document = readRevocation(row.path, bytes);
    const subject = document?.subject ?? named;
    return { ...row, id: idOfRevocation(row.path) ?? row.path, subject: subject === null ? null : subjectWords(subject), reason: document?.reason ?? null };
  });
  return { ...head, page, pages, revocations };
}
