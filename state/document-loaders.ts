import type pg from 'pg';
import type { DocumentKind } from '#src/domain/documents/places.ts';
import type { BaselineDocument, PlatformDocument } from '#src/domain/documents/release.ts';
import { type Checked, type Evidence, type Judged, verifyBaseline, verifyPlatform, verifyRelease } from '#src/domain/judge.ts';
import { type Reinstatement, verifyReinstatement } from '#src/domain/judge-reinstatement.ts';
import { verifyRevocation } from '#src/domain/judge-revocation.ts';
import type { Release, Revocation } from '#src/domain/release.ts';
import { revokedSigners, signersSince } from '#src/domain/revoked.ts';
import { type RevokedSigner, type VerifyBundle, withoutSigners } from '#src/domain/signatures.ts';
import type { TrustPins } from '#src/domain/trust-chain.ts';
import { Fault } from '#src/errors.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { acceptedDocument, bundlesOf, namedFiles, type StoredDocument } from './documents.ts';
import { standingRevocations } from './revocations.ts';
import { trustInForce } from './trust-chain.ts';

/** What documents are verified with. */
export interface Verifying extends TrustPins {
  readonly verifyBundle: VerifyBundle;
  /** Whether TEE `sample` is good here: mode lab alone. */
  readonly sample: boolean;
}

/** Documents that were verified: two or three for each workload are in use at a time, and a large fleet has a thousand. Some 10 KiB each. */
const CACHE_MAX = 4096;

/** Loads accepted documents from their rows, which are not trusted: signatures are verified again, once for each digest and process. */
export interface DocumentLoaders {
  readonly release: (digest: string) => Promise<Release>;
  readonly revocation: (digest: string) => Promise<Revocation>;
  readonly reinstatement: (digest: string) => Promise<Reinstatement>;
  readonly baseline: (digest: string) => Promise<BaselineDocument>;
  /** Every accepted platform document, oldest first. */
  readonly platforms: () => Promise<readonly PlatformDocument[]>;
  /** Whether an accepted release has enough signatures without those of these: counted from its stored bundles. */
  readonly stands: (release: string, without: readonly RevokedSigner[]) => Promise<boolean>;
}

/** Opens the loaders. Each throws Fault('Tampered') where a row does not verify, Fault('NotFound') where there is none. */
export function documentLoaders(parts: Verifying & { readonly pool: pg.Pool }): DocumentLoaders {
  const { pool } = parts;
  const releases = remembering((digest) => rebuildRelease(pool, parts, digest));
  const baselines = remembering((digest) => rebuild(pool, parts, 'Baseline', digest, (evidence) => verifyBaseline(evidence, { kind: 'again' })));
  const platforms = remembering((digest) => rebuild(pool, parts, 'Platform', digest, (evidence) => verifyPlatform(evidence, { kind: 'again' })));
  return {
    release: releases,
    revocation: remembering((digest) => rebuildRevocation(pool, parts, digest)),
    reinstatement: remembering((digest) => rebuild(pool, parts, 'Reinstatement', digest, (evidence) => verifyReinstatement(evidence, null))),
    baseline: baselines,
    platforms: async () => Promise.all((await standingPlatforms(pool, parts)).map((digest) => platforms(digest))),
    stands: async (digest, without) => {
      const judged = await rejudgeRelease(
        pool,
        without.length === 0 ? parts : { ...parts, verifyBundle: withoutSigners(parts.verifyBundle, without) },
        await found(pool, 'Release', digest),
      );
      return judged.kind === 'accepted';
    },
  };
}

/** The accepted platforms, oldest first, without those that have too few signatures left once revoked signers do not count: nobody has approved their values. */
async function standingPlatforms(pool: pg.Pool, parts: Verifying): Promise<readonly string[]> {
  const signers = revokedSigners(await standingRevocations(pool));
  const { rows } = await pool.query<{ digest: string; at: Instant; approvedBy: string[] }>(
    `select digest, judged_at as at, approved_by as "approvedBy" from documents where kind = 'Platform' and verdict = 'accepted' order by seen`,
  );
  const standing: string[] = [];
  for (const { digest, at, approvedBy } of rows) {
    const counting = signersSince(signers, at).filter(({ person }) => approvedBy.includes(person));
    if (counting.length > 0) {
      const evidence = await evidenceOf(pool, parts, await found(pool, 'Platform', digest));
      const judged = verifyPlatform({ ...evidence, verifyBundle: withoutSigners(parts.verifyBundle, counting) }, { kind: 'again' });
      if (judged.kind !== 'accepted') continue;
    }
    standing.push(digest);
  }
  return standing;
}

/** Makes the Release of an accepted document from its stored bytes, files and bundles, all verified again under the trust of its acceptance. */
async function rebuildRelease(db: Db, parts: Verifying, digest: string): Promise<Release> {
  const row = await found(db, 'Release', digest);
  const judged = await rejudgeRelease(db, parts, row);
  if (judged.kind !== 'accepted')
    throw new Fault('Tampered', `documents: the accepted ${row.path} (${digest}) does not verify: ${judged.reason}, ${judged.about}`);
  return judged.value;
}

/** Verifies a stored release's signatures again: its serial and expiry bounded its acceptance, and are not asked. */
export async function rejudgeRelease(db: Db, parts: Verifying, row: StoredDocument): Promise<Judged<Release>> {
  const evidence = await evidenceOf(db, parts, row);
  return verifyRelease(evidence, { kind: 'again' }, { files: await namedFiles(db, row), sample: parts.sample });
}

/** As it was accepted: of the signers whom others had revoked before it, none counts for more than refusing. */
async function rebuildRevocation(db: Db, parts: Verifying, digest: string): Promise<Revocation> {
  const standing = await standingRevocations(db);
  const own = standing.findIndex((one) => one.digest === digest);
  const beyond = withoutSigners(parts.verifyBundle, revokedSigners(own < 0 ? standing : standing.slice(0, own)));
  return rebuild(db, parts, 'Revocation', digest, (evidence) => verifyRevocation(evidence, beyond));
}

async function rebuild<T>(
  db: Db,
  parts: Verifying,
  kind: DocumentKind,
  digest: string,
  judge: (evidence: Evidence) => Judged<Checked<T>>,
): Promise<Checked<T>> {
  const row = await found(db, kind, digest);
  const judged = judge(await evidenceOf(db, parts, row));
  if (judged.kind !== 'accepted')
    throw new Fault('Tampered', `documents: the accepted ${row.path} (${digest}) does not verify: ${judged.reason}, ${judged.about}`);
  return judged.value;
}

async function found(db: Db, kind: DocumentKind, digest: string): Promise<StoredDocument> {
  const row = await acceptedDocument(db, kind, digest);
  if (row === null) throw new Fault('NotFound', `documents: no accepted ${kind} ${digest}`);
  return row;
}

/** An accepted document with the bundles that carried it, and the trust that it was accepted under. Throws Fault where there is no such trust. */
async function evidenceOf(db: Db, parts: Verifying, row: StoredDocument): Promise<Evidence> {
  const chain = await trustInForce(db, parts);
  if (chain.kind === 'bad') throw new Fault(chain.reason, chain.about);
  const trust = chain.versions.get(row.trustVersion ?? 0);
  if (trust === undefined)
    throw new Fault(
      'Tampered',
      `documents: the accepted ${row.path} (${row.digest}) was judged under trust version ${row.trustVersion}, which nobody approved`,
    );
  return { file: row, bundles: await bundlesOf(db, row.path, 'counted'), trust, verifyBundle: parts.verifyBundle };
}

/** Reads through a memory of promises; what failed is forgotten, and the oldest goes first. */
function remembering<T>(load: (digest: string) => Promise<T>): (digest: string) => Promise<T> {
  const known = new Map<string, Promise<T>>();
  return (digest) => {
    const before = known.get(digest);
    if (before !== undefined) return before;
    const loading = load(digest);
    known.set(digest, loading);
    loading.catch(() => known.delete(digest));
    const [oldest] = known.keys();
    if (known.size > CACHE_MAX && oldest !== undefined) known.delete(oldest);
    return loading;
  };
}
