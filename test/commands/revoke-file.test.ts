import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import { revokeFile } from '#src/commands/revoke-file.ts';
import { digestOf } from '#src/digest.ts';
import { isFault } from '#src/errors.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { type Files, makePerson, revocationText, signedBy, trustText } from '../documents/people.ts';
import { KEY, PATH, standing } from './revocation-standing.ts';
import { allRows, ann, bob, checkOut, cid, digestAt, keyturn, releaseFiles, SPAWNING_SECONDS, type Stand, serving, withStand } from './stand.ts';

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

  it('refuses at a KBS that no replica has met yet, and under a trust document that was pinned later', async () => {
    await withLeak(await leak(), async (stand, config, file) => {
      const text = parse(await readFile(config, 'utf8')) as { kbs: { main: object }; trust: { initialDigest: string; formerDigests?: string[] } };
      const next = trustText([ann, bob, cid], { version: 2 });
      await stand.merge({ 'trust/2.yaml': next });
      await stand.pool.query(`update documents set verdict = 'accepted', judged_at = instant() where path = 'trust/2.yaml'`);
      const formerDigests = [text.trust.initialDigest];
      await writeFile(
        config,
        stringify(
          {
            ...text,
            kbs: { ...text.kbs, second: { ...text.kbs.main, url: 'http://127.0.0.1:2', publicUrl: 'https://second.test:8443' } },
            trust: { ...text.trust, initialDigest: digestOf(next), formerDigests },
          },
          { aliasDuplicateObjects: false },
        ),
      );
      expect(await revokeFile(config, { file, bundles: [] })).toMatchObject({ outcome: { verdict: 'accepted' } });
      const { rows } = await stand.pool.query(`select kbs, count(*)::int as entries from deny_list where because <> 'retired' group by kbs order by kbs`);
      expect(rows).toEqual([
        { kbs: 'main', entries: 1 },
        { kbs: 'second', entries: 1 },
      ]);
    });
  });

  it('reads no file that is too large, and not so many bundles', async () => {
    await withLeak(await leak(), async ({ folder }, config, file) => {
      const reasonOf = (bundles: readonly string[], document = file): Promise<unknown> =>
        revokeFile(config, { file: document, bundles }).catch((thrown: unknown) => (isFault(thrown) ? thrown.reason : thrown));
      await writeFile(join(folder, 'large'), Buffer.alloc(2 * 1024 * 1024));
      expect(await reasonOf([], join(folder, 'large'))).toBe('LimitExceeded');
      expect(await reasonOf([join(folder, 'large')])).toBe('LimitExceeded');
      expect(await reasonOf(Array.from({ length: 51 }, () => file))).toBe('LimitExceeded');
      expect(await reasonOf([], join(folder, 'nowhere'))).toBe('NotFound');
    });
  });

  it('is a command: 0 accepted, and again; 3 short of a signature, with nothing stored; 2 with words that do not belong together', {
    timeout: SPAWNING_SECONDS * 1000,
  }, async () => {
    await withLeak({ ...(await leak()), ...(await signedBy('revocations/other.yaml', revocationText('other', KEY), [])) }, async (stand, config, file) => {
      const asked = (document: string, ...more: readonly string[]) => keyturn('revoke', '--file', document, '--config', config, ...more);
      const short = await asked(join(stand.folder, 'usb/revocations/other.yaml'));
      expect([short.code, short.output]).toEqual([3, expect.stringContaining('nothing was stored')]);
      expect((await asked(file, '--dry-run')).code).toBe(2);
      expect(await standing(stand)).toMatchObject({ told: 0, revoked: 0 });
      const first = await asked(file, '--json');
      expect([first.code, JSON.parse(first.output)]).toMatchObject([0, { verdict: 'accepted', already: false }]);
      const again = await asked(file);
      expect([again.code, again.output]).toEqual([0, expect.stringContaining('was accepted before')]);
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: false });
    });
  });

  it('completes what the branch showed unsigned, and takes bundles by name', async () => {
    const files = await leak([]);
    await withLeak(files, async (stand, config, file) => {
      await stand.merge(files);
      expect(await standing(stand)).toMatchObject({ told: 0, revoked: 0 });
      const bundle = Object.entries(await leak()).find(([path]) => path.endsWith('.json'))?.[1] ?? '';
      await writeFile(join(stand.folder, 'signature'), bundle);
      expect(await revokeFile(config, { file, bundles: [join(stand.folder, 'signature')] })).toMatchObject({ outcome: { verdict: 'accepted' } });
      const { rows: bundles } = await stand.pool.query('select path from bundles where document_path = $1', [PATH]);
      expect(bundles).toEqual([{ path: 'revocations/leak.bundle-1.sigstore.json' }]);
      expect(await standing(stand)).toEqual({ told: 1, runs: 1, revoked: 1, present: true });
    });
  });
});
