import { type Command, InvalidArgumentError, Option } from 'commander';
import { canonicalJson, type Json } from '#src/domain/json.ts';
import { print } from './database.ts';
import { type NewRelease, newRelease, type Written } from './new-release.ts';
import type { OnHashed } from './weights-manifest.ts';

/** How long a draft may wait for its acceptance, where it is not told: a review and a holiday. Days. */
const EXPIRES_DAYS = 60;
/** Values longer than this are cut where differences are told. */
const VALUE_SHOWN = 72;

interface Options {
  readonly repository: string;
  readonly weights?: string;
  readonly address?: string;
  readonly keep?: true;
  readonly reencrypt?: true;
  readonly from?: number;
  readonly image?: Readonly<Record<string, string>>;
  readonly initData?: Readonly<Record<string, string>>;
  readonly referenceValue?: NewRelease['referenceValues'];
  readonly set?: NewRelease['settings'];
  readonly expires?: string;
  readonly base?: number;
  readonly template?: true;
  readonly config?: string;
  readonly json?: true;
}

async function run(workload: string, options: Options, command: Command): Promise<void> {
  const { weights, address, from, keep, reencrypt } = options;
  if (address !== undefined && weights === undefined) command.error('--address says where --weights lie: give both');
  if (from !== undefined && keep === undefined && reencrypt === undefined) command.error('--from names what --keep or --reencrypt starts from: give one');
  const told: NewRelease = {
    ...{ workload, repository: options.repository, weights: weights ?? null, address: address ?? null, from: from ?? null },
    artifact: keep === true ? 'keep' : reencrypt === true ? 'reencrypt' : null,
    ...{ images: options.image ?? {}, initData: options.initData ?? {}, referenceValues: options.referenceValue ?? [], settings: options.set ?? [] },
    expires: options.expires ?? daysFrom(new Date(), EXPIRES_DAYS),
    ...{ base: options.base ?? null, template: options.template === true, config: options.config ?? null },
  };
  const progress = openProgress();
  const written = await newRelease(told, progress.tell);
  progress.end();
  print(options.json === true ? JSON.stringify(written) : tell(written, options.repository).join('\n'));
}

/** Midnight, so many days on. */
function daysFrom(now: Date, days: number): string {
  return `${new Date(now.getTime() + days * 86_400_000).toISOString().slice(0, 10)}T00:00:00Z`;
}

/** A line that is written over again, where somebody watches. */
function openProgress(): { readonly tell: OnHashed; readonly end: () => void } {
  const began = performance.now();
  const isWatched = process.stderr.isTTY === true;
  const write = (line: string): void => {
    if (isWatched) process.stderr.write(`\r\u001b[K${line}`);
  };
  return {
    tell: (doneBytes, totalBytes) => {
      const seconds = (performance.now() - began) / 1000;
      const left = doneBytes === 0 ? 0 : (seconds / doneBytes) * (totalBytes - doneBytes);
      write(`hashing ${bytesText(doneBytes)} of ${bytesText(totalBytes)}, ${bytesText(doneBytes / seconds)}/s, ${Math.ceil(left)} s left`);
    },
    end: () => write(''),
  };
}

/** Bytes as people say them. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

function tell(written: Written, repository: string): readonly string[] {
  const { path, digest, base, previous, differences, files, fillIn } = written;
  const width = Math.max(0, ...differences.map(({ field }) => field.length));
  return [
    `${path}  ${digest ?? '(not complete yet)'}`,
    base === null ? '  from the template' : `  drafted from ${base}`,
    ...(previous === null
      ? []
      : [`  previous is ${previous.path}, the newest file here: good whether it was accepted or not, as long as nothing newer was (keyturn plan asks)`]),
    ...differences.map(({ field, before, after }) => `  ${field.padEnd(width)}  ${valueText(before)} → ${valueText(after)}`),
    ...files.map((file) => `${file.path}  ${file.digest}${file.how === 'made' ? '  (the one before, its images replaced: read it)' : ''}`),
    ...keyText(written),
    ...(fillIn.length === 0 ? [] : ['still to be filled in, before it is signed or merged:', ...fillIn.map((field) => `  ${field}`)]),
    'next:',
    ...(fillIn.length === 0 ? [] : [`  edit ${path}`]),
    `  keyturn plan --checkout ${repository}      what would happen, and what would refuse it`,
    `  keyturn sign ${path} --key YOURS.pem --signer YOU      every approver, over exactly these bytes`,
    '  commit all of it, and open a pull request',
  ];
}

/** What becomes of key and weights: the dearest thing that a release says. */
function keyText({ artifact, weights }: Written): readonly string[] {
  switch (artifact?.source) {
    case 'plaintext': {
      const size = weights === null ? '' : `, ${weights.files} files of ${bytesText(weights.sizeBytes)}`;
      return [`key: a new one; the weights at ${artifact.address}${size}, are sealed under it (--keep would move nothing)`];
    }
    case 'reencrypt':
      return [`key: a new one; the ciphertext of ${nameOf(artifact.from)} is opened and sealed again under it`];
    case 'keep':
      return [`key: that of ${nameOf(artifact.from)} stays, and its ciphertext; nothing is moved`];
    case 'provided':
    case 'running':
    case undefined:
      return [];
  }
}

function nameOf(serial: number | null): string {
  return serial === null ? 'the last accepted release' : `serial ${serial}`;
}

function valueText(value: Json): string {
  const text = typeof value === 'string' ? value : canonicalJson(value);
  return text.length > VALUE_SHOWN ? `${text.slice(0, VALUE_SHOWN)}…` : text;
}

// ---------------------------------------------------------------- words

function serialIn(text: string): number {
  if (!/^(?:0|[1-9]\d{0,8})$/.test(text)) throw new InvalidArgumentError('expected a serial');
  return Number(text);
}

function instantIn(text: string): string {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text)) throw new InvalidArgumentError('expected YYYY-MM-DDTHH:MM:SSZ');
  return text;
}

function pairIn(text: string, form: string): readonly [string, string] {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError(`expected ${form}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function named(form: string): (text: string, before?: Readonly<Record<string, string>>) => Readonly<Record<string, string>> {
  return (text, before = {}) => {
    const [name, value] = pairIn(text, form);
    if (Object.hasOwn(before, name)) throw new InvalidArgumentError(`${name} was given before`);
    return { ...before, [name]: value };
  };
}

function measured(text: string, before: NewRelease['referenceValues'] = []): NewRelease['referenceValues'] {
  const [place, values] = pairIn(text, 'guest:name=value[,value]');
  const [guest = '', ...name] = place.split(':');
  if (name.length === 0) throw new InvalidArgumentError('expected guest:name=value[,value]');
  return [...before, { guest, name: name.join(':'), values: values.split(',') }];
}

function setting(text: string, before: NewRelease['settings'] = []): NewRelease['settings'] {
  const [field, value] = pairIn(text, 'field=value');
  return [...before, { field, text: value }];
}

const HELP = `
It takes the newest file of releases/<workload>, comments and all, and changes what you tell it: the serial is the next one, \`previous\` the
newest file's digest, manifests and digests are computed. The result is checked as it will be checked where it is merged; nothing is overwritten.

  keyturn release new chat --weights /models/chat-13         new weights, under a new key
  keyturn release new chat --keep --image chat=registry.example/chat@sha256:…
                                                             a new image; key and weights stay, the guests' init-data follows the image
  keyturn release new chat --keep --from 10 --base 10        back to what serial 10 ran, while its key stands
  keyturn release new chat --reencrypt                       the same weights under a new key
  keyturn release new chat --template --config keyturn.yaml --weights … --image … --init-data …
                                                             the first release: a commented file, with what is left to fill in

Init-data lies at guests/<workload>/<serial>-<guest>.toml, and must admit exactly the release's images. No database is asked: \`keyturn plan\` does that.`;

/** Adds `keyturn release new`. */
export function register(program: Command): void {
  program
    .command('release')
    .description('write releases')
    .command('new')
    .description('draft a workload’s next release from its last, in a checkout of the releases’ repository')
    .argument('<workload>')
    .option('--repository <dir>', 'the checkout', '.')
    .addOption(
      new Option('--weights <dir>', 'plaintext weights: a folder or its file:// address; read once, for their manifest').conflicts(['keep', 'reencrypt']),
    )
    .option('--address <url>', 'where the weights lie as the controller sees it, if not where they lie here')
    .addOption(new Option('--keep', 'keep key and ciphertext: another image, guest, target or setting only').conflicts('reencrypt'))
    .option('--reencrypt', 'open the ciphertext and seal it again, under a new key')
    .option('--from <serial>', 'with --keep or --reencrypt: of which release; otherwise of the last accepted', serialIn)
    .option('--image <name=ref@sha256:…>', 'a container’s image; again for more', named('name=reference@sha256:…'))
    .option('--init-data <guest=file>', 'a guest’s init-data (TOML), copied to its place; again for more', named('guest=FILE'))
    .option('--reference-value <guest:name=value,…>', 'measurements that are good from now on; again for more', measured)
    .option('--set <field=value>', 'any other field, such as key.rotateAfterDays=30 or targets.0.minimumAttested=3; again for more', setting)
    .option('--expires <instant>', `until when it must be accepted (default: in ${EXPIRES_DAYS} days)`, instantIn)
    .option('--base <serial>', 'draft from this file instead of the newest', serialIn)
    .option('--template', 'begin the workload’s first release')
    .option('--config <file>', 'a keyturn.yaml: which KBS init-data must name; names for a template')
    .option('--json', 'print one JSON object')
    .addHelpText('after', HELP)
    .action(run);
}
