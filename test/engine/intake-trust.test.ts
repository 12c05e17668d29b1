import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { type Intake, takeIn } from '#src/engine/intake.ts';
import { heldWorkloads } from '#state/document-holds.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { branchOf } from '#state/documents.ts';
import { trustInForce } from '#state/trust-chain.ts';
import { type Files, makePerson, type Person, signedBy, trustText } from '../documents/people.ts';
import { shownOf } from './attack-zoo-parts.ts';
import { ann, bob, cid, digestAt, release, revocation, START, serials, TRUST, verdicts, withBench } from './intake-parts.ts';

const [dot, eve, fay] = ['dot', 'eve', 'fay'].map((id) => makePerson(id)) as [Person, Person, Person];
const NEXT = [cid, dot, eve];

/** `trust/<version>.yaml`, signed by those of both. */
function trust(version: number, people: readonly Person[], signers: readonly Person[], change: Record<string, unknown> = {}): Promise<Files> {
  return signedBy(`trust/${version}.yaml`, trustText(people, { version, ...change }), signers);
}

async function versionInForce(pool: pg.Pool, intake: Intake): Promise<number | string> {
  const chain = await trustInForce(pool, intake);
  return chain.kind === 'trusted' ? chain.trust.version : chain.reason;
}

async function judgedUnder(pool: pg.Pool): Promise<Record<string, number>> {
  const { rows } = await pool.query<{ path: string; version: number }>(
    `select path, trust_version as version from documents where kind = 'Release' and verdict = 'accepted' order by path`,
  );
  return Object.fromEntries(rows.map(({ path, version }) => [path, version]));
}

describe('trust that changes', () => {
  it('a document is judged under the version in force, and verified again under that one', () =>
    withBench(async ({ pool, push, intake, documents }) => {
      const one = await release(1, null);
      await push({ ...START, ...one });
      const first = await documentLoaders(intake).release(digestAt(one, 'releases/w/1.yaml'));
      await push(await trust(2, NEXT, [ann, cid, dot]));
      expect(await versionInForce(pool, intake)).toBe(2);
      const two = await release(2, digestAt(one, 'releases/w/1.yaml'), [ann, bob]);
      const three = await release(3, digestAt(one, 'releases/w/1.yaml'), [dot, eve]);
      await push({ ...two, ...three });
      expect(await verdicts(pool)).toMatchObject({
        'trust/2.yaml': 'accepted',
        'releases/w/2.yaml': 'waiting SignerUnknown',
        'releases/w/3.yaml': 'accepted',
      });
      expect(await judgedUnder(pool)).toEqual({ 'releases/w/1.yaml': 1, 'releases/w/3.yaml': 2 });
      // Removal from trust revokes nothing: a process that starts now still verifies the first.
      expect(await documentLoaders(intake).release(first.digest)).toMatchObject({ approvedBy: ['ann', 'bob'], trustVersion: 1 });
      expect(await documents.signedStill(first)).toBeNull();
      expect(await documentLoaders(intake).release(digestAt(three, 'releases/w/3.yaml'))).toMatchObject({ approvedBy: ['dot', 'eve'], trustVersion: 2 });
      await pool.query(`update documents set trust_version = 2 where path = 'releases/w/1.yaml'`);
      expect(await documents.signedStill(first)).toMatchObject({ reason: 'SignerUnknown' });
      await pool.query(`update documents set trust_version = 7 where path = 'releases/w/1.yaml'`);
      await expect(documents.signedStill(first)).rejects.toMatchObject({ reason: 'Tampered' });
    }));

  it('in one commit: the next version, the one after it, and a release under that', () =>
    withBench(async ({ pool, push, intake }) => {
      await push({
        ...START,
        ...(await trust(3, [dot, eve, fay], [cid, dot, eve])),
        ...(await trust(2, NEXT, [ann, cid, dot])),
        ...(await release(1, null, [fay, eve])),
      });
      expect(await versionInForce(pool, intake)).toBe(3);
      expect(await judgedUnder(pool)).toEqual({ 'releases/w/1.yaml': 3 });
    }));

  it('waits for the thresholds of both, and for its turn', () =>
    withBench(async ({ pool, push, intake }) => {
      await push({ ...START, ...(await trust(2, NEXT, [dot, eve, cid])), ...(await trust(3, NEXT, [dot, eve, cid])) });
      expect(await verdicts(pool)).toMatchObject({ 'trust/2.yaml': 'waiting SignerUnknown', 'trust/3.yaml': 'waiting TrustOutOfTurn' });
      expect(await versionInForce(pool, intake)).toBe(1);
      const text = trustText(NEXT, { version: 2 });
      const { 'trust/2.ann.sigstore.json': bundle = '' } = await signedBy('trust/2.yaml', text, [ann]);
      await push({ 'trust/2.ann.sigstore.json': bundle });
      expect(await versionInForce(pool, intake)).toBe(3);
    }));

  it('whoever puts junk at its path first does not keep it out, and what comes there later holds everybody', () =>
    withBench(async ({ pool, push, intake }) => {
      await push({ ...START, ...(await release(1, null)), 'trust/2.yaml': 'junk', 'trust/2.ann.sigstore.json': 'junk' });
      await push(await trust(2, NEXT, [ann, cid, dot]));
      expect(await versionInForce(pool, intake)).toBe(2);
      expect(await heldWorkloads(pool)).toEqual(new Map());
      await push({ 'trust/2.yaml': trustText([dot, eve, fay], { version: 2 }) });
      expect(await versionInForce(pool, intake)).toBe(2);
      expect((await heldWorkloads(pool)).get('w')?.reason).toBe('DocumentChanged');
    }));

  it('an expired one holds releases, counts revocations, and may be succeeded', () =>
    withBench(async ({ pool, lab, intake: bench }) => {
      const old = trustText([ann, bob, cid], { expires: '2020-01-01T00:00:00Z' });
      const intake = { ...bench, initialDigest: digestOf(old) };
      const files = { ...START, 'trust/1.yaml': old, ...(await release(1, null)), ...(await revocation('r', { kind: 'workload', workload: 'v' })) };
      await lab.commit(files, 'the first');
      await takeIn(intake);
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'waiting TrustExpired', 'revocations/r.yaml': 'accepted' });
      const { json, text } = await shownOf(pool);
      expect(json.trust).toMatchObject({ version: 1, state: 'expired' });
      expect(text).toContain('trust version 1 EXPIRED at 2020-01-01');
      const soon = new Date(Date.now() + 7 * 24 * 3600 * 1000).toISOString().replace(/\.\d+Z$/, 'Z');
      const next = await trust(2, [ann, bob, cid], [ann, cid], { expires: soon });
      await lab.commit(next, 'the next version');
      await takeIn(intake);
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'accepted', 'trust/2.yaml': 'accepted' });
      expect((await shownOf(pool)).json.trust).toMatchObject({ version: 2, state: 'expires-soon', help: expect.stringContaining('trust/3.yaml') });
    }));
});

describe('another document is pinned after a lost quorum', () => {
  it('chains begin there, and what was accepted before stands', () =>
    withBench(async ({ pool, push, lab, intake: before, documents }) => {
      const one = await release(1, null);
      await push({ ...START, ...one });
      await push(await trust(2, NEXT, [ann, cid, dot]));
      const lost = trustText([dot, eve, fay], { version: 3, expires: '2098-01-01T00:00:00Z' });
      await push({ 'trust/3.yaml': lost });
      expect(await verdicts(pool)).toMatchObject({ 'trust/3.yaml': 'waiting SignaturesMissing' });
      const intake: Intake = { ...before, initialDigest: digestOf(lost), formerDigests: [digestOf(TRUST)] };
      await lab.commit(await release(2, digestAt(one, 'releases/w/1.yaml'), [eve, fay]), 'under the new people');
      await takeIn(intake);
      expect(await verdicts(pool)).toMatchObject({ 'trust/3.yaml': 'accepted', 'releases/w/2.yaml': 'accepted' });
      expect(await documentLoaders(intake).release(digestAt(one, 'releases/w/1.yaml'))).toMatchObject({ trustVersion: 1 });
      // Whoever still has the old pin, or does not name it any more, goes on with nothing.
      expect(await versionInForce(pool, before)).toBe('TrustDowngraded');
      await expect(documents.revocations()).rejects.toMatchObject({ reason: 'TrustDowngraded' });
      expect(await versionInForce(pool, { ...intake, formerDigests: [] })).toBe('TrustMissing');
    }));
});

describe('a trust document accepts a rewritten history', () => {
  const rest = { 'guests/w.toml': START['guests/w.toml'] ?? '' };

  it('from the commit that it names, once', () =>
    withBench(async ({ pool, lab, push, intake }) => {
      const base = await push({ ...START });
      await push(await release(1, null, [ann]));
      const from = await lab.rewrite(base.commit, { ...rest, 'README.md': 'a new start' }, 'forced');
      await takeIn(intake);
      expect((await branchOf(pool, 'main'))?.rewrittenTo).toBe(from);
      await lab.commit({ ...(await release(1, null)), ...(await trust(2, NEXT, [ann, cid, dot], { history: from })) }, 'the same people say so');
      const report = await takeIn(intake);
      expect(report).toMatchObject({ rewrittenTo: null, failures: [] });
      expect(await branchOf(pool, 'main')).toEqual({ commit: report.commit, rewrittenTo: null });
      // The release is judged under the new people, who have not signed it.
      expect(await verdicts(pool)).toMatchObject({ 'trust/2.yaml': 'accepted', 'releases/w/1.yaml': 'waiting SignerUnknown' });
      await push(await release(2, null, [dot, eve]));
      expect(await serials(pool)).toEqual([2]);
      // Rewritten again behind the same commit: that is another rewriting, and the document says nothing of it.
      await lab.rewrite(from, { ...(await release(3, null, [dot, eve])) }, 'forced again');
      expect((await takeIn(intake)).rewrittenTo).not.toBeNull();
      expect((await takeIn(intake)).rewrittenTo).not.toBeNull();
      expect(await serials(pool)).toEqual([2]);
    }));

  it('not another one, and not before enough have signed', () =>
    withBench(async ({ pool, lab, push, intake }) => {
      const base = await push({ ...START });
      const known = await push({ 'README.md': 'x' });
      const from = await lab.rewrite(base.commit, { 'README.md': 'y' }, 'forced');
      await lab.commit({ ...(await release(1, null)), ...(await trust(2, NEXT, [dot, eve, cid], { history: from })) }, 'not enough');
      expect((await takeIn(intake)).rewrittenTo).not.toBeNull();
      expect(await verdicts(pool)).toMatchObject({ 'trust/2.yaml': 'waiting SignerUnknown' });
      expect(await serials(pool)).toEqual([]);
      // Signed by enough, but for a line that this branch is not on.
      await lab.rewrite(
        base.commit,
        { 'README.md': 'z', ...(await trust(2, NEXT, [ann, cid, dot], { history: from })), ...(await release(1, null, [dot, eve])) },
        'other',
      );
      expect((await takeIn(intake)).rewrittenTo).not.toBeNull();
      expect(await verdicts(pool)).toMatchObject({ 'trust/2.yaml': 'accepted' });
      expect(await serials(pool)).toEqual([]);
      expect((await branchOf(pool, 'main'))?.commit).toBe(known.commit);
    }));

  it('said before the rewriting happens, of a commit that the branch does not have yet', () =>
    withBench(async ({ pool, lab, push, intake }) => {
      const base = await push({ ...START });
      const known = await push({ 'README.md': 'x' });
      const from = await lab.rewrite(base.commit, { 'README.md': 'y' }, 'made ready');
      await lab.git(['update-ref', 'refs/heads/main', known.commit]);
      await push(await trust(2, NEXT, [ann, cid, dot], { history: from }));
      expect((await branchOf(pool, 'main'))?.rewrittenTo).toBeNull();
      await lab.git(['update-ref', 'refs/heads/main', from]);
      await lab.commit(await release(1, null, [dot, eve]), 'on the new line');
      expect(await takeIn(intake)).toMatchObject({ rewrittenTo: null });
      expect(await serials(pool)).toEqual([1]);
    }));

  it('one that the branch has already accepts nothing later', () =>
    withBench(async ({ pool, lab, push, intake }) => {
      const base = await push({ ...START });
      await push(await trust(2, NEXT, [ann, cid, dot], { history: base.commit }));
      await push(await release(1, null, [dot, eve]));
      await lab.rewrite(base.commit, await release(2, null, [dot, eve]), 'forced');
      expect((await takeIn(intake)).rewrittenTo).not.toBeNull();
      expect(await serials(pool)).toEqual([1]);
    }));
});
