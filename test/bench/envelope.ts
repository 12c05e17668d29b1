import { execFileSync } from 'node:child_process';
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { closeSync, copyFileSync, existsSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Pass, pass } from '#src/envelope/tink.ts';

/** One figure: how fast, and how it stands to another figure of the same run. */
export interface EnvelopeFigure {
  readonly what: string;
  /** MiB of plaintext a second of wall time, the best of a few turns. */
  readonly mebibytesPerSecond: number;
  /** MiB of plaintext a second of this process's CPU time, in the same turn. */
  readonly mebibytesPerCpuSecond: number;
}

const MEBIBYTE = 1024 * 1024;
const TURNS = 3;

/** Runs `work`, which handles `mebibytes`, a few times; the best turn is the one that was least disturbed. */
function measure(what: string, mebibytes: number, work: () => void): EnvelopeFigure {
  let best: EnvelopeFigure = { what, mebibytesPerSecond: 0, mebibytesPerCpuSecond: 0 };
  for (let turn = 0; turn < TURNS; turn += 1) {
    const cpu = process.cpuUsage();
    const startedAt = performance.now();
    work();
    const seconds = (performance.now() - startedAt) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const mebibytesPerSecond = mebibytes / seconds;
    if (mebibytesPerSecond > best.mebibytesPerSecond) best = { what, mebibytesPerSecond, mebibytesPerCpuSecond: mebibytes / ((user + system) / 1e6) };
  }
  return best;
}

function writeRandom(path: string, mebibytes: number): void {
  const file = openSync(path, 'w');
  for (let written = 0; written < mebibytes; written += 1) writeSync(file, randomBytes(MEBIBYTE));
  fsyncSync(file);
  closeSync(file);
}

/** What node:crypto itself does on this machine, right now: the ceiling. */
function ceilings(): readonly EnvelopeFigure[] {
  const bytes = randomBytes(MEBIBYTE);
  const [key, nonce] = [randomBytes(32), randomBytes(12)];
  const repeat = (work: () => void) => () => {
    for (let count = 0; count < 256; count += 1) work();
  };
  const gcm = () => {
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    for (let at = 0; at < MEBIBYTE; at += 65_536) cipher.update(bytes.subarray(at, at + 65_536));
    cipher.final();
  };
  return [
    measure('node:crypto aes-256-gcm, 64 KiB pieces', 256, repeat(gcm)),
    measure(
      'node:crypto sha256',
      256,
      repeat(() => void createHash('sha256').update(bytes).digest()),
    ),
  ];
}

/** The passes over one file. In memory nothing is written, because new pages of a memory file system cost more than the cryptography. */
function passes(folder: string, where: string, mebibytes: number, writes: boolean): readonly EnvelopeFigure[] {
  const [plain, sealed, out] = ['plain', 'sealed', 'out'].map((name) => join(folder, name)) as [string, string, string];
  const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
  writeRandom(plain, mebibytes);
  pass({ from: plain, to: sealed, openWith: null, sealWith: oldKey, associatedData: 'bench', hash: 'neither' });
  const turn = (what: string, order: Pick<Pass, 'from' | 'openWith' | 'sealWith' | 'hash'>) =>
    measure(`${where}: ${what}`, mebibytes, () => {
      rmSync(out, { force: true });
      pass({ ...order, to: writes ? out : null, associatedData: 'bench' });
    });
  if (writes)
    return [turn('open + seal, digests: both', { from: sealed, openWith: oldKey, sealWith: newKey, hash: 'both' }), copied(plain, out, where, mebibytes)];
  return (['neither', 'ciphertext', 'both'] as const).flatMap((hash) => [
    turn(`seal, digests: ${hash}`, { from: plain, openWith: null, sealWith: newKey, hash }),
    turn(`open, digests: ${hash}`, { from: sealed, openWith: oldKey, sealWith: null, hash }),
    turn(`open + seal, digests: ${hash}`, { from: sealed, openWith: oldKey, sealWith: newKey, hash }),
  ]);
}

function copied(from: string, to: string, where: string, mebibytes: number): EnvelopeFigure {
  return measure(`${where}: copy and fsync`, mebibytes, () => {
    rmSync(to, { force: true });
    copyFileSync(from, to);
    const file = openSync(to, 'r+');
    fsyncSync(file);
    closeSync(file);
  });
}

/** `openssl speed`, where it is on the PATH. */
function opensslSpeed(): readonly EnvelopeFigure[] {
  try {
    const text = execFileSync('openssl', ['speed', '-mr', '-seconds', '1', '-bytes', '1048576', '-evp', 'aes-256-gcm'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    }).toString();
    const bytesPerSecond = Number(/^\+F:.*:([\d.]+)$/m.exec(text)?.[1] ?? Number.NaN);
    if (Number.isNaN(bytesPerSecond)) return [];
    return [{ what: 'openssl speed aes-256-gcm, 1 MiB', mebibytesPerSecond: bytesPerSecond / MEBIBYTE, mebibytesPerCpuSecond: bytesPerSecond / MEBIBYTE }];
  } catch {
    return [];
  }
}

/** Seals, opens and re-encrypts one file in memory and on disk, in this thread, beside what the machine can do at that moment. */
export function benchEnvelope(mebibytes = 256): readonly EnvelopeFigure[] {
  const memory = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  const folders = [mkdtempSync(join(memory, 'keyturn-bench-')), mkdtempSync(join(tmpdir(), 'keyturn-bench-'))] as const;
  try {
    return [...ceilings(), ...opensslSpeed(), ...passes(folders[0], 'memory', mebibytes, false), ...passes(folders[1], 'disk', mebibytes, true)];
  } finally {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  for (const { what, mebibytesPerSecond, mebibytesPerCpuSecond } of benchEnvelope()) {
    process.stdout.write(`${what.padEnd(44)} ${mebibytesPerSecond.toFixed(0).padStart(6)} MiB/s ${mebibytesPerCpuSecond.toFixed(0).padStart(6)} MiB/CPU-s\n`);
  }
}
