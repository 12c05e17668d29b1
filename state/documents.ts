import { dirname } from 'node:path/posix';
import { type Digest, digestOf } from '#src/digest.ts';
import { namedBy, parseDocument } from '#src/domain/documents/parse.ts';
import { type DocumentKind, placeOf } from '#src/domain/documents/places.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Unread } from '#src/domain/repository.ts';
import type { RepositoryFile, Signature } from '#src/domain/signatures.ts';
import type { NamedFiles } from '#src/domain/trust.ts';
import { Fault } from '#src/errors.ts';
import type { Db } from './database.ts';
import { storableJson } from './text.ts';

/** `File`: named by a document. `Unknown`: bytes that do not belong at their path, kept so that they are seen. */
export type StoredKind = DocumentKind | 'File' | 'Unknown';

/** A row of `documents`, its bytes checked against their digest. */
export interface StoredDocument extends RepositoryFile {
  readonly digest: Digest;
  readonly kind: StoredKind;
  readonly verdict: 'waiting' | 'accepted' | 'refused';
  readonly reason: Reason | null;
  readonly about: string | null;
  /** Of the trust document that it was last judged under; null: none was there. */
  readonly trustVersion: number | null;
}

/** The branch as it was last read. */
export interface Branch {
  /** The last commit that descended from the one before. */
  readonly commit: string;
  /** A tip that does not; null: the history is whole. */
  readonly rewrittenTo: string | null;
}

/** What was read of a branch; null: it was never read. */
export async function branchOf(db: Db, name: string): Promise<Branch | null> {
  const { rows } = await db.query<Branch>('select commit_id as commit, rewritten_to as "rewrittenTo" from branches where name = $1', [name]);
  return rows[0] ?? null;
}

/**
 * Moves the branch on from `known`, in the caller's transaction; false: another replica moved it, and
 * what was read must not be stored over what that one stored. `unread`: what the tip shows and nobody
 * reads; null: as before.
 */
export async function moveBranch(tx: Db, name: string, known: Branch | null, next: Branch, unread: readonly Unread[] | null): Promise<boolean> {
  await tx.query(`select pg_advisory_xact_lock(hashtextextended('branch/' || $1, 0))`, [name]);
  const now = await branchOf(tx, name);
  if (now?.commit !== known?.commit || now?.rewrittenTo !== known?.rewrittenTo) return false;
  await tx.query(
    `insert into branches (name, commit_id, rewritten_to, unread) values ($1, $2, $3, coalesce($4::jsonb, '[]'))
     on conflict (name) do update set commit_id = $2, rewritten_to = $3, unread = coalesce($4::jsonb, branches.unread), seen_at = instant()`,
    [
      name,
      next.commit,
      next.rewrittenTo,
      unread === null ? null : JSON.stringify(storableJson(unread.map(({ path, reason, about }) => ({ path, reason, about })))),
    ],
  );
  return true;
}

/** The commit from which a rewriting was accepted last, or that the branch held when a trust document named it; null: none. */
export async function acceptedHistory(db: Db, name: string): Promise<string | null> {
  const { rows } = await db.query<{ history: string | null }>('select history from branches where name = $1', [name]);
  return rows[0]?.history ?? null;
}

/** Remembers it: a second rewriting needs another word. */
export async function setAcceptedHistory(tx: Db, name: string, history: string): Promise<void> {
  await tx.query('update branches set history = $2 where name = $1', [name, history]);
}

/** What a row says of a file: of the same bytes at two paths one is the document, and one that does not belong there is not of its kind. */
export function columnsOf(path: string, bytes: Uint8Array): { readonly kind: StoredKind; readonly workload: string | null; readonly serial: number | null } {
  const place = placeOf(path);
  const parsed = parseDocument(path, bytes);
  if (place === null || (parsed.kind === 'bad' && parsed.reason === 'WrongPlace')) return { kind: 'Unknown', workload: null, serial: null };
  switch (place.kind) {
    case 'Release':
      return { kind: place.kind, workload: place.workload, serial: place.serial };
    case 'Platform':
      return { kind: place.kind, workload: null, serial: place.serial };
    case 'Baseline':
    case 'Trust':
      return { kind: place.kind, workload: null, serial: place.version };
    case 'Revocation':
    case 'Withdrawal':
    case 'Reinstatement':
      return { kind: place.kind, workload: null, serial: null };
  }
}

// ---------------------------------------------------------------- reading

interface Row {
  readonly path: string;
  readonly digest: string;
  readonly kind: StoredKind;
  readonly bytes: Buffer;
  readonly verdict: StoredDocument['verdict'];
  readonly reason: Reason | null;
  readonly about: string | null;
  readonly trustVersion: number | null;
}

const COLUMNS = 'path, digest, kind, bytes, verdict, reason, about, trust_version as "trustVersion"';

/** Rows are not trusted: what was stored under a digest must still hash to it. Throws Fault('Tampered'). */
function checked(row: Row): StoredDocument {
  const digest = digestOf(row.bytes);
  if (digest !== row.digest) throw new Fault('Tampered', `documents: ${row.path} is stored as ${row.digest} and hashes to ${digest}`);
  return { ...row, digest };
}

/** A document that waits, by its names. */
export interface WaitingDocument extends Pick<StoredDocument, 'path' | 'digest' | 'kind'> {
  /** Whether a bundle lies beside it. */
  readonly hasBundle: boolean;
  /** Whether it was ever judged. */
  readonly isJudged: boolean;
}

/** The documents that wait and lie at the branch's tip, in the order of their paths: names only, so that one row that was tampered with stops no other. */
export async function waitingDocuments(db: Db): Promise<readonly WaitingDocument[]> {
  const { rows } = await db.query<WaitingDocument>(
    `select path, digest, kind, reason is not null as "isJudged", exists (select 1 from bundles b where b.document_path = d.path and b.present) as "hasBundle"
     from documents d where verdict = 'waiting' and present order by path collate "C", seen`,
  );
  return rows;
}

/** The releases that were accepted or refused, as `<path> <digest>`. */
export async function settledReleases(db: Db): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<{ name: string }>(`select path || ' ' || digest as name from documents where kind = 'Release' and verdict <> 'waiting'`);
  return new Set(rows.map(({ name }) => name));
}

/** One row, locked where the caller holds a transaction; null: there is none. */
export async function documentAt(tx: Db, path: string, digest: string): Promise<StoredDocument | null> {
  const { rows } = await tx.query<Row>(`select ${COLUMNS} from documents where path = $1 and digest = $2 for update`, [path, digest]);
  return rows[0] === undefined ? null : checked(rows[0]);
}

/** The accepted document of this kind and digest; null: there is none. */
export async function acceptedDocument(db: Db, kind: DocumentKind, digest: string): Promise<StoredDocument | null> {
  const { rows } = await db.query<Row>(`select ${COLUMNS} from documents where kind = $1 and digest = $2 and verdict = 'accepted' limit 1`, [kind, digest]);
  return rows[0] === undefined ? null : checked(rows[0]);
}

/** The accepted releases of a workload, highest serial first. */
export async function acceptedReleases(db: Db, workload: string): Promise<readonly { readonly serial: number; readonly digest: Digest }[]> {
  const { rows } = await db.query<{ serial: number; digest: Digest }>(
    `select serial, digest from documents where kind = 'Release' and workload = $1 and verdict = 'accepted' order by serial desc`,
    [workload],
  );
  return rows;
}

/** Bytes stored at a path under a digest, whatever they are; null: never seen. */
export async function storedBytes(db: Db, path: string, digest: string): Promise<Uint8Array | null> {
  const { rows } = await db.query<Row>(`select ${COLUMNS} from documents where path = $1 and digest = $2`, [path, digest]);
  return rows[0] === undefined ? null : checked(rows[0]).bytes;
}

/** The files that a document names, as far as they were seen: read before the judge, which does not wait. */
export async function namedFiles(db: Db, row: RepositoryFile): Promise<NamedFiles> {
  const files = new Map<string, Uint8Array>();
  for (const { file, digest } of namedBy(row)) {
    const bytes = await storedBytes(db, file, digest);
    if (bytes !== null) files.set(`${file} ${digest}`, bytes);
  }
  return (path, digest) => files.get(`${path} ${digest}`) ?? null;
}

/** Bytes stored under a digest, whatever they are and wherever; null: never seen. */
export async function documentBytes(db: Db, digest: string): Promise<Uint8Array | null> {
  const { rows } = await db.query<Row>(`select ${COLUMNS} from documents where digest = $1 order by seen limit 1`, [digest]);
  return rows[0] === undefined ? null : checked(rows[0]).bytes;
}

/** A document's bundles: those at the branch's tip; with `counted`, before them those that carried its acceptance, wherever they are now. */
export async function bundlesOf(db: Db, documentPath: string, which: 'present' | 'counted'): Promise<readonly RepositoryFile[]> {
  const { rows } = await db.query<RepositoryFile>(
    'select path, bytes from bundles where document_path = $1 and (present or ($2 and counted)) order by ($2 and counted) desc, path collate "C", digest',
    [documentPath, which === 'counted'],
  );
  return rows;
}

/** Remembers the bundles at these paths as those that carried the document's acceptance, in the caller's transaction. */
export async function keepBundles(tx: Db, documentPath: string, paths: readonly string[]): Promise<void> {
  await tx.query('update bundles set counted = true where document_path = $1 and present and path = any($2)', [documentPath, paths]);
}

/** A document of a series, as anti-replay sees it. */
export interface Standee {
  readonly serial: number;
  readonly digest: Digest;
  readonly accepted: boolean;
}

/** Every file of the series that a path belongs to (its folder), the newest first; `except` is the document that is judged. */
export async function seriesOf(db: Db, path: string, except: string): Promise<readonly Standee[]> {
  const { rows } = await db.query<Standee>(
    `select serial, digest, verdict = 'accepted' as accepted from documents
     where starts_with(path, $1) and kind in ('Release', 'Platform', 'Baseline') and digest <> $2 order by serial desc, seen`,
    [`${dirname(path)}/`, except],
  );
  return rows;
}

/** Whether other bytes were seen at this path before these; these may never have been seen. */
export async function isChanged(db: Db, path: string, digest: string): Promise<boolean> {
  const { rows } = await db.query(
    `select 1 from documents first left join documents d on d.path = first.path and d.digest = $2
     where first.path = $1 and first.digest <> $2 and first.kind <> 'File' and (d.seen is null or first.seen < d.seen) limit 1`,
    [path, digest],
  );
  return rows.length > 0;
}

/** Sets what became of a document, in the caller's transaction. */
export async function setVerdict(
  tx: Db,
  { path, digest }: { readonly path: string; readonly digest: string },
  verdict: {
    readonly verdict: StoredDocument['verdict'];
    readonly reason: Reason | null;
    readonly about: string | null;
    readonly trustVersion: number | null;
    readonly approvedBy: readonly string[];
    readonly signatures: readonly Signature[];
  },
): Promise<void> {
  await tx.query(
    `update documents set verdict = $3, reason = $4, about = $5, trust_version = $6, approved_by = $7, signatures = $8,
       judged_at = instant() where path = $1 and digest = $2`,
    [path, digest, verdict.verdict, verdict.reason, verdict.about, verdict.trustVersion, verdict.approvedBy, JSON.stringify(verdict.signatures)],
  );
}

/** Holds the series of a document for the caller's transaction: serials are compared under it. */
export async function lockSeries(tx: Db, path: string): Promise<void> {
  await tx.query(`select pg_advisory_xact_lock(hashtextextended('series/' || $1, 0))`, [dirname(path)]);
}
