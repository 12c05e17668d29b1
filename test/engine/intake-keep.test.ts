import { expect, it } from 'vitest';
import type { Digest } from '#src/digest.ts';
import { takeIn } from '#src/engine/intake.ts';
import { releaseText, signedBy } from '../documents/people.ts';
import { ann, bob, digestAt, release, START, verdicts, withBench } from './intake-parts.ts';

const KEEP = {
  source: 'keep',
  from: null,
  address: null,
  keyPath: null,
  plaintextManifest: null,
  stores: ['models'],
  codec: 'tink-aes256-gcm-hkdf-1mb',
  format: 'safetensors',
};

function kept(serial: number, previous: Digest, artifact: Record<string, unknown> = {}, change: Record<string, unknown> = {}): Promise<Record<string, string>> {
  return signedBy(`releases/w/${serial}.yaml`, releaseText('w', serial, previous, { artifact: { ...KEEP, ...artifact }, ...change }), [ann, bob]);
}

/** As the run of release 1 would have written it. */
const SEAL = `insert into receipts (run, number, step, at, body, digest)
  select rotation, 1, 'encrypt-weights', instant(), json_build_object('facts', json_build_object('ciphertextDigest', 'sha256:c', 'plaintextManifest', $1::text, 'stores', json_build_array('models')))::text, 'd'
  from sealings`;

it('a keep release waits until what it keeps is sealed, and amends where only settings change', () =>
  withBench(async ({ pool, push, intake }) => {
    const one = await release(1, null);
    const two = await kept(2, digestAt(one, 'releases/w/1.yaml'));
    const report = await push({ ...START, ...one, ...two });
    expect(report.outcomes.find(({ path }) => path === 'releases/w/2.yaml')).toMatchObject({ verdict: 'waiting', reason: 'CiphertextMissing' });
    await pool.query(SEAL, [`sha256:${'3'.repeat(64)}`]);
    await takeIn(intake);
    expect(await verdicts(pool)).toMatchObject({ 'releases/w/2.yaml': 'accepted' });
    const { rows } = await pool.query('select serial, serials, state from revisions');
    expect(rows).toEqual([{ serial: 2, serials: [1, 2], state: 'accepted' }]);
    const digest = digestAt(two, 'releases/w/2.yaml');
    const three = await kept(3, digest, { from: 1 }, { images: { chat: `registry.example/chat@sha256:${'5'.repeat(64)}` } });
    await push({ ...three });
    const revisions = await pool.query('select r.serial, s.epoch from revisions r join sealings s on s.id = r.sealing order by r.id');
    expect(revisions.rows).toEqual([
      { serial: 2, epoch: 1 },
      { serial: 3, epoch: 1 },
    ]);
  }));

it.each<[string, Record<string, unknown>, Record<string, unknown>, string]>([
  ['of a serial that was never accepted', { from: 1 }, {}, 'NotFound'],
  ['in another store', { stores: ['models', 'other'] }, {}, 'Malformed'],
  ['under another codec', { codec: 'kserve-jwe' }, {}, 'Malformed'],
  ['of other weights', { plaintextManifest: `sha256:${'4'.repeat(64)}` }, {}, 'Malformed'],
  ['whose key is in another store', {}, { key: { store: 'other', rotateAfterDays: null, rotateBy: 'reencrypt', destroyAfterDays: null } }, 'Malformed'],
])('a keep release %s is refused', (_name, artifact, change, reason) =>
  withBench(async ({ pool, push }) => {
    const five = await signedBy('releases/w/5.yaml', releaseText('w', 5, null), [ann, bob]);
    await push({ ...START, ...five });
    await pool.query(SEAL, [`sha256:${'3'.repeat(64)}`]);
    await push(await kept(6, digestAt(five, 'releases/w/5.yaml'), artifact, change));
    const { rows } = await pool.query(`select verdict, reason from documents where path = 'releases/w/6.yaml'`);
    expect(rows).toEqual([{ verdict: 'refused', reason }]);
  }),
);

it('a reencrypt release may name another codec: what it opens is told by its key', () =>
  withBench(async ({ pool, push }) => {
    const one = await release(1, null);
    await push({ ...START, ...one });
    await pool.query(SEAL, [`sha256:${'3'.repeat(64)}`]);
    await push(await kept(2, digestAt(one, 'releases/w/1.yaml'), { source: 'reencrypt', codec: 'kserve-jwe' }));
    expect(await verdicts(pool)).toMatchObject({ 'releases/w/2.yaml': 'accepted' });
    const { rows } = await pool.query('select source from sealings order by id');
    expect(rows).toEqual([{ source: null }, { source: 1 }]);
  }));
