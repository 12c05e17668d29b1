import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { draftRevocation, type NewRevocation, writeRevocation } from '#src/commands/new-revocation.ts';
import { revokedIn, type SubjectOptions } from '#src/commands/revoke-subject.ts';
import { isFault } from '#src/errors.ts';
import { runGit } from '#src/lab/host.ts';
import { makePerson } from '../documents/people.ts';
import { KEY, PATH, standing } from './revocation-standing.ts';
import { allRows, ann, keyturn, releaseFiles, SPAWNING_SECONDS, serving, withStand } from './stand.ts';

const SUBJECTS: readonly (readonly [SubjectOptions, unknown])[] = [
  [{ path: 'eu/w/s1' }, { kind: 'key', path: 'eu/w/s1' }],
  [{ keyId: 'k' }, { kind: 'key', keyId: 'k' }],
  [
    { workload: 'w', epoch: 4 },
    { kind: 'key', workload: 'w', epoch: 4 },
  ],
  [
    { workload: 'w', serial: 12 },
    { kind: 'release', workload: 'w', serial: 12 },
  ],
  [{ workload: 'w' }, { kind: 'workload', workload: 'w' }],
  [{ all: true }, { kind: 'all' }],
  [{ chipId: 'c' }, { kind: 'device', chipId: 'c' }],
  [{ ueid: 'u' }, { kind: 'device', ueid: 'u' }],
  [{ target: 'east/inference/chat' }, { kind: 'target', cluster: 'east', namespace: 'inference', name: 'chat' }],
  [{ referenceValue: 'svn=2' }, { kind: 'reference-value', name: 'svn', value: '2' }],
  [{ referenceValue: 'debug=true' }, { kind: 'reference-value', name: 'debug', value: true }],
  [{ referenceValue: 'debug="true"' }, { kind: 'reference-value', name: 'debug', value: 'true' }],
  [{ referenceValue: 'svn=:=2' }, { kind: 'reference-value', name: 'svn', value: ':=2' }],
  [{ referenceValue: 'tcb:=7' }, { kind: 'reference-value', name: 'tcb', value: 7 }],
  [{ referenceValue: 'tcb:="7"' }, { kind: 'reference-value', name: 'tcb', value: '7' }],
  [{ referenceValue: 'tcb:=[7, "8", false]' }, { kind: 'reference-value', name: 'tcb', value: [7, '8', false] }],
  [
    { signer: 'bob', since: '2026-11-20T00:00:00Z' },
    { kind: 'signer', person: 'bob', since: '2026-11-20T00:00:00Z' },
  ],
  [{}, 'what is revoked?'],
  [{ all: true, workload: 'w' }, 'one revocation is of one thing'],
  [{ epoch: 1 }, '--epoch and --serial are of a --workload'],
  [{ workload: 'w', epoch: 1, serial: 1 }, '--epoch names a key'],
  [{ path: 'eu/w/s1', since: '2026-11-20T00:00:00Z' }, '--key and --since are of a --signer'],
  [
    { signer: 'bob', key: `sha256:${'1'.repeat(64)}` },
    { kind: 'signer', person: 'bob', key: `sha256:${'1'.repeat(64)}` },
  ],
  [{ serial: 1 }, '--epoch and --serial are of a --workload'],
  [{ all: true, key: 'k' }, '--key and --since are of a --signer'],
  [{ path: 'eu/w/s1', keyId: 'k' }, 'one revocation is of one thing'],
  [{ target: 'east/chat' }, '--target: expected'],
  [{ target: 'east/inference/chat/0' }, '--target: expected'],
  [{ referenceValue: 'svn' }, '--reference-value: expected name=text, or name:=JSON'],
  ...['svn=', ':=7', 'tcb:=', 'tcb:=seven', 'tcb:={"a":1}', 'tcb:=null', 'tcb:=[]', 'tcb:=[[7]]', 'tcb:=9007199254740993'].map(
    (referenceValue) => [{ referenceValue }, '--reference-value: expected name=text, or name:=JSON'] as const,
  ),
];

describe('revoke writes', () => {
  it.each(SUBJECTS)('%j as its subject, or says what is missing', (options, expected) => {
    const subject = revokedIn(options);
    if (typeof expected === 'string') expect(subject).toContain(expected);
    else expect(subject).toEqual(expected);
  });

  const told = (tree: string, change: Partial<NewRevocation> = {}): NewRevocation => ({
    ...{ subject: KEY, reason: 'keyCompromise', why: 'in a log', recovery: null, evict: false, destroy: false, id: null, tree, signature: null },
    ...change,
  });

  it('a document that a revoker’s key makes count, beside those that are there, and over none', async () => {
    await withStand(async ({ folder }) => {
      const tree = join(folder, 'tree');
      await runGit(folder, ['clone', '--quiet', join(folder, 'releases.git'), tree]);
      const keyFile = join(folder, 'ann.pem');
      await writeFile(keyFile, ann.privatePem);
      const signature = { keyFile, signer: null };
      const first = await draftRevocation(told(tree, { signature }), '2026-11-23');
      expect([first.path, first.notes]).toEqual(['revocations/2026-11-23-key-w-1.yaml', []]);
      await writeRevocation(tree, first);
      expect((await draftRevocation(told(tree, { signature }), '2026-11-23')).path).toBe('revocations/2026-11-23-key-w-1-2.yaml');
      expect(await writeRevocation(tree, first).catch((thrown: unknown) => (isFault(thrown) ? thrown.reason : thrown))).toBe('Conflict');
      expect((await readdir(join(tree, 'revocations'))).sort()).toEqual(['2026-11-23-key-w-1.ann.sigstore.json', '2026-11-23-key-w-1.yaml']);
      await writeFile(join(folder, 'eve.pem'), makePerson('eve').privatePem);
      const eve = await draftRevocation(told(tree, { signature: { keyFile: join(folder, 'eve.pem'), signer: null } }), '2026-11-23');
      expect(eve.notes.join()).toContain('would not count yet');
      const wide = await draftRevocation(told(tree, { signature, subject: { kind: 'all' }, evict: true }), '2026-11-23');
      expect(wide.notes.join()).toContain('recoverers');
    });
  });

  it('what was asked for and nothing else; how recovery usually follows; an id that is a name whatever is named', async () => {
    await withStand(async ({ folder }) => {
      const drafted = async (change: Partial<NewRevocation>) => (await draftRevocation(told(folder, change), '2026-11-23')).document;
      expect(await drafted({})).toMatchObject({
        evict: false,
        destroy: false,
        reason: 'keyCompromise',
        why: 'in a log',
        recovery: expect.stringContaining('a new release'),
      });
      expect(await drafted({ evict: true })).toMatchObject({ evict: true, destroy: false });
      expect(await drafted({ destroy: true })).toMatchObject({ evict: false, destroy: true });
      expect((await drafted({ reason: 'certificateHold' })).recovery).toContain('a reinstatement');
      expect((await drafted({ recovery: 'by the board' })).recovery).toBe('by the board');
      expect((await drafted({ id: 'mine' })).id).toBe('mine');
      const long = (await drafted({ subject: { kind: 'reference-value', name: 'svn', value: '–'.repeat(50) + 'x'.repeat(200) } })).id;
      expect(long).toMatch(/^2026-11-23-reference-value-svn-x{27,31}$/);
    });
  });

  it('all of its files or none, and says of a signature what it would not carry', async () => {
    await withStand(async ({ folder }) => {
      const tree = join(folder, 'tree');
      await runGit(folder, ['clone', '--quiet', join(folder, 'releases.git'), tree]);
      await writeFile(join(folder, 'ann.pem'), ann.privatePem);
      await writeFile(join(folder, 'large.pem'), 'x'.repeat(65 * 1024));
      const by = (keyFile: string, signer: string | null = null) => ({ signature: { keyFile: join(folder, keyFile), signer } });
      const faults: unknown[] = [];
      for (const signature of [by('nobody.pem'), by('large.pem'), by('ann.pem', 'Ann Smith'), by('ann.pem', '../ann')])
        faults.push(await draftRevocation(told(tree, signature), '2026-11-23').catch((thrown: unknown) => (isFault(thrown) ? thrown.reason : thrown)));
      expect(faults).toEqual(['NotFound', 'LimitExceeded', 'InvalidRequest', 'InvalidRequest']);
      const signed = await draftRevocation(told(tree, { ...by('ann.pem'), destroy: true, id: 'leak' }), '2026-11-23');
      expect(signed.notes.join()).toContain('approvers');
      expect((await draftRevocation(told(tree), '2026-11-23')).notes.join()).toContain('nobody has signed it');
      expect((await draftRevocation(told(folder, by('ann.pem')), '2026-11-23')).notes.join()).toContain('trust/1.yaml is not in this folder');
      // The bundle of somebody lies there alone: the document is not left behind without its own.
      await mkdir(join(tree, 'revocations'), { recursive: true });
      await writeFile(join(tree, 'revocations/leak.ann.sigstore.json'), 'somebody’s');
      await writeRevocation(tree, { ...signed, files: signed.files.toReversed() }).catch(() => undefined);
      expect(await writeRevocation(tree, signed).catch((thrown: unknown) => (isFault(thrown) ? thrown.reason : thrown))).toBe('Conflict');
      expect(await readdir(join(tree, 'revocations'))).toEqual(['leak.ann.sigstore.json']);
      expect(await readFile(join(tree, 'revocations/leak.ann.sigstore.json'), 'utf8')).toBe('somebody’s');
    });
  });

  it('names the field that cannot be', async () => {
    await withStand(async ({ folder }) => {
      const drafting = draftRevocation(told(folder, { subject: { kind: 'key', path: 'no path' } }), '2026-11-23');
      expect(await drafting.catch((thrown: unknown) => (isFault(thrown) ? thrown.message : thrown))).toContain('subject');
    });
  });
});

describe('keyturn revoke', () => {
  it('pushes a signed one, tells the blast radius, and says usage', { timeout: SPAWNING_SECONDS * 1000 }, async () => {
    await withStand(async (stand) => {
      const { folder, config, pool } = stand;
      await stand.merge(await releaseFiles(1, { previous: null }));
      await serving(stand, 1);
      const tree = join(folder, 'tree');
      await runGit(folder, ['clone', '--quiet', join(folder, 'releases.git'), tree]);
      for (const [name, value] of [
        ['user.name', 'ann'],
        ['user.email', 'ann@keyturn.invalid'],
      ] as const)
        await runGit(tree, ['config', name, value]);
      await writeFile(join(folder, 'ann.pem'), ann.privatePem);
      const words = ['revoke', '--workload', 'w', '--epoch', '1', '--reason', 'keyCompromise', '--why', 'in a log', '--id', 'leak', '--tree', tree];
      const before = await allRows(pool);
      const dry = await keyturn(...words, '--dry-run', '--config', config, '--json');
      expect(dry.code).toBe(0);
      expect(JSON.parse(dry.output)).toMatchObject({ documents: [{ path: PATH, forecast: { kind: 'revocation', touches: [{ workload: 'w' }] } }] });
      expect(await allRows(pool)).toBe(before);
      expect((await keyturn(...words, '--push')).code).toBe(2);
      expect((await keyturn('revoke', '--all')).code).toBe(2);
      // What else is staged there is somebody's work, and no part of it.
      await writeFile(join(tree, 'half-done.txt'), 'half done');
      await runGit(tree, ['add', 'half-done.txt']);
      const pushed = await keyturn(...words, '--sign-key', join(folder, 'ann.pem'), '--push', '--json');
      expect([pushed.code, pushed.errors]).toEqual([0, '']);
      expect(JSON.parse(pushed.output)).toMatchObject({ path: PATH, committed: true, pushed: true });
      expect((await stand.lab.git(['show', '--name-only', '--format=%s', 'refs/heads/main'])).trim().split('\n').filter(Boolean)).toEqual([
        'Revoke: leak',
        'revocations/leak.ann.sigstore.json',
        PATH,
      ]);
      await stand.merge({});
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: true });
    });
  });
});
