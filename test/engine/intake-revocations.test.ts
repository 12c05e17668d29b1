import { describe, expect, it } from 'vitest';
import { openGit } from '#src/adapters/git/index.ts';
import { digestOf } from '#src/digest.ts';
import { takeIn } from '#src/engine/intake.ts';
import { isFault } from '#src/errors.ts';
import { heldWorkloads } from '#state/document-holds.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { INIT_DATA, releaseText } from '../documents/people.ts';
import { ann, asOlderVersion, cid, digestAt, release, revocation, START, serials, verdicts, withBench } from './intake-parts.ts';

describe('revocations', () => {
  it('an unsigned one changes nothing and is told; signed, it outlives its file', () =>
    withBench(async ({ pool, push, documents }) => {
      await push({ ...START, ...(await release(1, null)), ...(await revocation('r', { kind: 'workload', workload: 'w' }, [])) });
      expect(await verdicts(pool)).toMatchObject({ 'revocations/r.yaml': 'waiting UnsignedRevocation' });
      const { rows: told } = await pool.query(`select body ->> 'reason' as reason from events where event = 'refused'`);
      expect(told).toEqual([{ reason: 'UnsignedRevocation' }]);
      expect(await documents.revocations()).toEqual([]);
      await push(await revocation('r', { kind: 'workload', workload: 'w' }));
      expect((await documents.revocations()).map(({ subject }) => subject)).toEqual([{ kind: 'workload', workload: 'w' }]);
      await push({ 'revocations/r.yaml': null, 'revocations/r.ann.sigstore.json': null });
      expect(await documents.revocations()).toEqual([]);
      expect(await verdicts(pool)).toMatchObject({ 'revocations/r.yaml': 'accepted' });
      const { rows } = await pool.query('select revoked_by is not null as revoked from revisions');
      expect(rows).toEqual([{ revoked: true }]);
    }));

  it('junk that was there first keeps no signed one out', () =>
    withBench(async ({ pool, push }) => {
      await push({ ...START, 'revocations/r.yaml': 'junk' });
      await push(await revocation('r', { kind: 'workload', workload: 'w' }));
      const { rows } = await pool.query(`select verdict from documents where path = 'revocations/r.yaml' order by seen`);
      expect(rows).toEqual([{ verdict: 'refused' }, { verdict: 'accepted' }]);
    }));

  it('one that an older version could not carry out holds what it could touch', () =>
    withBench(async ({ pool, push }) => {
      const target = (name: string): Record<string, unknown> => ({ cluster: 'lab', namespace: 'inference', name });
      const elsewhere = {
        targets: [{ ...target('other'), apiVersion: 'apps/v1', kind: 'Deployment', guest: 'cpu', kbs: 'main', store: 'models', minimumAttested: 1, set: {} }],
        guests: {
          cpu: {
            tee: 'sample',
            runtimeClass: 'k',
            devices: { gpu: 0, switch: 0 },
            initData: { file: 'guests/v.toml', digest: digestOf(INIT_DATA) },
            referenceValues: { svn: ['2'] },
            kbsResources: [],
          },
        },
      };
      await push({ ...START, ...(await release(1, null)), ...(await release(1, null, [ann, cid], 'v', elsewhere)) });
      const touched: readonly (readonly [Record<string, unknown>, readonly string[]])[] = [
        [{ kind: 'target', ...target('chat') }, ['w']],
        [{ kind: 'target', ...target('none') }, []],
        [{ kind: 'device', chipId: 'c' }, ['v', 'w']],
        [{ kind: 'signer', person: 'bob' }, ['w']],
        [{ kind: 'reference-value', name: 'svn', value: '1' }, ['w']],
        [{ kind: 'key', workload: 'w', epoch: 9 }, []],
      ];
      for (const [index, [subject, held]] of touched.entries()) {
        const before = `revocations/r${index - 1}`;
        const gone = index === 0 ? {} : { [`${before}.yaml`]: null, [`${before}.ann.sigstore.json`]: null };
        await push({ ...gone, ...(await revocation(`r${index}`, subject)) });
        if (subject.kind !== 'key') await asOlderVersion(pool);
        expect([subject, [...(await heldWorkloads(pool)).keys()].sort()]).toEqual([subject, held]);
        await pool.query(`delete from denials`);
        await pool.query(`delete from documents where kind = 'Revocation'`);
      }
    }));
});

describe('rows are not trusted', () => {
  it('bytes, bundles and verdicts that were tampered with do not verify', () =>
    withBench(async ({ pool, push, intake, documents }) => {
      const one = await release(1, null);
      await push({ ...START, ...one, ...(await release(1, null, [], 'v')) });
      const digest = digestAt(one, 'releases/w/1.yaml');
      const genuine = await documentLoaders(intake).release(digest);
      expect(await documents.signedStill(genuine)).toBeNull();
      const reasonOf = (work: Promise<unknown>): Promise<string> =>
        work.then(
          () => 'none',
          (thrown: unknown) => (isFault(thrown) ? thrown.reason : String(thrown)),
        );
      await pool.query(`update documents set verdict = 'accepted' where path = 'releases/v/1.yaml'`);
      expect(await reasonOf(documentLoaders(intake).release(digestOf(releaseText('v', 1, null))))).toBe('Tampered');
      await pool.query(`update bundles set bytes = '{}' where path = 'releases/w/1.bob.sigstore.json'`);
      expect((await documents.signedStill(genuine))?.reason).toBe('BundleUnsupported');
      expect(await reasonOf(documentLoaders(intake).release(digest))).toBe('Tampered');
      await pool.query(`update documents set bytes = 'x' where path = 'releases/w/1.yaml'`);
      expect(await reasonOf(documents.signedStill(genuine))).toBe('Tampered');
    }));

  it('two replicas that take in at once accept each document once', () =>
    withBench(async ({ pool, lab, intake }) => {
      await lab.commit({ ...START, ...(await release(1, null)) }, 'first');
      const other = openGit({ url: lab.url, branch: 'main' });
      await Promise.all([takeIn(intake), takeIn({ ...intake, git: other })]);
      await takeIn(intake);
      await other.close();
      expect(await serials(pool)).toEqual([1]);
      expect((await pool.query('select 1 from revisions')).rowCount).toBe(1);
      expect((await pool.query(`select 1 from events where event = 'release-accepted'`)).rowCount).toBe(1);
    }));
});
