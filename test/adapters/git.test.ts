import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { gitConfig } from '#src/adapters/git/config.ts';
import { openGit } from '#src/adapters/git/index.ts';
import { FOLDERS } from '#src/domain/documents/places.ts';
import { changed, pathsOf, RELEASE, withFront, withGit } from './git-parts.ts';

describe('the branch is followed forward', () => {
  it('reads documents and bundles of the watched folders, and nothing else', () =>
    withGit(async (lab, git) => {
      const commit = await lab.commit(
        { [RELEASE]: 'a', 'releases/w/1.ann.sigstore.json': '{}', 'README.md': 'x', 'releases/README.md': 'x', 'src/1.yaml': 'x' },
        'first',
      );
      const poll = changed(await git.poll(null));
      expect(poll).toMatchObject({ commit, descends: true });
      expect(poll.snapshot.files.map(({ path, bytes }) => [path, Buffer.from(bytes).toString()])).toEqual([
        ['releases/w/1.ann.sigstore.json', '{}'],
        [RELEASE, 'a'],
      ]);
    }));

  it('says unchanged where the tip is the known commit, without fetching', () =>
    withGit(async (lab, git) => {
      const commit = await lab.commit({ [RELEASE]: 'a' }, 'first');
      expect(await git.poll(commit)).toEqual({ kind: 'unchanged', commit });
    }));

  it('sees a tip many commits ahead as a descendant, also after its memory was lost', () =>
    withGit(async (lab, git) => {
      const first = await lab.commit({ [RELEASE]: 'a' }, 'first');
      await git.poll(null);
      for (let serial = 2; serial < 8; serial += 1) await lab.commit({ [`releases/w/${serial}.yaml`]: 'b' }, 'more');
      expect(changed(await git.poll(first)).descends).toBe(true);
      const fresh = openGit({ url: lab.url, branch: 'main' });
      expect(changed(await fresh.poll(first)).descends).toBe(true);
      await fresh.close();
    }));

  it('names the watched folders that moved, and shows those too that did not', () =>
    withGit(async (lab, git) => {
      const first = await lab.commit({ [RELEASE]: 'a', 'trust/1.yaml': 't', 'revocations/a.yaml': 'r' }, 'first');
      expect(changed(await git.poll(null)).moved).toHaveLength(FOLDERS.length);
      const second = await lab.commit({ 'revocations/b.yaml': 'r' }, 'a revocation');
      const poll = changed(await git.poll(first));
      expect(poll.moved).toEqual(['revocations']);
      expect(pathsOf(poll)).toEqual([RELEASE, 'revocations/a.yaml', 'revocations/b.yaml', 'trust/1.yaml']);
      await lab.commit({ 'revocations/a.yaml': null, 'revocations/b.yaml': null, 'README.md': 'x' }, 'all are gone');
      expect(changed(await git.poll(second)).moved).toEqual(['revocations']);
      const fresh = openGit({ url: lab.url, branch: 'main' });
      expect(changed(await fresh.poll(first)).moved).toEqual(['revocations']);
      expect(changed(await fresh.poll('0'.repeat(40))).moved).toHaveLength(FOLDERS.length);
      await fresh.close();
    }));

  it('reads anew what it left out of a folder, though nothing moved there', () =>
    withGit(async (lab, git) => {
      await lab.commit({ [RELEASE]: 'a', 'releases/w/2.yaml': 'x'.repeat(256 * 1024 + 1) }, 'first');
      await git.poll(null);
      await lab.commit({ 'trust/1.yaml': 't' }, 'second');
      const { snapshot } = changed(await git.poll(null));
      expect(snapshot.files.map(({ path }) => path)).toEqual([RELEASE, 'trust/1.yaml']);
      expect(snapshot.unread).toMatchObject([{ path: 'releases/w/2.yaml', reason: 'LimitExceeded' }]);
    }));

  it('says that a rewritten history does not descend, and still reads it', () =>
    withGit(async (lab, git) => {
      const base = await lab.commit({ [RELEASE]: 'a' }, 'first');
      const known = await lab.commit({ 'releases/w/2.yaml': 'b' }, 'second');
      await git.poll(null);
      await lab.rewrite(base, { 'revocations/x.yaml': 'r' }, 'forced');
      const poll = await git.poll(known);
      expect(changed(poll).descends).toBe(false);
      expect(pathsOf(poll)).toContain('revocations/x.yaml');
      expect(changed(await git.poll(base)).descends).toBe(true);
    }));

  it('takes the first-parent line for the branch: a commit that came in as a second parent is not on it', () =>
    withGit(async (lab, git) => {
      const base = await lab.commit({ [RELEASE]: 'a' }, 'base');
      const known = await lab.commit({ 'releases/w/2.yaml': 'b' }, 'known');
      const tree = (await lab.git(['rev-parse', `${base}^{tree}`])).trim();
      const side = (await lab.git(['commit-tree', tree, '-p', base, '-m', 'side'])).trim();
      const merge = (parents: readonly string[]): Promise<string> => lab.git(['commit-tree', tree, ...parents.flatMap((one) => ['-p', one]), '-m', 'merge']);
      await lab.git(['update-ref', 'refs/heads/main', (await merge([side, known])).trim()]);
      expect(changed(await git.poll(known)).descends).toBe(false);
      await lab.git(['update-ref', 'refs/heads/main', (await merge([known, side])).trim()]);
      expect(changed(await git.poll(known)).descends).toBe(true);
    }));

  it('reads the branch, never a tag or a longer branch of the same name', () =>
    withGit(async (lab, git) => {
      const commit = await lab.commit({ [RELEASE]: 'a' }, 'first');
      const other = (await lab.git(['commit-tree', '4b825dc642cb6eb9a060e54bf8d69288fbee4904', '-m', 'other'], '')).trim();
      await lab.git(['mktree'], '');
      for (const ref of ['refs/tags/main', 'refs/heads/main-2', 'refs/pull/1/head', 'refs/heads/a/refs/heads/main']) await lab.git(['update-ref', ref, other]);
      const poll = changed(await git.poll(null));
      expect(poll.commit).toBe(commit);
      expect(poll.snapshot.files).toHaveLength(1);
    }));

  it('fetches what is new alone', () =>
    withGit(async (lab) => {
      await lab.commit({ 'revocations/a.yaml': 'x'.repeat(200_000).replaceAll('x', () => Math.random().toString(36)[2] ?? 'y') }, 'large');
      const sizes: number[] = [];
      await withFront(
        lab,
        async (url, _body, pass) => {
          const body = await pass();
          if (url.endsWith('/git-upload-pack')) sizes.push(body.length);
          return { status: 200, body };
        },
        async (url) => {
          const git = openGit({ url, branch: 'main' });
          await git.poll(null);
          await lab.commit({ [RELEASE]: 'a' }, 'small');
          expect(pathsOf(await git.poll(null))).toEqual(['releases/w/1.yaml', 'revocations/a.yaml'].sort());
          await git.close();
        },
      );
      expect(Math.max(...sizes)).toBeGreaterThan(50_000);
      expect(sizes.at(-1)).toBeLessThan(5_000);
    }));
});

describe('only plain files are read', () => {
  it('refuses links, executables, submodules and names in capitals, and reads what lies beside them', () =>
    withGit(async (lab, git) => {
      const base = await lab.commit({ [RELEASE]: 'a' }, 'first');
      const blob = (await lab.git(['hash-object', '-w', '--stdin'], '/etc/passwd')).trim();
      const entries = [
        `120000 blob ${blob}\t2.yaml`,
        `100755 blob ${blob}\t3.yaml`,
        `160000 commit ${base}\t4.yaml`,
        `100644 blob ${blob}\t5.YAML`,
        `100644 blob ${blob}\t01.yaml`,
        `100644 blob ${blob}\t1.yaml`,
      ];
      const inner = (await lab.git(['mktree', '--missing'], `${entries.join('\n')}\n`)).trim();
      const releases = (await lab.git(['mktree'], `040000 tree ${inner}\tw\n`)).trim();
      const root = (await lab.git(['mktree'], `040000 tree ${releases}\treleases\n120000 blob ${blob}\trevocations\n`)).trim();
      await lab.git(['update-ref', 'refs/heads/main', (await lab.git(['commit-tree', root, '-p', base, '-m', 'odd'])).trim()]);
      const { snapshot } = changed(await git.poll(base));
      expect(snapshot.files.map(({ path }) => path)).toEqual([RELEASE]);
      expect(snapshot.unread.map(({ path, reason }) => `${path} ${reason}`).sort()).toEqual([
        'releases/w/01.yaml WrongPlace',
        'releases/w/2.yaml NotPlainFile',
        'releases/w/3.yaml NotPlainFile',
        'releases/w/4.yaml NotPlainFile',
        'releases/w/5.YAML WrongPlace',
        'revocations NotPlainFile',
      ]);
    }));

  it('does not follow .. out of the tree, nor links to named files', () =>
    withGit(async (lab, git) => {
      const base = await lab.commit({ 'guests/w/1.toml': 'init', [RELEASE]: 'a' }, 'first');
      const blob = (await lab.git(['hash-object', '-w', '--stdin'], 'guests/w/1.toml')).trim();
      const root = (await lab.git(['mktree'], `120000 blob ${blob}\tlink.toml\n100644 blob ${blob}\tplain.toml\n`)).trim();
      const tip = (await lab.git(['commit-tree', root, '-p', base, '-m', 'odd'])).trim();
      await lab.git(['update-ref', 'refs/heads/main', tip]);
      await git.poll(null);
      expect(await git.read(tip, ['link.toml', '../plain.toml', './plain.toml', 'none', 'plain.toml/x'])).toEqual([]);
      expect((await git.read(tip, ['plain.toml'])).map(({ path }) => path)).toEqual(['plain.toml']);
      expect(Buffer.from((await git.read(base, ['guests/w/1.toml']))[0]?.bytes ?? []).toString()).toBe('init');
    }));

  it('leaves out what is too large, and reads what lies beside it', () =>
    withGit(async (lab, git) => {
      await lab.commit({ [RELEASE]: 'x'.repeat(256 * 1024 + 1), 'releases/w/2.yaml': 'b' }, 'first');
      const poll = changed(await git.poll(null));
      expect(pathsOf(poll)).toEqual(['releases/w/2.yaml']);
      expect(poll.snapshot.unread).toMatchObject([{ path: RELEASE, reason: 'LimitExceeded' }]);
    }));

  it('takes the tree that Git itself takes where a commit names two', () =>
    withGit(async (lab, git) => {
      const base = await lab.commit({ [RELEASE]: 'good' }, 'good');
      const evil = await lab.commit({ [RELEASE]: 'evil' }, 'evil');
      const trees = await Promise.all([base, evil].map(async (one) => (await lab.git(['rev-parse', `${one}^{tree}`])).trim()));
      const who = 'lab <lab@keyturn.invalid> 1 +0000';
      const text = `tree ${trees[0]}\nparent ${base}\nauthor ${who}\ncommitter ${who}\ngpgsig x\ntree ${trees[1]}\n\nmessage\n`;
      const odd = (await lab.git(['hash-object', '-t', 'commit', '-w', '--stdin', '--literally'], text)).trim();
      await lab.git(['update-ref', 'refs/heads/main', odd]);
      const read = async (known: string | null) => {
        const { snapshot, descends } = changed(await git.poll(known));
        return [snapshot.files.map(({ bytes }) => Buffer.from(bytes).toString()), snapshot.unread.map(({ reason }) => reason), descends];
      };
      expect(await read(base)).toEqual([['good'], ['ObjectMalformed'], true]);
      // Git takes no parents from behind a second tree.
      const early = `tree ${trees[0]}\ntree ${trees[1]}\nparent ${base}\nauthor ${who}\ncommitter ${who}\n\nmessage\n`;
      await lab.git(['update-ref', 'refs/heads/main', (await lab.git(['hash-object', '-t', 'commit', '-w', '--stdin', '--literally'], early)).trim()]);
      expect(await read(base)).toEqual([['good'], ['ObjectMalformed'], false]);
    }));
});

describe('the configuration', () => {
  it.each(['http://git.example/a.git', 'https://user:pass@git.example/a.git', 'ssh://git.example/a.git', 'https://git.example/a.git?token=x'])(
    'refuses %s',
    (url) => {
      expect(gitConfig.safeParse({ url, branch: 'main' }).success).toBe(false);
    },
  );
  it.each(['../main', 'refs/../main', '-x', 'a..b', 'a//b', 'main.lock', '/main', 'main/'])('refuses the branch %s', (branch) => {
    expect(gitConfig.safeParse({ url: 'https://git.example/a.git', branch }).success).toBe(false);
  });
  it('takes https, and http on this machine', () => {
    for (const url of ['https://git.example/a.git', 'http://127.0.0.1:8080/releases.git'])
      expect(gitConfig.safeParse({ url, branch: 'main' }).success).toBe(true);
  });
});

it('reads the same files as git does', () =>
  withGit(async (lab, git, folder) => {
    for (let serial = 1; serial < 16; serial += 1)
      await lab.commit(
        {
          [`releases/w${serial % 5}/${serial}.yaml`]: `line\n`.repeat(200) + serial,
          ...(serial > 3 ? { [`releases/w${(serial - 3) % 5}/${serial - 3}.yaml`]: null } : {}),
        },
        'x',
      );
    const poll = changed(await git.poll(null));
    const listed = execFileSync('git', ['--git-dir', join(folder, 'releases.git'), '--no-replace-objects', 'ls-tree', '-r', '--name-only', poll.commit])
      .toString()
      .trim()
      .split('\n')
      .sort();
    expect(pathsOf(poll)).toEqual(listed);
  }));
