/** What a revocation of each subject takes, judged from real documents and their stored bundles. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { initDataClaim } from '#src/domain/init-data.ts';
import { keyDigestOf, readPublicKey } from '#src/domain/trust.ts';
import { ensureBrokers } from '#state/brokers.ts';
import { wantsWith } from '#state/want.ts';
import { INIT_DATA, type Person, signedBy, yaml } from '../documents/people.ts';
import { ann, asOlderVersion, type Bench, bob, cid, digestAt, release, revocation, START, verdicts, withBench } from './intake-parts.ts';

const DATA = `${INIT_DATA}[data]\n`;
const OTHER_DATA = `${DATA}# another\n`;
const CLAIM = initDataClaim(DATA, 'sample');
/** What every repository begins with, and init-data that can be read. */
const FIRST = { ...START, 'guests/a.toml': DATA, 'guests/b.toml': OTHER_DATA };
const SINCE_EVER = '2000-01-01T00:00:00Z';
const SINCE_LATER = '2090-01-01T00:00:00Z';

/** Bench and what every document is for. */
function withBroker(fn: (bench: Bench) => Promise<void>): Promise<void> {
  return withBench(async (bench) => {
    await ensureBrokers(bench.pool, [{ name: 'main', repository: 'eu' }]);
    await fn(bench);
  });
}

async function revoked(pool: pg.Pool): Promise<readonly string[]> {
  const { rows } = await pool.query<{ name: string }>(
    `select workload || '/' || serial as name from revisions where revoked_by is not null order by name desc`,
  );
  return rows.map(({ name }) => name);
}

async function denied(pool: pg.Pool): Promise<unknown> {
  return (await pool.query(`select kbs, path, init_data, device from deny_list where because <> 'retired' order by id`)).rows;
}

async function wanted({ pool, intake }: Bench): ReturnType<typeof wantsWith> {
  await pool.query(`update revisions set state = 'live', went_live = true where state = 'accepted'`);
  return wantsWith({ installation: 'test', loaders: intake.loaders }, pool, []);
}

function guests(change: Record<string, unknown> = {}, file = 'guests/a.toml', text = DATA): Record<string, unknown> {
  const cpu = { tee: 'sample', runtimeClass: 'k', devices: { gpu: 0, switch: 0 }, initData: { file, digest: digestOf(text) }, kbsResources: [] };
  return { cpu: { ...cpu, referenceValues: { svn: ['1'] }, ...change } };
}

function target(name: string, guest = 'cpu'): Record<string, unknown> {
  return {
    ...{ cluster: 'lab', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name, guest },
    ...{ kbs: 'main', store: 'models', minimumAttested: 1, set: {} },
  };
}

const keyOf = (person: Person): string => {
  const key = readPublicKey(person.publicPem);
  return key === null ? '' : keyDigestOf(key);
};

describe('a signer', () => {
  it('suspends what falls below its threshold without them, and nothing that was accepted before `since`', () =>
    withBroker(async ({ pool, push }) => {
      await push({ ...FIRST, ...(await release(1, null)), ...(await release(1, null, [ann, bob, cid], 'v')) });
      await push(await revocation('later', { kind: 'signer', person: 'bob', since: SINCE_LATER }));
      expect(await revoked(pool)).toEqual([]);
      await push(await revocation('ever', { kind: 'signer', person: 'bob', since: SINCE_EVER }));
      expect(await revoked(pool)).toEqual(['w/1']);
      // Two were left for `v`; now one is.
      await push(await revocation('another', { kind: 'signer', person: 'cid' }, [ann]));
      expect(await revoked(pool)).toEqual(['w/1', 'v/1']);
    }));

  it('of one key: who signed with another is counted', () =>
    withBroker(async ({ pool, push }) => {
      await push({ ...FIRST, ...(await release(1, null)) });
      await push(await revocation('other', { kind: 'signer', person: 'bob', key: keyOf(ann) }));
      expect(await revoked(pool)).toEqual([]);
      await push(await revocation('own', { kind: 'signer', person: 'bob', key: keyOf(bob) }));
      expect(await revoked(pool)).toEqual(['w/1']);
    }));

  it('does not count for later documents, and spoils none that has enough without them', () =>
    withBroker(async ({ pool, push }) => {
      await push({ ...FIRST, ...(await revocation('s', { kind: 'signer', person: 'bob', since: SINCE_LATER })) });
      await push({ ...(await release(1, null)), ...(await release(1, null, [ann, bob, cid], 'v')) });
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'waiting Revoked', 'releases/v/1.yaml': 'accepted' });
      const { rows } = await pool.query(`select approved_by from documents where path = 'releases/v/1.yaml'`);
      expect(rows).toEqual([{ approved_by: ['ann', 'cid'] }]);
      // A revocation is never held up, whoever signs it.
      await push(await revocation('r', { kind: 'workload', workload: 'v' }, [bob]));
      expect(await revoked(pool)).toEqual(['v/1']);
    }));

  it('takes the values of a platform that has too few signatures left', () =>
    withBroker(async (bench) => {
      const { push } = bench;
      const platform = yaml({
        ...{ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Platform', id: 'p', serial: 1, previous: null, tee: 'sample' },
        referenceValues: { tcb: ['7'] },
      });
      const files = {
        ...(await signedBy('platforms/p/1.yaml', platform, [bob, cid])),
        ...(await release(1, null, [ann, cid], 'w', { guests: guests({ platform: 'p' }) })),
      };
      await push({ ...FIRST, ...files });
      expect((await wanted(bench))[0]?.after.referenceValues).toMatchObject({ tcb: ['7'] });
      await push(await revocation('s', { kind: 'signer', person: 'bob' }));
      expect((await wanted(bench))[0]?.after.referenceValues).not.toHaveProperty('tcb');
    }));
});

describe('a reference value', () => {
  it('leaves every list and every grant for ever, takes the revision that has no other, and no later release may list it', () =>
    withBroker(async (bench) => {
      const { pool, push } = bench;
      const one = await release(1, null, [ann, bob], 'w', { guests: guests() });
      const both = await release(1, null, [ann, bob], 'v', { guests: guests({ referenceValues: { svn: ['1', '2'] } }) });
      await push({ ...FIRST, ...one, ...both });
      await wanted(bench);
      await push(await revocation('r', { kind: 'reference-value', name: 'svn', value: '1' }));
      expect(await revoked(pool)).toEqual(['w/1']);
      const [main] = await wanted(bench);
      expect(main?.after.grants.map(({ claims }) => claims)).toEqual([{ 'sample.svn': ['2'] }]);
      expect(main?.after.referenceValues.svn).toEqual(['2']);
      await push({ 'revocations/r.yaml': null, 'revocations/r.ann.sigstore.json': null });
      await push(await release(2, digestAt(one, 'releases/w/1.yaml')));
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/2.yaml': 'refused ReferenceValueRevoked' });
      // The last value goes too: the next revocation sees what the first one left.
      await push(await revocation('q', { kind: 'reference-value', name: 'svn', value: '2' }));
      expect(await revoked(pool)).toEqual(['w/1', 'v/1']);
    }));

  it('that nobody lists is accepted, and refuses whoever lists it later', () =>
    withBroker(async ({ pool, push }) => {
      await push({ ...FIRST, ...(await revocation('r', { kind: 'reference-value', name: 'svn', value: '1' })) });
      await push(await release(1, null));
      expect(await verdicts(pool)).toMatchObject({ 'revocations/r.yaml': 'accepted', 'releases/w/1.yaml': 'refused ReferenceValueRevoked' });
    }));
});

describe('a target', () => {
  it('is refused by its init-data, with whatever shares it, and says who', () =>
    withBroker(async (bench) => {
      const { pool, push } = bench;
      const two = { ...guests(), own: guests({}, 'guests/b.toml', OTHER_DATA).cpu };
      await push({
        ...FIRST,
        ...(await release(1, null, [ann, bob], 'w', { guests: two, targets: [target('chat'), target('east', 'own')] })),
        ...(await release(1, null, [ann, bob], 'v', { guests: guests(), targets: [target('other')] })),
      });
      await push(await revocation('r', { kind: 'target', cluster: 'lab', namespace: 'inference', name: 'chat' }));
      expect(await denied(pool)).toMatchObject([{ path: expect.stringContaining('eu/v/s1-') }, { kbs: 'main', path: null, init_data: CLAIM, device: null }]);
      // `w` goes on at its other target; of `v` no guest is left that could fetch.
      expect(await revoked(pool)).toEqual(['v/1']);
      const { rows } = await pool.query(`select body from events where event = 'revocation-accepted'`);
      expect(rows).toMatchObject([{ body: { initData: [CLAIM], sharing: ['v s1 lab/inference/other'] } }]);
      expect((await wanted(bench))[0]?.after.denied).toEqual({ paths: [], initData: [CLAIM], devices: [] });
    }));

  it('that is not there is accepted, and holds the release that names it', () =>
    withBroker(async ({ pool, push }) => {
      await push({ ...FIRST, ...(await revocation('r', { kind: 'target', cluster: 'lab', namespace: 'inference', name: 'chat' })) });
      await push({ ...(await release(1, null)), ...(await release(1, null, [ann, bob], 'v', { targets: [target('other')] })) });
      expect(await verdicts(pool)).toMatchObject({
        'revocations/r.yaml': 'accepted',
        'releases/w/1.yaml': 'waiting Revoked',
        'releases/v/1.yaml': 'accepted',
      });
    }));
});

describe('a device, and a path of others', () => {
  it('are denied by every KBS, in the policy and on the list', () =>
    withBroker(async (bench) => {
      const { pool, push } = bench;
      await ensureBrokers(pool, [{ name: 'west', repository: 'us' }]);
      await push({ ...FIRST, ...(await release(1, null)) });
      await push({
        ...(await revocation('chip', { kind: 'device', chipId: 'AB12' })),
        ...(await revocation('gpu', { kind: 'device', ueid: '4784' })),
        ...(await revocation('path', { kind: 'key', path: 'default/credential/registry' })),
        ...(await revocation('own', { kind: 'key', path: 'eu/w/s1-v1-0-00000000' })),
      });
      expect(await revoked(pool)).toEqual(['w/1']);
      const wants = await wanted(bench);
      expect(wants.map(({ after }) => after.denied)).toEqual([
        { paths: ['default/credential/registry'], initData: [], devices: ['4784', 'AB12', 'ab12'] },
        // What is ours at one KBS is anybody's at another.
        { paths: ['default/credential/registry', 'eu/w/s1-v1-0-00000000'], initData: [], devices: ['4784', 'AB12', 'ab12'] },
      ]);
      const { rows } = await pool.query(`select kbs, count(*)::int as entries from deny_list where device is not null group by kbs order by kbs`);
      expect(rows).toEqual([
        { kbs: 'main', entries: 3 },
        { kbs: 'west', entries: 3 },
      ]);
      // A KBS that is configured later refuses the same, once.
      for (const _ of [1, 2]) await ensureBrokers(pool, [{ name: 'late', repository: 'late' }]);
      expect((await wanted(bench)).find(({ after }) => after.kbs === 'late')?.after.denied.devices).toEqual(['4784', 'AB12', 'ab12']);
      expect((await pool.query(`select 1 from deny_list where kbs = 'late' and device is not null`)).rowCount).toBe(3);
    }));

  it('one that names no device says which field', () =>
    withBroker(async ({ pool, push }) => {
      await push({ ...FIRST, ...(await revocation('chip', { kind: 'device', chipId: 'a b' })), ...(await revocation('s', { kind: 'signer' })) });
      const { rows } = await pool.query<{ about: string }>(`select about from documents where kind = 'Revocation' and verdict = 'refused' order by path`);
      expect(rows.map(({ about }) => about)).toEqual([expect.stringContaining('subject'), expect.stringContaining('subject')]);
      expect(await denied(pool)).toEqual([]);
    }));
});

it('one that an older version could only hold for is carried out while its file is there', () =>
  withBroker(async ({ pool, push }) => {
    await push({ ...FIRST, ...(await release(1, null)), ...(await revocation('s', { kind: 'signer', person: 'nobody' })) });
    await pool.query('delete from runs where revocation is not null');
    await pool.query(`update documents set reason = 'NotSupportedYet' where kind = 'Revocation'`);
    await push({ 'README.md': 'x' });
    expect(await verdicts(pool)).toMatchObject({ 'revocations/s.yaml': 'accepted' });
    expect((await pool.query(`select 1 from runs where workflow = 'revoke'`)).rowCount).toBe(1);
    await push({ 'revocations/s.yaml': null, 'revocations/s.ann.sigstore.json': null });
    await asOlderVersion(pool);
    await push({ 'README.md': 'y' });
    expect(await verdicts(pool)).toMatchObject({ 'revocations/s.yaml': 'accepted NotSupportedYet' });
  }));
