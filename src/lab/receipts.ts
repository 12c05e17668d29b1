import { createReadStream } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Keyturn, runCommand } from './children.ts';
import { failure } from './watch.ts';

/** Exporting and verifying some hundred receipts takes a second; a loaded machine gets many. Seconds. */
const RECEIPTS_SECONDS = 60;
/** `verify` says no with this exit code. */
const EXIT_NO = 3;

/** What the exported receipts say of the story, and where they are. */
export interface Ending {
  /** Revisions that came to serve. */
  readonly rotations: number;
  readonly receipts: number;
  /** `verify`'s own answer. */
  readonly chain: 'ok' | 'broken';
  readonly export: string;
  readonly publicKey: string;
}

/** Exports the receipts with the public key beside them, and has the export verified, all with the commands that a security team would use. */
export async function exportReceipts(keyturn: Keyturn, configFile: string, publicKeyFile: string, outFolder: string): Promise<Ending> {
  await mkdir(outFolder, { recursive: true });
  const file = join(outFolder, 'receipts.jsonl');
  const publicKey = join(outFolder, 'receipts.public.pem');
  await copyFile(publicKeyFile, publicKey);
  const exported = await runCommand(keyturn, ['receipts', 'export', '--out', file, '--config', configFile], RECEIPTS_SECONDS);
  if (exported.code !== 0) throw failure('ServerError', `keyturn receipts export ended with ${exported.code}: ${exported.errors.trim()}`);
  const verified = await runCommand(keyturn, ['verify', file, '--public-key', publicKey], RECEIPTS_SECONDS);
  if (verified.code !== 0 && verified.code !== EXIT_NO) throw failure('ServerError', `keyturn verify ended with ${verified.code}: ${verified.errors.trim()}`);
  return { ...(await count(file)), chain: verified.code === 0 ? 'ok' : 'broken', export: file, publicKey };
}

async function count(file: string): Promise<{ readonly rotations: number; readonly receipts: number }> {
  const serving = new Set<string>();
  let receipts = 0;
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const { receipt }: { receipt?: { run?: string; step?: string } } = JSON.parse(line);
    if (receipt === undefined) continue;
    receipts += 1;
    if (receipt.step === 'confirm-serving' && receipt.run !== undefined) serving.add(receipt.run);
  }
  return { rotations: serving.size, receipts };
}
