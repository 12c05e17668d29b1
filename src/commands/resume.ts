import type { Command } from 'commander';
import { Fault } from '#src/errors.ts';
import { resumeRuns, subjectName } from '#state/holds.ts';
import { configOption, print } from './database.ts';
import { type HoldOptions, inDatabase, nameOf, subjectOf, wordsOf } from './hold-subject.ts';

async function resume(run: string | undefined, options: HoldOptions, command: Command): Promise<void> {
  const subject = subjectOf(command, run, options);
  const order = { subject, why: wordsOf('--reason', options.reason ?? 'resumed'), by: nameOf(options) };
  const resumed = await inDatabase(options.config, (tx, wakeAll) => resumeRuns(tx, order, wakeAll));
  if (resumed === null) throw new Fault('NotFound', `${subjectName(subject)} is not on hold (keyturn status lists what is)`);
  const { hold, goOn } = resumed;
  if (options.json === true) print(JSON.stringify({ ...hold, goOn }));
  else print(`${subjectName(subject)} goes on; it was held by ${hold.by} since ${hold.at}; ${goOn.length} open runs; receipt ${hold.chain}/2`);
}

/** Adds `keyturn resume`. */
export function register(program: Command): void {
  program
    .command('resume')
    .description('lift a hold: of exactly what was held')
    .argument('[run]', 'a run that was held')
    .option('--workload <name>', 'a workload that was held')
    .option('--all', 'where everything was held')
    .option('--reason <text>', 'why')
    .option('--by <name>', 'who you are (default: the name that this runs under)')
    .addOption(configOption())
    .option('--json', 'print one JSON object')
    .action(resume);
}
