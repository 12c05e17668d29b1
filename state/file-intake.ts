import { type Digest, digestOf } from '#src/digest.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import type { Db } from './database.ts';
import { columnsOf, type StoredKind } from './documents.ts';

/** No commit: these bytes were first seen as a file on some machine. */
const NO_COMMIT = '';

/**
 * Stores a document and its bundles that no branch shows (yet), in the caller's transaction, and has the
 * bundles count as beside it while `judge` runs. Afterwards they are told again by what the branch shows:
 * what carried an acceptance is kept whatever that is.
 */
export async function withFile<T>(
  tx: Db,
  { path, bytes }: RepositoryFile,
  bundles: readonly RepositoryFile[],
  judge: (row: { readonly path: string; readonly digest: Digest; readonly kind: StoredKind }) => Promise<T>,
): Promise<T> {
  const digest = digestOf(bytes);
  const { kind, workload, serial } = columnsOf(path, bytes);
  await tx.query(
    `insert into documents (path, digest, kind, bytes, commit_id, workload, serial, present) values ($1, $2, $3, $4, $5, $6, $7, false) on conflict do nothing`,
    [path, digest, kind, bytes, NO_COMMIT, workload, serial],
  );
  const { rows } = await tx.query<{ name: string }>(`select path || ' ' || digest as name from bundles where document_path = $1 and present`, [path]);
  const shown = new Set(rows.map(({ name }) => name));
  const own = bundles.map((bundle) => ({ ...bundle, digest: digestOf(bundle.bytes) })).filter((bundle) => !shown.has(`${bundle.path} ${bundle.digest}`));
  for (const bundle of own) {
    await tx.query(`insert into bundles (path, digest, document_path, bytes) values ($1, $2, $3, $4) on conflict (path, digest) do update set present = true`, [
      bundle.path,
      bundle.digest,
      path,
      bundle.bytes,
    ]);
  }
  const judged = await judge({ path, digest, kind });
  for (const bundle of own) await tx.query('update bundles set present = false where path = $1 and digest = $2', [bundle.path, bundle.digest]);
  return judged;
}
