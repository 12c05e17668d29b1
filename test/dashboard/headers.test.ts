import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { reading } from '#state/dashboard.ts';
import { openDatabase } from '#state/database.ts';
import { postgresUrl, withDatabase } from '../postgres.ts';
import { all, elements, textOf } from './html.ts';
import { withDashboard } from './stand.ts';

const PATHS = ['/', '/documents', '/rotations/r-0000000000000000', '/workloads/nobody', '/nothing', '/icon.svg'];
const FOLDER = join(import.meta.dirname, '../../src/dashboard');

it('every answer carries the same headers: nothing is stored, framed, sniffed or told on; no cookie is set', async () => {
  await withDatabase(async (pool) => {
    await withDashboard(pool, async ({ get }) => {
      for (const path of PATHS) {
        const { headers, root } = await get(path);
        expect(headers).toMatchObject({
          'cache-control': 'no-store',
          'cross-origin-opener-policy': 'same-origin',
          'cross-origin-resource-policy': 'same-origin',
          'referrer-policy': 'no-referrer',
          'x-content-type-options': 'nosniff',
          'x-frame-options': 'DENY',
        });
        expect(headers['set-cookie']).toBeUndefined();
        expect(elements(root).filter(({ name }) => ['script', 'form', 'iframe', 'object', 'base', 'img'].includes(name))).toEqual([]);
      }
    });
  });
});

it('the content security policy allows this one style sheet and our icon, and no script, form, frame or base', async () => {
  await withDatabase(async (pool) => {
    await withDashboard(pool, async ({ get }) => {
      const { headers, root } = await get('/');
      const sheet = all(root, 'style')
        .map(({ children }) => children.join(''))
        .join('');
      const hash = createHash('sha256').update(sheet).digest('base64');
      const policy = Object.fromEntries(
        String(headers['content-security-policy'])
          .split('; ')
          .map((part) => [part.split(' ')[0], part.split(' ').slice(1).join(' ')]),
      );
      expect(policy).toEqual({
        'default-src': `'none'`,
        'style-src': `'sha256-${hash}'`,
        'img-src': `'self'`,
        'base-uri': `'none'`,
        'form-action': `'none'`,
        'frame-ancestors': `'none'`,
      });
      expect(elements(root).filter(({ attributes }) => Object.keys(attributes).some((name) => name === 'style' || name.startsWith('on')))).toEqual([]);
    });
  });
});

it('only GET and HEAD are answered', async () => {
  await withDatabase(async (pool) => {
    await withDashboard(pool, async ({ get }) => {
      for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE']) {
        for (const path of ['/', '/documents', '/nothing']) expect(await get(path, { method })).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
      }
      const head = await get('/', { method: 'HEAD' });
      expect(head.status).toBe(200);
      expect(head.text).toBe('');
    });
  });
});

it('at a loopback address only names of this machine are answered, so that no other page can have its name resolve here', async () => {
  await withDatabase(async (pool) => {
    const statusOf = (listen: string, host: string) => withDashboard(pool, async ({ get }) => (await get('/', { headers: { host } })).status, { listen });
    for (const host of ['127.0.0.1:8081', 'localhost:8081', 'localhost', '[::1]:8081', '127.0.0.1', 'keyturn.localhost:1'])
      expect(await statusOf('127.0.0.1:8081', host), host).toBe(200);
    for (const host of ['evil.example', 'evil.example:8081', '127.0.0.1.evil.example', 'localhost.evil.example', 'evil.example/127.0.0.1'])
      expect(await statusOf('localhost:8081', host), host).not.toBe(200);
    expect(await statusOf('10.0.0.5:8081', 'keyturn.example'), 'something stands before it').toBe(200);
  });
});

it('in mode lab every page says LAB, also where nothing can be read; in production none does', async () => {
  const gone = openDatabase({ url: 'postgresql://nobody@127.0.0.1:1/none', poolSize: 1 });
  await withDatabase(async (pool) => {
    for (const mode of ['lab', 'production'] as const) {
      for (const db of [pool, gone]) {
        await withDashboard(
          db,
          async ({ get }) => {
            for (const path of PATHS.filter((one) => one !== '/icon.svg')) {
              const { root } = await get(path);
              expect(all(root, 'p', 'lab').map(textOf)).toEqual(mode === 'lab' ? [expect.stringMatching(/^LAB /)] : []);
              expect(textOf(all(root, 'title')[0] ?? null).includes('LAB')).toBe(mode === 'lab');
            }
          },
          { mode },
        );
      }
    }
  });
  await gone.end();
});

it('says that nothing can be read while the database is gone, and shows nothing of before', async () => {
  const gone = openDatabase({ url: 'postgresql://nobody@127.0.0.1:1/none', poolSize: 1 });
  await withDashboard(gone, async ({ get }) => {
    const { status, headers, root } = await get('/');
    expect(status).toBe(503);
    expect(headers).toMatchObject({ 'retry-after': '10', 'cache-control': 'no-store' });
    expect(headers['content-security-policy']).toBeDefined();
    expect(textOf(all(root, 'h1')[0] ?? null)).toBe('Nothing can be read now');
    expect(textOf(all(root, 'strong', 'reason')[0] ?? null)).toBe('Unreachable');
    expect(all(root, 'meta').some(({ attributes }) => attributes['http-equiv'] === 'refresh')).toBe(true);
  });
  await gone.end();
});

it('reads in a transaction that can write nothing, sees one state, and gives up in time', async () => {
  await withDatabase(async (pool) => {
    await expect(reading(pool, (tx) => tx.query(`insert into events (event) values ('x')`))).rejects.toThrow(/read-only transaction/);
    const counts = await reading(pool, async (tx) => {
      const count = async (): Promise<number> => (await tx.query('select 1 from events')).rowCount ?? 0;
      const before = await count();
      await pool.query(`insert into events (event) values ('x')`);
      return [before, await count()];
    });
    expect(counts).toEqual([0, 0]);
    const { rows } = await reading(pool, (tx) => tx.query<{ statement_timeout: string }>('show statement_timeout'));
    expect(rows[0]?.statement_timeout).toBe('5s');
  });
});

it('makes so many pages at once, and asks the next reader to come again', async () => {
  const silent = openDatabase({ url: await postgresUrl(), poolSize: 1 });
  const held = await silent.connect();
  await withDashboard(silent, async ({ get }) => {
    const first = Array.from({ length: 20 }, () => get('/documents'));
    // Those hold every place: none of them has a session.
    const over = await expect.poll(async () => (await Promise.race([get('/'), ...first])).status, { timeout: 10_000 }).toBe(503);
    held.release();
    await Promise.all(first);
    return over;
  });
  await silent.end();
});

it('writes every attribute in quotes, and no address, style or handler from a value', () => {
  const text = readdirSync(FOLDER)
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(FOLDER, name), 'utf8'))
    .join('\n');
  expect([...text.matchAll(/[a-z-]=\$\{/g)].map(([found]) => found)).toEqual([]);
  expect([...text.matchAll(/ (?:style|on[a-z]+|src|action|formaction|srcdoc)="/g)].map(([found]) => found)).toEqual([]);
  // An href is a word of ours, or what a function of ours made.
  const hrefs = [...text.matchAll(/href="([^"]*)"/g)].map(([, href]) => href ?? '');
  expect(
    hrefs.filter(
      (href) => !/^(?:[/#][a-z.#/-]*|\$\{(?:rotation|history|revocations?)Path\([a-zA-Z., +1-]+\)\}(?:#run-\$\{id\})?|\$\{(?:path|href|paused)\})$/.test(href),
    ),
  ).toEqual([]);
});
