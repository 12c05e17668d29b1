import { readFile, stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { openRimThread } from '#src/adapters/nvidia/index.ts';
import { type Certificate, certificatesIn } from '#src/domain/collateral/certificate.ts';
import { scopeOf, vendorTrust } from '#src/domain/collateral/chain.ts';
import type { Crl } from '#src/domain/collateral/crl.ts';
import type { Finding } from '#src/domain/collateral/finding.ts';
import { certificatesOf, type Item, keySetsOf, listsOf } from '#src/domain/collateral/item.ts';
import { type Around, judgeItem } from '#src/domain/collateral/judge.ts';
import { COLLATERAL_MAX_BYTES, readItem } from '#src/domain/collateral/read.ts';
import type { KeySet } from '#src/domain/collateral/tokens.ts';
import { reasons } from '#src/domain/reasons.ts';
import { Fault } from '#src/errors.ts';
import { type Instant, instantOf, parseInstant } from '#src/instant.ts';
import { storable } from '#state/text.ts';
import { type FoundFile, findFiles, readLimited } from './collateral-files.ts';
import { print } from './database.ts';

interface Options {
  readonly at?: string;
  readonly json?: true;
  readonly tokenCa?: readonly string[];
}

const EXIT_NO = 3;
/** PEM of a CA, or of a few. Bytes. */
const AUTHORITY_MAX_BYTES = 256 * 1024;
/** What everybody else's items may rest on, from all files together. */
const SHARED_MAX = 20_000;

async function verify(words: readonly string[], { at, json, tokenCa }: Options): Promise<void> {
  // No database is asked here, so there is no clock but this machine’s.
  const moment = at === undefined ? instantOf(Date.now()) : momentOf(at);
  const authorities = (await Promise.all((tokenCa ?? []).map(readAuthority))).flat();
  const { files, beside } = await findFiles(words);
  if (files.length === 0) throw new Fault('NotFound', `${words.join(', ')}: no file in it`);
  const shared = await gather([...files, ...beside]);
  const scope = scopeOf(moment, vendorTrust(authorities), shared.certificates, shared.lists);
  const rims = openRimThread();
  const found: (Finding & { readonly file: string })[] = [];
  try {
    const around: Around = { keySets: shared.keySets, readRim: rims.read };
    // One file's bytes at a time: a folder may hold more than memory does.
    for (const file of files) found.push({ file: file.path, ...(await judgeItem(await itemIn(file), scope, around)) });
  } finally {
    await rims.close();
  }
  if (json === true)
    for (const { file, kind, verdict, reason, item, nextUpdate } of found) print(JSON.stringify({ file, kind, verdict, reason, item, nextUpdate }));
  else print(tableOf(found, moment));
  if (found.some(({ verdict }) => verdict !== 'good')) process.exitCode = EXIT_NO;
}

const DATE = /^\d{4}-\d\d-\d\d$/;

/** A day is its first moment, UTC. */
function momentOf(text: string): Instant {
  try {
    return parseInstant(DATE.test(text) ? `${text}T00:00:00Z` : text);
  } catch {
    throw new Fault('InvalidRequest', `--at ${text}: expected a date (2026-11-24) or an instant (2026-11-24T12:00:00Z)`);
  }
}

async function readAuthority(file: string): Promise<readonly Certificate[]> {
  const found = await stat(file).catch(() => null);
  if (found?.isFile() !== true) throw new Fault('NotFound', `--token-ca ${file}: no such file`);
  if (found.size > AUTHORITY_MAX_BYTES) throw new Fault('LimitExceeded', `--token-ca ${file}: ${found.size} bytes, expected at most ${AUTHORITY_MAX_BYTES}`);
  try {
    const certificates = certificatesIn(await readFile(file, 'utf8'));
    if (certificates.length > 0) return certificates;
  } catch {
    // Told below: neither is a certificate.
  }
  throw new Fault('InvalidRequest', `--token-ca ${file}: expected certificates in PEM`);
}

async function itemIn(file: FoundFile): Promise<Item> {
  const bytes = await readLimited(file);
  if (bytes !== null) return readItem(bytes);
  const about = `${file.sizeBytes} bytes, expected at most ${COLLATERAL_MAX_BYTES}`;
  return { kind: 'unknown', parts: [{ kind: 'bad', trouble: { verdict: 'malformed', reason: 'LimitExceeded', about } }] };
}

interface Shared {
  readonly certificates: readonly Certificate[];
  readonly lists: readonly Crl[];
  readonly keySets: readonly KeySet[];
}

/** What in these files others may rest on. Each has to lead to a pinned root where it is used. */
async function gather(files: readonly FoundFile[]): Promise<Shared> {
  const certificates = new Map<string, Certificate>();
  const lists = new Map<string, Crl>();
  const keySets: KeySet[] = [];
  for (const file of files) {
    const item = await itemIn(file);
    for (const one of certificatesOf(item)) certificates.set(one.fingerprint, one);
    for (const one of listsOf(item)) lists.set(one.fingerprint, one);
    keySets.push(...keySetsOf(item));
    if (certificates.size + lists.size + keySets.length > SHARED_MAX) throw new Fault('LimitExceeded', `more than ${SHARED_MAX} certificates and lists`);
  }
  return { certificates: [...certificates.values()], lists: [...lists.values()], keySets };
}

/** A line a file; below them what to do, once a reason. */
function tableOf(found: readonly (Finding & { readonly file: string })[], at: Instant): string {
  const rows = found.map(({ file, kind, verdict, reason, item, nextUpdate }) => [
    verdict.toUpperCase(),
    nextUpdate === null ? '-' : nextUpdate.slice(0, 10),
    kind,
    plain(file),
    reason === null ? plain(item) : `${reason}: ${plain(item)}`,
  ]);
  const width = (column: number): number => Math.min(60, Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const widths = [0, 1, 2, 3].map(width);
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  const met = [...new Set(found.flatMap(({ reason }) => (reason === null ? [] : [reason])))];
  const good = found.filter(({ verdict }) => verdict === 'good').length;
  const help = met.map((reason) => `${reason}: ${reasons[reason].help}`);
  return [...lines, '', `${good} of ${found.length} good at ${at}`, ...(help.length === 0 ? [] : ['', ...help])].join('\n');
}

/** Names come from files that anybody may have made. */
function plain(text: string): string {
  return storable(text)
    .replace(/[\n\t]/g, ' ')
    .slice(0, 200);
}

/** Adds `keyturn collateral`. */
export function register(program: Command): void {
  const collateral = program.command('collateral').description('what vendors sign about their hardware');
  collateral
    .command('verify')
    .description('judge vendor collateral and evidence offline, a line a file; exits 3 where one is not good')
    .argument('<file...>', 'files, and folders with all that is below them; what a file is, is found from its bytes')
    .option('--at <date>', 'judge as of this day or instant (default: now)')
    .option(
      '--token-ca <pem>',
      'your own CA: who signs attestation results; counts for tokens and nothing else; repeatable',
      (file: string, all: readonly string[] = []) => [...all, file],
    )
    .option('--json', 'print one JSON object a line: file, kind, verdict, reason, item, nextUpdate')
    .action(verify);
}
