/** `keyturn hold` and `keyturn resume`, as people and scripts use them. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stringify } from 'yaml';
import type { Status } from '#state/status.ts';
import { withDatabase } from '#test/postgres.ts';

const MAIN = resolve(import.meta.dirname, '../../src/main.ts');

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-hold-'));
});
afterAll(() => rm(folder, { recursive: true }));

interface Ended {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

/** Each test starts some processes, on a machine that may be busy. */
const PATIENCE = { timeout: 180_000 };

/** Runs `keyturn …` against a database of a configuration that names nothing else. */
async function stand(url: string): Promise<(...words: readonly string[]) => Promise<Ended>> {
  await writeFile(join(folder, 'database-url'), url);
  const config = {
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Configuration',
    mode: 'lab',
    installation: 'test',
    runtime: 'outside',
    database: { url: { file: join(folder, 'database-url') } },
    repository: { url: 'http://127.0.0.1:3/r.git', branch: 'main' },
    trust: { initialDigest: `sha256:${'1'.repeat(64)}` },
    clusters: {},
    kbs: {},
    keyStores: {},
    artifactStores: {},
    serve: { webhook: { listen: '127.0.0.1:4' }, dashboard: { listen: '127.0.0.1:5' }, metrics: { listen: '127.0.0.1:6' } },
    receipts: { signer: { kind: 'ed25519', key: { file: '/none' } } },
  };
  const file = join(folder, 'keyturn.yaml');
  await writeFile(file, stringify(config));
  return (...words) =>
    new Promise((done) => {
      execFile(process.execPath, [MAIN, ...words, '--config', file], { timeout: 60_000 }, (error, output, errors) => {
        done({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, output, errors });
      });
    });
}

async function fill(pool: pg.Pool): Promise<void> {
  await pool.query(`insert into sealings (workload, epoch, rotation) values ('chat', 1, 'r-1')`);
  await pool.query(
    `insert into revisions (workload, serial, release, serials, releases, sealing, rotation, kbs, state)
     values ('chat', 1, 'sha256:01', '{1}', '{sha256:01}', 1, 'r-1', '{main}', 'published')`,
  );
  await pool.query(`insert into runs (id, workflow, revision, workload, wake_at) values ('r-1', 'adopt-revision', 1, 'chat', null)`);
}

test('a hold says what it stops, stands in the status, and is told of when it is there already', PATIENCE, async () => {
  await withDatabase(async (pool, url) => {
    await fill(pool);
    const keyturn = await stand(url);
    const first = await keyturn('hold', '--workload', 'chat', '--reason', 'the pager rang', '--by', 'ann', '--json');
    expect([first.code, first.errors]).toEqual([0, '']);
    expect(JSON.parse(first.output)).toMatchObject({
      subject: { kind: 'workload', workload: 'chat' },
      why: 'the pager rang',
      by: 'ann',
      already: false,
      stops: ['r-1'],
    });
    const again = await keyturn('hold', '--workload', 'chat', '--reason', 'once more', '--by', 'ben', '--json');
    expect([again.code, JSON.parse(again.output)]).toMatchObject([0, { why: 'the pager rang', by: 'ann', already: true }]);
    const status = JSON.parse((await keyturn('status', '--json')).output) as Status;
    expect(status.holds).toMatchObject([{ subject: { kind: 'workload', workload: 'chat' }, by: 'ann', why: 'the pager rang' }]);
    expect((await keyturn('status')).output).toMatch(/ON HOLD\nchat +by ann +since \S+ +the pager rang/);
    const { rows } = await pool.query(`select event, workload, body ->> 'by' as by from events order by id`);
    expect(rows).toEqual([{ event: 'held', workload: 'chat', by: 'ann' }]);
    expect((await pool.query(`select 1 from runs where id = 'r-1' and claim = 1 and wake_at <= instant()`)).rowCount, 'fenced, and woken').toBe(1);
  });
});

test('a resume lifts exactly what was held, wakes it at once, and has nothing to do a second time', PATIENCE, async () => {
  await withDatabase(async (pool, url) => {
    await fill(pool);
    const keyturn = await stand(url);
    expect((await keyturn('hold', 'r-1', '--reason', 'wait')).code).toBe(0);
    await pool.query('update runs set wake_at = null');
    expect((await keyturn('resume', '--workload', 'chat')).code, 'another subject').toBe(1);
    const resumed = await keyturn('resume', 'r-1', '--by', 'ben', '--json');
    expect([resumed.code, JSON.parse(resumed.output)]).toMatchObject([0, { subject: { kind: 'run', run: 'r-1' }, goOn: ['r-1'] }]);
    expect((await pool.query(`select 1 from pgboss.job where singleton_key = 'r-1' and state = 'created' and start_after <= now()`)).rowCount).toBe(1);
    const again = await keyturn('resume', 'r-1');
    expect([again.code, again.errors.trim().split('\n').length]).toEqual([1, 1]);
  });
});

test('what is not there is not held, and what is not said well is a mistake of usage', PATIENCE, async () => {
  await withDatabase(async (pool, url) => {
    await fill(pool);
    const keyturn = await stand(url);
    const why = ['--reason', 'wait'];
    const refused = [
      ['hold', 'r-9', ...why],
      ['hold', '--workload', 'caht', ...why],
      ['hold', '--all', '--reason', 'a\nb'],
    ].map(async (words) => {
      const { code, errors } = await keyturn(...words);
      return [code, errors.trim().split('\n').length];
    });
    expect(await Promise.all(refused)).toEqual([
      [1, 1],
      [1, 1],
      [1, 1],
    ]);
    const misused = [
      ['hold', ...why],
      ['hold', 'r-1', '--all', ...why],
      ['hold', '--all'],
    ].map(async (words) => (await keyturn(...words)).code);
    expect(await Promise.all(misused)).toEqual([2, 2, 2]);
    expect((await pool.query('select 1 from holds')).rowCount).toBe(0);
  });
});
