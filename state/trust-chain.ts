import type { Digest } from '#src/digest.ts';
import type { VerifyBundle } from '#src/domain/signatures.ts';
import { type StoredTrust, type TrustChain, type TrustPins, trustChainOf } from '#src/domain/trust-chain.ts';
import type { Db } from './database.ts';
import { bundlesOf, namedFiles, storedBytes } from './documents.ts';

/** A chain has a few versions, and one that grows is another: more than this only tests have. */
const REMEMBERED_MAX = 16;

/** Chains that were verified, by the verifier that did it: rows are verified once for each set of digests and process, as documents are. */
const remembered = new WeakMap<VerifyBundle, Map<string, TrustChain>>();

/**
 * Every version of the trust document that counts, from the rows: a file may be gone from the branch, its
 * digest and its signatures are enough. Throws Fault('Tampered') for a row that does not hash to its digest.
 */
export async function trustInForce(db: Db, pins: TrustPins & { readonly verifyBundle: VerifyBundle }): Promise<TrustChain> {
  const { initialDigest, formerDigests = [], verifyBundle } = pins;
  const { rows } = await db.query<{ path: string; digest: Digest; accepted: boolean }>(
    `select path, digest, verdict = 'accepted' as accepted from documents
     where kind = 'Trust' and (verdict = 'accepted' or digest = any($1)) order by path collate "C", digest`,
    [[...formerDigests, initialDigest]],
  );
  const memory = remembered.get(verifyBundle) ?? new Map<string, TrustChain>();
  remembered.set(verifyBundle, memory);
  const name = JSON.stringify([initialDigest, formerDigests, rows]);
  const known = memory.get(name);
  if (known !== undefined) return known;
  const stored: StoredTrust[] = [];
  for (const row of rows) {
    const bytes = await storedBytes(db, row.path, row.digest);
    if (bytes !== null) {
      const files = await namedFiles(db, { path: row.path, bytes });
      stored.push({ ...row, bytes, files, bundles: await bundlesOf(db, row.path, 'counted') });
    }
  }
  const chain = trustChainOf(stored, pins, verifyBundle);
  if (chain.kind === 'trusted') memory.set(name, chain);
  const [oldest] = memory.keys();
  if (memory.size > REMEMBERED_MAX && oldest !== undefined) memory.delete(oldest);
  return chain;
}

/**
 * Keeps the trust in force still until the caller's transaction ends: whoever judges by it holds it
 * together with others, whoever changes it alone. Taken before any other lock.
 */
export async function lockTrust(tx: Db, mode: 'judge' | 'change'): Promise<void> {
  const lock = mode === 'change' ? 'pg_advisory_xact_lock' : 'pg_advisory_xact_lock_shared';
  await tx.query(`select ${lock}(hashtextextended('trust', 0))`);
}
