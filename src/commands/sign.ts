import { readFile, stat, writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { signBundle, signBundleKeyless } from '#src/adapters/sigstore/index.ts';
import { parseDocument } from '#src/domain/documents/parse.ts';
import { bundlePath } from '#src/domain/documents/places.ts';
import { DOCUMENT_MAX_BYTES } from '#src/domain/documents/yaml.ts';
import { Fault } from '#src/errors.ts';
import { Secret } from '#src/secret.ts';

/** A private key in PEM has some 300 bytes. */
const KEY_MAX_BYTES = 64 * 1024;
/** An identity token has 1 to 3 KiB. */
const TOKEN_MAX_BYTES = 64 * 1024;
/** How many of a file's last path segments may make its place in the repository: `releases/<workload>/<serial>.yaml`. */
const PLACE_SEGMENTS = [3, 2] as const;

interface Options {
  readonly key?: string;
  readonly identityToken?: string;
  readonly fulcioUrl?: string;
  readonly rekorUrl?: string;
  readonly timestampUrl?: string;
  readonly signer?: string;
  readonly out?: string;
}

/** `keyturn sign FILE`: a Sigstore bundle over the file's exact bytes, beside it, by a key or an identity. */
export function register(program: Command): void {
  program
    .command('sign')
    .description('sign a document: writes <file without .yaml>.<signer>.sigstore.json beside it')
    .argument('<file>', 'the document, as it is committed')
    .option('--key <pem-file>', 'your private key: PKCS#8 or SEC 1, P-256 or P-384, not encrypted (cosign signs with its own)')
    .option('--identity-token <file>', 'instead of a key: a file with an OpenID Connect token for the audience sigstore, or - for standard input')
    .option('--fulcio-url <url>', 'with a token: the certificate authority; it sees the token')
    .option('--rekor-url <url>', 'with a token: the log, which shows your identity and the document’s digest to whoever reads it')
    .option('--timestamp-url <url>', 'with a token: an RFC 3161 service; this, --rekor-url or both')
    .option('--signer <name>', 'a name for the file, of a-z, 0-9 and - (default: the key file’s name without its ending; with a token there is none)')
    .option('--out <file>', 'write the bundle there instead')
    .action(sign);
}

async function sign(file: string, options: Options): Promise<void> {
  const document = await readLimited(file, DOCUMENT_MAX_BYTES);
  const mistake = mistakeOf(file, document);
  if (mistake !== null) throw mistake;
  const signer = options.signer ?? basename(options.key ?? '').replace(/\.[^.]*$/, '');
  if (!/^[a-z0-9-]{1,60}$/.test(signer)) throw new Fault('InvalidRequest', `--signer ${signer}: expected 1 to 60 of a-z, 0-9 and -`);
  const bundle = await bundleOver(document, options);
  const out = options.out ?? bundlePath(file, signer);
  await writeFile(out, `${bundle}\n`);
  process.stdout.write(`${out}\n`);
}

async function bundleOver(document: Buffer, options: Options): Promise<string> {
  const { key: keyFile, identityToken, fulcioUrl, rekorUrl = null, timestampUrl = null } = options;
  if ((keyFile === undefined) === (identityToken === undefined)) throw new Fault('InvalidRequest', 'expected --key or --identity-token, and not both');
  if (identityToken !== undefined) {
    if (fulcioUrl === undefined) throw new Fault('InvalidRequest', '--identity-token needs --fulcio-url, and --rekor-url, --timestamp-url or both');
    using token = await readToken(identityToken);
    return signBundleKeyless(document, token, { fulcioUrl, rekorUrl, timestampUrl });
  }
  if ([fulcioUrl, rekorUrl ?? undefined, timestampUrl ?? undefined].some((url) => url !== undefined))
    throw new Fault('InvalidRequest', '--fulcio-url, --rekor-url and --timestamp-url go with --identity-token');
  const key = await readLimited(keyFile ?? '', KEY_MAX_BYTES);
  try {
    return await signBundle(document, key.toString());
  } finally {
    key.fill(0);
  }
}

/** The token without the ends of lines that editors and shells add. */
async function readToken(file: string): Promise<Secret> {
  const bytes = file === '-' ? await readStandardInput() : await readLimited(file, TOKEN_MAX_BYTES);
  let end = bytes.length;
  while (end > 0 && (bytes[end - 1] ?? 0) <= 0x20) end -= 1;
  return new Secret(bytes.subarray(0, end));
}

async function readStandardInput(): Promise<Buffer> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of process.stdin as AsyncIterable<Buffer>) {
    sizeBytes += part.length;
    if (sizeBytes > TOKEN_MAX_BYTES) throw new Fault('LimitExceeded', `standard input: expected at most ${TOKEN_MAX_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
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
