import type { Command } from 'commander';
import { loadConfig } from '#src/config.ts';
import { checkInstallation, migrate } from '#state/migrate.ts';
import { configOption, openDatabaseOf, print } from './database.ts';

interface Options {
  readonly config: string;
  readonly json?: true;
}

async function run({ config: file, json }: Options): Promise<void> {
  const config = await loadConfig(file, process.env);
  const pool = await openDatabaseOf(config);
  const { applied } = await migrate(pool);
  await checkInstallation(pool, { name: config.installation, mode: config.mode });
  await pool.end();
  if (json === true) print(JSON.stringify({ applied }));
  else print(applied.length === 0 ? 'nothing to do' : applied.map((name) => `applied ${name}`).join('\n'));
}

/** Adds `keyturn migrate`. */
export function register(program: Command): void {
  program
    .command('migrate')
    .description('bring the database to this version, and make it this installation’s; `serve` does the same when it starts')
    .addOption(configOption())
    .option('--json', 'print one JSON object: the names of what was applied')
    .action(run);
}
