import type pg from 'pg';
import { type Digest, digestOf } from '#src/digest.ts';
import { addEntry, EMPTY_TREE, type MerkleTree, rootOf } from '#src/domain/merkle.ts';
import {
  type Head,
  type HeadBody,
  headBytes,
  headLine,
  RECEIPT_MAX_BYTES,
  type Receipt,
  type ReceiptSubject,
  readPublicKey,
  receiptLine,
  receiptText,
  treeEntry,
  verifySignature,
} from '#src/domain/receipts.ts';
import { verifyExport } from '#src/domain/verify-export.ts';
import { Fault } from '#src/errors.ts';
import type { Instant } from '#src/instant.ts';
import type { Signer } from '#src/world.ts';
import { type Db, transaction } from './database.ts';
import { headsUpTo, newestHead, numbered } from './log.ts';

/** What whoever writes a receipt knows; the rest is read from the run's row. `generations` left out: those of that row. */
export type NewReceipt = Pick<Receipt, 'run' | 'step' | 'facts' | 'evidence' | 'proof' | 'verdicts' | 'kept' | 'moves'> & Partial<Pick<Receipt, 'generations'>>;

interface RunRow {
  readonly installation: string;
  readonly workflow: string;
  readonly workload: string;
  readonly cause: string | null;
  readonly claim: number;
  readonly generations: Record<string, number>;
  readonly revocation: string | null;
  readonly release: string | null;
  readonly serial: number | null;
  readonly epoch: number | null;
  readonly path_number: number | null;
}

/**
 * Adds a link to the run's chain, in the caller's transaction. It locks the run's row, so that links
 * have an order. Throws Fault('LimitExceeded') where the receipt is longer than RECEIPT_MAX_BYTES.
 */
export async function appendReceipt(tx: Db, receipt: NewReceipt): Promise<{ readonly number: number; readonly digest: Digest }> {
  // First the lock, then the reading: one statement would read what it saw before it waited.
  await tx.query('select 1 from runs where id = $1 for no key update', [receipt.run]);
  const row = await readRunRow(tx, receipt.run);
  const { number, previous, at } = await nextLink(tx, receipt.run);
  const { run, step, facts, evidence, proof, verdicts, kept, moves } = receipt;
  const { installation, cause, workload, workflow, claim } = row;
  const text = receiptText({
    id: `${run}/${number}`,
    ...{ installation, run, number, cause, previous, workload, workflow, subject: subjectOf(row), step, at, claim },
    ...{ facts, evidence, proof, verdicts, kept, moves, generations: receipt.generations ?? row.generations },
  });
  if (Buffer.byteLength(text) > RECEIPT_MAX_BYTES)
    throw new Fault('LimitExceeded', `receipt ${run}/${number} of ${step}: longer than ${RECEIPT_MAX_BYTES} bytes`);
  const digest = digestOf(text);
  await tx.query('insert into receipts (run, number, step, at, body, digest) values ($1, $2, $3, $4, $5, $6)', [run, number, step, at, text, digest]);
  return { number, digest };
}

async function readRunRow(tx: Db, run: string): Promise<RunRow> {
  const { rows } = await tx.query<RunRow>(
    `select i.name as installation, r.workflow, r.workload, r.cause, r.claim, r.generations, r.revocation, v.release, v.serial, s.epoch, v.path_number
     from runs r cross join installation i left join revisions v on v.id = r.revision left join sealings s on s.id = v.sealing where r.id = $1`,
    [run],
  );
  const [row] = rows;
  if (row === undefined) throw new Error(`no run ${run}, or no installation, to write a receipt for`);
  return row;
}

function subjectOf({ release, serial, epoch, path_number, revocation }: RunRow): ReceiptSubject {
  if (release !== null && serial !== null && epoch !== null && path_number !== null)
    return { kind: 'revision', release, serial, epoch, pathNumber: path_number };
  return revocation === null ? { kind: 'other' } : { kind: 'revocation', revocation };
}

interface Link {
  readonly number: number;
  readonly previous: Digest | null;
  readonly at: Instant;
}

/** A chain's instants never fall, though a host's clock may be set back: the log's order rests on it. */
async function nextLink(tx: Db, run: string): Promise<Link> {
  const { rows } = await tx.query<{ number: number; digest: Digest; at: Instant }>(
    'select number, digest, greatest(at, instant()) as at from receipts where run = $1 order by number desc limit 1',
    [run],
  );
  const [last] = rows;
  if (last !== undefined) return { number: last.number + 1, previous: last.digest, at: last.at };
  const { rows: now } = await tx.query<{ at: Instant }>('select instant() as at');
  if (now[0] === undefined) throw new Error('select instant() gave no row');
  return { number: 1, previous: null, at: now[0].at };
}

/** A run's receipts, in order, each checked against its digest and the one before it. Throws Fault('Tampered') naming the one that does not fit. */
export async function runReceipts(db: Db, run: string): Promise<readonly Receipt[]> {
  const { rows } = await db.query<{ number: number; body: string; digest: Digest }>(
    'select number, body, digest from receipts where run = $1 order by number',
    [run],
  );
  let previous: Digest | null = null;
  const receipts: Receipt[] = [];
  for (const [index, { number, body, digest }] of rows.entries()) {
    const receipt = JSON.parse(body) as Receipt;
    const fits = digestOf(body) === digest && receipt.run === run && receipt.number === index + 1 && number === index + 1 && receipt.previous === previous;
    if (!fits) throw new Fault('Tampered', `postgres receipts: ${run}/${number} is not what was written`);
    previous = digest;
    receipts.push(receipt);
  }
  return receipts;
}

// ---------------------------------------------------------------- heads

/** Two head-makers give out numbers one after the other. `heads` in base 36, ours alone in this database. */
const HEAD_LOCK = 29_231_236;
/**
 * The tree that this process built for a pool, so that a head costs the new receipts alone. It only
 * saves work: every entry in it was read and hashed here, and a numbered receipt never changes.
 */
const trees = new WeakMap<pg.Pool, MerkleTree>();

/**
 * Numbers the receipts that have no number yet, in the order of (at, id), and signs the root over all
 * of them. null: nothing is new since the last head (with `evenEmpty`, a log without any head gets
 * one). Any number may call it at once: one of them writes, the others get null.
 *
 * Throws Fault('Tampered') where the rows do not give the root that the last head signed: nothing is
 * signed over them then. Throws the signer's Fault.
 */
export async function makeHead(pool: pg.Pool, signer: Signer, installation: string, evenEmpty = false): Promise<Head | null> {
  await transaction(pool, numberReceipts);
  const last = await newestHead(pool);
  const tree = await growTree(pool, last, signer);
  if (tree.size === (last?.head.treeSize ?? 0) && (last !== null || !evenEmpty)) return null;
  const head: HeadBody = { installation, treeSize: tree.size, rootHash: digestOfRoot(tree), at: await readInstant(pool) };
  // Outside any transaction: a key store may take seconds.
  const signature = await signer.sign(headBytes(head));
  const { rowCount } = await pool.query('insert into heads (tree_size, body, signature, at) values ($1, $2, $3, $4) on conflict do nothing', [
    head.treeSize,
    headBytes(head).toString(),
    signature,
    head.at,
  ]);
  return rowCount === 1 ? { head, signature } : null;
}

/** Only rows that are committed are seen; what commits later gets a later number, though its instant may be earlier. */
async function numberReceipts(tx: pg.PoolClient): Promise<void> {
  await tx.query('select pg_advisory_xact_lock($1)', [HEAD_LOCK]);
  await tx.query(
    `update receipts set seq = fresh.place + (select coalesce(max(seq), 0) from receipts)
     from (select id, row_number() over (order by at, id) as place from receipts where seq is null) fresh where receipts.id = fresh.id`,
  );
}

async function growTree(pool: pg.Pool, last: Head | null, signer: Signer): Promise<MerkleTree> {
  const from = trees.get(pool) ?? EMPTY_TREE;
  let tree = from;
  if (last !== null && !verifySignature(readPublicKey(signer.publicKeyPem), headBytes(last.head), last.signature)) {
    throw new Fault('Tampered', 'postgres heads: the newest head is not signed by receipts.signer');
  }
  const signedAt = last === null || last.head.treeSize < from.size ? null : last.head;
  const check = () => {
    if (signedAt !== null && tree.size === signedAt.treeSize && digestOfRoot(tree) !== signedAt.rootHash) {
      throw new Fault('Tampered', `postgres receipts: the first ${tree.size} do not give the root that was signed`);
    }
  };
  check();
  for await (const { seq, body, digest } of numbered(pool, from.size, Number.MAX_SAFE_INTEGER)) {
    if (seq !== tree.size + 1 || digestOf(body) !== digest)
      throw new Fault('Tampered', `postgres receipts: number ${tree.size + 1} of the log is not what was written`);
    tree = addEntry(tree, treeEntry(digest));
    check();
  }
  if (signedAt !== null && tree.size < signedAt.treeSize)
    throw new Fault('Tampered', `postgres receipts: ${tree.size} are left of the ${signedAt.treeSize} that were signed`);
  trees.set(pool, tree);
  return tree;
}

function digestOfRoot(tree: MerkleTree): Digest {
  return `sha256:${rootOf(tree).toString('hex')}`;
}

async function readInstant(pool: pg.Pool): Promise<Instant> {
  const { rows } = await pool.query<{ at: Instant }>('select instant() as at');
  if (rows[0] === undefined) throw new Error('select instant() gave no row');
  return rows[0].at;
}

// ---------------------------------------------------------------- export and check

/** How much an export holds. */
export interface Exported {
  readonly receipts: number;
  readonly heads: number;
}

/**
 * Makes a head, then writes the log line by line (each with its end): receipts in the log's order, then
 * all heads. What is appended meanwhile waits for the next export. A page is in memory, no more.
 */
export async function exportReceipts(pool: pg.Pool, signer: Signer, installation: string, write: (line: string) => Promise<void>): Promise<Exported> {
  await makeHead(pool, signer, installation, true);
  const last = await newestHead(pool);
  if (last === null) throw new Error('a log without a head was exported');
  const exported = { receipts: 0, heads: 0 };
  for await (const { digest, body } of numbered(pool, 0, last.head.treeSize)) {
    await write(`${receiptLine(digest, body)}\n`);
    exported.receipts += 1;
  }
  for await (const head of headsUpTo(pool, last.head.treeSize)) {
    await write(`${headLine(head)}\n`);
    exported.heads += 1;
  }
  return exported;
}

/**
 * Recomputes the whole log, at a start, and compares it with the newest head. Throws Fault('Tampered'),
 * naming the receipt, or the two heads between which it stands, where a row is not what was signed.
 */
export async function checkHeads(pool: pg.Pool, signer: Signer): Promise<void> {
  const last = await newestHead(pool);
  if (last === null) return;
  const quick = await verifyExport(lines(pool, last, false), signer.publicKeyPem);
  if (quick.kind === 'verified') return;
  // The newest root is wrong: the older heads tell from where on.
  const found = quick.receipt === null ? await verifyExport(lines(pool, last, true), signer.publicKeyPem) : quick;
  const where = found.kind === 'broken' && found.receipt !== null ? `receipt ${found.receipt}` : 'a head, or a receipt before it';
  throw new Fault('Tampered', `postgres receipts: ${where}: ${found.kind === 'broken' ? found.what : quick.what}`);
}

async function* lines(pool: pg.Pool, last: Head, allHeads: boolean): AsyncGenerator<Uint8Array> {
  for await (const { digest, body } of numbered(pool, 0, last.head.treeSize)) yield Buffer.from(`${receiptLine(digest, body)}\n`);
  if (!allHeads) yield Buffer.from(`${headLine(last)}\n`);
  else for await (const head of headsUpTo(pool, last.head.treeSize)) yield Buffer.from(`${headLine(head)}\n`);
}
