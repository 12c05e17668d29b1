import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signBundleKeyless } from '#src/adapters/sigstore/index.ts';
import { digestOf } from '#src/digest.ts';
import { bundlePath } from '#src/domain/documents/places.ts';
import { type Intake, takeIn } from '#src/engine/intake.ts';
import { type LabSigstore, openLabSigstore } from '#src/lab/sigstore.ts';
import { Secret } from '#src/secret.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { trustInForce } from '#state/trust-chain.ts';
import { type Files, type Person, releaseText, signedBy, trustText } from '../documents/people.ts';
import { shownOf } from './attack-zoo-parts.ts';
import { ann, bob, cid, digestAt, release, revocation, START, verdicts, withBench } from './intake-parts.ts';

let sigstore: LabSigstore;
beforeAll(async () => {
  sigstore = await openLabSigstore();
});
afterAll(() => sigstore.close());

const ROOT = 'trust/sigstore.json';
const subjectOf = (id: string): string => `${id}@provider.example`;

/** A version in which ann has a key and an identity, bob and cid identities alone. */
function trust(version: number, signers: readonly Person[], change: Record<string, unknown> = {}): Promise<Files> {
  return signedBy(`trust/${version}.yaml`, textOf(version, change), signers);
}

function textOf(version: number, change: Record<string, unknown> = {}): string {
  const people = [ann, bob, cid].map(({ id, publicPem }) => ({
    id,
    keys: id === 'ann' ? [publicPem] : [],
    identities: [{ issuer: sigstore.issuerUrl, subject: subjectOf(id) }],
  }));
  return trustText([ann, bob, cid], { version, people, trustedRoot: { file: ROOT, digest: digestOf(sigstore.trustedRoot) }, ...change });
}

/** A document's bundle by an identity of this person, under a name of its own. */
async function keyless(files: Files, path: string, id: string): Promise<Files> {
  using token = new Secret(Buffer.from(await sigstore.identityToken(subjectOf(id))));
  return { [bundlePath(path, `${id}-keyless`)]: await signBundleKeyless(Buffer.from(files[path] ?? ''), token, sigstore) };
}

/** Version 2, by two keys of the version before, and by one key and one identity of its own. */
async function rooted(change: Record<string, unknown> = {}): Promise<Files> {
  const files = await trust(2, [ann, bob], change);
  return { ...files, ...(await keyless(files, 'trust/2.yaml', 'bob')) };
}

const FIRST = 'releases/w/1.yaml';
const SECOND = 'releases/w/2.yaml';

/** A release by these keys and these identities. */
async function releaseBy(serial: number, previous: Parameters<typeof release>[1], keys: readonly Person[], ids: readonly string[]): Promise<Files> {
  const path = `releases/w/${serial}.yaml`;
  const files = await signedBy(path, releaseText('w', serial, previous), keys);
  const bundles = await Promise.all(ids.map((id) => keyless(files, path, id)));
  return Object.assign({ ...files }, ...bundles) as Files;
}

async function versionInForce(pool: pg.Pool, intake: Intake): Promise<number | string> {
  const chain = await trustInForce(pool, intake);
  return chain.kind === 'trusted' ? chain.trust.version : chain.reason;
}

describe('identities', () => {
  it('count beside keys, a person once; who signed and how is in the record', () =>
    withBench(async ({ pool, push, intake, documents }) => {
      await push({ ...START, [ROOT]: sigstore.trustedRoot, ...(await rooted()) });
      expect(await versionInForce(pool, intake)).toBe(2);
      const twice = await releaseBy(1, null, [ann], ['ann']);
      await push(twice);
      expect(await verdicts(pool)).toMatchObject({ [FIRST]: 'waiting SignedTwiceByOne' });
      await push(await keyless(twice, FIRST, 'bob'));
      expect(await verdicts(pool)).toMatchObject({ [FIRST]: 'accepted' });
      const identity = (id: string): object => ({ person: id, by: { kind: 'identity', issuer: sigstore.issuerUrl, subject: subjectOf(id) } });
      const signatures = [{ person: 'ann', by: { kind: 'key' } }, identity('ann'), identity('bob')];
      const { rows } = await pool.query<{ body: object }>(`select body from events where event = 'release-accepted'`);
      expect(rows).toMatchObject([{ body: { approvedBy: ['ann', 'bob'], signatures } }]);
      const shown = await shownOf(pool);
      expect(shown.json.documents.find(({ path }) => path === FIRST)?.signatures).toHaveLength(3);
      expect(shown.text).toContain(`bob (${subjectOf('bob')} of ${sigstore.issuerUrl})`);
      // A process that starts now verifies it again, from the rows alone.
      const again = await documentLoaders({ ...intake, verifyBundle: (...parts) => intake.verifyBundle(...parts) }).release(digestAt(twice, FIRST));
      expect(again).toMatchObject({ approvedBy: ['ann', 'bob'], trustVersion: 2 });
      expect(await documents.signedStill(again)).toBeNull();
    }));

  it('alone fill a threshold, and approve the next version of the trust document', () =>
    withBench(async ({ pool, push, intake }) => {
      await push({ ...START, [ROOT]: sigstore.trustedRoot, ...(await rooted()), ...(await releaseBy(1, null, [], ['bob', 'cid'])) });
      expect(await verdicts(pool)).toMatchObject({ [FIRST]: 'accepted' });
      const next = await trust(3, []);
      await push({ ...next, ...(await keyless(next, 'trust/3.yaml', 'bob')) });
      expect(await versionInForce(pool, intake)).toBe(2);
      await push(await keyless(next, 'trust/3.yaml', 'cid'));
      expect(await versionInForce(pool, intake)).toBe(3);
      const { rows } = await pool.query<{ body: object }>(`select body from events where event = 'trust-accepted' order by id desc limit 1`);
      expect(rows).toMatchObject([
        { body: { version: 3, approvedBy: ['bob', 'cid'], signatures: [{ by: { kind: 'identity' } }, { by: { kind: 'identity' } }] } },
      ]);
    }));

  it('do not count without a root: not before there is one, nor after one is left out again', () =>
    withBench(async ({ pool, push }) => {
      const keyed = [ann, bob, cid].map(({ id, publicPem }) => ({
        id,
        keys: [publicPem],
        identities: [{ issuer: sigstore.issuerUrl, subject: subjectOf(id) }],
      }));
      const files = await releaseBy(1, null, [ann], ['bob']);
      await push({ ...START, ...(await trust(2, [ann, bob], { people: keyed, trustedRoot: null })), ...files });
      expect(await verdicts(pool)).toMatchObject({ 'trust/2.yaml': 'accepted', [FIRST]: 'waiting TrustedRootMissing' });
      await push({ [ROOT]: sigstore.trustedRoot, ...(await trust(3, [ann, bob], { people: keyed })) });
      expect(await verdicts(pool)).toMatchObject({ 'trust/3.yaml': 'accepted', [FIRST]: 'accepted' });
      await push({ ...(await trust(4, [ann, bob], { people: keyed, trustedRoot: null })), ...(await releaseBy(2, digestAt(files, FIRST), [ann], ['bob'])) });
      expect(await verdicts(pool)).toMatchObject({ 'trust/4.yaml': 'accepted', [FIRST]: 'accepted', [SECOND]: 'waiting TrustedRootMissing' });
    }));

  it('a signer’s revocation takes a person’s identities with the keys, and one of a key leaves them', () =>
    withBench(async ({ pool, push }) => {
      await push({ ...START, [ROOT]: sigstore.trustedRoot, ...(await rooted()) });
      const one = await releaseBy(1, null, [], ['ann', 'bob']);
      await push({ ...(await revocation('key', { kind: 'signer', person: 'ann', key: digestOf('another key'), since: '2099-01-01T00:00:00Z' })), ...one });
      expect(await verdicts(pool)).toMatchObject({ 'revocations/key.yaml': 'accepted', [FIRST]: 'accepted' });
      await push(await revocation('person', { kind: 'signer', person: 'bob', since: '2099-01-01T00:00:00Z' }));
      const two = await releaseBy(2, digestAt(one, FIRST), [], ['ann', 'bob']);
      await push(two);
      expect(await verdicts(pool)).toMatchObject({ [FIRST]: 'accepted', [SECOND]: 'waiting Revoked' });
      await push(await keyless(two, SECOND, 'cid'));
      expect(await verdicts(pool)).toMatchObject({ [SECOND]: 'accepted' });
    }));
});

describe('the trusted root', () => {
  it('is waited for, with exactly the bytes that the trust document names', () =>
    withBench(async ({ pool, push, intake }) => {
      await push({ ...START, ...(await rooted()) });
      expect(await verdicts(pool)).toMatchObject({ 'trust/2.yaml': 'waiting FileMissing' });
      await push({ [ROOT]: `${sigstore.trustedRoot}\n` });
      expect(await verdicts(pool)).toMatchObject({ 'trust/2.yaml': 'waiting FileMissing' });
      expect(await versionInForce(pool, intake)).toBe(1);
      await push({ [ROOT]: sigstore.trustedRoot });
      expect(await versionInForce(pool, intake)).toBe(2);
    }));

  it('that is none is refused, by its field', () =>
    withBench(async ({ pool, push }) => {
      const root = JSON.stringify({ ...JSON.parse(sigstore.trustedRoot), certificateAuthorities: [] });
      await push({ ...START, [ROOT]: root, ...(await trust(2, [ann, bob], { trustedRoot: { file: ROOT, digest: digestOf(root) } })) });
      const { json } = await shownOf(pool);
      expect(json.documents.find(({ path }) => path === 'trust/2.yaml')).toMatchObject({
        verdict: 'refused',
        reason: 'Malformed',
        about: expect.stringContaining('certificateAuthorities'),
      });
    }));

  it('that somebody wrote over in its row stops everything', () =>
    withBench(async ({ pool, push, intake }) => {
      await push({ ...START, [ROOT]: sigstore.trustedRoot, ...(await rooted()) });
      const fresh = { ...intake, verifyBundle: (...parts: Parameters<Intake['verifyBundle']>) => intake.verifyBundle(...parts) };
      await pool.query(`update documents set bytes = bytes || '\\x20' where path = $1`, [ROOT]);
      await expect(versionInForce(pool, fresh)).rejects.toMatchObject({ reason: 'Tampered' });
      await pool.query('delete from documents where path = $1', [ROOT]);
      expect(await versionInForce(pool, { ...fresh, verifyBundle: (...parts) => intake.verifyBundle(...parts) })).toBe('TrustDowngraded');
    }));

  it('of the pinned document counts as well, once it is there', () =>
    withBench(async ({ pool, lab, intake: bench }) => {
      const text = textOf(1);
      const intake = { ...bench, initialDigest: digestOf(text) };
      const commit = async (files: Files): Promise<void> => {
        await lab.commit(files, 'a commit');
        await takeIn(intake);
      };
      await commit({ ...START, 'trust/1.yaml': text, ...(await releaseBy(1, null, [], ['bob', 'cid'])) });
      expect(await verdicts(pool)).toMatchObject({ 'trust/1.yaml': 'waiting FileMissing', [FIRST]: 'waiting FileMissing' });
      await commit({ [ROOT]: sigstore.trustedRoot });
      expect(await verdicts(pool)).toMatchObject({ 'trust/1.yaml': 'accepted', [FIRST]: 'accepted' });
    }));

  it('comes in from a rewritten branch, with the version that accepts it', () =>
    withBench(async ({ pool, lab, push, intake }) => {
      const base = await push({ ...START });
      await push(await release(1, null));
      await lab.git(['update-ref', 'refs/heads/main', base.commit]);
      await push({ ...(await release(2, null)) });
      expect(await verdicts(pool)).not.toHaveProperty(SECOND);
      await push({ [ROOT]: sigstore.trustedRoot, ...(await rooted({ history: base.commit })) });
      expect(await versionInForce(pool, intake)).toBe(2);
    }));
});
