import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openGit } from '#src/adapters/git/index.ts';
import { pathsOf, RELEASE, reasonOf, withFront, withGit } from './git-parts.ts';

describe('the wire is not trusted', () => {
  it('clones anew, within the same poll, where a pack was damaged on its way', () =>
    withGit(async (lab) => {
      await lab.commit({ [RELEASE]: 'a' }, 'first');
      let damaged = 0;
      let armed = false;
      await withFront(
        lab,
        async (url, body, pass) => {
          const answer = await pass();
          if (!armed || !url.endsWith('/git-upload-pack') || !body.includes('want ')) return { status: 200, body: answer };
          armed = false;
          damaged += 1;
          const at = answer.indexOf('PACK') + 40;
          answer[at] = (answer[at] ?? 0) ^ 0xff;
          return { status: 200, body: answer };
        },
        async (url) => {
          const git = openGit({ url, branch: 'main' });
          await git.poll(null);
          await lab.commit({ 'releases/w/2.yaml': 'b'.repeat(5000) }, 'second');
          armed = true;
          expect(pathsOf(await git.poll(null))).toEqual([RELEASE, 'releases/w/2.yaml']);
          await git.close();
        },
      );
      expect(damaged).toBe(1);
    }));

  it('follows redirects within its origin, never to another', () =>
    withGit(async (lab) => {
      await lab.commit({ [RELEASE]: 'a' }, 'first');
      await withFront(
        lab,
        async (url, _body, pass) => {
          if (url.startsWith('/moved.git/info'))
            return { status: 301, headers: { location: url.replace('/moved.git', '/releases.git') }, body: Buffer.alloc(0) };
          return { status: 200, body: await pass(url.replace('/moved.git', '/releases.git')) };
        },
        async (url) => {
          const git = openGit({ url: url.replace('/releases.git', '/moved.git'), branch: 'main' });
          expect(pathsOf(await git.poll(null))).toEqual([RELEASE]);
          await git.close();
        },
      );
      let seen = 0;
      await withFront(
        lab,
        async () => {
          seen += 1;
          return { status: 302, headers: { location: `${lab.url}/info/refs?service=git-upload-pack` }, body: Buffer.alloc(0) };
        },
        async (url) => {
          const git = openGit({ url, branch: 'main' });
          expect(await reasonOf(git.poll(null))).toBe('RedirectRefused');
          await git.close();
        },
      );
      expect(seen).toBe(1);
    }));

  it('goes on at the place that a renamed repository was found at, with the fetch too', () =>
    withGit(async (lab) => {
      await lab.commit({ [RELEASE]: 'a' }, 'first');
      const posts: string[] = [];
      await withFront(
        lab,
        async (url, body, pass) => {
          if (url.startsWith('/old.git/info')) return { status: 301, headers: { location: url.replace('/old.git', '/releases.git') }, body: Buffer.alloc(0) };
          if (body.length > 0) posts.push(url);
          return { status: 200, body: await pass() };
        },
        async (url) => {
          const git = openGit({ url: url.replace('/releases.git', '/old.git'), branch: 'main' });
          expect(pathsOf(await git.poll(null))).toEqual([RELEASE]);
          await git.close();
        },
      );
      expect(posts).toEqual(['/releases.git/git-upload-pack', '/releases.git/git-upload-pack']);
    }));

  it('speaks protocol 0 where the host knows no other, and fetches what is new alone there too', () =>
    withGit(async (lab) => {
      const first = await lab.commit({ [RELEASE]: 'a'.repeat(1000) }, 'first');
      await lab.git(['update-ref', 'refs/tags/main', first]);
      const asked: string[] = [];
      const server = createServer(async (request, response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk as Buffer);
        const body = Buffer.concat(chunks);
        asked.push(body.toString('latin1'));
        const type = String(request.headers['content-type'] ?? '');
        const init = body.length > 0 ? { method: 'POST', body, headers: { 'content-type': type } } : {};
        // Without the header that asks for protocol 2.
        const through = await fetch(new URL(request.url ?? '/', lab.url), init);
        response.writeHead(200, { 'content-type': through.headers.get('content-type') ?? '' }).end(Buffer.from(await through.arrayBuffer()));
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const address = server.address();
      const git = openGit({ url: `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/releases.git`, branch: 'main' });
      expect(pathsOf(await git.poll(null))).toEqual([RELEASE]);
      await lab.commit({ 'releases/w/2.yaml': 'b' }, 'second');
      expect(await git.poll(first)).toMatchObject({ kind: 'changed', descends: true });
      expect(asked.some((body) => body.includes(`have ${first}`))).toBe(true);
      expect(asked.join()).not.toContain('command=');
      await git.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }));

  it('gives up on a silent server at its own deadline, and goes on afterwards', () =>
    withGit(async (lab) => {
      await lab.commit({ [RELEASE]: 'a' }, 'first');
      let silent = true;
      await withFront(
        lab,
        async (_url, _body, pass) => (silent ? 'silence' : { status: 200, body: await pass() }),
        async (url) => {
          const git = openGit({ url, branch: 'main' }, { pollSeconds: 0.5 });
          expect(await reasonOf(git.poll(null))).toBe('Unreachable');
          silent = false;
          // Half a second may be too little on a machine that does something else: it is asked until it is enough.
          let poll = await git.poll(null).catch(() => null);
          for (let left = 60; poll === null && left > 0; left -= 1) poll = await git.poll(null).catch(() => null);
          expect(poll === null ? null : pathsOf(poll)).toEqual([RELEASE]);
          await git.close();
        },
      );
    }));

  it.each([
    [401, 'Unauthenticated'],
    [403, 'PermissionDenied'],
    [404, 'NotFound'],
    [429, 'Throttled'],
    [502, 'ServerError'],
  ])('names what a %d means', (status, reason) =>
    withGit(async (lab) => {
      await withFront(
        lab,
        async () => ({ status, body: Buffer.from('no') }),
        async (url) => {
          const git = openGit({ url, branch: 'main' });
          expect(await reasonOf(git.poll(null))).toBe(reason);
          await git.close();
        },
      );
    }),
  );

  it('says that a branch is not there, and that nobody listens', () =>
    withGit(async (lab, git) => {
      expect(await reasonOf(git.poll(null))).toBe('NotFound');
      await lab.commit({ [RELEASE]: 'a' }, 'first');
      const shorter = openGit({ url: lab.url, branch: 'mai' });
      expect(await reasonOf(shorter.poll(null))).toBe('NotFound');
      await shorter.close();
      await lab.close();
      expect(await reasonOf(git.poll(null))).toBe('Unreachable');
    }));

  it('sends credentials from their file, read anew for every call', () =>
    withGit(async (lab, _git, folder) => {
      await lab.commit({ [RELEASE]: 'a' }, 'first');
      const file = join(folder, 'password');
      await writeFile(file, 'first\n');
      const seen: string[] = [];
      const server = createServer((request, response) => {
        seen.push(request.headers.authorization ?? '');
        response.writeHead(401).end();
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      const git = openGit({ url: `http://127.0.0.1:${port}/x.git`, branch: 'main', credentials: { username: 'keyturn', password: { file } } });
      await reasonOf(git.poll(null));
      await writeFile(file, 'second');
      await reasonOf(git.poll(null));
      expect(seen).toEqual(['first', 'second'].map((password) => `Basic ${Buffer.from(`keyturn:${password}`).toString('base64')}`));
      await git.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }));
});
