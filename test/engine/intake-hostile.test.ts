import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { takeIn } from '#src/engine/intake.ts';
import { isFault } from '#src/errors.ts';
import { heldWorkloads } from '#state/document-holds.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { knownRevisions } from '#state/revisions.ts';
import { readStatus } from '#state/status.ts';
import { baselineOf } from '#state/want.ts';
import { INIT_DATA, releaseText, signedBy, yaml } from '../documents/people.ts';
import { ann, asOlderVersion, bob, cid, digestAt, release, revocation, START, serials, verdicts, withBench } from './intake-parts.ts';

const reasonOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (thrown: unknown) => (isFault(thrown) ? thrown.reason : `a bug: ${String(thrown)}`),
  );

/** More than are looked at, and in front of everybody by their names. */
function junkBeside(document: string): Record<string, string> {
  return Object.fromEntries(Array.from({ length: 70 }, (_, index) => [`${document}.a${index}.sigstore.json`, '{}']));
}

const gone = (files: Record<string, string>): Record<string, null> => Object.fromEntries(Object.keys(files).map((path) => [path, null]));

function platform(people: readonly (typeof ann)[]): Promise<Record<string, string>> {
  const document = { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Platform', id: 'p', serial: 1, previous: null, tee: 'snp', referenceValues: {} };
  return signedBy('platforms/p/1.yaml', yaml(document), people);
}

function baseline(people: readonly (typeof ann)[], kbs = 'main'): Promise<Record<string, string>> {
  const referenceValues = { launch_digest: ['abcde'], major_version: 1 };
  const document = { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Baseline', kbs, version: 1, takeover: true, referenceValues, grants: [] };
  return signedBy(`baseline/${kbs}/1.yaml`, yaml(document), people);
}

/** A change to `releaseText('v', …)`: its guest lists one more value. */
function withValue(name: string, value: string): Record<string, unknown> {
  const initData = { file: 'guests/v.toml', digest: digestOf(INIT_DATA) };
  const guest = {
    tee: 'sample',
    runtimeClass: 'k',
    devices: { gpu: 0, switch: 0 },
    initData,
    referenceValues: { svn: ['2'], [name]: [value] },
    kbsResources: [],
  };
  return { guests: { cpu: guest } };
}

async function addBrokers(pool: pg.Pool): Promise<void> {
  await pool.query(`insert into brokers (name, repository) values ('main', 'keyturn-lab'), ('other', 'keyturn-lab')`);
}

describe('nothing that anybody commits, unsigned, ends the process or stops another document', () => {
  const text = releaseText('h', 1, null);
  const hostile: readonly (readonly [string, Record<string, string>, string])[] = [
    ['a NUL in an unknown field', { 'releases/h/1.yaml': `${text}"a\\0b": 1\n` }, 'refused Malformed'],
    ['an escape for the terminal in an unknown field', { 'releases/h/1.yaml': `${text}"a\\e[2Jb": 1\n` }, 'refused Malformed'],
    ['half a surrogate pair', { 'releases/h/1.yaml': `${text}"a\\ud800b": 1\n` }, 'refused Malformed'],
    ['a name that is cut inside a surrogate pair', { 'releases/h/1.yaml': `${text}"${'a'.repeat(99)}\u{1f600}b": 1\n` }, 'refused UnknownField'],
    ['month 13', { 'releases/h/1.yaml': releaseText('h', 1, null, { expires: '2026-13-01T00:00:00Z' }) }, 'refused Malformed'],
    ['31 February', { 'releases/h/1.yaml': releaseText('h', 1, null, { expires: '2099-02-31T00:00:00Z' }) }, 'refused Malformed'],
    [
      'a bundle of NULs',
      { 'releases/h/1.yaml': text, 'guests/h.toml': START['guests/w.toml'] ?? '', 'releases/h/1.x.sigstore.json': '\0\0' },
      'waiting SignatureInvalid',
    ],
  ];
  it.each(hostile)('%s', (_, files, verdict) =>
    withBench(async ({ pool, push, intake }) => {
      await push({ ...START, ...files, ...(await release(1, null)), ...(await revocation('r', { kind: 'workload', workload: 'v' })) });
      expect(await verdicts(pool)).toMatchObject({ 'releases/h/1.yaml': verdict, 'releases/w/1.yaml': 'accepted', 'revocations/r.yaml': 'accepted' });
      // Judged again, it says the same: nothing is told twice.
      expect((await takeIn(intake)).outcomes).toEqual([]);
    }),
  );

  it('junk bundles keep no signed revocation out, at the intake and at the gate', () =>
    withBench(async ({ pool, push, documents }) => {
      await push({ ...START, ...junkBeside('revocations/r'), ...(await revocation('r', { kind: 'all' })) });
      expect(await verdicts(pool)).toMatchObject({ 'revocations/r.yaml': 'accepted' });
      expect(await documents.revocations()).toHaveLength(1);
    }));

  it('junk bundles laid beside an accepted release, then and later, leave it verified, whatever its signers called their bundles', () =>
    withBench(async ({ pool, push, intake }) => {
      const one = await release(1, null);
      const renamed = Object.fromEntries(Object.entries(one).map(([path, bytes]) => [path.replace(/\.(ann|bob)\./, '.z-$1.'), bytes]));
      await push({ ...START, ...renamed });
      expect(await serials(pool)).toEqual([1]);
      const digest = digestAt(one, 'releases/w/1.yaml');
      const junk = junkBeside('releases/w/1');
      await push({ ...junk, 'releases/w/1.z-ann.sigstore.json': null, 'releases/w/1.z-bob.sigstore.json': '{}' });
      expect(await documentLoaders(intake).release(digest)).toMatchObject({ approvedBy: ['ann', 'bob'] });
      await push(gone(junk));
      expect(await documentLoaders(intake).release(digest)).toMatchObject({ approvedBy: ['ann', 'bob'] });
    }));

  it('what lies in a watched folder and is not read is shown, with help', () =>
    withBench(async ({ pool, push }) => {
      await push({ ...START, 'revocations/KeyLeak.yaml': 'x', 'revocations/key.yml': 'x', 'revocations/README.md': 'x' });
      const shown = async (): Promise<readonly string[]> => (await readStatus(pool)).branches[0]?.unread.map(({ path, reason }) => `${path} ${reason}`) ?? [];
      expect(await shown()).toEqual(['revocations/KeyLeak.yaml WrongPlace', 'revocations/key.yml WrongPlace']);
      await push({ 'revocations/KeyLeak.yaml': null, 'revocations/key.yml': null });
      expect(await shown()).toEqual([]);
    }));
});

it('a signer who was revoked holds what rests on a baseline that they signed, and counts for nothing that comes later', () =>
  withBench(async ({ pool, push }) => {
    await addBrokers(pool);
    await push({ ...START, ...(await baseline([bob, cid])), ...(await release(1, null, [ann, cid])) });
    await push(await revocation('s', { kind: 'signer', person: 'bob' }));
    expect([...(await heldWorkloads(pool)).entries()]).toMatchObject([['w', { reason: 'Revoked' }]]);
    await push({ ...(await platform([ann, bob])), ...(await release(1, null, [ann, bob], 'v')), ...(await baseline([bob, cid], 'other')) });
    expect(await verdicts(pool)).toMatchObject({
      'platforms/p/1.yaml': 'waiting Revoked',
      'releases/v/1.yaml': 'waiting Revoked',
      'baseline/other/1.yaml': 'waiting Revoked',
    });
  }));

describe('a revocation that an older version could not carry out holds what it could touch through others', () => {
  it('a reference value: whoever shares a KBS with a baseline that lists it, or, where no grant is written on it, with a release', () =>
    withBench(async ({ pool, push }) => {
      await addBrokers(pool);
      await push({
        ...START,
        ...(await baseline([bob, cid])),
        ...(await release(1, null)),
        ...(await release(1, null, [ann, bob], 'v', withValue('tcb', '7'))),
      });
      const held = async (id: string, name: string, value: unknown): Promise<readonly string[]> => {
        await push(await revocation(id, { kind: 'reference-value', name, value }));
        await asOlderVersion(pool);
        const workloads = [...(await heldWorkloads(pool)).keys()].sort();
        await push({ [`revocations/${id}.yaml`]: null, [`revocations/${id}.ann.sigstore.json`]: null });
        await pool.query(`delete from documents where kind = 'Revocation'`);
        return workloads;
      };
      expect(await held('a', 'launch_digest', 'abcde')).toEqual(['v', 'w']);
      expect(await held('b', 'major_version', 1)).toEqual(['v', 'w']);
      expect(await held('c', 'major_version', 2)).toEqual([]);
      expect(await held('d', 'tcb', '7')).toEqual(['v', 'w']);
      expect(await held('e', 'constructor', 'x')).toEqual([]);
    }));

  it('one whose bytes can no longer be read: everybody', () =>
    withBench(async ({ pool, push }) => {
      await push({ ...START, ...(await release(1, null)), ...(await revocation('s', { kind: 'signer', person: 'nobody' })) });
      await asOlderVersion(pool);
      expect([...(await heldWorkloads(pool)).keys()]).toEqual([]);
      await pool.query(`update documents set bytes = 'x' where kind = 'Revocation'`);
      expect([...(await heldWorkloads(pool)).keys()]).toEqual(['w']);
    }));
});

describe('rows that somebody wrote into', () => {
  it('one that waits and is not what its digest says stops no other', () =>
    withBench(async ({ pool, push }) => {
      await push({ ...START, ...(await release(1, null, [])) });
      await pool.query(`update documents set bytes = 'x' where path = 'releases/w/1.yaml'`);
      const { failures } = await push(await revocation('r', { kind: 'all' }));
      expect(failures.map(({ path, reason }) => `${path} ${reason}`)).toEqual(['releases/w/1.yaml Tampered']);
      expect(await verdicts(pool)).toMatchObject({ 'revocations/r.yaml': 'accepted' });
    }));

  it('a serial by hand makes no replayed release the newest, and a revision is what its release says', () =>
    withBench(async ({ pool, push, intake }) => {
      const one = await release(1, null);
      const five = await release(5, digestAt(one, 'releases/w/1.yaml'));
      await push({ ...START, ...one, ...five });
      await push(await release(3, digestAt(one, 'releases/w/1.yaml')));
      await pool.query(`update documents set verdict = 'accepted', serial = 6, kbs = '{main}' where path = 'releases/w/3.yaml'`);
      await push(await revocation('r', { kind: 'release', workload: 'w', serial: 1 }));
      expect((await pool.query('select serial from revisions order by id')).rows).toEqual([{ serial: 1 }, { serial: 5 }]);
      const known = (): Promise<unknown> => knownRevisions(pool, { workload: 'w' }, documentLoaders(intake).release);
      expect(await reasonOf(known())).toBe('none');
      await pool.query('update revisions set serial = 9 where serial = 1');
      expect(await reasonOf(known())).toBe('Tampered');
    }));

  it('a baseline that was signed for one KBS is none of another', () =>
    withBench(async ({ pool, push, intake }) => {
      await addBrokers(pool);
      const files = await baseline([bob, cid]);
      await push({ ...START, ...files });
      const loaders = documentLoaders(intake);
      const broker = { name: 'main', repository: 'keyturn-lab', generation: 1, names_sent: [], baseline: digestAt(files, 'baseline/main/1.yaml') };
      expect(await reasonOf(baselineOf(loaders, broker))).toBe('none');
      expect(await reasonOf(baselineOf(loaders, { ...broker, name: 'other' }))).toBe('Tampered');
    }));
});
