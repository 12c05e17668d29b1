import { Option } from 'commander';
import type pg from 'pg';
import type { Config } from '#src/config.ts';
import { readReference } from '#src/reference.ts';
import { openDatabase } from '#state/database.ts';

/** Opens the configured database; a session is made at the first query. Throws Error where its URL cannot be read. */
export async function openDatabaseOf(config: Config, onError?: (error: Error) => void): Promise<pg.Pool> {
  using url = await readReference(config.database.url);
  return openDatabase({ url: url.reveal().toString('utf8').trim(), poolSize: config.database.poolSize, ...(onError === undefined ? {} : { onError }) });
}

/** `--config FILE`, as every command has it. */
export function configOption(): Option {
  return new Option('--config <file>', 'the configuration').env('KEYTURN_CONFIG').default('keyturn.yaml');
}

/** One line on standard output. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
