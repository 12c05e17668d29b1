import { chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Codec, DEFAULT_CODEC } from '#src/envelope/codec.ts';
import { digestOf } from '../digest.ts';
import { type Approver, approve, makeApprovers } from './approvers.ts';
import { type Keyturn, type LabEvent, runCommand } from './children.ts';
import { configurationText } from './configuration.ts';
import { baselineText, daysAfter, KEY_STORE, trustText } from './documents.ts';
import { type FarSideKinds, type FarSides, openFarSides } from './far-sides.ts';
import { type Guard, openGuard } from './guard.ts';
import { checkHost, freePorts, isListening } from './host.ts';
import { type LabKeys, makeKeys } from './keys.ts';
import { manifestOf, writeModel } from './model.ts';
import { type Services, startServices } from './services.ts';
import { failure, openWatch, type Watch } from './watch.ts';

/** Weights of one release: some shards' worth, and enough that sealing them is seen. Bytes. */
const MODEL_SIZE_BYTES = 64 * 1024 * 1024;
/** `migrate` takes a second; a loaded machine gets many. Seconds. */
const MIGRATE_SECONDS = 60;
/** How long the lab's trust document lasts. Days. */
const TRUST_EXPIRES_DAYS = 365;

/** What the lab is asked for. */
export interface SettingOptions extends FarSideKinds {
  /** The product's entry, `src/main.ts`. */
  readonly mainFile: string;
  /** A folder of real weights, which every release then seals; null: the lab makes its own. */
  readonly model: string | null;
  /** How the story's releases are sealed. Tink's format otherwise. */
  readonly codec?: Codec;
  readonly signal: AbortSignal;
  readonly onEvent: (event: LabEvent) => void;
  /** Puts something between the product and the far sides, whose addresses it answers anew. Not said: nothing stands between. */
  readonly between?: (farSides: FarSides) => Promise<FarSides>;
  /** How many controllers share the database. One otherwise. */
  readonly replicas?: number;
  /** The same as `between`, for one controller alone; the proxy and all other commands go past it. */
  readonly betweenReplica?: (farSides: FarSides, replica: number) => Promise<FarSides>;
}

/** The weights of a release, as its document names them. */
export interface Model {
  readonly folder: string;
  readonly manifestDigest: string;
  readonly codec: Codec;
}

/** The lab, set up: far sides, and the product's own processes. */
export interface Setting {
  readonly folder: string;
  /** The repository's files as the approvers see them. */
  readonly checkout: string;
  readonly configFile: string;
  readonly kubeconfigFile: string;
  /** The name that guests use for the key broker: the proxy's. */
  readonly publicUrl: string;
  /** null: the controller opened no dashboard. */
  readonly dashboardUrl: string | null;
  readonly webhookUrl: string;
  readonly keys: LabKeys;
  readonly keyturn: Keyturn;
  readonly approvers: readonly Approver[];
  readonly farSides: FarSides;
  /** By serial, the first release's first. */
  readonly models: readonly Model[];
  readonly watch: Watch;
  /** Of a controller's or the proxy's process that runs now; null while it is started again. */
  readonly pid: Services['pid'];
  readonly lastExit: Services['lastExit'];
  /** Ends the controller and the proxy, so that nothing is written any more; the far sides stay up. */
  readonly endChildren: () => Promise<void>;
  /** Ends children and far sides, and removes the folder. */
  readonly close: () => Promise<void>;
}

/** A folder that PostgreSQL's user can walk through (as root it runs as another), with what is secret in files of mode 0600. */
async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-lab-'));
  await chmod(folder, 0o711);
  for (const name of ['checkout', 'keys', 'models', 'ciphertext', 'logs']) await mkdir(join(folder, name), { mode: 0o700 });
  return folder;
}

/** The digest of a user's own weights; whatever is wrong with the folder is told as the option's. */
async function digestOfWeights(real: string): Promise<string> {
  const found = await stat(real).catch(() => null);
  if (found === null || !found.isDirectory()) throw failure('NotFound', `--model ${real}: expected a folder of weights`);
  try {
    return (await manifestOf(real)).digest;
  } catch (thrown) {
    throw failure('Malformed', `--model ${real}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
  }
}

async function makeModels(folder: string, { model: real, codec = DEFAULT_CODEC }: SettingOptions): Promise<readonly Model[]> {
  if (real !== null) {
    const digest = await digestOfWeights(real);
    return [1, 2].map(() => ({ folder: real, manifestDigest: digest, codec }));
  }
  const models: Model[] = [];
  for (const seed of [1, 2]) {
    const own = join(folder, 'models', String(seed));
    const { manifestDigest } = await writeModel(own, { sizeBytes: MODEL_SIZE_BYTES, seed });
    models.push({ folder: own, manifestDigest, codec });
  }
  return models;
}

/**
 * The children see no more of the environment than they need, so that nobody's real credentials reach
 * the lab. They share one cache of compiled code: a dozen of them start, most of them from the same files.
 */
function environment(folder: string): Record<string, string> {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'TZ', 'NODE_EXTRA_CA_CERTS'].flatMap((name): [string, string][] => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value]];
  });
  return {
    ...Object.fromEntries(kept),
    AWS_ACCESS_KEY_ID: 'lab',
    AWS_SECRET_ACCESS_KEY: 'lab',
    AWS_EC2_METADATA_DISABLED: 'true',
    NODE_COMPILE_CACHE: join(folder, 'compile-cache'),
  };
}

/** The first commit: who may approve, and that Keyturn may write the lab's key broker. */
async function found(farSides: FarSides, keyturn: Keyturn, checkout: string, trust: string, approvers: readonly Approver[]): Promise<void> {
  const baseline = { path: 'baseline/main/1.yaml', text: baselineText(), beside: { 'trust/1.yaml': trust } };
  await farSides.git.commit(await approve(keyturn, checkout, baseline, approvers.slice(0, 2)), 'Trust and baseline');
}

async function migrate(keyturn: Keyturn, configFile: string, signal: AbortSignal): Promise<void> {
  const { code, errors } = await runCommand(keyturn, ['migrate', '--config', configFile], MIGRATE_SECONDS, signal);
  if (code !== 0) throw failure('ServerError', `keyturn migrate ended with ${code}: ${errors.trim()}`);
}

interface Ports {
  readonly webhook: string;
  readonly dashboard: string;
  readonly metrics: string;
  readonly proxy: string;
}

/** One set a controller; the proxy's is the same in all of them. */
async function choosePorts(replicas: number): Promise<readonly Ports[]> {
  const [proxy = '', ...rest] = (await freePorts(1 + 3 * replicas)).map((port) => `127.0.0.1:${port}`);
  return Array.from({ length: replicas }, (_, index) => {
    const [webhook = '', dashboard = '', metrics = ''] = rest.slice(3 * index);
    return { webhook, dashboard, metrics, proxy };
  });
}

interface Ground {
  readonly folder: string;
  readonly ports: Ports;
  readonly keys: LabKeys;
  readonly farSides: FarSides;
}

/** Writes `keyturn.yaml`, and what it names beside the keys; with a suffix, the same under names of their own. Returns its path. */
async function configure({ folder, ports, keys, farSides }: Ground, trustDigest: ReturnType<typeof digestOf>, suffix = ''): Promise<string> {
  const file = (name: string) => join(folder, name);
  const [databaseUrlFile, kubeconfigFile, configFile] = [file(`database-url${suffix}`), file(`kubeconfig${suffix}`), file(`keyturn${suffix}.yaml`)];
  await writeFile(databaseUrlFile, farSides.databaseUrl, { mode: 0o600 });
  await writeFile(kubeconfigFile, farSides.kubeconfig, { mode: 0o600 });
  const text = configurationText({
    databaseUrlFile,
    repositoryUrl: farSides.git.url,
    webhookSecretFile: keys.webhookSecretFile,
    trustDigest,
    kubeconfigFile,
    kbsUrl: farSides.kbsUrl,
    kbsAdminKeyFile: keys.kbsAdminKeyFile,
    attestationSignersFile: keys.attestationSignersFile,
    keyStore: farSides.keyStoreAt(farSides.kmsUrl),
    ciphertextFolder: file('ciphertext'),
    objectStoreUrl: farSides.objectStoreUrl,
    webhookListen: ports.webhook,
    dashboardListen: ports.dashboard,
    metricsListen: ports.metrics,
    proxyListen: ports.proxy,
    receiptsSigner: signerOf(keys, farSides),
  });
  await writeFile(configFile, text);
  return configFile;
}

/** Receipts are signed by a key of the key store, where the lab's has one for that. */
function signerOf({ receiptsKeyFile }: LabKeys, { receiptsSigner }: FarSides): Readonly<Record<string, unknown>> {
  if (receiptsSigner === null) return { kind: 'ed25519', key: { file: receiptsKeyFile } };
  return { kind: 'key-store', store: KEY_STORE, keyId: receiptsSigner.keyId };
}

/** A configuration a controller: one alone has the same as all other commands. */
async function configureReplicas(
  ground: Omit<Ground, 'ports'>,
  ports: readonly Ports[],
  trustDigest: ReturnType<typeof digestOf>,
  between: SettingOptions['betweenReplica'],
): Promise<readonly { readonly configFile: string; readonly webhook: string }[]> {
  if (ports.length === 1 && between === undefined) return ports.map(({ webhook }) => ({ configFile: join(ground.folder, 'keyturn.yaml'), webhook }));
  const configured = ports.map(async (own, index) => {
    const farSides = between === undefined ? ground.farSides : await between(ground.farSides, index);
    return { configFile: await configure({ ...ground, ports: own, farSides }, trustDigest, `-${index + 1}`), webhook: own.webhook };
  });
  return Promise.all(configured);
}

/** The guard acts only where the lab did not close by itself. */
async function clear(folder: string, guard: Guard): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await guard.release();
}

/**
 * Sets the lab up: a folder of its own, the far sides, keys, the first commit, the configuration, and
 * the product's processes. Throws where this machine cannot run it; nothing is left behind then.
 */
export async function openSetting(options: SettingOptions): Promise<Setting> {
  await checkHost();
  await using stack = new AsyncDisposableStack();
  const folder = await makeFolder();
  const guard = openGuard(folder);
  stack.defer(() => clear(folder, guard));
  const keyturn: Keyturn = { mainFile: options.mainFile, environment: environment(folder), folder, guard };
  const [allPorts, keys, approvers] = await Promise.all([
    choosePorts(options.replicas ?? 1),
    makeKeys(join(folder, 'keys')),
    makeApprovers(join(folder, 'keys')),
  ]);
  const opened = await openFarSides(stack, folder, keys, options);
  const farSides = options.between === undefined ? opened : await options.between(opened);
  options.signal.throwIfAborted();
  const checkout = join(folder, 'checkout');
  const trust = trustText(approvers, daysAfter(Date.now(), TRUST_EXPIRES_DAYS));
  const [ports] = allPorts;
  if (ports === undefined) throw failure('LimitExceeded', 'a lab needs a controller');
  const ground: Ground = { folder, ports, keys, farSides };
  const configFile = await configure(ground, digestOf(trust));
  const replicas = await configureReplicas(ground, allPorts, digestOf(trust), options.betweenReplica);
  // All of them have ended before anything is closed: one that still goes on would fail at what is gone.
  const [models, founded, migrated] = await Promise.allSettled([
    makeModels(folder, options),
    found(farSides, keyturn, checkout, trust, approvers),
    migrate(keyturn, configFile, options.signal),
  ]);
  for (const outcome of [founded, migrated]) if (outcome.status === 'rejected') throw outcome.reason;
  if (models.status === 'rejected') throw models.reason;
  options.signal.throwIfAborted();
  const watch = openWatch();
  const onEvent = (event: LabEvent) => {
    options.onEvent(event);
    watch.hear(event);
  };
  const proxy = { configFile, listen: ports.proxy };
  const services = await startServices({ keyturn, replicas, proxy, folder: join(folder, 'logs'), signal: options.signal, onEvent });
  stack.defer(services.end);
  const hasDashboard = await isListening(ports.dashboard);
  const standing = stack.move();
  return {
    folder,
    checkout,
    configFile,
    kubeconfigFile: join(folder, 'kubeconfig'),
    publicUrl: `http://${ports.proxy}`,
    dashboardUrl: hasDashboard ? `http://${ports.dashboard}` : null,
    webhookUrl: `http://${ports.webhook}/webhook`,
    keys,
    keyturn,
    approvers,
    farSides,
    models: models.value,
    watch,
    ...services,
    endChildren: services.end,
    close: () => standing.disposeAsync(),
  };
}
