import type pg from 'pg';
import { parseDocument } from '#src/domain/documents/parse.ts';
import { documentOfBundle, placeOf } from '#src/domain/documents/places.ts';
import { verifyRevocation } from '#src/domain/judge-revocation.ts';
import type { Release, Revocation } from '#src/domain/release.ts';
import type { Git, Snapshot } from '#src/domain/repository.ts';
import { Fault } from '#src/errors.ts';
import type { Documents } from '#src/world.ts';
import { rejudgeRelease, trustInForce, type Verifying } from '#state/document-loaders.ts';
import { acceptedDocument } from '#state/documents.ts';

/** What Git approved, asked anew (`src/world.ts`). */
export function openDocuments(parts: Verifying & { readonly pool: pg.Pool; readonly git: Git }): Documents {
  return {
    signedStill: (release) => signedStill(parts, release),
    revocations: async () => signedRevocations(parts, await parts.git.tip()),
  };
}

/** From the stored bytes, not from the release that is asked about: whoever made that one has verified it once. */
async function signedStill(parts: Verifying & { readonly pool: pg.Pool }, release: Release): ReturnType<Documents['signedStill']> {
  const row = await acceptedDocument(parts.pool, 'Release', release.digest);
  if (row === null) return { reason: 'Tampered', about: `${release.path}: the accepted ${release.digest} is not stored` };
  const judged = await rejudgeRelease(parts.pool, parts, row);
  return judged.kind === 'accepted' ? null : { reason: judged.reason, about: judged.about };
}

/** Those at the tip that verify, whether they were taken in or not. One that is not signed, or not well-formed, says nothing. */
async function signedRevocations(parts: Verifying & { readonly pool: pg.Pool }, snapshot: Snapshot): Promise<readonly Revocation[]> {
  const trust = await trustInForce(parts.pool, parts.initialDigest);
  if (trust.kind === 'bad') throw new Fault(trust.reason, trust.about);
  const bundles = Map.groupBy(snapshot.files, ({ path }) => documentOfBundle(path));
  return snapshot.files.flatMap((file) => {
    if (placeOf(file.path)?.kind !== 'Revocation' || parseDocument(file.path, file.bytes).kind === 'bad') return [];
    const judged = verifyRevocation({ file, bundles: bundles.get(file.path) ?? [], trust: trust.trust, verifyBundle: parts.verifyBundle });
    return judged.kind === 'accepted' ? [judged.value] : [];
  });
}
