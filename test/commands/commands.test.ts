import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { transaction } from '#state/database.ts';
import { denyPaths } from '#state/deny-list.ts';
import { acknowledge } from '#state/proxies.ts';
import { appendReceipt } from '#state/receipts.ts';
import type { Status } from '#state/status.ts';
import { withDatabase } from '#test/postgres.ts';
import { until } from '../proxy/stand.ts';

const MAIN = resolve(import.meta.dirname, '../../src/main.ts');

interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

/** Starts `keyturn …` as its own process. */
function keyturn(...words: readonly string[]): { readonly ended: Promise<Ended>; readonly output: () => string; readonly kill: () => void } {
  const child = spawn(process.execPath, [MAIN, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const ended = new Promise<Ended>((done) => child.once('close', (code) => done({ code, output, errors })));
  return { ended, output: () => output, kill: () => void child.kill('SIGTERM') };
}

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-commands-'));
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  await writeFile(join(folder, 'receipts.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  await writeFile(join(folder, 'public.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
});
afterAll(() => rm(folder, { recursive: true }));

/** Writes a configuration of the lab for this database; `more` goes over it. */
async function configFor(url: string, more: Readonly<Record<string, unknown>> = {}): Promise<string> {
  await writeFile(join(folder, 'database-url'), url);
  const file = join(folder, 'keyturn.yaml');
  const kbs = {
    url: 'http://127.0.0.1:1',
    publicUrl: 'http://127.0.0.1:2',
    admin: { keys: [{ id: 'a', file: '/a' }], roles: { resource: 'r', policy: 'p', referenceValue: 'v' } },
  };
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
    kbs: { main: { ...kbs, attestationSigners: { file: '/s' }, repository: 'eu', storage: 'postgres' } },
    keyStores: {},
    artifactStores: {},
    serve: { webhook: { listen: '127.0.0.1:4' }, dashboard: { listen: '127.0.0.1:5' }, metrics: { listen: '127.0.0.1:6' } },
    proxy: { listen: '127.0.0.1:0', kbs: 'main', metrics: { listen: '127.0.0.1:0' } },
    receipts: { signer: { kind: 'ed25519', key: { file: join(folder, 'receipts.pem') } } },
    ...more,
  };
  await writeFile(file, stringify(config));
  return file;
}

/** One workload whose second release waits, with two receipts, a denied path and a proxy that lags behind. */
async function fill(pool: pg.Pool): Promise<void> {
  await pool.query(`insert into brokers (name, repository, generation) values ('main', 'eu', 4)`);
  await pool.query(`insert into sealings (workload, epoch, rotation) values ('chat', 1, 'r-1'), ('chat', 2, 'r-2')`);
  await pool.query(
    `insert into revisions (workload, serial, release, serials, releases, sealing, rotation, kbs, state) values
       ('chat', 1, 'sha256:01', '{1}', '{sha256:01}', 1, 'r-1', '{main}', 'serving'),
       ('chat', 2, 'sha256:02', '{2}', '{sha256:02}', 2, 'r-2', '{main}', 'published')`,
  );
  await pool.query(
    `insert into runs (id, workflow, revision, workload, step, waiting_for, about, since, ended_at) values
       ('r-1', 'adopt-revision', 1, 'chat', null, null, null, null, instant()),
       ('r-2', 'adopt-revision', 2, 'chat', 'move-pods', 'PodNotReady', 'pod chat-1', instant(), null)`,
  );
  await pool.query(
    `insert into documents (path, digest, kind, bytes, commit_id, verdict, reason, about) values
       ('releases/chat/3.yaml', 'sha256:03', 'Release', '', 'c', 'waiting', 'SignaturesMissing', '1 of 2')`,
  );
  await transaction(pool, (tx) => denyPaths(tx, 'main', ['eu/chat/s0'], 'retired'));
  await acknowledge(pool, { id: 'p1', kbs: 'main', acknowledged: 0, staleSeconds: 300 });
  for (const run of ['r-1', 'r-2']) {
    const receipt = { run, step: 'create-key', facts: {}, evidence: null, proof: 'observed' as const, verdicts: [], kept: [], moves: null };
    await transaction(pool, (tx) => appendReceipt(tx, receipt));
  }
}

test('migrate brings an empty database to this version once, and the installation’s name is remembered', async () => {
  await withDatabase(async (_, url) => {
    const config = await configFor(url);
    const { output, code } = await keyturn('migrate', '--config', config, '--json').ended;
    expect([code, JSON.parse(output).applied.length > 0]).toEqual([0, true]);
    expect(await keyturn('migrate', '--config', config).ended).toMatchObject({ code: 0, output: 'nothing to do\n' });
    const other = await keyturn('migrate', '--config', await configFor(url, { installation: 'other' })).ended;
    expect([other.code, other.errors.trim().split('\n').length, other.errors.includes('test') && other.errors.includes('other')]).toEqual([1, 1, true]);
    const unready = keyturn('status', '--config', await configFor(url));
    expect((await unready.ended).code).toBe(0);
  }, 'template0');
});

test('status tells where everything stands, from rows alone: to machines and to people', async () => {
  await withDatabase(async (pool, url) => {
    await fill(pool);
    const config = await configFor(url);
    const { output, code } = await keyturn('status', '--json', '--config', config).ended;
    expect(code).toBe(0);
    const status = JSON.parse(output) as Status;
    expect(status.workloads).toMatchObject([
      {
        name: 'chat',
        target: 's2-v2',
        held: null,
        revisions: [
          { serial: 2, state: 'published' },
          { serial: 1, state: 'serving' },
        ],
      },
    ]);
    expect(status.runs).toMatchObject([{ id: 'r-2', serial: 2, step: 'move-pods', waitingFor: 'PodNotReady', about: 'pod chat-1' }]);
    expect(status.runs[0]?.help).toBeTruthy();
    expect(status.documents).toMatchObject([{ path: 'releases/chat/3.yaml', verdict: 'waiting', reason: 'SignaturesMissing', about: '1 of 2' }]);
    expect(status.brokers).toMatchObject([{ name: 'main', generation: 4, denied: 1, baseline: null, proxies: [{ id: 'p1', silent: false, caughtUp: false }] }]);
    expect(status.receipts).toMatchObject({ written: 2, signed: 0, signedAt: null });
    const people = await keyturn('status', '--config', config).ended;
    for (const told of ['LAB test', 'target s2-v2', '[published]', 'PodNotReady: pod chat-1', 'SignaturesMissing: 1 of 2', '1 proxies, 1 behind'])
      expect(people.output).toContain(told);
  });
});

test('receipts are exported and verify; one byte changed, a missing line, another key or a foreign head is a no that names its line', async () => {
  await withDatabase(async (pool, url) => {
    await fill(pool);
    const [out, key] = [join(folder, 'export.jsonl'), join(folder, 'public.pem')];
    const exported = await keyturn('receipts', 'export', '--out', out, '--json', '--config', await configFor(url)).ended;
    expect([exported.code, JSON.parse(exported.output)]).toEqual([0, { receipts: 2, heads: 1, out }]);
    const toOutput = await keyturn('receipts', 'export', '--config', await configFor(url)).ended;
    expect(toOutput.output).toBe(await readFile(out, 'utf8'));
    expect(await keyturn('verify', out, '--public-key', key).ended).toMatchObject({ code: 0 });
    const lines = toOutput.output.trimEnd().split('\n');
    await writeFile(join(folder, 'head'), lines[2] ?? '');
    expect(await keyturn('verify', out, '--public-key', key, '--head', join(folder, 'head'), '--json').ended).toMatchObject({
      code: 0,
      output: expect.stringContaining('"kind":"verified"'),
    });
    const broken = join(folder, 'broken.jsonl');
    await writeFile(broken, toOutput.output.replace('create-key', 'create-kez'));
    const said = await keyturn('verify', broken, '--public-key', key, '--json').ended;
    expect([said.code, JSON.parse(said.output)]).toMatchObject([3, { kind: 'broken', line: 1, receipt: 'r-1/1' }]);
    await writeFile(broken, `${lines.slice(1).join('\n')}\n`);
    expect(await keyturn('verify', broken, '--public-key', key).ended).toMatchObject({ code: 3 });
  });
});

test('an export with another installation’s configuration is refused before a head is signed in its name', async () => {
  await withDatabase(async (pool, url) => {
    await fill(pool);
    const { code } = await keyturn('receipts', 'export', '--config', await configFor(url, { installation: 'other' })).ended;
    expect([code, (await pool.query('select 1 from heads')).rowCount]).toEqual([1, 0]);
  });
});

test('the proxy opens, says so, and signs off when it is told to end', async () => {
  await withDatabase(async (pool, url) => {
    const proxy = keyturn('proxy', '--json', '--config', await configFor(url));
    await until(() => proxy.output().includes('\n'));
    const { event, address } = JSON.parse(proxy.output()) as { event: string; address: string };
    expect(event).toBe('proxy-ready');
    expect((await fetch(`${address}/metrics`)).status).toBe(404);
    expect((await pool.query('select 1 from proxies')).rowCount).toBe(1);
    proxy.kill();
    expect((await proxy.ended).code).toBe(0);
    expect((await pool.query('select 1 from proxies')).rowCount).toBe(0);
  });
});

test('what can be expected to go wrong is one line each without a stack, and exits 1', async () => {
  await withDatabase(async (_, url) => {
    const taken = createServer();
    await new Promise<void>((done) => taken.listen(0, '127.0.0.1', done));
    const { port } = taken.address() as { port: number };
    const cases: readonly (readonly [number, readonly string[]])[] = [
      [1, ['status', '--config', join(folder, 'nowhere.yaml')]],
      [1, ['proxy', '--config', await configFor(url, { proxy: { listen: `127.0.0.1:${port}`, kbs: 'main' } })]],
      [1, ['verify', join(folder, 'nowhere'), '--public-key', join(folder, 'public.pem')]],
      [1, ['verify', join(folder, 'public.pem'), '--public-key', join(folder, 'database-url')]],
    ];
    const check = async ([code, words]: (typeof cases)[number]): Promise<void> => {
      const ended = await keyturn(...words).ended;
      const lines = ended.errors
        .trim()
        .split('\n')
        .filter((line) => !line.startsWith('{'));
      expect([words, ended.code, lines.length, lines[0]?.startsWith(`keyturn ${words[0]}: `)]).toEqual([words, code, 1, true]);
    };
    await Promise.all(cases.map(check));
    taken.close();
    const mistaken = await keyturn('status', '--config', await configFor(url, { mode: 'prod', installation: 'UPPER' })).ended;
    expect([mistaken.code, mistaken.errors.trim().split('\n').length]).toEqual([1, 2]);
    const dead = await keyturn('status', '--config', await configFor('postgresql://postgres@127.0.0.1:1/x')).ended;
    expect([dead.code, dead.errors.trim().split('\n').length, dead.errors.includes('    at ')]).toEqual([1, 1, false]);
  });
});

test.each([
  [2, [['nosuch'], ['status', '--nope'], ['verify'], []]],
  [0, [['--help'], ['status', '--help'], ['help', 'status'], ['receipts', 'export', '--help']]],
])('usage exits %i', async (code, all) => {
  const ended = await Promise.all(all.map((words) => keyturn(...words).ended));
  expect(ended.map((one) => one.code)).toEqual(all.map(() => code));
});

test('a database that was never migrated is told what to do', async () => {
  await withDatabase(async (_, url) => {
    const { code, errors } = await keyturn('status', '--config', await configFor(url)).ended;
    expect([code, errors.includes('keyturn migrate')]).toEqual([1, true]);
  }, 'template0');
});
