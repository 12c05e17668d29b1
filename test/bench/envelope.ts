/**
 * How fast weights are re-encrypted: in memory, by one core, and on disk, as `encrypt-weights` does it.
 *
 *   node test/bench/envelope.ts [--json]
 */
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openWeights } from '#src/adapters/weights/index.ts';
import { manifestOf } from '#src/envelope/layout.ts';
import { type Pass, pass } from '#src/envelope/tink.ts';
import { type EnvelopeWorkers, openWorkers } from '#src/envelope/workers.ts';
import type { SealOrder } from '#src/world.ts';
import { type Bar, tellBars } from './bar.ts';

const execute = promisify(execFile);

const MEBIBYTE = 1024 * 1024;
const GIBIBYTE = 1024 * MEBIBYTE;
/** The best turn is the one that others on this machine disturbed least. */
const TURNS = { memory: 12, disk: 5 };
const MEMORY_BYTES = 256 * MEBIBYTE;
/** On disk: as many files as keep every thread busy, and as many bytes as no cache of a disk takes unseen. */
const DISK_FILES = 8;
const DISK_BYTES = GIBIBYTE;

/** Writes random bytes that are on the disk when it returns. */
function writeRandom(path: string, bytes: number): void {
  const file = openSync(path, 'wx');
  for (let written = 0; written < bytes; written += MEBIBYTE) writeSync(file, randomBytes(MEBIBYTE));
  fsyncSync(file);
  closeSync(file);
}

/** GiB a second of one core, by `openssl speed` in pieces of 1 MiB; null where it is not on the PATH. */
function opensslSpeed(algorithm: string): number | null {
  try {
    const options = ['speed', '-mr', '-seconds', '1', '-bytes', String(MEBIBYTE), '-evp', algorithm];
    const text = execFileSync('openssl', options, { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
    const bytesPerSecond = Number(/^\+F:.*:([\d.]+)$/m.exec(text)?.[1]);
    return Number.isFinite(bytesPerSecond) ? bytesPerSecond / GIBIBYTE : null;
  } catch {
    return null;
  }
}

/** GiB of plaintext a second of this process's CPU time, all threads counted. */
function perCpuSecond(order: Pass): number {
  let best = 0;
  for (let turn = 0; turn < TURNS.memory; turn += 1) {
    const before = process.cpuUsage();
    const { plaintextBytes } = pass(order);
    const { user, system } = process.cpuUsage(before);
    best = Math.max(best, plaintextBytes / GIBIBYTE / ((user + system) / 1e6));
  }
  return best;
}

/** Nothing is written, because new pages of a memory file system cost more than the cryptography. */
function inMemory(folder: string): readonly Bar[] {
  const [plain, sealed] = [join(folder, 'plain'), join(folder, 'sealed')];
  const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
  writeRandom(plain, MEMORY_BYTES);
  pass({ from: plain, to: sealed, openWith: null, sealWith: oldKey, associatedData: 'bench', hash: 'neither' });
  const [gcm, sha256] = [opensslSpeed('aes-256-gcm'), opensslSpeed('sha256')];
  const bar = (what: string, hash: Pass['hash'], digests: number, least: number): Bar => {
    const value = perCpuSecond({ from: sealed, to: null, openWith: oldKey, sealWith: newKey, associatedData: 'bench', hash });
    const peer = `openssl speed, 2 × aes-256-gcm${digests === 0 ? '' : ` + ${digests} × sha256`}`;
    const known = gcm !== null && sha256 !== null;
    return {
      bar: `re-encryption in memory, a core: ${what}`,
      value,
      unit: 'GiB/s of CPU time',
      target: `≥ ${least}`,
      peer: known ? peer : `${peer} (not on the PATH)`,
      peerValue: known ? 1 / (2 / gcm + digests / sha256) : 0,
      met: value >= least,
    };
  };
  return [
    bar('open + seal', 'neither', 0, 1),
    bar('open + seal, the ciphertext’s digest', 'ciphertext', 1, 0.8),
    bar('open + seal, both digests', 'both', 2, 0.5),
  ];
}

/** KServe's format in the same way: one cipher and one text from end to end. */
function jweInMemory(folder: string): readonly Bar[] {
  const [plain, sealed] = [join(folder, 'plain'), join(folder, 'sealed.jwe')];
  const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
  const as = { associatedData: '', openAs: 'kserve-jwe', sealAs: 'kserve-jwe' } as const;
  pass({ from: plain, to: sealed, openWith: null, sealWith: oldKey, hash: 'neither', ...as });
  const [gcm, sha256] = [opensslSpeed('aes-256-gcm'), opensslSpeed('sha256')];
  const bar = (what: string, hash: Pass['hash']): Bar => {
    const value = perCpuSecond({ from: sealed, to: null, openWith: oldKey, sealWith: newKey, hash, ...as }) * 1024;
    const digests = hash === 'both' ? 2 : 0;
    const peer = `openssl speed, 2 × aes-256-gcm${digests === 0 ? '' : ' + 2⅓ × sha256'}, no base64url`;
    // The text is a third longer than what it holds.
    const peerValue = gcm === null || sha256 === null ? 0 : 1024 / (2 / gcm + (digests === 0 ? 0 : (1 + 4 / 3) / sha256));
    return { bar: `KServe’s JWE in memory, a core: ${what}`, value, unit: 'MiB/s of CPU time', target: '≥ 250', peer, peerValue, met: value >= 250 };
  };
  return [bar('open + seal', 'neither'), bar('open + seal, both digests', 'both')];
}

/** Drops what the page cache has of these files: weights are longer than memory, and the copy rate asked for is the disk's. */
function chill(files: readonly string[]): void {
  for (const file of files) execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' });
}

async function mebibytesPerSecond(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return DISK_BYTES / MEBIBYTE / ((performance.now() - startedAt) / 1000);
}

/** Copies files as fast as the disk reads and writes them: past the page cache, as many at once as our threads pass. */
async function copyDirectly(from: string, to: string, names: readonly string[], threads: number): Promise<void> {
  mkdirSync(to);
  const left = [...names];
  const copyOn = async (): Promise<void> => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      // The manifest is shorter than a block: what a disk takes in blocks is the rest.
      const direct = statSync(join(from, name)).size < MEBIBYTE ? [] : ['iflag=direct', 'oflag=direct'];
      await execute('dd', [`if=${join(from, name)}`, `of=${join(to, name)}`, 'bs=4M', 'conv=fsync', ...direct]);
    }
  };
  await Promise.all(Array.from({ length: threads }, copyOn));
}

async function copyThroughCache(from: string, to: string, names: readonly string[]): Promise<void> {
  await execute('cp', ['-r', from, to]);
  await execute(
    'sync',
    names.map((name) => join(to, name)),
  );
}

/** A folder of sealed files, and how it is re-encrypted into `model/new` beside it. */
async function sealedFolder(folder: string, workers: EnvelopeWorkers): Promise<{ readonly names: readonly string[]; readonly reseal: () => Promise<void> }> {
  const plain = join(folder, 'plain');
  mkdirSync(plain);
  for (let file = 0; file < DISK_FILES; file += 1) writeRandom(join(plain, `shard-${file}`), DISK_BYTES / DISK_FILES);
  const weights = openWeights({ disk: { kind: 'file', path: folder, guestAddress: 'file:///models' } }, workers);
  const { digest } = await manifestOf(plain, workers);
  const codec = 'tink-aes256-gcm-hkdf-1mb';
  const [open, seal] = [weights.newKey(codec), weights.newKey(codec)];
  const order = { plaintextManifest: digest, codec, stores: ['disk'] } as const;
  const pass = async (changes: Pick<SealOrder, 'source' | 'prefix'>, keys: Parameters<typeof weights.seal>[1]): Promise<void> => {
    await weights.seal(
      { ...order, ...changes },
      keys,
      async () => true,
      async () => {},
    );
  };
  await pass({ source: { kind: 'plaintext', address: `file://${plain}` }, prefix: 'model/old' }, { seal: open, open: null });
  rmSync(plain, { recursive: true });
  return {
    names: readdirSync(join(folder, 'model/old')),
    reseal: () => pass({ source: { kind: 'ciphertext', stores: ['disk'], prefix: 'model/old' }, prefix: 'model/new' }, { seal, open }),
  };
}

/** The whole of it, from one cold ciphertext to another that is on the disk, beside copies of the same files, turn by turn. */
async function onDisk(folder: string): Promise<readonly Bar[]> {
  const workers = openWorkers();
  try {
    const { names, reseal } = await sealedFolder(folder, workers);
    const [old, copy] = [join(folder, 'model/old'), join(folder, 'copy')];
    const work = {
      ours: { run: reseal, leaves: join(folder, 'model/new') },
      direct: { run: () => copyDirectly(old, copy, names, workers.threads), leaves: copy },
      cp: { run: () => copyThroughCache(old, copy, names), leaves: copy },
    };
    const best = { ours: 0, direct: 0, cp: 0 };
    for (let turn = 0; turn < TURNS.disk; turn += 1) {
      for (const who of ['direct', 'ours', 'cp'] as const) {
        chill(names.map((name) => join(old, name)));
        best[who] = Math.max(best[who], await mebibytesPerSecond(work[who].run));
        rmSync(work[who].leaves, { recursive: true });
      }
    }
    const bar = `re-encryption on disk, ${DISK_FILES} files, ${availableParallelism()} cores`;
    const line = (beside: string, peer: string, peerValue: number): Bar => {
      return { bar: `${bar}, beside ${beside}`, value: best.ours, unit: 'MiB/s', target: '≥ 90 %', peer, peerValue, met: best.ours >= 0.9 * peerValue };
    };
    return [
      line('the disk itself', `dd of the same files with O_DIRECT, ${workers.threads} at once`, best.direct),
      line('cp', 'cp and sync of the same files, cold', best.cp),
    ];
  } finally {
    await workers.close();
  }
}

/** Re-encrypts in memory and on disk, beside what the machine can do at that moment. */
export async function benchEnvelope(): Promise<readonly Bar[]> {
  const memory = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  const folders = [mkdtempSync(join(memory, 'keyturn-bench-')), mkdtempSync(join(tmpdir(), 'keyturn-bench-'))] as const;
  try {
    return [...inMemory(folders[0]), ...jweInMemory(folders[0]), ...(await onDisk(folders[1]))];
  } finally {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) tellBars(await benchEnvelope(), process.argv.includes('--json'));
