import { setImmediate } from 'node:timers/promises';
import type pg from 'pg';
import type { Digest } from '#src/digest.ts';
import { parseDocument } from '#src/domain/documents/parse.ts';
import { documentOfBundle, placeOf } from '#src/domain/documents/places.ts';
import { liftBar, type Reinstatement } from '#src/domain/judge-reinstatement.ts';
import { verifyRevocation } from '#src/domain/judge-revocation.ts';
import type { Release, Revocation } from '#src/domain/release.ts';
import type { Git, Snapshot } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { Fault } from '#src/errors.ts';
import type { Documents } from '#src/world.ts';
import { documentLoaders, rejudgeRelease, type Verifying } from '#state/document-loaders.ts';
import { acceptedDocument } from '#state/documents.ts';
import { trustInForce } from '#state/trust-chain.ts';

/** What Git approved, asked anew (`src/world.ts`). */
export function openDocuments(parts: Verifying & { readonly pool: pg.Pool; readonly git: Git }): Documents {
  const verified: Verified = new WeakMap();
  const { reinstatement } = documentLoaders(parts);
  return {
    signedStill: (release) => signedStill(parts, release),
    revocations: async () => inForce(parts.pool, await signedRevocations(parts, verified, await parts.git.tip()), reinstatement),
    isTakenIn: async (digest) => (await acceptedDocument(parts.pool, 'Revocation', digest)) !== null,
  };
}

/** A lifted revocation's file stays where it is. That it was lifted a row alone does not say: the reinstatement is verified again, and lifts what it names. */
async function inForce(pool: pg.Pool, revocations: readonly Revocation[], load: (digest: string) => Promise<Reinstatement>): Promise<readonly Revocation[]> {
  const { rows } = await pool.query<{ digest: string; lifted_by: string }>(
    `select digest, lifted_by from documents where kind = 'Revocation' and lifted_by is not null and digest = any($1)`,
    [revocations.map(({ digest }) => digest)],
  );
  const lifted = new Set<string>();
  for (const { digest, lifted_by: liftedBy } of rows) {
    const reinstatement = await load(liftedBy);
    const revocation = revocations.find((one) => one.digest === digest && one.id === reinstatement.revocation);
    if (revocation !== undefined && liftBar(reinstatement.path, revocation) === null) lifted.add(digest);
  }
  return revocations.filter(({ digest }) => !lifted.has(digest));
}

/** What a tip was found to hold, under a trust document. Every look asks, and somebody may have laid a thousand files there that no one signed. */
type Verified = WeakMap<Snapshot, { readonly trust: Digest; readonly revocations: readonly Revocation[] }>;

/** Files that are verified between two turns of everything else. */
const TURN_FILES = 20;

/** From the stored bytes, not from the release that is asked about: whoever made that one has verified it once. */
async function signedStill(parts: Verifying & { readonly pool: pg.Pool }, release: Release): ReturnType<Documents['signedStill']> {
  const row = await acceptedDocument(parts.pool, 'Release', release.digest);
  if (row === null) return { reason: 'Tampered', about: `${release.path}: the accepted ${release.digest} is not stored` };
  const judged = await rejudgeRelease(parts.pool, parts, row);
  return judged.kind === 'accepted' ? null : { reason: judged.reason, about: judged.about };
}

/** Those at the tip that verify, whether they were taken in or not. One that is not signed, or not well-formed, says nothing. */
async function signedRevocations(parts: Verifying & { readonly pool: pg.Pool }, verified: Verified, snapshot: Snapshot): Promise<readonly Revocation[]> {
  const judged = await trustInForce(parts.pool, parts);
  if (judged.kind === 'bad') throw new Fault(judged.reason, judged.about);
  const { trust } = judged;
  const before = verified.get(snapshot);
  if (before?.trust === trust.digest) return before.revocations;
  const bundles = Map.groupBy(snapshot.files, ({ path }) => documentOfBundle(path));
  const beside = (path: string): readonly RepositoryFile[] => bundles.get(path) ?? [];
  const signed = snapshot.files.filter(({ path }) => placeOf(path)?.kind === 'Revocation' && beside(path).length > 0);
  const revocations: Revocation[] = [];
  for (const [index, file] of signed.entries()) {
    if (index % TURN_FILES === TURN_FILES - 1) await setImmediate();
    if (parseDocument(file.path, file.bytes).kind === 'bad') continue;
    const one = verifyRevocation({ file, bundles: beside(file.path), trust, verifyBundle: parts.verifyBundle });
    if (one.kind === 'accepted') revocations.push(one.value);
  }
  verified.set(snapshot, { trust: trust.digest, revocations });
  return revocations;
}
