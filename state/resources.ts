import { type Digest, digestOf } from '#src/digest.ts';
import { canonicalJson } from '#src/domain/json.ts';
import type { Wrapped } from '#src/domain/kbs.ts';
import type { KeyPath } from '#src/domain/paths.ts';
import { Fault } from '#src/errors.ts';
import type { Signer } from '#src/world.ts';
import type { Db } from './database.ts';

interface ResourceRow {
  readonly path: string;
  readonly store: string;
  readonly key_id: string;
  readonly context: Record<string, string>;
  readonly wrapped: string;
  readonly canary: string;
  readonly digest: Digest;
  readonly signature: string;
}

/** Keeps the bytes of a path, once: the first row of a path stands, whoever comes second. */
export async function keepResource(tx: Db, row: Wrapped): Promise<void> {
  await tx.query(
    `insert into resources (path, store, key_id, context, wrapped, canary, digest, signature)
     values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing`,
    [row.path, row.store, row.keyId, row.context, row.wrapped, row.canary, row.digest, row.signature],
  );
}

/** The rows whose context names this rotation, by path, each checked. Throws Fault('Tampered'). */
export async function resourcesOf(db: Db, rotation: string, signer: Signer): Promise<readonly Wrapped[]> {
  const { rows } = await db.query<{ path: string }>(`select path from resources where context ->> 'rotation' = $1 order by path collate "C"`, [rotation]);
  const found = await Promise.all(rows.map(({ path }) => resourceAt(db, path, signer)));
  return found.filter((row) => row !== null);
}

/** The row of a path, its digest and signature checked first: a database is no root of trust. Throws Fault('Tampered'). */
export async function resourceAt(db: Db, path: KeyPath, signer: Signer): Promise<Wrapped | null> {
  const { rows } = await db.query<ResourceRow>('select path, store, key_id, context, wrapped, canary, digest, signature from resources where path = $1', [
    path,
  ]);
  const [row] = rows;
  if (row === undefined) return null;
  const { store, context, wrapped, canary, digest, signature } = row;
  const signed = { path: row.path, store, keyId: row.key_id, context, wrapped, canary };
  const text = canonicalJson(signed);
  if (row.path !== path || digestOf(text) !== digest || !signer.verify(Buffer.from(text), signature)) {
    throw new Fault('Tampered', `the stored bytes of ${path} do not carry our signature`);
  }
  return { ...signed, digest, signature };
}
