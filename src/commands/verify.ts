import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { momentOf, sentenceOf } from '#src/dashboard/sentences.ts';
import type { Json } from '#src/domain/json.ts';
import { openRevocationRecords, type RevocationRecord } from '#src/domain/revocation-record.ts';
import { type Verified, verifyExport } from '#src/domain/verify-export.ts';
import { Fault } from '#src/errors.ts';
import { storable } from '#state/text.ts';
import { print } from './database.ts';

interface Options {
  readonly publicKey: string;
  readonly head?: string;
  readonly json?: true;
  readonly revocations?: true;
}

/** A key in PEM or a head: neither has more. Bytes. */
const SMALL_MAX_BYTES = 64 * 1024;
const EXIT_NO = 3;

async function verify(file: string, { publicKey, head, json, revocations }: Options): Promise<void> {
  const key = await readSmall(publicKey);
  const expected = head === undefined ? null : await readSmall(head);
  const bytes = file === '-' ? process.stdin : createReadStream(await existing(file));
  const records = openRevocationRecords();
  const verified = await verifyExport(bytes, key, expected, revocations === true ? records.hear : undefined);
  // What stands in an export that does not verify proves nothing.
  const told = verified.kind === 'verified' && revocations === true ? records.all() : [];
  if (json === true) print(JSON.stringify(revocations === true ? { ...verified, revocations: told } : verified));
  else print([wordsOf(file, verified), ...told.flatMap(recordLines)].join('\n'));
  if (verified.kind === 'broken') process.exitCode = EXIT_NO;
}

/** One line for what was revoked, by whom and why, and one for each refusal that was seen. */
function recordLines({ revocation, said, generations, seen, lifted }: RevocationRecord): readonly string[] {
  const name =
    said === null ? revocation : `${plain(said.id)} by ${plain(said.approvedBy)}: ${plain(said.reason)}, ${plain(said.why)}; recovery: ${plain(said.recovery)}`;
  const policy = Object.entries(generations).map(([kbs, generation]) => `${kbs} from generation ${generation}`);
  const width = Math.max(...seen.map(({ step }) => step.length));
  return [
    '',
    `revoked ${name}`,
    ...(said === null ? ['  not confirmed to be refused'] : [`  ${plain(JSON.stringify(said.subject))}`]),
    ...(policy.length === 0 ? [] : [`  refused by the policy of ${policy.join(', ')}`]),
    ...seen.map(({ step, at, proof }) => `  ${step.padEnd(width)}  ${at}  ${proof}  ${sentenceOf('revoke', step) ?? momentOf(step) ?? ''}`.trimEnd()),
    ...(lifted === null
      ? []
      : [`  lifted ${lifted.at} by ${plain(lifted.said.reinstatement)}, signed by ${plain(lifted.said.approvedBy)}: ${plain(lifted.said.justification)}`]),
  ];
}

/** Somebody's words, as a terminal may show them: in one line, so that none of them passes for a line of ours. */
function plain(value: Json | undefined): string {
  return storable(Array.isArray(value) ? value.join(', ') : String(value ?? 'nobody')).replaceAll(/\s+/g, ' ');
}

function wordsOf(file: string, verified: Verified): string {
  if (verified.kind === 'broken') return `${file}: line ${verified.line}${verified.receipt === null ? '' : `, receipt ${verified.receipt}`}: ${verified.what}`;
  const { installation, treeSize, rootHash, at } = verified.last.head;
  return `${file}: ${verified.receipts} receipts and ${verified.heads} heads verify; the last head covers ${treeSize} of ${installation} at ${at}, root ${rootHash}`;
}

async function existing(file: string): Promise<string> {
  const found = await stat(file).catch(() => null);
  if (found === null || found.isDirectory()) throw new Fault('NotFound', `${file}: no such file`);
  return file;
}

async function readSmall(file: string): Promise<string> {
  const { size } = await stat(await existing(file));
  if (size > SMALL_MAX_BYTES) throw new Fault('LimitExceeded', `${file}: ${size} bytes, expected at most ${SMALL_MAX_BYTES}`);
  return readFile(file, 'utf8');
}

/** Adds `keyturn verify`. */
export function register(program: Command): void {
  program
    .command('verify')
    .description('verify an export of receipts with nothing but the public key; exits 3, naming line and receipt, where it does not verify')
    .argument('<export>', 'the file that `keyturn receipts export` wrote; - for standard input')
    .requiredOption('--public-key <file>', 'PEM of the key that signs the heads')
    .option('--head <file>', 'a head kept from an earlier export: the log must have gone through it')
    .option('--revocations', 'say who revoked what, why, and when each refusal was seen')
    .option('--json', 'print one JSON object')
    .action(verify);
}
