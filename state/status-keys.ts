import { parseDocument } from '#src/domain/documents/parse.ts';
import { dueAfterDays } from '#src/domain/key-age.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** The age of the key that a workload's target is under. */
export interface KeyStatus {
  /** When it was seen in its store. */
  readonly createdAt: Instant;
  /** When its rotation falls due by schedule; null: never. */
  readonly rotationDueAt: Instant | null;
}

/** What becomes of the key that a revision was retired with. */
export interface DestructionStatus {
  /** When the key is gone for good; null: that is not scheduled yet, or its store does not say. */
  readonly at: Instant | null;
  /** null: it can still be called back, or is not scheduled yet. */
  readonly end: 'destroyed' | 'called-back' | null;
}

/** The ages of these revisions' keys, by revision. As the documents' rows say it: for people, nothing is decided by it. */
export async function keyStatuses(db: Db, revisions: readonly number[]): Promise<ReadonlyMap<number, KeyStatus>> {
  const { rows } = await db.query<{ id: number; createdAt: Instant; path: string; bytes: Buffer }>(
    `select r.id, c.at as "createdAt", d.path, d.bytes from revisions r join sealings s on s.id = r.sealing
       join lateral (select at from receipts where run = s.rotation and step = 'create-key' order by number limit 1) c on true
       join documents d on d.digest = r.release and d.kind = 'Release' where r.id = any($1)`,
    [revisions],
  );
  return new Map(rows.map(({ id, createdAt, path, bytes }) => [id, { createdAt, rotationDueAt: dueAfterDays(createdAt, rotateAfterDays(path, bytes)) }]));
}

function rotateAfterDays(path: string, bytes: Buffer): number | null {
  const parsed = parseDocument(path, bytes);
  return parsed.kind === 'parsed' && parsed.document.kind === 'Release' ? parsed.document.key.rotateAfterDays : null;
}

/** The destructions that have begun, by the revision whose retirement disabled the key. */
export async function destructionStatuses(db: Db): Promise<ReadonlyMap<number, DestructionStatus>> {
  const { rows } = await db.query<{ revision: number; at: Instant | null; end: DestructionStatus['end'] }>(
    `select u.revision, max(c.body::jsonb #>> '{facts,destructionAt}') as at, max(c.body::jsonb #>> '{facts,destruction}') as end
     from runs u left join receipts c on c.run = u.id where u.workflow = 'destroy-key' group by u.revision`,
  );
  return new Map(rows.map(({ revision, at, end }) => [revision, { at, end }]));
}
