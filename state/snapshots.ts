import { type Digest, digestOf } from '#src/digest.ts';
import { documentOfBundle } from '#src/domain/documents/places.ts';
import type { Snapshot } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import type { Db } from './database.ts';
import { columnsOf } from './documents.ts';

/** What was read so soon after a webhook is put down to the newest: a delivery says nothing of what it is about. A poll comes twice as often as that. Seconds. */
const HINT_SECONDS = 60;

/** The newest delivery; `seconds`: the parameter that says since when. */
function hint(seconds: '$5' | '$8'): string {
  return `(select max(at) from deliveries where at > instant() - ${seconds} * interval '1 second')`;
}

/**
 * Stores what a snapshot shows in these watched folders: bytes never seen at their path get a row, and
 * each row is told whether the tip still holds it. Nothing is ever deleted.
 */
export async function storeSnapshot(tx: Db, { commit, files }: Pick<Snapshot, 'commit' | 'files'>, folders: readonly string[]): Promise<void> {
  for (const folder of folders.map((name) => `${name}/`)) {
    const inside = files.filter(({ path }) => path.startsWith(folder));
    const [documents, bundles] = [inside.filter(({ path }) => documentOfBundle(path) === null), inside.filter(({ path }) => documentOfBundle(path) !== null)];
    await storeDocuments(tx, commit, folder, documents);
    await storeBundles(tx, folder, bundles);
  }
}

async function storeDocuments(tx: Db, commit: string, folder: string, files: readonly RepositoryFile[]): Promise<void> {
  const [paths, digests] = [files.map(({ path }) => path), files.map(({ bytes }) => digestOf(bytes))];
  await tx.query(
    `update documents set present = there.path is not null
     from documents d left join unnest($2::text[], $3::text[]) as there (path, digest) on there.path = d.path and there.digest = d.digest
     where documents.path = d.path and documents.digest = d.digest and d.kind <> 'File' and starts_with(d.path, $1) and d.present <> (there.path is not null)`,
    [folder, paths, digests],
  );
  const known = await tx.query<{ path: string; digest: string }>('select path, digest from documents where path = any($1)', [paths]);
  for (const part of batches(files, digests, known.rows)) {
    const columns = part.map(({ file: { path, bytes } }) => columnsOf(path, bytes));
    await tx.query(
      `insert into documents (path, digest, kind, bytes, commit_id, hinted_at, workload, serial)
       select path, digest, kind, bytes, $1, ${hint('$8')}, workload, serial
       from unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::integer[]) as one (path, digest, kind, bytes, workload, serial)
       on conflict do nothing`,
      [
        commit,
        ...rowsOf(part),
        columns.map(({ kind }) => kind),
        part.map(({ file }) => file.bytes),
        columns.map((one) => one.workload),
        columns.map((one) => one.serial),
        HINT_SECONDS,
      ],
    );
  }
}

async function storeBundles(tx: Db, folder: string, files: readonly RepositoryFile[]): Promise<void> {
  const [paths, digests] = [files.map(({ path }) => path), files.map(({ bytes }) => digestOf(bytes))];
  await tx.query(
    `update bundles set present = there.path is not null
     from bundles b left join unnest($2::text[], $3::text[]) as there (path, digest) on there.path = b.path and there.digest = b.digest
     where bundles.path = b.path and bundles.digest = b.digest and starts_with(b.path, $1) and b.present <> (there.path is not null)`,
    [folder, paths, digests],
  );
  const known = await tx.query<{ path: string; digest: string }>('select path, digest from bundles where path = any($1)', [paths]);
  for (const part of batches(files, digests, known.rows)) {
    await tx.query(
      `insert into bundles (path, digest, document_path, bytes, hinted_at)
       select *, ${hint('$5')} from unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) on conflict do nothing`,
      [...rowsOf(part), part.map(({ file }) => documentOfBundle(file.path)), part.map(({ file }) => file.bytes), HINT_SECONDS],
    );
  }
}

/** A file, and the digest that it is stored under. */
interface Fresh {
  readonly file: RepositoryFile;
  readonly digest: Digest;
}

/** Somebody may lay ten thousand files beside one: a round trip each would hold the branch's lock for seconds. As many bytes fit in one statement. */
const BATCH_MAX_FILES = 500;
const BATCH_MAX_BYTES = 2 * 1024 * 1024;

/** The files that are not known yet, in statements' worth. */
function batches(
  files: readonly RepositoryFile[],
  digests: readonly Digest[],
  known: readonly { path: string; digest: string }[],
): readonly (readonly Fresh[])[] {
  const seen = new Set(known.map(({ path, digest }) => `${path} ${digest}`));
  const parts: Fresh[][] = [];
  let bytesLeft = 0;
  for (const [index, file] of files.entries()) {
    const digest = digests[index];
    if (digest === undefined || seen.has(`${file.path} ${digest}`)) continue;
    bytesLeft -= file.bytes.length;
    if (parts.length === 0 || bytesLeft < 0 || (parts.at(-1)?.length ?? 0) >= BATCH_MAX_FILES) {
      parts.push([]);
      bytesLeft = BATCH_MAX_BYTES - file.bytes.length;
    }
    parts.at(-1)?.push({ file, digest });
  }
  return parts;
}

function rowsOf(part: readonly Fresh[]): readonly [readonly string[], readonly string[]] {
  return [part.map(({ file }) => file.path), part.map(({ digest }) => digest)];
}

/** Stores a file that a document names by digest. */
export async function storeNamedFile(tx: Db, commit: string, { path, bytes }: RepositoryFile): Promise<void> {
  await tx.query(`insert into documents (path, digest, kind, bytes, commit_id, verdict) values ($1, $2, 'File', $3, $4, 'accepted') on conflict do nothing`, [
    path,
    digestOf(bytes),
    bytes,
    commit,
  ]);
}
