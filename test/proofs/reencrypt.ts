/**
 * A model re-encrypted by a process that is killed again and again, with SIGKILL, at moments drawn from a seed: in the end the
 * plaintext is the same byte for byte, the old ciphertext was not touched, and every resume did again no more than it had to.
 *
 * `node test/proofs/reencrypt.ts [--bytes N] [--kills N] [--seed N]`; `--bytes 1073741824 --kills 10` is the long form.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createCipheriv, createHash, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { openWeights } from '#src/adapters/weights/index.ts';
import { manifestOf, openFolder } from '#src/envelope/layout.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { Secret } from '#src/secret.ts';
import type { Ciphertext, SealOrder } from '#src/world.ts';
import { type Proof, prove, seeded } from './proof.ts';

const MEBIBYTE = 1024 * 1024;
/** Four fifths in one file, the rest in shards, one of them shorter than a segment, and an empty one. */
const FILES: readonly (readonly [name: string, share: number])[] = [
  ['large.gguf', 0.8],
  ['shard-1.safetensors', 0.1],
  ['sub/shard-2.safetensors', 0.0999],
  ['config.json', 0.0001],
  ['empty', 0],
];
/** A kill comes while old work is verified, one time in four; else when so much of the model lies sealed, at most. What is left lets the last run live. */
const KILLED_AT_MOST = 0.85;
const VERIFYING = 0.25;
/** Between looks at a child that is about to be killed. */
const LOOK_MILLISECONDS = 1;
const LIMIT_SECONDS = 900;

const { values } = parseArgs({
  options: { bytes: { type: 'string' }, kills: { type: 'string' }, seed: { type: 'string' }, child: { type: 'boolean', default: false } },
});

/** What the child is told, on its standard input. */
interface Errand {
  readonly folder: string;
  readonly order: SealOrder;
  /** Base64. */
  readonly seal: string;
  readonly open: string;
}

function openStores(folder: string) {
  return openWeights({ models: { kind: 'file', path: join(folder, 'store'), guestAddress: 'file:///models' } });
}

/** Re-encrypts once, as `encrypt-weights` does. */
async function runErrand(): Promise<void> {
  const { folder, order, seal, open }: Errand = JSON.parse(await text(process.stdin));
  using sealKey = new Secret(Buffer.from(seal, 'base64'));
  using openKey = new Secret(Buffer.from(open, 'base64'));
  process.stdout.write('begun\n');
  await openStores(folder).seal(
    order,
    { seal: sealKey, open: openKey },
    async () => true,
    async () => {},
  );
  process.stdout.write(`${JSON.stringify(countersOf(process.pid))}\n`);
}

/** What a process has read and written by system calls, as the kernel counts it. Bytes. */
interface Counters {
  readonly read: number;
  readonly written: number;
}

function countersOf(pid: number): Counters {
  const lines = readFileSync(`/proc/${pid}/io`, 'utf8');
  const of = (name: string): number => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(lines)?.[1] ?? Number.NaN);
  return { read: of('rchar'), written: of('wchar') };
}

/** Bytes of the new ciphertext that lie in the store: whole files, and parts. */
function bytesIn(folder: string): number {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
  } catch {
    return 0;
  }
}

/** Writes the model; the key stream of AES-CTR is the same everywhere. */
async function writeModel(folder: string, bytes: number, seed: number): Promise<void> {
  await mkdir(join(folder, 'sub'), { recursive: true });
  const zeros = Buffer.alloc(MEBIBYTE);
  for (const [name, share] of FILES) {
    const numbers = createCipheriv('aes-256-ctr', createHash('sha256').update(`${seed}/${name}`).digest(), Buffer.alloc(16));
    const file = openSync(join(folder, name), 'wx');
    const size = Math.floor(bytes * share);
    for (let at = 0; at < size; at += MEBIBYTE) writeSync(file, numbers.update(zeros.subarray(0, Math.min(MEBIBYTE, size - at))));
    fdatasyncSync(file);
    closeSync(file);
  }
}

interface Stage {
  readonly errand: Errand;
  /** Where the new ciphertext comes to lie. */
  readonly target: string;
  readonly bytes: number;
}

/** When a run is killed: once so much of the model is sealed, or once so much of what was there is verified. Shares. */
interface Moment {
  readonly kind: 'sealed' | 'verified';
  readonly share: number;
}

function drawMoments(chance: () => number, kills: number): readonly Moment[] {
  const shares = Array.from({ length: kills }, () => chance() * KILLED_AT_MOST).sort((a, b) => a - b);
  return shares.map((share, place) => (place > 0 && chance() < VERIFYING ? { kind: 'verified', share: chance() * 0.9 } : { kind: 'sealed', share }));
}

/** A run, up to its kill, or to its end where `moment` is null or comes too late. Prints what it did. */
async function run(proof: Proof, stage: Stage, number: number, moment: Moment | null): Promise<{ readonly killed: boolean; readonly sealedAgain: number }> {
  const before = bytesIn(stage.target);
  const child = spawn(process.execPath, [import.meta.filename, '--child'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const { pid } = child;
  if (pid === undefined) throw new Error('the child did not start');
  try {
    const exit = once(child, 'exit');
    child.stdin.end(JSON.stringify(stage.errand));
    const [begun] = await once(child.stdout, 'data');
    const start = countersOf(pid);
    const rest = text(child.stdout);
    const at = await killedAt(proof, pid, (now) => isTime(moment, before, stage.bytes, since(start, now)));
    const [code, signal] = await exit;
    if (signal === null && code !== 0) throw new Error(`run ${number} ended with ${code} after ${begun}`);
    const { verified, sealed } = since(start, at ?? JSON.parse(await rest));
    const fresh = bytesIn(stage.target) - before;
    const how = at === null ? 'ended by itself' : `SIGKILL while ${moment?.kind === 'verified' ? 'verifying' : 'sealing'}`;
    proof.note(
      `       run ${number}: ${mib(before)} done before, ${mib(verified)} verified again, ${mib(sealed - fresh)} sealed again, ${mib(fresh)} new; ${how}`,
    );
    return { killed: at !== null, sealedAgain: sealed - fresh };
  } finally {
    child.kill('SIGKILL');
  }
}

/** What was not read to be sealed was read to be verified; a thread can be a segment ahead. */
function since(start: Counters, now: Counters): { readonly verified: number; readonly sealed: number } {
  const sealed = now.written - start.written;
  return { sealed, verified: Math.max(0, now.read - start.read - sealed) };
}

function isTime(moment: Moment | null, before: number, bytes: number, { verified, sealed }: ReturnType<typeof since>): boolean {
  if (moment === null) return false;
  return moment.kind === 'sealed' ? before + sealed >= moment.share * bytes : verified >= moment.share * before;
}

/** Kills a process when it is time, and gives what it had read and written by then; null where it ended before. */
async function killedAt(proof: Proof, pid: number, isDue: (now: Counters) => boolean): Promise<Counters | null> {
  while (!isDead(pid)) {
    if (isDue(countersOf(pid))) {
      process.kill(pid, 'SIGKILL');
      // Its counters stay until we hear of its end, which is not before this turn of the event loop is over.
      while (!isDead(pid));
      return countersOf(pid);
    }
    await pause(LOOK_MILLISECONDS, null, { signal: proof.signal });
  }
  return null;
}

/** Whether a process has ended, with all of its threads. */
function isDead(pid: number): boolean {
  try {
    const [state, ...fields] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    // proc_pid_stat(5): `num_threads` is field 20, the state is field 3.
    return (state === 'Z' || state === 'X') && Number(fields[16]) <= 1;
  } catch {
    return true;
  }
}

function mib(bytes: number): string {
  return `${(bytes / MEBIBYTE).toFixed(1)} MiB`;
}

/** The model, sealed under a first key. */
async function setUp(folder: string, bytes: number, seed: number) {
  const [plain, store] = [join(folder, 'plain'), join(folder, 'store')];
  await mkdir(store);
  await writeModel(plain, bytes, seed);
  const workers = openWorkers();
  const { digest } = await manifestOf(plain, workers);
  await workers.close();
  const weights = openStores(folder);
  const codec = 'tink-aes256-gcm-hkdf-1mb';
  const [open, seal] = [weights.newKey(codec), weights.newKey(codec)];
  const old: SealOrder = {
    source: { kind: 'plaintext', address: `file://${plain}` },
    plaintextManifest: digest,
    codec,
    stores: ['models'],
    prefix: 'model/old',
  };
  await weights.seal(
    old,
    { seal: open, open: null },
    async () => true,
    async () => {},
  );
  const order: SealOrder = { ...old, source: { kind: 'ciphertext', stores: ['models'], prefix: 'model/old' }, prefix: 'model/new' };
  return { plain, weights, old, order, open, seal };
}

async function proveReencryption(proof: Proof, folder: string): Promise<void> {
  const bytes = Number(values.bytes ?? 64 * MEBIBYTE);
  const kills = Number(values.kills ?? 4);
  const seed = values.seed === undefined ? randomInt(1_000_000) : Number(values.seed);
  proof.note(`seed ${seed}: node test/proofs/reencrypt.ts --bytes ${bytes} --kills ${kills} --seed ${seed}`);
  const { plain, weights, old, order, open, seal } = await setUp(folder, bytes, seed);
  const stat = (): string => execFileSync('sh', ['-c', 'find . -printf "%P %s %T@\\n" | sort'], { cwd: join(folder, 'store/model/old') }).toString();
  const before: readonly [Ciphertext | null, string] = [await weights.inspect(old, 'models', open), stat()];
  const errand: Errand = { folder, order, seal: seal.reveal().toString('base64'), open: open.reveal().toString('base64') };
  const stage: Stage = { errand, target: join(folder, 'store/model/new'), bytes };
  let killed = 0;
  let whole = 0;
  let most = 0;
  for (const [index, moment] of drawMoments(seeded(seed), kills).entries()) {
    const ran = await run(proof, stage, index + 1, moment);
    if (ran.killed) killed += 1;
    most = Math.max(most, ran.sealedAgain);
    if ((await weights.inspect(order, 'models', seal)) !== null) whole += 1;
  }
  proof.same('every run was killed before it came to its end', killed, kills);
  proof.same('after no kill was what lay there taken for whole', whole, 0);
  const last = await run(proof, stage, kills + 1, null);
  most = Math.max(most, last.sealedAgain);
  proof.fact(`no resume sealed more than a segment a thread again: ${mib(most)} at most`, most <= availableParallelism() * MEBIBYTE, most);
  const found = await weights.inspect(order, 'models', seal);
  proof.fact('the new ciphertext is whole under the new key', found !== null && found.files === FILES.length + 1, found);
  proof.fact(
    'and nothing else lies beside it',
    readdirSync(stage.target, { recursive: true, withFileTypes: true }).every((entry) => !entry.name.endsWith('.part')),
  );
  const opened = join(folder, 'opened');
  const workers = openWorkers();
  await openFolder({ folder: stage.target, keyset: seal, to: opened, workers });
  await workers.close();
  proof.fact('it opens to the plaintext, byte for byte', identical(plain, opened));
  proof.same('the old ciphertext is the same, byte for byte, and was not written to', [await weights.inspect(old, 'models', open), stat()], before);
  proof.fact('the old key does not open the new ciphertext', (await weights.inspect(order, 'models', open)) === null);
}

function identical(one: string, other: string): boolean {
  try {
    execFileSync('diff', ['-r', one, other], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

if (values.child) await runErrand();
else {
  const folder = mkdtempSync(join(tmpdir(), 'keyturn-reencrypt-'));
  try {
    await prove(LIMIT_SECONDS, (proof) => proveReencryption(proof, folder));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
