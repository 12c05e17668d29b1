import { parseDocument } from '#src/domain/documents/parse.ts';
import { reasons } from '#src/domain/reasons.ts';
import { type Instant, later, parseInstant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** Collecting the administrators' signatures takes weeks where they sign by hardware keys, and holidays come between. Seconds: 30 days. */
const WARNING_SECONDS = 30 * 24 * 60 * 60;

/** Until when releases are taken in. */
export interface TrustStatus {
  readonly version: number;
  readonly expiresAt: Instant;
  readonly state: 'valid' | 'expires-soon' | 'expired';
  /** What a person can do; null while there is nothing to do. */
  readonly help: string | null;
}

/** The newest trust document that was accepted, as its row says; null: none was. */
export async function trustStatus(db: Db, now: Instant): Promise<TrustStatus | null> {
  const { rows } = await db.query<{ path: string; bytes: Buffer }>(
    `select path, bytes from documents where kind = 'Trust' and verdict = 'accepted' order by serial desc nulls last limit 1`,
  );
  const [row] = rows;
  const parsed = row === undefined ? null : parseDocument(row.path, row.bytes);
  if (parsed?.kind !== 'parsed' || parsed.document.kind !== 'Trust') return null;
  const { version, expires } = parsed.document;
  const expiresAt = parseInstant(expires);
  if (now >= expiresAt) return { version, expiresAt, state: 'expired', help: reasons.TrustExpired.help };
  if (now < later(expiresAt, -WARNING_SECONDS)) return { version, expiresAt, state: 'valid', help: null };
  return { version, expiresAt, state: 'expires-soon', help: `Commit trust/${version + 1}.yaml before: then no release is held.` };
}
