import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { CODECS, type Codec, DEFAULT_CODEC } from '#src/envelope/codec.ts';

/** Where what outlives the lab goes, unless `--out` says otherwise. */
const OUT_FOLDER = '.keyturn';

interface LabCommandOptions {
  readonly once?: true;
  readonly json?: true;
  readonly story: 'rotation' | 'revocation';
  readonly model?: string;
  readonly codec: Codec;
  readonly store: 'file' | 's3';
  readonly out: string;
  readonly kbs?: string;
  readonly kubeconfig?: string;
  readonly keys: 'aws' | 'azure';
}

/** The far sides that a user may bring; the lab still lacks what a real one needs beside its address. */
function brought(options: LabCommandOptions): string | null {
  if (options.kbs !== undefined) return '--kbs: a real KBS also needs our admin key and its token signer’s CA in its configuration';
  if (options.kubeconfig !== undefined) return '--kubeconfig: a real cluster also needs guests that reach this machine';
  return null;
}

/** Runs the lab and sets the exit code: 0 the story is told and its receipts verify, 1 it could not be, 2 usage, 3 they do not verify. */
async function lab(options: LabCommandOptions): Promise<void> {
  const unserved = brought(options);
  if (unserved !== null) {
    process.stderr.write(`keyturn lab: not supported yet: ${unserved}\n`);
    process.exitCode = 2;
    return;
  }
  const [{ runLab }, { openLadder }] = await Promise.all([import('#src/lab/index.ts'), import('#src/lab/ladder.ts')]);
  const ladder = openLadder({ startedAt: Date.now(), colour: process.stdout.isTTY === true && process.stdout.hasColors() });
  const print = (line: string) => void process.stdout.write(`${line}\n`);
  const onEvent = (event: Parameters<typeof ladder>[0]) => {
    const line = options.json === true ? JSON.stringify(event) : ladder(event);
    if (line !== null) print(line);
  };
  const last = await runLab({
    mainFile: resolve(import.meta.dirname, '../main.ts'),
    story: options.story,
    once: options.once === true,
    model: options.model === undefined ? null : resolve(options.model),
    keys: options.keys,
    codec: options.codec,
    store: options.store,
    outFolder: resolve(options.out),
    signal: interruption(),
    onEvent,
    onTold: (lines) => {
      if (options.json !== true) print(`LAB ${lines.join('\n')}`);
    },
  });
  onEvent(last);
  if (last.failed !== undefined) {
    process.exitCode = 1;
    // The ladder cuts its lines.
    if (options.json !== true) process.stderr.write(`keyturn lab: ${String(last.failed)}: ${String(last.about)}\n`);
  } else if (last.chain !== 'ok') process.exitCode = 3;
}

/** Aborted by the first SIGINT, SIGTERM or SIGHUP, and by a bug; the second one ends at once, and leaves the closing to the lab's guard. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  const abort = (reason: Error) => {
    if (controller.signal.aborted) process.exit(1);
    controller.abort(reason);
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => abort(Object.assign(new Error(`ended by ${name}`), { name: 'Interrupted' })));
  }
  process.on('uncaughtException', abort);
  process.on('unhandledRejection', (reason) => abort(reason instanceof Error ? reason : new Error(String(reason))));
  return controller.signal;
}

/** Adds `keyturn lab`. Nothing of the lab is loaded before it runs. */
export function register(program: Command): void {
  program
    .command('lab')
    .description('tell the story of three rotations, or of a revocation, against far sides on this machine; insecure by design, for looking and testing')
    .addOption(
      new Option('--story <name>', 'rotation: three of them; revocation: a key is revoked in the middle of one')
        .choices(['rotation', 'revocation'])
        .default('rotation'),
    )
    .option('--once', 'end when the story is told, instead of staying up')
    .option('--json', 'print events, one JSON object a line, and nothing else')
    .option('--model <dir>', 'seal this folder of weights, instead of 64 MiB of our own making')
    .addOption(new Option('--codec <name>', 'how weights are sealed: Tink’s streaming AEAD, or KServe’s JWE').choices(CODECS).default(DEFAULT_CODEC))
    .addOption(new Option('--store <kind>', 'where ciphertext is kept: in a folder, or in an S3 of the lab’s own').choices(['file', 's3']).default('file'))
    .option('--out <dir>', 'where the receipts and their public key are left', OUT_FOLDER)
    .option('--kbs <url>', 'a real KBS instead of the lab’s (not supported yet)')
    .option('--kubeconfig <file>', 'a real cluster instead of the lab’s (not supported yet)')
    .addOption(new Option('--keys <kind>', 'the key store that the lab plays: AWS KMS or Azure Key Vault').choices(['aws', 'azure']).default('aws'))
    .action(lab);
}
