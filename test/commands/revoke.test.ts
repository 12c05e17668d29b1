import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import { draftRevocation, type NewRevocation, writeRevocation } from '#src/commands/new-revocation.ts';
import { revokeFile } from '#src/commands/revoke-file.ts';
import { revokedIn, type SubjectOptions } from '#src/commands/revoke-subject.ts';
import { digestOf } from '#src/digest.ts';
import { isFault } from '#src/errors.ts';
import { runGit } from '#src/lab/host.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { type Files, makePerson, revocationText, signedBy, trustText } from '../documents/people.ts';
import { allRows, ann, bob, checkOut, cid, digestAt, keyturn, releaseFiles, SPAWNING_SECONDS, type Stand, serving, withStand } from './stand.ts';

const PATH = 'revocations/leak.yaml';
const KEY = { kind: 'key', workload: 'w', epoch: 1 } as const;

/** The same configuration, with a Git host that nobody reaches. */
async function withoutGit({ folder, config }: Stand): Promise<string> {
  const text = parse(await readFile(config, 'utf8')) as { repository: object };
  const file = join(folder, 'without-git.yaml');
  await writeFile(file, stringify({ ...text, repository: { ...text.repository, url: 'http://127.0.0.1:1/gone' } }));
  return file;
}

/** Serial 1 serves, and a signed revocation lies on a disk. */
async function withLeak(files: Files, fn: (stand: Stand, config: string, file: string) => Promise<void>): Promise<void> {
  await withStand(async (stand) => {
    await stand.merge(await releaseFiles(1, { previous: null }));
    await serving(stand, 1);
    await checkOut(join(stand.folder, 'usb'), files);
    await fn(stand, await withoutGit(stand), join(stand.folder, 'usb', PATH));
  });
}

const leak = (people = [ann]): Promise<Files> => signedBy(PATH, revocationText('leak', KEY), people);

/** What stands of revocations: how often accepted, runs, whether the revision is revoked, whether its paths are denied. */
async function standing({ pool }: Stand): Promise<object> {
  const { rows } = await pool.query(
    `select (select count(*)::int from events where event = 'revocation-accepted') as told,
       (select count(*)::int from runs where workflow = 'revoke') as runs,
       (select count(*)::int from revisions where revoked_by is not null) as revoked,
       (select present from documents where path = $1) as present`,
    [PATH],
  );
  return rows[0];
}

describe('revoke --file', () => {
  it('accepts without Git, and once: also when the same bytes appear on the branch, and when they do not', async () => {
    const files = await leak();
    await withLeak(files, async (stand, config, file) => {
      const first = await revokeFile(config, { file, bundles: [] });
      expect(first).toMatchObject({ already: false, outcome: { verdict: 'accepted', path: PATH } });
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: false });
      expect(await revokeFile(config, { file, bundles: [] })).toMatchObject({ already: true, outcome: { verdict: 'accepted' } });
      // Git is back, and does not have it.
      await stand.merge({ 'notes.txt': 'something else' });
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: false });
      // Its signatures are asked again, by whoever carries it out.
      const loaders = documentLoaders({ pool: stand.pool, verifyBundle, initialDigest: digestOf(trustText([ann, bob, cid])), sample: true });
      expect(await loaders.revocation(digestAt(files, PATH))).toMatchObject({ id: 'leak', approvedBy: ['ann'] });
      await stand.merge(files);
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: true });
      // And goes again: it stands.
      await stand.merge(Object.fromEntries(Object.keys(files).map((path) => [path, null])));
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: false });
      expect(await loaders.revocation(digestAt(files, PATH))).toMatchObject({ id: 'leak' });
    });
  });

  it('stores nothing of what nobody signed, of a stranger’s, and of what is no revocation', async () => {
    await withLeak(
      { ...(await leak([])), ...(await signedBy('revocations/other.yaml', revocationText('other', KEY), [makePerson('eve')])) },
      async (stand, config, file) => {
        const before = await allRows(stand.pool);
        expect(await revokeFile(config, { file, bundles: [] })).toMatchObject({ outcome: { verdict: 'waiting', reason: 'UnsignedRevocation' } });
        const stranger = await revokeFile(config, { file: join(stand.folder, 'usb/revocations/other.yaml'), bundles: [] });
        expect(stranger.outcome.verdict).toBe('waiting');
        await writeFile(join(stand.folder, 'usb/revocations/junk.yaml'), 'kind: Release\n');
        const junk = revokeFile(config, { file: join(stand.folder, 'usb/revocations/junk.yaml'), bundles: [] });
        expect(await junk.catch((thrown: unknown) => (isFault(thrown) ? thrown.reason : thrown))).toBe('WrongPlace');
        expect(await allRows(stand.pool)).toBe(before);
      },
    );
  });

  it('completes what the branch showed unsigned, and takes bundles by name', async () => {
    const files = await leak([]);
    await withLeak(files, async (stand, config, file) => {
      await stand.merge(files);
      expect(await standing(stand)).toMatchObject({ told: 0, revoked: 0 });
      const bundle = Object.entries(await leak()).find(([path]) => path.endsWith('.json'))?.[1] ?? '';
      await writeFile(join(stand.folder, 'signature'), bundle);
      expect(await revokeFile(config, { file, bundles: [join(stand.folder, 'signature')] })).toMatchObject({ outcome: { verdict: 'accepted' } });
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: true });
    });
  });
});

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
  [{ target: 'east/chat' }, '--target: expected'],
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
      const pushed = await keyturn(...words, '--sign-key', join(folder, 'ann.pem'), '--push', '--json');
      expect([pushed.code, pushed.errors]).toEqual([0, '']);
      expect(JSON.parse(pushed.output)).toMatchObject({ path: PATH, committed: true, pushed: true });
      await stand.merge({});
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: true });
    });
  });
});
