import { Command, CommanderError } from 'commander';
import { isFault } from '#src/errors.ts';

/** A word of the command line. Its module is loaded when it is asked for, and not before. */
export interface CommandWord {
  readonly word: string;
  /** For `keyturn --help`; what `keyturn WORD --help` says is the module's own. */
  readonly summary: string;
  readonly load: () => Promise<{ readonly register: (program: Command) => void }>;
}

/** Exit codes (DESIGN §9). A command sets 3 itself, where its answer is no. */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/**
 * Runs the command line and sets `process.exitCode`. A failure that is expected is told in one line
 * each, without a stack; a bug with its stack. After a failure the process ends at once, whatever
 * connections the command had opened.
 */
export async function run(words: readonly CommandWord[], given: readonly string[]): Promise<void> {
  process.stdout.on('error', leaveQuietly);
  try {
    const program = await programFor(words, given);
    await program.parseAsync([...given], { from: 'user' });
  } catch (thrown) {
    if (thrown instanceof CommanderError) process.exitCode = thrown.exitCode === 0 ? 0 : EXIT_USAGE;
    else await fail(given[0] ?? '', thrown);
  }
}

async function programFor(words: readonly CommandWord[], given: readonly string[]): Promise<Command> {
  const program = new Command('keyturn')
    .description('Rotates the weights, keys and reference values of confidential inference from signed releases in Git')
    .exitOverride()
    .showHelpAfterError('(keyturn --help lists the commands)');
  const asked = given.find((word) => !word.startsWith('-') && word !== 'help');
  for (const { word, summary, load } of words) {
    if (word === asked) (await load()).register(program);
    else program.command(word).description(summary);
  }
  // Not inherited by a command that was registered before it was set.
  for (const command of [...program.commands, ...program.commands.flatMap((one) => [...one.commands])])
    command.exitOverride().showHelpAfterError('(--help tells the options)');
  return program;
}

/** `keyturn status | head`: who listened has gone, and that is no failure. */
function leaveQuietly(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
  throw error;
}

async function fail(word: string, thrown: unknown): Promise<never> {
  await new Promise((written) => process.stderr.write(`${told(thrown, `keyturn ${word}`)}\n`, written));
  process.exit(EXIT_FAILED);
}

/** One line for each mistake; a bug of ours with its stack. */
function told(thrown: unknown, who: string): string {
  if (!(thrown instanceof Error)) return `${who}: ${String(thrown)}`;
  const isBug = !isFault(thrown) && [TypeError, ReferenceError, RangeError, SyntaxError].some((kind) => thrown instanceof kind);
  if (isBug) return thrown.stack ?? thrown.message;
  const lines = isUnmigrated(thrown) ? ['the database has not been brought to this version: run keyturn migrate'] : linesOf(thrown);
  return lines.map((line) => `${who}: ${line}`).join('\n');
}

/** A Fault's own words say enough; of another error the first line does. An AggregateError (every address of a host refused) says nothing itself. */
function linesOf(error: Error): readonly string[] {
  if (isFault(error)) return error.message.split('\n');
  if (error instanceof AggregateError && error.message === '')
    return [...new Set(error.errors.map((one: unknown) => (one instanceof Error ? one.message : String(one))))];
  return [error.message.split('\n')[0] ?? error.name];
}

/** PostgreSQL's `undefined_table` and `undefined_column`. */
function isUnmigrated(error: Error): boolean {
  return 'code' in error && (error.code === '42P01' || error.code === '42703' || error.code === '42883');
}
