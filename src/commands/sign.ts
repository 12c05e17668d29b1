import { readFile, stat, writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { signBundle } from '#src/adapters/sigstore/index.ts';
import { parseDocument } from '#src/domain/documents/parse.ts';
import { bundlePath } from '#src/domain/documents/places.ts';
import { DOCUMENT_MAX_BYTES } from '#src/domain/documents/yaml.ts';
import { Fault } from '#src/errors.ts';

/** A private key in PEM has some 300 bytes. */
const KEY_MAX_BYTES = 64 * 1024;
/** How many of a file's last path segments may make its place in the repository: `releases/<workload>/<serial>.yaml`. */
const PLACE_SEGMENTS = [3, 2] as const;

interface Options {
  readonly key: string;
  readonly signer?: string;
  readonly out?: string;
}

/** `keyturn sign FILE`: a Sigstore bundle over the file's exact bytes, beside it. */
export function register(program: Command): void {
  program
    .command('sign')
    .description('sign a document: writes <file without .yaml>.<signer>.sigstore.json beside it')
    .argument('<file>', 'the document, as it is committed')
    .requiredOption('--key <pem-file>', 'your private key: PKCS#8 or SEC 1, P-256 or P-384, not encrypted (cosign signs with its own)')
    .option('--signer <name>', 'a name for the file, of a-z, 0-9 and - (default: the key file’s name without its ending)')
    .option('--out <file>', 'write the bundle there instead')
    .action(sign);
}

async function sign(file: string, options: Options): Promise<void> {
  const document = await readLimited(file, DOCUMENT_MAX_BYTES);
  const mistake = mistakeOf(file, document);
  if (mistake !== null) throw mistake;
  const signer = options.signer ?? basename(options.key).replace(/\.[^.]*$/, '');
  if (!/^[a-z0-9-]{1,60}$/.test(signer)) throw new Fault('InvalidRequest', `--signer ${signer}: expected 1 to 60 of a-z, 0-9 and -`);
  const key = await readLimited(options.key, KEY_MAX_BYTES);
  try {
    const bundle = await signBundle(document, key.toString());
    const out = options.out ?? bundlePath(file, signer);
    await writeFile(out, `${bundle}\n`);
    process.stdout.write(`${out}\n`);
  } finally {
    key.fill(0);
  }
}

/** Nobody should sign what will be refused: the document is parsed as it will be. What this version cannot do yet may be signed all the same. */
function mistakeOf(file: string, bytes: Buffer): Fault | null {
  const segments = resolve(file).split('/');
  const readings = PLACE_SEGMENTS.map((count) => parseDocument(segments.slice(-count).join('/'), bytes));
  const isGood = readings.some((reading) => reading.kind === 'parsed' || reading.reason === 'NotSupportedYet');
  if (isGood) return null;
  const telling = readings.find((reading) => reading.kind === 'bad' && reading.reason !== 'WrongPlace') ?? readings[0];
  return telling?.kind === 'bad' ? new Fault(telling.reason, telling.about) : null;
}

async function readLimited(file: string, maxBytes: number): Promise<Buffer> {
  const found = await stat(file).catch(() => null);
  if (found === null || !found.isFile()) throw new Fault('NotFound', `${file}: no such file`);
  if (found.size > maxBytes) throw new Fault('LimitExceeded', `${file}: ${found.size} bytes, expected at most ${maxBytes}`);
  return readFile(file);
}
