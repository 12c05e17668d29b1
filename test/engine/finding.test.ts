/** A judgement's races: what is committed between its count and its lock. */
import { expect, it } from 'vitest';
import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import { digestOf } from '#src/digest.ts';
import { documentOfBundle } from '#src/domain/documents/places.ts';
import { verifyTrust } from '#src/domain/trust.ts';
import { findingOf, type Shelf, type Standing } from '#src/engine/finding.ts';
import { instantOf } from '#src/instant.ts';
import { PLAINTEXT } from '#state/basis.ts';
import { INIT_DATA } from '../documents/people.ts';
import { ann, bob, cid, release, TRUST } from './intake-parts.ts';

const BOB: Standing = { path: 'revocations/bob.yaml', subject: { kind: 'signer', person: 'bob' }, at: null };

/** Judges a release that these signed, while `hold` waits for a lock that a revocation has. */
async function judged(people: Parameters<typeof release>[2], before: readonly Standing[], meanwhile: readonly Standing[]): Promise<string> {
  const files = Object.entries(await release(1, null, people)).map(([path, text]) => ({ path, bytes: Buffer.from(text) }));
  const revocations = [...before];
  const shelf: Shelf = {
    now: async () => instantOf(0),
    isChanged: async () => false,
    bundles: async (path) => files.filter((file) => documentOfBundle(file.path) === path),
    series: async () => [],
    files: async () => () => Buffer.from(INIT_DATA),
    hold: async () => void revocations.push(...meanwhile),
    revocations: async () => [...revocations],
    misfit: async () => null,
    basis: async () => PLAINTEXT,
    withdrawalBar: async () => null,
    lifting: async () => ({ kind: 'waiting', reason: 'NotFound', about: 'none' }),
  };
  const initialDigest = digestOf(TRUST);
  const trust = verifyTrust({ path: 'trust/1.yaml', bytes: Buffer.from(TRUST) }, initialDigest);
  const [file] = files;
  if (file === undefined) throw new Error('no release');
  const judging = { verifyBundle, initialDigest, sample: true, trust, branch: 'main', rewrittenTo: null };
  const finding = await findingOf(shelf, judging, { ...file, digest: digestOf(file.bytes), kind: 'Release' });
  return finding.judged.kind === 'accepted'
    ? `accepted by ${finding.judged.value.approvedBy.join(' and ')}`
    : `${finding.judged.kind} ${finding.judged.reason}`;
}

it('a signer who is revoked after the count and before the lock is counted again, and never accepted on', async () => {
  expect(await judged([ann, bob], [], [])).toBe('accepted by ann and bob');
  expect(await judged([ann, bob], [], [BOB])).toBe('waiting Revoked');
  expect(await judged([ann, bob], [BOB], [])).toBe('waiting Revoked');
  expect(await judged([ann, bob, cid], [BOB], [])).toBe('accepted by ann and cid');
});
