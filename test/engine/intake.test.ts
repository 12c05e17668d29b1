import { describe, expect, it } from 'vitest';
import { takeIn } from '#src/engine/intake.ts';
import { heldWorkloads } from '#state/document-holds.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { branchOf, documentBytes } from '#state/documents.ts';
import { INIT_DATA, makePerson, signedBy, trustText, yaml } from '../documents/people.ts';
import { ann, bob, cid, digestAt, release, revocation, START, serials, TRUST, verdicts, withBench } from './intake-parts.ts';

describe('what Git approves is accepted', () => {
  it('a signed release, with its files, and a run to adopt it', () =>
    withBench(async ({ pool, push, intake }) => {
      const one = await release(1, null);
      const report = await push({ ...START, ...one });
      expect(report).toMatchObject({ changed: true, rewrittenTo: null, failures: [] });
      expect(await verdicts(pool)).toEqual({ 'trust/1.yaml': 'accepted', 'releases/w/1.yaml': 'accepted' });
      const { rows } = await pool.query(`select workflow, workload from runs`);
      expect(rows).toEqual([{ workflow: 'adopt-revision', workload: 'w' }]);
      const digest = digestAt(one, 'releases/w/1.yaml');
      expect(await documentLoaders(intake).release(digest)).toMatchObject({ digest, serial: 1, approvedBy: ['ann', 'bob'], initData: { cpu: INIT_DATA } });
      expect(Buffer.from((await documentBytes(pool, digest)) ?? []).toString()).toBe(one['releases/w/1.yaml']);
    }));

  it('in one pass, whatever the order of commits: trust, revocations, platforms, baselines, releases by serial', () =>
    withBench(async ({ pool, lab, intake, push }) => {
      const one = await release(1, null);
      const two = await release(2, digestAt(one, 'releases/w/1.yaml'));
      const ten = await release(10, digestAt(two, 'releases/w/2.yaml'));
      const platform = await signedBy(
        'platforms/p/1.yaml',
        yaml({ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Platform', id: 'p', serial: 1, previous: null, tee: 'snp', referenceValues: {} }),
        [ann, bob],
      );
      await pool.query(`insert into brokers (name, repository) values ('main', 'keyturn')`);
      const baseline = await signedBy(
        'baseline/main/1.yaml',
        yaml({ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Baseline', kbs: 'main', version: 1, takeover: true, referenceValues: {}, grants: [] }),
        [bob, cid],
      );
      await lab.commit({ ...ten, ...baseline }, 'last first');
      await lab.commit({ ...two, ...platform }, 'then');
      const report = await push({ ...one, ...(await revocation('r', { kind: 'release', workload: 'w', serial: 1 })), ...START });
      expect(report.outcomes.map(({ path, verdict }) => [path, verdict])).toEqual(
        [
          'trust/1.yaml',
          'revocations/r.yaml',
          'platforms/p/1.yaml',
          'baseline/main/1.yaml',
          'releases/w/1.yaml',
          'releases/w/2.yaml',
          'releases/w/10.yaml',
        ].map((path) => [path, 'accepted']),
      );
      expect(await serials(pool)).toEqual([10, 2, 1]);
      const { rows } = await pool.query<{ serial: number; revoked: boolean }>(
        'select serial, revoked_by is not null as revoked from revisions order by serial',
      );
      expect(rows[0]).toEqual({ serial: 1, revoked: true });
      const loaders = documentLoaders(intake);
      expect(await loaders.platforms()).toMatchObject([{ id: 'p', serial: 1 }]);
      expect(await loaders.baseline(digestAt(baseline, 'baseline/main/1.yaml'))).toMatchObject({ kbs: 'main', takeover: true });
    }));

  it('signatures may come in a later commit, and nothing is judged twice', () =>
    withBench(async ({ pool, push, intake }) => {
      const one = await release(1, null);
      const { 'releases/w/1.bob.sigstore.json': late, ...first } = one;
      await push({ ...START, ...first });
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'waiting SignaturesMissing' });
      expect((await takeIn(intake)).outcomes).toEqual([]);
      await push({ 'releases/w/1.bob.sigstore.json': late ?? '' });
      expect(await serials(pool)).toEqual([1]);
      const { rows: before } = await pool.query('select judged_at from documents order by path');
      await push({ 'README.md': 'x' });
      const { rows: after } = await pool.query('select judged_at from documents order by path');
      expect(after).toEqual(before);
    }));

  it('a file that a release names may come later, and only with its own bytes', () =>
    withBench(async ({ pool, push }) => {
      await push({ ...START, 'guests/w.toml': 'other', ...(await release(1, null)) });
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'waiting FileMissing' });
      await push({ 'guests/w.toml': INIT_DATA });
      expect(await serials(pool)).toEqual([1]);
    }));

  it('nothing without the pinned trust document, and everything once it is there', () =>
    withBench(async ({ pool, push }) => {
      const rest = {
        ...START,
        'trust/1.yaml': trustText([ann, bob, makePerson('cid')]),
        ...(await release(1, null)),
        ...(await revocation('r', { kind: 'workload', workload: 'v' })),
      };
      await push(rest);
      expect(await verdicts(pool)).toEqual({
        'releases/w/1.yaml': 'waiting TrustMissing',
        'revocations/r.yaml': 'waiting TrustMissing',
        'trust/1.yaml': 'waiting TrustMissing',
      });
      await push({ 'trust/1.yaml': TRUST });
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'accepted', 'revocations/r.yaml': 'accepted', 'trust/1.yaml': 'accepted' });
      expect(await heldWorkloads(pool)).toEqual(new Map());
    }));
});

describe('what is replayed or changed is not', () => {
  it('a serial at or below the last accepted one is closed for good', () =>
    withBench(async ({ pool, push }) => {
      const one = await release(1, null);
      const five = await release(5, digestAt(one, 'releases/w/1.yaml'));
      await push({ ...START, ...one, ...five });
      await push(await release(3, digestAt(one, 'releases/w/1.yaml')));
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/3.yaml': 'refused SerialReplayed' });
      expect(await serials(pool)).toEqual([5, 1]);
    }));

  it('a release that waited is closed by a later one, which may name it as its predecessor', () =>
    withBench(async ({ pool, push, intake }) => {
      const one = await release(1, null);
      const two = await release(2, digestAt(one, 'releases/w/1.yaml'), []);
      await push({ ...START, ...one, ...two, ...(await release(3, digestAt(two, 'releases/w/2.yaml'))) });
      expect(await serials(pool)).toEqual([3, 1]);
      await takeIn(intake);
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/2.yaml': 'refused SerialReplayed' });
    }));

  it('other bytes under a known name are refused, and hold their workload until the file is put back', () =>
    withBench(async ({ pool, push, documents, intake }) => {
      const one = await release(1, null);
      await push({ ...START, ...one, ...(await release(1, null, [ann, bob], 'v')) });
      const evil = await release(1, null, [ann, bob], 'w', { expires: '2091-01-01T00:00:00Z' });
      await push(evil);
      const { rows } = await pool.query(`select verdict, reason from documents where path = 'releases/w/1.yaml' order by seen`);
      expect(rows).toEqual([
        { verdict: 'accepted', reason: null },
        { verdict: 'refused', reason: 'DocumentChanged' },
      ]);
      expect([...(await heldWorkloads(pool)).entries()].map(([workload, { reason }]) => [workload, reason])).toEqual([['w', 'DocumentChanged']]);
      await push({ 'releases/w/1.yaml': one['releases/w/1.yaml'] ?? '' });
      expect(await heldWorkloads(pool)).toEqual(new Map());
      // Its bundles were overwritten; those that it was accepted with were kept.
      const accepted = await documentLoaders(intake).release(digestAt(one, 'releases/w/1.yaml'));
      expect(await documents.signedStill(accepted)).toBeNull();
    }));

  it('the same bytes at another path are nobody’s release', () =>
    withBench(async ({ pool, push }) => {
      const one = await release(1, null);
      const text = one['releases/w/1.yaml'] ?? '';
      await push({ ...START, ...one, 'releases/w/9.yaml': text, 'releases/a/1.yaml': text, 'platforms/w/1.yaml': text });
      expect(await verdicts(pool)).toEqual({
        'platforms/w/1.yaml': 'refused WrongPlace',
        'releases/a/1.yaml': 'refused WrongPlace',
        'releases/w/1.yaml': 'accepted',
        'releases/w/9.yaml': 'refused WrongPlace',
        'trust/1.yaml': 'accepted',
      });
    }));

  it('a broken document stops no other', () =>
    withBench(async ({ pool, push }) => {
      const broken = { 'releases/a/1.yaml': 'a: &x 1', 'releases/b/1.yaml': '', 'revocations/a.yaml': 'x', 'withdrawals/a.yaml': 'x', 'trust/2.yaml': 'x' };
      await push({ ...START, ...broken, ...(await release(1, null)), ...(await revocation('z', { kind: 'workload', workload: 'v' })) });
      expect(await verdicts(pool)).toMatchObject({
        'releases/w/1.yaml': 'accepted',
        'revocations/z.yaml': 'accepted',
        'releases/a/1.yaml': 'refused Malformed',
      });
    }));
});

describe('a rewritten history', () => {
  it('holds releases, takes in revocations, and lets go when the branch is restored', () =>
    withBench(async ({ pool, lab, push, intake, documents }) => {
      const base = await push({ ...START });
      const known = await push({ 'README.md': 'x' });
      const rewritten = await lab.rewrite(
        base.commit,
        { ...(await release(1, null)), ...(await revocation('r', { kind: 'workload', workload: 'v' })) },
        'forced',
      );
      const report = await takeIn(intake);
      expect(report.rewrittenTo).toBe(rewritten);
      // What it shows beside revocations is not even seen: it would be the first bytes at their paths.
      expect(await verdicts(pool)).toEqual({ 'trust/1.yaml': 'accepted', 'revocations/r.yaml': 'accepted' });
      expect((await documents.revocations()).map(({ id }) => id)).toEqual(['r']);
      expect(await branchOf(pool, 'main')).toEqual({ commit: known.commit, rewrittenTo: rewritten });
      await lab.git(['update-ref', 'refs/heads/main', known.commit]);
      await push(await release(1, null));
      expect(await branchOf(pool, 'main')).toMatchObject({ rewrittenTo: null });
      expect(await serials(pool)).toEqual([1]);
    }));

  it('holds a release that waited for a signature', () =>
    withBench(async ({ pool, lab, push, intake }) => {
      const base = await push({ ...START });
      const one = await release(1, null, []);
      const known = await push(one);
      await lab.rewrite(base.commit, { 'README.md': 'y' }, 'forced');
      await takeIn(intake);
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'waiting HistoryRewritten' });
      await lab.git(['update-ref', 'refs/heads/main', known.commit]);
      await takeIn(intake);
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'waiting SignaturesMissing' });
    }));
});
