import type { Command } from 'commander';
import { Fault } from '#src/errors.ts';
import { type Hold, holdRuns, subjectName } from '#state/holds.ts';
import { configOption, print } from './database.ts';
import { type HoldOptions, inDatabase, nameOf, subjectOf, wordsOf } from './hold-subject.ts';

async function hold(run: string | undefined, options: HoldOptions & { readonly reason: string }, command: Command): Promise<void> {
  const order = { subject: subjectOf(command, run, options), why: wordsOf('--reason', options.reason), by: nameOf(options) };
  const held = await inDatabase(options.config, (tx, wakeAll) => holdRuns(tx, order, wakeAll));
  if (held.kind === 'unknown') throw new Fault('NotFound', held.what);
  const already = held.kind === 'already';
  print(options.json === true ? JSON.stringify({ ...held.hold, already, stops: held.stops }) : tell(held.hold, already, held.stops));
}

function tell({ subject, by, at, why, chain }: Hold, already: boolean, stops: readonly string[]): string {
  const runs = stops.length === 0 ? 'no run is open now' : `stops ${stops.join(', ')}`;
  const name = subjectName(subject);
  return already ? `${name} is on hold already, by ${by} since ${at}: ${why}; ${runs}` : `${name} is on hold; ${runs}; receipt ${chain}/1`;
}

/** Adds `keyturn hold`. */
export function register(program: Command): void {
  program
    .command('hold')
    .description('stop a rotation, a workload, or everything, before its next step; a revocation is carried out all the same')
    .argument('[run]', 'a rotation (its retire runs with it), or one of those runs')
    .option('--workload <name>', 'every run of this workload, now and later')
    .option('--all', 'every run of the installation, now and later')
    .requiredOption('--reason <text>', 'why: in the receipt, and in whatever waits')
    .option('--by <name>', 'who you are (default: the name that this runs under)')
    .addOption(configOption())
    .option('--json', 'print one JSON object')
    .action(hold);
}
