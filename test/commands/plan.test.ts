import { randomBytes } from 'node:crypto';
import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { planOf } from '#src/commands/plan.ts';
import { whyOf } from '#src/commands/why.ts';
import type { ReleaseForecast, TakingForecast } from '#src/domain/forecast.ts';
import { initDataClaim } from '#src/domain/init-data.ts';
import type { Foreseen, Previewed } from '#src/engine/preview.ts';
import { parseInstant } from '#src/instant.ts';
import { sightBoots } from '#state/boots.ts';
import { transaction } from '#state/database.ts';
import { appendReceipt } from '#state/receipts.ts';
import { revocationText, signedBy, yaml } from '../documents/people.ts';
import {
  allRows,
  ann,
  bob,
  checkOut,
  cid,
  digestAt,
  imageOf,
  initDataFor,
  keyturn,
  releaseFiles,
  SPAWNING_SECONDS,
  type Stand,
  serving,
  withStand,
} from './stand.ts';

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

/** As `--json` gives it. */
async function plan({ config }: Stand, from: Parameters<typeof planOf>[1] = { ref: 'refs/pull/7/head' }): Promise<Foreseen> {
  return JSON.parse(JSON.stringify(await planOf(config, from))) as Foreseen;
}

function only({ documents }: Foreseen, path: string): Previewed {
  const found = documents.find((document) => document.path === path);
  if (found === undefined) throw new Error(`no ${path} in the plan`);
  return found;
}

function releaseIn(foreseen: Foreseen, path: string): ReleaseForecast {
  const { forecast } = only(foreseen, path);
  if (forecast?.kind !== 'release') throw new Error(`${path} has no forecast`);
  return forecast;
}

/** A stand where serial 1 serves. */
async function withServing(fn: (stand: Stand, first: Awaited<ReturnType<typeof releaseFiles>>) => Promise<void>): Promise<void> {
  await withStand(async (stand) => {
    const first = await releaseFiles(1, { previous: null });
    await stand.merge(first);
    await serving(stand, 1);
    await fn(stand, first);
  });
}

it('tells of an unsigned release what would happen once it is signed, and refuses nothing', async () => {
  await withServing(async (stand, first) => {
    const previous = digestAt(first, 'releases/w/1.yaml');
    await stand.propose(await releaseFiles(2, { previous, image: imageOf('2'), signers: [ann] }));
    const before = await allRows(stand.pool);
    const foreseen = await plan(stand);
    expect(await allRows(stand.pool)).toBe(before);
    expect(foreseen.refused).toBe(false);
    expect(only(foreseen, 'releases/w/2.yaml')).toMatchObject({
      verdict: 'waiting',
      reason: 'SignaturesMissing',
      onceSigned: { verdict: 'accepted', reason: null },
    });
    expect(releaseIn(foreseen, 'releases/w/2.yaml')).toMatchObject({
      outcome: 'adopts',
      key: { kind: 'new', epoch: 2, store: 'kms', from: null },
      movedBytes: null,
      paths: [{ kbs: 'main', path: 'eu/w/s2-v2-0-…' }],
      referenceValues: [{ kbs: 'main', name: 'svn', added: ['2'], removed: [] }],
      targets: [{ name: 'lab/inference/chat', rolls: true, minimumAttested: 1, windows: { kind: 'open', until: null } }],
      retires: [{ workload: 'w', name: 's1-v1', state: 'serving', key: 'disabled' }],
      stops: [],
    });
  });
});

it('answers of a checkout as of a ref, and counts the bytes that it can see', async () => {
  await withServing(async (stand, first) => {
    const model = join(stand.folder, 'plaintext');
    await checkOut(model, { 'a.bin': 'x'.repeat(1000), 'b/c.bin': 'y'.repeat(24) });
    const artifact = { ...KEEP, source: 'plaintext', address: `file://${model}`, plaintextManifest: `sha256:${'5'.repeat(64)}` };
    const files = await releaseFiles(2, { previous: digestAt(first, 'releases/w/1.yaml'), change: { artifact } });
    await stand.propose(files);
    await checkOut(join(stand.folder, 'checkout'), { ...first, ...files });
    const [byRef, byCheckout] = [await plan(stand), await plan(stand, { checkout: join(stand.folder, 'checkout') })];
    expect(byCheckout.documents).toEqual(byRef.documents);
    expect(only(byRef, 'releases/w/2.yaml')).toMatchObject({ verdict: 'accepted', approvedBy: ['ann', 'bob'], onceSigned: null });
    expect(releaseIn(byRef, 'releases/w/2.yaml').movedBytes).toBe(1024);
  });
});

it('says of a kept key that nothing is moved, and that it stays when the old revision goes', async () => {
  await withServing(async (stand, first) => {
    const previous = digestAt(first, 'releases/w/1.yaml');
    await stand.propose(await releaseFiles(2, { previous, image: imageOf('2'), change: { artifact: KEEP } }));
    expect(releaseIn(await plan(stand), 'releases/w/2.yaml')).toMatchObject({
      outcome: 'adopts',
      key: { kind: 'kept', epoch: 1, from: 's1-v1' },
      movedBytes: 0,
      retires: [{ name: 's1-v1', key: 'shared' }],
    });
    const settings = { artifact: KEEP, key: { store: 'kms', rotateAfterDays: 30, rotateBy: 'reencrypt', destroyAfterDays: null } };
    await stand.propose(await releaseFiles(2, { previous, svn: '1', change: settings }));
    const amended = releaseIn(await plan(stand), 'releases/w/2.yaml');
    expect(amended).toMatchObject({ outcome: 'amends', movedBytes: 0, paths: [], retires: [], targets: [{ rolls: false }] });
    await stand.pool.query('update sealings set taken = true');
    const retired = await plan(stand);
    expect([only(retired, 'releases/w/2.yaml').reason, retired.refused]).toEqual(['SealingRetired', true]);
  });
});

it('exits 3 for what would be refused, and for what a gate would stop, each with its reason', async () => {
  await withServing(async (stand, first) => {
    const previous = digestAt(first, 'releases/w/1.yaml');
    await stand.propose({ ...(await releaseFiles(1, { previous: null, svn: '7' })), ...(await releaseFiles(2, { previous: null })) });
    const refused = await plan(stand);
    expect(refused.documents.map(({ path, verdict, reason }) => [path, verdict, reason])).toEqual([
      ['releases/w/1.yaml', 'refused', 'DocumentChanged'],
      ['releases/w/2.yaml', 'refused', 'PreviousWrong'],
    ]);
    expect([refused.refused, refused.documents.every(({ help }) => help !== null)]).toEqual([true, true]);
    await stand.propose(await releaseFiles(2, { previous, image: imageOf('2'), initData: initDataFor(imageOf('other')) }));
    const stopped = await plan(stand);
    expect([stopped.refused, releaseIn(stopped, 'releases/w/2.yaml').stops]).toMatchObject([true, [{ gate: 'image-is-bound', reason: 'ImageNotBound' }]]);
    await stand.propose(
      await releaseFiles(2, { previous, change: { key: { store: 'nowhere', rotateAfterDays: null, rotateBy: 'reencrypt', destroyAfterDays: null } } }),
    );
    const unknown = await plan(stand);
    expect([unknown.refused, only(unknown, 'releases/w/2.yaml')]).toMatchObject([true, { verdict: 'waiting', reason: 'NotConfigured' }]);
    const unsigned = await releaseFiles(2, { previous: null, signers: [] });
    await stand.propose(unsigned);
    const hidden = only(await plan(stand), 'releases/w/2.yaml');
    expect(hidden).toMatchObject({ verdict: 'refused', reason: 'PreviousWrong', onceSigned: null, forecast: null });
  });
});

it('says the same as the intake does when it is merged', async () => {
  await withServing(async (stand, first) => {
    const previous = digestAt(first, 'releases/w/1.yaml');
    const second = await releaseFiles(2, { previous });
    const third = await releaseFiles(3, { previous: digestAt(second, 'releases/w/2.yaml') });
    const keeps = await releaseFiles(4, { previous: digestAt(third, 'releases/w/3.yaml'), image: imageOf('4'), change: { artifact: KEEP } });
    const files = {
      ...{ ...second, ...third, ...keeps },
      ...(await releaseFiles(5, { previous, signers: [ann] })),
      ...(await signedBy('revocations/other.yaml', revocationText('other', { kind: 'release', workload: 'w', serial: 9 }), [ann])),
      'revocations/unsigned.yaml': revocationText('unsigned', { kind: 'all' }),
      'releases/w/6.yaml': 'kind: Release\n',
    };
    await stand.propose(files);
    const { documents } = await plan(stand);
    await stand.merge(files);
    const { rows } = await stand.pool.query<{ path: string; verdict: string; reason: string | null; about: string | null }>(
      `select path, verdict, reason, about from documents where kind <> 'File' and commit_id = (select commit_id from branches) order by path`,
    );
    const foreseen = documents.map(({ path, verdict, reason, about }) => ({ path, verdict, reason, about })).sort((a, b) => (a.path < b.path ? -1 : 1));
    expect(foreseen).toEqual(rows);
    expect(rows.map(({ verdict }) => verdict)).toEqual(['accepted', 'accepted', 'waiting', 'refused', 'refused', 'accepted', 'waiting']);
    const own = await plan(stand, { ref: 'main' });
    expect([own.refusedBefore.map(({ path }) => path), own.refused]).toEqual([['releases/w/5.yaml', 'releases/w/6.yaml'], true]);
    // What stood there before is not the next proposal's fault.
    await stand.propose({ 'README.md': 'x' });
    const innocent = await plan(stand);
    expect([innocent.refusedBefore.length, innocent.documents.every(({ isNew }) => !isNew), innocent.refused]).toEqual([2, true, false]);
  });
});

it('tells what a revocation touches, what runs then, and who still gives the same key', async () => {
  await withServing(async (stand, first) => {
    const second = await releaseFiles(2, { previous: digestAt(first, 'releases/w/1.yaml'), image: imageOf('2'), change: { artifact: KEEP } });
    await stand.merge(second);
    await serving(stand, 2);
    await stand.propose(await signedBy('revocations/r.yaml', revocationText('r', { kind: 'release', workload: 'w', serial: 2 }), [ann]));
    const { forecast, approvedBy } = only(await plan(stand), 'revocations/r.yaml');
    expect(approvedBy).toEqual(['ann']);
    expect(forecast satisfies unknown as TakingForecast).toMatchObject({
      touches: [{ name: 's2-v1', state: 'serving' }],
      targets: [{ workload: 'w', before: 's2-v1', after: 's1-v1' }],
      stillGivenBy: [{ name: 's1-v1', epoch: 1 }],
    });
    await stand.propose({ 'revocations/k.yaml': revocationText('k', { kind: 'key', workload: 'w', epoch: 1 }) });
    const unsigned = await plan(stand);
    expect(unsigned.refused).toBe(false);
    expect(only(unsigned, 'revocations/k.yaml')).toMatchObject({
      reason: 'UnsignedRevocation',
      onceSigned: { verdict: 'accepted' },
      forecast: { targets: [{ after: null }] },
    });
  });
});

it(
  'tells of every other subject what it refuses, what shares it, what it suspends, and what has no successor',
  async () => {
    await withServing(async (stand, first) => {
      const target = (name: string): Record<string, unknown> => ({
        ...{ cluster: 'lab', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name, guest: 'cpu' },
        ...{ kbs: 'main', store: 'models', minimumAttested: 1, set: {} },
      });
      await stand.merge(await releaseFiles(2, { previous: digestAt(first, 'releases/w/1.yaml'), change: { targets: [target('chat'), target('east')] } }));
      await serving(stand, 2);
      const forecastOf = async (subject: Record<string, unknown>): Promise<TakingForecast> => {
        await stand.propose(await signedBy('revocations/r.yaml', revocationText('r', subject), [ann]));
        const before = await allRows(stand.pool);
        const { forecast } = only(await plan(stand), 'revocations/r.yaml');
        expect(await allRows(stand.pool)).toBe(before);
        return forecast satisfies unknown as TakingForecast;
      };
      const claim = initDataClaim(initDataFor(imageOf('1')), 'sample');
      expect(await forecastOf({ kind: 'target', cluster: 'lab', namespace: 'inference', name: 'east' })).toMatchObject({
        touches: [{ name: 's1-v1', keyId: 'k' }, { name: 's2-v2' }],
        targets: [{ workload: 'w', before: 's2-v2', after: null }],
        denied: { initData: [claim] },
        sharing: ['w s1 lab/inference/chat', 'w s2 lab/inference/chat'],
      });
      const told = (await keyturn('plan', '--config', stand.config, '--ref', 'refs/pull/7/head')).output;
      expect([told.includes(claim), told.includes('has no successor')]).toEqual([true, true]);
      expect(await forecastOf({ kind: 'reference-value', name: 'svn', value: '2' })).toMatchObject({
        touches: [{ name: 's2-v2' }],
        targets: [{ before: 's2-v2', after: 's1-v1' }],
        referenceValues: [{ kbs: 'main', name: 'svn', added: [], removed: ['2'] }],
      });
      expect(await forecastOf({ kind: 'signer', person: 'bob' })).toMatchObject({
        touches: [{ name: 's1-v1' }, { name: 's2-v2' }],
        targets: [{ after: null }],
      });
      expect(await forecastOf({ kind: 'signer', person: 'bob', since: '2090-01-01T00:00:00Z' })).toMatchObject({ touches: [], targets: [] });
      expect(await forecastOf({ kind: 'device', ueid: 'AB' })).toMatchObject({ touches: [], denied: { devices: ['AB', 'ab'] } });
    });
  },
  SPAWNING_SECONDS * 1000,
);

it('takes several revocations of one branch together: of two signers each alone leaves enough, and both do not', async () => {
  await withStand(async (stand) => {
    await stand.merge(await releaseFiles(1, { previous: null, signers: [ann, bob, cid] }));
    await serving(stand, 1);
    const signer = async (person: string) => signedBy(`revocations/${person}.yaml`, revocationText(person, { kind: 'signer', person }), [ann]);
    const taken = ({ documents }: Foreseen) =>
      documents.map(({ path, forecast }) => [path, forecast?.kind === 'revocation' ? [forecast.touches.map(({ name }) => name), forecast.targets] : null]);
    const held = [{ workload: 'w', before: 's1-v1', after: null, successor: null }];
    for (const person of ['bob', 'cid']) {
      await stand.propose(await signer(person));
      expect(taken(await plan(stand))).toEqual([[`revocations/${person}.yaml`, [[], []]]]);
    }
    const both = { ...(await signer('bob')), ...(await signer('cid')) };
    await stand.propose(both);
    expect(taken(await plan(stand))).toEqual([
      ['revocations/bob.yaml', [[], []]],
      ['revocations/cid.yaml', [['s1-v1'], held]],
    ]);
    await stand.merge(both);
    const { rows } = await stand.pool.query<{ revoked: boolean }>('select revoked_by is not null as revoked from revisions');
    expect(rows, 'as it comes about').toEqual([{ revoked: true }]);
  });
});

it('tells which pods a revocation takes from, and whether its workload has a successor', async () => {
  await withServing(async (stand, first) => {
    await stand.merge(await releaseFiles(2, { previous: digestAt(first, 'releases/w/1.yaml') }));
    await serving(stand, 2);
    const { rows: runs } = await stand.pool.query<{ serial: number; rotation: string }>('select serial, rotation from revisions order by serial');
    for (const { serial, rotation } of runs) {
      const facts = { boots: { 'lab/inference/chat': [`uid-${serial}/c`] } };
      await transaction(stand.pool, (tx) =>
        appendReceipt(tx, { run: rotation, step: 'move-pods', facts, evidence: null, proof: 'observed', verdicts: [], kept: [], moves: null }),
      );
      const boot = {
        cluster: 'lab',
        podUid: `uid-${serial}`,
        containerId: 'c',
        pod: `chat-${serial}`,
        address: '127.64.0.1',
        startedAt: parseInstant('2026-01-01T00:00:00Z'),
      };
      await sightBoots(stand.pool, [boot]);
    }
    const forecastOf = async (subject: Record<string, unknown>, reason = 'keyCompromise'): Promise<TakingForecast> => {
      await stand.propose(await signedBy('revocations/r.yaml', revocationText('r', subject, { reason }), [ann]));
      return only(await plan(stand), 'revocations/r.yaml').forecast satisfies unknown as TakingForecast;
    };
    const workload = await forecastOf({ kind: 'workload', workload: 'w' });
    expect(
      workload.touches.map(({ name, pods }) => [name, pods]),
      'of what was replaced no pod is left',
    ).toEqual([
      ['s1-v1', null],
      ['s2-v2', { 'lab/inference/chat': ['chat-2'] }],
    ]);
    expect(workload.targets).toEqual([{ workload: 'w', before: 's2-v2', after: null, successor: null }]);
    await stand.pool.query(`update revisions set state = 'retired' where serial = 1`);
    const key = { kind: 'key', workload: 'w', epoch: 2 };
    expect((await forecastOf(key)).targets).toEqual([{ workload: 'w', before: 's2-v2', after: null, successor: 's2-v3' }]);
    expect((await forecastOf(key, 'certificateHold')).targets, 'a suspension has none').toMatchObject([{ after: null, successor: null }]);
    const together = await signedBy('revocations/a.yaml', revocationText('a', { kind: 'release', workload: 'w', serial: 2 }), [ann]);
    await stand.propose({ ...together, ...(await signedBy('revocations/r.yaml', revocationText('r', key), [ann])) });
    const both = only(await plan(stand), 'revocations/r.yaml').forecast satisfies unknown as TakingForecast;
    expect(both.targets, 'nor one whose release goes with it').toMatchObject([{ after: null, successor: null }]);
  });
});

it('tells what a reinstatement brings back and where, and that what is no suspension stays revoked', async () => {
  await withServing(async (stand, first) => {
    await stand.merge(await releaseFiles(2, { previous: digestAt(first, 'releases/w/1.yaml') }));
    await serving(stand, 2);
    for (const [id, serial, reason] of [['held', 2, 'certificateHold'] as const, ['lost', 1, 'keyCompromise'] as const])
      await stand.merge(await signedBy(`revocations/${id}.yaml`, revocationText(id, { kind: 'release', workload: 'w', serial }, { reason }), [ann]));
    const reinstatement = (id: string, revocation: string): string =>
      yaml({ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Reinstatement', id, revocation, justification: 'a test' });
    await stand.propose({ 'reinstatements/a.yaml': reinstatement('a', 'held') });
    const lifted = await plan(stand);
    expect(lifted.refused).toBe(false);
    expect(only(lifted, 'reinstatements/a.yaml')).toMatchObject({
      ...{ verdict: 'waiting', reason: 'SignaturesMissing', onceSigned: { verdict: 'accepted' } },
      forecast: {
        kind: 'reinstatement',
        revocation: 'held',
        frees: [{ name: 's2-v2', pathNumber: 1 }],
        targets: [{ workload: 'w', before: null, after: 's2-v2' }],
      },
    });
    await stand.propose({ 'reinstatements/b.yaml': reinstatement('b', 'lost') });
    const refused = await plan(stand);
    expect([only(refused, 'reinstatements/b.yaml').onceSigned?.reason, refused.refused]).toEqual(['NotASuspension', true]);
  });
});

it('tells what a withdrawal falls back to, and that one of everything is refused', async () => {
  await withServing(async (stand, first) => {
    const second = await releaseFiles(2, { previous: digestAt(first, 'releases/w/1.yaml') });
    await stand.merge(second);
    const withdrawal = (id: string, release: string): string =>
      yaml({ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Withdrawal', id, workload: 'w', release, why: 'a test' });
    await stand.propose({ 'withdrawals/w.yaml': withdrawal('w', digestAt(second, 'releases/w/2.yaml')) });
    const taken = await plan(stand);
    expect(only(taken, 'withdrawals/w.yaml')).toMatchObject({
      ...{ verdict: 'waiting', reason: 'SignaturesMissing', onceSigned: { verdict: 'accepted' } },
      forecast: { kind: 'withdrawal', touches: [{ name: 's2-v2', state: 'accepted' }], targets: [{ workload: 'w', before: 's2-v2', after: 's1-v1' }] },
    });
    await stand.pool.query(`update revisions set revoked_by = 'sha256:00' where serial = 1`);
    const nothing = await plan(stand);
    expect([only(nothing, 'withdrawals/w.yaml').onceSigned?.reason, nothing.refused]).toEqual(['NothingToFallBackTo', true]);
  });
});

it('tells when pods may be moved, and what holds them', async () => {
  await withServing(async (stand, first) => {
    const text = await readFile(stand.config, 'utf8');
    await writeFile(stand.config, text.replace('  lab:\n', '  lab:\n    windows: [{ cron: "0 0 1 1 *", minutes: 1, timeZone: UTC }]\n'));
    await stand.propose(await releaseFiles(2, { previous: digestAt(first, 'releases/w/1.yaml') }));
    await stand.pool.query(`insert into runs (id, workflow, workload, ended_at) values ('r-hold', 'hold', '', instant())`);
    await stand.pool.query(`insert into holds (kind, subject, chain, why, held_by) values ('workload', 'w', 'r-hold', 'a test', 'ann')`);
    const { targets, held } = releaseIn(await plan(stand), 'releases/w/2.yaml');
    expect(targets[0]?.windows).toMatchObject({ kind: 'closed', opensAt: expect.stringMatching(/-01-01T00:00:00/) });
    expect(held).toMatchObject({ reason: 'OnHold' });
  });
});

it('tells what of a checkout would not be read', async () => {
  await withStand(async (stand) => {
    const folder = join(stand.folder, 'checkout');
    await checkOut(folder, { 'releases/w/01.yaml': 'x', 'README.md': 'y', 'releases/notes.txt': 'z' });
    await symlink('/etc/passwd', join(folder, 'releases/w/1.yaml'));
    const foreseen = await plan(stand, { checkout: folder });
    expect(foreseen.unread.map(({ path, reason }) => [path, reason])).toEqual([
      ['releases/w/01.yaml', 'WrongPlace'],
      ['releases/w/1.yaml', 'WrongPlace'],
    ]);
    expect(foreseen.refused).toBe(true);
  });
});

it(
  'prints Markdown in which a document’s words stay words',
  async () => {
    await withServing(async (stand, first) => {
      const artifact = { ...KEEP, source: 'plaintext', address: 'file:///a`b` @all ![x](http://x)', plaintextManifest: `sha256:${'5'.repeat(64)}` };
      await stand.propose(
        await releaseFiles(2, {
          previous: digestAt(first, 'releases/w/1.yaml'),
          change: { artifact: { ...artifact, address: artifact.address.replace('\u001b', '') } },
        }),
      );
      const { output, code } = await keyturn('plan', '--config', stand.config, '--ref', 'refs/pull/7/head', '--markdown');
      expect([code, output.startsWith('## keyturn plan: yes')]).toEqual([0, true]);
      expect(output).toContain('`` file:///a`b` @all ![x](http://x) ``');
      const plain = await keyturn('plan', '--config', stand.config, '--ref', 'refs/pull/7/head');
      expect(plain.output).toContain('accepted releases/w/2.yaml');
    });
  },
  SPAWNING_SECONDS * 1000,
);

it('needs no more than a role that may read every table but the secret one, and so does why', async () => {
  await withServing(async (stand, first) => {
    const role = `reader_${randomBytes(6).toString('hex')}`;
    await stand.pool.query(`create role ${role}; grant select on all tables in schema public to ${role}; revoke all on resources from ${role}`);
    try {
      const url = join(stand.folder, 'database-url');
      await writeFile(url, `${await readFile(url, 'utf8')}?options=-c%20role%3D${role}`);
      await stand.propose(await releaseFiles(2, { previous: digestAt(first, 'releases/w/1.yaml'), change: { artifact: KEEP } }));
      expect(only(await plan(stand), 'releases/w/2.yaml').verdict).toBe('accepted');
      expect((await whyOf(stand.config, 'w')).kind).toBe('workload');
    } finally {
      await stand.pool.query(`drop owned by ${role}; drop role ${role}`);
    }
  });
});

it(
  'could not be answered is 1, said wrongly is 2',
  async () => {
    await withStand(async (stand) => {
      const codes = await Promise.all([
        keyturn('plan', '--config', stand.config, '--ref', 'nosuch'),
        keyturn('plan', '--config', stand.config, '--checkout', join(stand.folder, 'nosuch')),
        keyturn('plan', '--config', stand.config),
        keyturn('plan', '--config', stand.config, '--ref', 'main', '--checkout', '.'),
      ]);
      expect(codes.map(({ code }) => code)).toEqual([1, 1, 2, 2]);
      await stand.pool.query(`update installation set name = 'another'`);
      await expect(planOf(stand.config, { ref: 'main' })).rejects.toMatchObject({ reason: 'Conflict' });
    });
  },
  SPAWNING_SECONDS * 1000,
);
