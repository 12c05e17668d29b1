import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEd25519Signer } from '#src/adapters/ed25519/index.ts';
import { verifyExport } from '#src/domain/verify-export.ts';
import { isFault } from '#src/errors.ts';
import type { Signer } from '#src/world.ts';
import { openDatabase, transaction } from '#state/database.ts';
import { appendReceipt, checkHeads, exportReceipts, makeHead, type NewReceipt, runReceipts } from '#state/receipts.ts';
import { withDatabase } from '#test/postgres.ts';

let folder = '';
let signer: Signer;

async function openSigner(name: string): Promise<Signer> {
  const { privateKey } = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const file = join(folder, name);
  await writeFile(file, privateKey, { mode: 0o600 });
  return openEd25519Signer({ kind: 'ed25519', key: { file } });
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-signer-'));
  signer = await openSigner('receipts.pem');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function insertRun(pool: pg.Pool, id: string, cause: string | null = null): Promise<void> {
  await pool.query(`insert into runs (id, workflow, workload, cause, claim, generations) values ($1, 'adopt-revision', 'chat', $2, 3, '{"main":4}')`, [
    id,
    cause,
  ]);
}

function told(run: string, step: string, more: Partial<NewReceipt> = {}): NewReceipt {
  return { run, step, facts: {}, evidence: { step }, proof: 'observed', verdicts: [], kept: [], moves: null, ...more };
}

const append = (pool: pg.Pool, receipt: NewReceipt) => transaction(pool, (tx) => appendReceipt(tx, receipt));

async function exported(pool: pg.Pool): Promise<string> {
  let text = '';
  await exportReceipts(pool, signer, 'test', async (line) => {
    text += line;
  });
  return text;
}

async function* once(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

const verified = (text: string) => verifyExport(once(text), signer.publicKeyPem);

async function reasonOf(call: Promise<unknown>): Promise<string | null> {
  return call.then(
    () => null,
    (thrown: unknown) => (isFault(thrown) ? thrown.reason : String(thrown)),
  );
}

test('each receipt of a run names the one before, and the run that caused it', async () => {
  await withDatabase(async (pool) => {
    await insertRun(pool, 'r-a');
    await insertRun(pool, 'r-b', 'r-a');
    const first = await append(pool, told('r-b', 'close'));
    const second = await append(pool, told('r-b', 'retire', { generations: { main: 5 }, moves: 'retired' }));
    expect([first.number, second.number]).toEqual([1, 2]);
    const chain = await runReceipts(pool, 'r-b');
    expect(chain).toMatchObject([
      { id: 'r-b/1', previous: null, cause: 'r-a', step: 'close', installation: 'test', claim: 3, generations: { main: 4 } },
      { id: 'r-b/2', previous: first.digest, cause: 'r-a', step: 'retire', moves: 'retired', generations: { main: 5 } },
    ]);
  });
});

test('receipts written at once stand one behind the other', async () => {
  await withDatabase(async (pool) => {
    await insertRun(pool, 'r-a');
    await Promise.all(Array.from({ length: 8 }, (_, index) => append(pool, told('r-a', `step-${index}`))));
    expect((await runReceipts(pool, 'r-a')).map(({ number }) => number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });
});

test('a receipt goes with its transaction, and its instants never fall though the clock is set back', async () => {
  await withDatabase(async (pool) => {
    await insertRun(pool, 'r-a');
    await expect(
      transaction(pool, async (tx) => {
        await appendReceipt(tx, told('r-a', 'lost'));
        throw new Error('rolled back');
      }),
    ).rejects.toThrow();
    await append(pool, told('r-a', 'one'));
    await pool.query(`update installation set clock_offset = '-1 day'`);
    await append(pool, told('r-a', 'two'));
    const [one, two] = await runReceipts(pool, 'r-a');
    expect(one?.step).toBe('one');
    expect(two?.at).toBe(one?.at);
    expect((await verified(await exported(pool))).kind).toBe('verified');
  });
});

test('a head covers what is committed; there is no other until something is new', async () => {
  await withDatabase(async (pool) => {
    await insertRun(pool, 'r-a');
    await insertRun(pool, 'r-b');
    expect(await makeHead(pool, signer, 'test')).toBe(null);
    await append(pool, told('r-a', 'one'));
    await transaction(pool, async (tx) => {
      await appendReceipt(tx, told('r-b', 'open'));
      expect((await makeHead(pool, signer, 'test'))?.head.treeSize).toBe(1);
    });
    expect((await makeHead(pool, signer, 'test'))?.head.treeSize).toBe(2);
    expect(await makeHead(pool, signer, 'test')).toBe(null);
  });
});

test('two who make a head at once make one', async () => {
  await withDatabase(async (pool) => {
    await insertRun(pool, 'r-a');
    for (let index = 0; index < 5; index += 1) await append(pool, told('r-a', `step-${index}`));
    const made = await Promise.all([1, 2, 3, 4].map(() => makeHead(pool, signer, 'test')));
    expect(made.filter((head) => head !== null)).toHaveLength(1);
    expect((await pool.query('select seq from receipts order by id')).rows.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5]);
  });
});

test('heads made while receipts are written never collide, and the log is whole', async () => {
  await withDatabase(async (pool) => {
    const runs = Array.from({ length: 6 }, (_, index) => `r-${index}`);
    for (const run of runs) await insertRun(pool, run);
    const writing = runs.map(async (run) => {
      for (let index = 0; index < 15; index += 1) await append(pool, told(run, `step-${index}`));
    });
    const heading = [1, 2, 3].map(async () => {
      for (let index = 0; index < 15; index += 1) await makeHead(pool, signer, 'test');
    });
    await Promise.all([...writing, ...heading]);
    expect(await verified(await exported(pool))).toMatchObject({ kind: 'verified', receipts: 90 });
  });
});

test('the export verifies with the public key alone, page by page, with every head in it', async () => {
  await withDatabase(async (pool) => {
    await insertRun(pool, 'r-a');
    await insertRun(pool, 'r-b', 'r-a');
    for (let index = 0; index < 250; index += 1) {
      await append(pool, told(index % 3 === 0 ? 'r-b' : 'r-a', `step-${index}`));
      if (index % 100 === 0) await makeHead(pool, signer, 'test');
    }
    expect(await verified(await exported(pool))).toMatchObject({ kind: 'verified', receipts: 250, heads: 4 });
  });
});

test('a log without receipts has an export too', async () => {
  await withDatabase(async (pool) => {
    expect(await verified(await exported(pool))).toMatchObject({ kind: 'verified', receipts: 0, heads: 1 });
  });
});

interface Tampering {
  readonly name: string;
  readonly sql: string;
  /** The receipt that the fault names; null where only the heads can tell. */
  readonly named: string | null;
}

const TAMPERINGS: readonly Tampering[] = [
  { name: 'a body', sql: `update receipts set body = replace(body, 'step-1', 'step-x') where run = 'r-a' and number = 2`, named: 'r-a/2' },
  {
    name: 'a body with its digest made anew',
    sql: `update receipts set body = replace(body, 'step-1', 'step-x'),
      digest = 'sha256:' || encode(sha256(replace(body, 'step-1', 'step-x')::bytea), 'hex') where run = 'r-a' and number = 2`,
    named: 'r-a/3',
  },
  {
    name: 'the last body with its digest made anew',
    sql: `update receipts set body = replace(body, 'step-3', 'step-x'),
      digest = 'sha256:' || encode(sha256(replace(body, 'step-3', 'step-x')::bytea), 'hex') where run = 'r-a' and number = 4`,
    named: null,
  },
  { name: 'the last receipt, taken away', sql: `delete from receipts where run = 'r-a' and number = 4`, named: null },
  { name: 'a head', sql: `update heads set body = replace(body, '"treeSize":4', '"treeSize":3')`, named: null },
];

for (const { name, sql, named } of TAMPERINGS) {
  test(`a start is refused where the database changed: ${name}`, async () => {
    await withDatabase(async (pool) => {
      await insertRun(pool, 'r-a');
      await checkHeads(pool, signer);
      for (let index = 0; index < 4; index += 1) await append(pool, told('r-a', `step-${index}`));
      await makeHead(pool, signer, 'test');
      await append(pool, told('r-a', 'after the head'));
      await checkHeads(pool, signer);
      const { rowCount } = await pool.query(sql);
      expect(rowCount).toBe(1);
      const thrown = await checkHeads(pool, signer).catch((error: unknown) => error);
      expect(isFault(thrown) && thrown.reason).toBe('Tampered');
      if (named !== null) expect(String(thrown)).toContain(named);
    });
  });
}

test('nothing is signed over rows that are not what was signed, in a process that starts anew', async () => {
  await withDatabase(async (pool, url) => {
    await insertRun(pool, 'r-a');
    await append(pool, told('r-a', 'one'));
    await makeHead(pool, signer, 'test');
    await pool.query(`update receipts set body = replace(body, 'one', 'two'), digest = 'sha256:' || encode(sha256(replace(body, 'one', 'two')::bytea), 'hex')`);
    await append(pool, told('r-a', 'next'));
    const fresh = openDatabase({ url, poolSize: 2 });
    expect(await reasonOf(makeHead(fresh, signer, 'test'))).toBe('Tampered');
    await fresh.end();
  });
});

test('a run’s receipts are refused where one is not what was written', async () => {
  await withDatabase(async (pool) => {
    await insertRun(pool, 'r-a');
    await insertRun(pool, 'r-b');
    for (const step of ['one', 'two', 'three']) for (const run of ['r-a', 'r-b']) await append(pool, told(run, step));
    await pool.query(`delete from receipts where run = 'r-a' and number = 2`);
    expect(await reasonOf(runReceipts(pool, 'r-a'))).toBe('Tampered');
    await pool.query(`update receipts set body = replace(body, 'three', 'other') where run = 'r-b' and number = 3`);
    expect(await reasonOf(runReceipts(pool, 'r-b'))).toBe('Tampered');
  });
});

test('heads of another key than the configured one stop the start', async () => {
  await withDatabase(async (pool) => {
    await insertRun(pool, 'r-a');
    await append(pool, told('r-a', 'one'));
    await makeHead(pool, signer, 'test');
    expect(await reasonOf(checkHeads(pool, await openSigner('other.pem')))).toBe('Tampered');
  });
});
