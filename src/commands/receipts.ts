import { once } from 'node:events';
import { open, rename, rm } from 'node:fs/promises';
import type { Command } from 'commander';
import { loadConfig } from '#src/config.ts';
import { checkInstallation } from '#state/migrate.ts';
import { type Exported, exportReceipts } from '#state/receipts.ts';
import { configOption, openDatabaseOf, print } from './database.ts';

interface Options {
  readonly config: string;
  readonly out?: string;
  readonly json?: true;
}

async function exportTo({ config: file, out, json }: Options): Promise<void> {
  const config = await loadConfig(file, process.env);
  const { openSigner } = await import('./open.ts');
  const signer = await openSigner(config);
  const pool = await openDatabaseOf(config);
  // Before a head is signed: one in another installation's name would break the log for good.
  await checkInstallation(pool, { name: config.installation, mode: config.mode });
  const write = (writeLine: (line: string) => Promise<void>): Promise<Exported> => exportReceipts(pool, signer, config.installation, writeLine);
  const exported = out === undefined ? await write(toOutput) : await toFile(out, write);
  await pool.end();
  const { receipts, heads } = exported;
  if (out !== undefined && json === true) print(JSON.stringify({ receipts, heads, out }));
  else if (out !== undefined) print(`${receipts} receipts and ${heads} heads in ${out}`);
}

async function toOutput(line: string): Promise<void> {
  if (!process.stdout.write(line)) await once(process.stdout, 'drain');
}

/** Whole or not at all: an export that was cut short would look like a log that was. */
async function toFile(out: string, write: (writeLine: (line: string) => Promise<void>) => Promise<Exported>): Promise<Exported> {
  const partial = `${out}.partial`;
  const handle = await open(partial, 'w');
  try {
    const exported = await write(async (line) => void (await handle.appendFile(line)));
    await handle.sync();
    await handle.close();
    await rename(partial, out);
    return exported;
  } catch (thrown) {
    await handle.close().catch(() => undefined);
    await rm(partial, { force: true });
    throw thrown;
  }
}

/** Adds `keyturn receipts export`. */
export function register(program: Command): void {
  program
    .command('receipts')
    .description('the log of receipts')
    .command('export')
    .description('sign a head over every receipt, then write all receipts and heads, one JSON line each; works with `serve` stopped')
    .addOption(configOption())
    .option('--out <file>', 'write there instead of to standard output; whole or not at all')
    .option('--json', 'with --out: print one JSON object: how many receipts and heads')
    .action(exportTo);
}
