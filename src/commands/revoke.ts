import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { revocationReason } from '#src/domain/documents/fields.ts';
import { Fault } from '#src/errors.ts';
import { configOption, print } from './database.ts';
import { type Drafted, draftRevocation, type NewRevocation, writeRevocation } from './new-revocation.ts';
import { planOf } from './plan.ts';
import { plainOf } from './plan-text.ts';
import { revokeFile } from './revoke-file.ts';
import { revokedIn, type SubjectOptions } from './revoke-subject.ts';

const EXIT_USAGE = 2;
const EXIT_NO = 3;
/** A push to a host far away; one that hangs must not be waited for while a key is out. Seconds. */
const GIT_SECONDS = 60;

interface Options extends SubjectOptions {
  readonly reason?: string;
  readonly why?: string;
  readonly recovery?: string;
  readonly evict?: true;
  readonly destroy?: true;
  readonly id?: string;
  readonly tree: string;
  readonly signKey?: string;
  readonly signAs?: string;
  readonly commit?: true;
  readonly push?: true;
  readonly dryRun?: true;
  readonly file?: string;
  readonly bundle?: readonly string[];
  readonly config: string;
  readonly json?: true;
}

async function run(options: Options, command: Command): Promise<void> {
  if (options.file !== undefined) return withoutGit(options.file, options);
  const told = toldIn(options, command);
  if ((options.commit === true || options.push === true) && told.signature === null)
    command.error('error: --commit and --push are of a signed revocation, since an unsigned one changes nothing: give --sign-key', { exitCode: EXIT_USAGE });
  const drafted = await draftRevocation(told, new Date().toISOString().slice(0, 10));
  if (options.dryRun === true) return forecast(drafted, options);
  await writeRevocation(told.tree, drafted);
  const committed = options.commit === true || options.push === true;
  if (committed) await commit(told.tree, drafted);
  if (options.push === true) await git(told.tree, ['push', '--quiet']);
  const { path, digest, document, notes, files } = drafted;
  const next = nextSteps(options, drafted, committed);
  const said = { path, digest, document, files: files.map((file) => file.path), committed, pushed: options.push === true, notes, next };
  print(options.json === true ? JSON.stringify(said) : [`${path}  ${digest}`, ...notes.map((note) => `  ${note}`), ...next].join('\n'));
}

function toldIn(options: Options, command: Command): NewRevocation {
  const usage = (what: string): never => command.error(`error: ${what}`, { exitCode: EXIT_USAGE });
  const subject = revokedIn(options);
  if (typeof subject === 'string') return usage(subject);
  const { reason, why, recovery, id, signKey, signAs } = options;
  if (reason === undefined) return usage(`--reason: expected one of ${revocationReason.options.join(', ')}; keyCompromise can never be lifted`);
  if (why === undefined) return usage('--why: say what happened, for the record');
  if (signAs !== undefined && signKey === undefined) return usage('--sign-as names the bundle of --sign-key: give both');
  return {
    ...{ subject, reason, why, recovery: recovery ?? null, id: id ?? null, tree: resolve(options.tree) },
    ...{ evict: options.evict === true, destroy: options.destroy === true },
    signature: signKey === undefined ? null : { keyFile: signKey, signer: signAs ?? null },
  };
}

/** Only these files, whatever else lies in the work tree or is staged. */
async function commit(tree: string, { files, document }: Drafted): Promise<void> {
  const paths = files.map(({ path }) => path);
  await git(tree, ['add', '--', ...paths]);
  await git(tree, ['commit', '--quiet', '--message', `Revoke: ${document.id}`, '--', ...paths]);
}

async function git(tree: string, words: readonly string[]): Promise<void> {
  const env = { ...process.env, GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' };
  const child = spawn('git', words, { cwd: tree, env, stdio: ['ignore', 'ignore', 'pipe'], timeout: GIT_SECONDS * 1000 });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = `${errors}${text}`.slice(-2000);
  });
  const code = await new Promise<number | null>((ended, failed) => {
    child.once('error', () => failed(new Fault('NotFound', 'there is no git on the PATH: the files are written; commit and push them yourself')));
    child.once('close', ended);
  });
  if (code === 0) return;
  const hint = words[0] === 'push' ? 'the commit is there; where the host is down: keyturn revoke --file' : 'the files are written; commit them yourself';
  throw new Fault('ServerError', `git ${words[0]} ended with ${code ?? 'a signal'}: ${errors.trim().split('\n').at(-1) ?? ''} (${hint})`);
}

function nextSteps({ signKey, push, tree }: Options, { path }: Drafted, committed: boolean): readonly string[] {
  if (push === true) return ['pushed: keyturn status shows it once it is accepted, and each refusal as it is proven'];
  return [
    'next:',
    ...(signKey === undefined ? [`  keyturn sign ${join(tree, path)} --key YOURS.pem --signer YOU      one revoker is enough`] : []),
    ...(committed ? ['  git push'] : ['  git add --all revocations && git commit --message revoke && git push']),
    `  keyturn revoke --file ${join(tree, path)} --config keyturn.yaml      where the Git host is down, on a host that reaches the database`,
  ];
}

/** What it would bring about, told by the plan of a tree that holds nothing else. Writes nothing where anybody looks. */
async function forecast({ files, path, notes }: Drafted, { config, json }: Options): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-revoke-'));
  try {
    for (const file of files) {
      await mkdir(dirname(join(folder, file.path)), { recursive: true });
      await writeFile(join(folder, file.path), file.bytes);
    }
    const plan = await planOf(config, { checkout: folder });
    const named = { ...plan, source: { ...plan.source, name: path } };
    if (json === true) print(JSON.stringify({ ...named, notes }));
    else print([...plainOf(named), ...notes.map((note) => `note: ${note}`)].join('\n'));
    if (plan.refused) process.exitCode = EXIT_NO;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function withoutGit(file: string, { bundle, config, json }: Options): Promise<void> {
  const { outcome, already } = await revokeFile(config, { file, bundles: bundle ?? [] });
  const accepted = outcome.verdict === 'accepted';
  if (!accepted) process.exitCode = EXIT_NO;
  if (json === true) return print(JSON.stringify({ ...outcome, already }));
  if (!accepted) return print(`${outcome.path}: ${outcome.verdict}: ${outcome.reason ?? ''}: ${outcome.about ?? ''}\nnothing was stored`);
  const beyond = outcome.about === null ? [] : [`  ${outcome.about}`];
  const how = already ? 'was accepted before' : 'is accepted: proxies refuse from now on, and any replica that serves carries out the rest';
  print([`${outcome.path} ${how}`, ...beyond, '  commit it with its bundles too, as it is: whoever reads Git alone does not see it yet'].join('\n'));
}

function numberIn(text: string): number {
  if (!/^(?:0|[1-9]\d{0,8})$/.test(text)) throw new InvalidArgumentError('expected a number');
  return Number(text);
}

const HELP = `
It writes revocations/<id>.yaml into a checkout, signed by one revoker, which is enough to refuse. Nothing is overwritten.

  keyturn revoke --path keyturn/chat/s12-v4-0-1a2b3c4d --reason keyCompromise --why '…' --sign-key me.pem --push
  keyturn revoke --workload chat --epoch 4 --reason keyCompromise --why '…' --dry-run --config keyturn.yaml
                                                       what it would touch, what falls back, what is held; nothing is written
  keyturn revoke --reference-value 'tcb:=7' --reason superseded --why '…'
                                                       the number 7; tcb=7 is the text, as releases list most measurements
  keyturn revoke --file revocations/2026-11-23-leaked-key.yaml --config keyturn.yaml
                                                       the Git host is down: the signed document straight into the database, judged as on the
                                                       branch; committed later as it is, it is the same revocation

Exit codes: 0 done · 3 refused, or short of signatures · 1 it could not be done · 2 usage.`;

/** Adds `keyturn revoke`. */
export function register(program: Command): void {
  program
    .command('revoke')
    .description('stop trusting something, now: write, sign and commit a revocation from what an incident gave')
    .option('--path <path>', 'a key, by the path in the KBS where guests fetch it')
    .option('--key-id <id>', 'a key, by its id in the key store')
    .option('--workload <name>', 'all of a workload; with --epoch one key of it, with --serial one release')
    .option('--epoch <number>', 'with --workload: the key', numberIn)
    .option('--serial <number>', 'with --workload: the release', numberIn)
    .option('--all', 'everything')
    .option('--chip-id <id>', 'a machine, by the id of its processor')
    .option('--ueid <id>', 'a device, by its UEID (a GPU)')
    .option('--target <cluster/namespace/name>', 'an object of a cluster, by the init-data of its guests')
    .option('--reference-value <name=text>', 'a measurement, or name:=JSON: a number, true, false, a text in quotes, a list of these')
    .option('--signer <person>', 'a person of the trust document')
    .option('--key <digest>', 'with --signer: this key of theirs; otherwise all')
    .option('--since <instant>', 'with --signer: releases that were accepted before it stand; otherwise none')
    .addOption(new Option('--reason <name>', 'RFC 5280, 5.3.1; certificateHold can be lifted, keyCompromise never').choices(revocationReason.options))
    .option('--why <text>', 'what happened')
    .option('--recovery <text>', 'how recovery is approved, for the record')
    .option('--evict', 'evict the pods that hold it, too')
    .option('--destroy', 'schedule the key’s destruction, too: needs the approvers’ threshold')
    .option('--id <id>', 'the file’s name (default: the day and the subject)')
    .option('--tree <dir>', 'the checkout', '.')
    .option('--sign-key <pem-file>', 'sign it with this private key of a revoker')
    .option('--sign-as <name>', 'a name for the bundle’s file (default: the key file’s name without its ending)')
    .option('--commit', 'commit it with git')
    .option('--push', 'commit and push it')
    .addOption(new Option('--dry-run', 'tell what it would bring about, and write nothing').conflicts(['commit', 'push']))
    .addOption(new Option('--file <document>', 'accept this signed revocation straight into the database, without Git').conflicts(['dryRun', 'commit', 'push']))
    .option('--bundle <files...>', 'with --file: its bundles (default: those beside it)')
    .addOption(configOption())
    .option('--json', 'print one JSON object')
    .addHelpText('after', HELP)
    .action(run);
}
