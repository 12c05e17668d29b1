import type { Db } from './database.ts';

/** Notes that this TEE key (RFC 7638 thumbprint) is our own prober's, before its first GET: gates skip its fetches. */
export async function noteProber(db: Db, teeKey: string): Promise<void> {
  await db.query('insert into probers (tee_key) values ($1) on conflict do nothing', [teeKey]);
}
