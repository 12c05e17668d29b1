import { spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { reasons } from '#src/domain/reasons.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const VECTORS = join(ROOT, 'test/vectors/collateral');
/** Generous: a loaded machine starts Node slowly. */
const PATIENCE_SECONDS = 60;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-collateral-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

interface Said {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function keyturn(...words: readonly string[]): Promise<Said> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [join(ROOT, 'src/main.ts'), 'collateral', 'verify', ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (bytes: Buffer) => out.push(bytes));
    child.stderr.on('data', (bytes: Buffer) => err.push(bytes));
    child.on('error', fail);
    child.on('close', (code) => done({ code, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() }));
  });
}

interface Line {
  readonly file: string;
  readonly kind: string;
  readonly verdict: string;
  readonly reason: string | null;
  readonly item: string;
  readonly nextUpdate: string | null;
}

function linesOf({ out }: Said): readonly Line[] {
  return out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

it('prints a line a file with exactly six members, and exits 0 where all are good', { timeout: PATIENCE_SECONDS * 1000 }, async () => {
  const said = await keyturn(join(VECTORS, 'trustee/tdx/tcbInfo.json'), join(VECTORS, 'trustee/tdx/enclaveIdentity.json'), '--at', '2025-11-01', '--json');
  expect(said.code).toBe(0);
  expect(linesOf(said)).toEqual([
    {
      file: join(VECTORS, 'trustee/tdx/tcbInfo.json'),
      kind: 'tcb-info',
      verdict: 'good',
      reason: null,
      item: 'TDX TCB info 00A06D080000 #17',
      nextUpdate: '2025-11-26T13:07:17.000Z',
    },
    {
      file: join(VECTORS, 'trustee/tdx/enclaveIdentity.json'),
      kind: 'enclave-identity',
      verdict: 'good',
      reason: null,
      item: 'TD_QE identity #17',
      nextUpdate: '2025-11-27T06:45:09.000Z',
    },
  ]);
  expect(said.out).toMatch(/^\{"file":.*"kind":.*"verdict":.*"reason":.*"item":.*"nextUpdate":[^:]*:[^:]*:[^:]*\}\n/);
});

it('exits 3 where one is not good, takes folders, and gives every file of them a line with a reason that the table knows', {
  timeout: PATIENCE_SECONDS * 1000,
}, async () => {
  const said = await keyturn(VECTORS, '--at', '2026-11-23T12:01:00Z', '--json');
  expect(said.code).toBe(3);
  const lines = linesOf(said);
  // And the manifest, and its words.
  expect(lines).toHaveLength(188);
  expect(lines.filter(({ verdict, reason }) => (reason === null) !== (verdict === 'good'))).toEqual([]);
  expect(lines.filter(({ reason }) => reason !== null && !Object.hasOwn(reasons, reason))).toEqual([]);
});

it('finds the kind from the bytes, whatever the file is called', { timeout: PATIENCE_SECONDS * 1000 }, async () => {
  const odd = join(folder, 'odd');
  await mkdir(odd);
  await copyFile(join(VECTORS, 'trustee/tdx/tcbInfo.json'), join(odd, 'root.crl'));
  await copyFile(join(VECTORS, 'intel/go-tdx-guest/pckcrl'), join(odd, 'rim.xml'));
  await copyFile(join(VECTORS, 'nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml'), join(odd, 'quote'));
  expect(linesOf(await keyturn(odd, '--json')).map(({ kind }) => kind)).toEqual(['rim', 'crl', 'tcb-info']);
});

it('rests on certificates of the same call and on those beside a file, and judges only what was named', { timeout: PATIENCE_SECONDS * 1000 }, async () => {
  const [apart, beside] = [join(folder, 'apart'), join(folder, 'beside')];
  await mkdir(apart);
  await mkdir(beside);
  for (const target of [apart, beside]) await copyFile(join(VECTORS, 'trustee/snp/test-report.bin'), join(target, 'report'));
  await copyFile(join(VECTORS, 'trustee/snp/test-vcek.der'), join(beside, 'vcek'));
  const alone = await keyturn(join(apart, 'report'), '--at', '2026-11-23', '--json');
  expect([alone.code, ...linesOf(alone).map(({ reason }) => reason)]).toEqual([3, 'SignerMissing']);
  const both = await keyturn(join(beside, 'report'), '--at', '2026-11-23', '--json');
  expect([both.code, ...linesOf(both).map(({ verdict }) => verdict)]).toEqual([0, 'good']);
});

it('believes an operator’s CA for tokens where it is named, and never by itself', { timeout: PATIENCE_SECONDS * 1000 }, async () => {
  const token = join(VECTORS, 'ear/synthetic-trustee/good.jwt');
  const at = ['--at', '2026-11-23T12:01:00Z', '--json'];
  expect((await keyturn(token, ...at)).code).toBe(3);
  expect((await keyturn(token, '--token-ca', join(VECTORS, 'ear/synthetic-trustee/ca.pem'), ...at)).code).toBe(0);
  const wrong = await keyturn(token, '--token-ca', join(VECTORS, 'trustee/tdx/tcbInfo.json'));
  expect([wrong.code, wrong.err]).toEqual([1, expect.stringContaining('expected certificates in PEM')]);
});

it('tells a person what to do, once a reason', { timeout: PATIENCE_SECONDS * 1000 }, async () => {
  const said = await keyturn(join(VECTORS, 'intel/go-tdx-guest'), '--at', '2026-11-23');
  expect(said.code).toBe(3);
  expect(said.out.split(reasons.CollateralExpired.help)).toHaveLength(2);
  expect(said.out).toContain('4 of 13 good at 2026-11-23T00:00:00.000Z');
});

it('a file’s own words do not reach the terminal as they are', { timeout: PATIENCE_SECONDS * 1000 }, async () => {
  const file = join(folder, 'escape.xml');
  await writeFile(file, '<SoftwareIdentity name="\u001b[2J\u202e"/>');
  const said = await keyturn(file);
  expect([said.code, said.out.includes('\u001b'), said.out.includes('\u202e')]).toEqual([3, false, false]);
});

it('an empty file, one of a gigabyte, and a loop of links are lines or clear errors', { timeout: PATIENCE_SECONDS * 1000 }, async () => {
  const odd = join(folder, 'limits');
  await mkdir(join(odd, 'inner'), { recursive: true });
  await writeFile(join(odd, 'empty'), '');
  await writeFile(join(odd, 'gigabyte'), '');
  await truncate(join(odd, 'gigabyte'), 1024 * 1024 * 1024);
  await symlink(odd, join(odd, 'inner/loop'));
  await copyFile(join(VECTORS, 'amd/virtee-sev/vcek_milan.der'), join(odd, 'inner/vcek'));
  await symlink('vcek', join(odd, 'inner/again'));
  const said = await keyturn(odd, '--at', '2026-11-23', '--json');
  expect([said.code, ...linesOf(said).map(({ reason }) => reason)]).toEqual([3, 'CollateralMalformed', 'LimitExceeded', null]);
});

it('what cannot be judged at all is an error, and no verdict', { timeout: PATIENCE_SECONDS * 1000 }, async () => {
  await symlink('self', join(folder, 'self'));
  await mkdir(join(folder, 'void'));
  const missing = await keyturn(join(folder, 'none'));
  expect([missing.code, missing.out]).toEqual([1, '']);
  expect(missing.err).toContain('no such file');
  const loop = await keyturn(join(folder, 'self'));
  expect([loop.code, loop.err]).toEqual([1, expect.stringContaining('a link that leads back to itself')]);
  expect((await keyturn(join(folder, 'void'))).code).toBe(1);
  expect((await keyturn('/dev/null')).code).toBe(1);
  expect((await keyturn(VECTORS, '--at', 'yesterday')).code).toBe(1);
  expect((await keyturn()).code).toBe(2);
});
