/**
 * `keyturn.yaml` → Config. Every setting with its default, its unit and the reason for the number; the
 * settings of an adapter stand beside it. Secrets are never in it: `{ file: … }` (from the working
 * directory) or `{ env: … }`, read by whoever needs them.
 */
import { readFile, stat } from 'node:fs/promises';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { awsKmsSchema } from './adapters/aws-kms/config.ts';
import { azureKeyVaultSchema } from './adapters/azure-key-vault/config.ts';
import { ed25519SignerConfig } from './adapters/ed25519/config.ts';
import { gitConfig } from './adapters/git/config.ts';
import { kubernetesSchema } from './adapters/kubernetes/config.ts';
import { trusteeSchema, trusteeWarnings } from './adapters/trustee/config.ts';
import { artifactStoreSchema } from './adapters/weights/config.ts';
import { Fault } from './errors.ts';
import { reference } from './reference.ts';

/** A configuration of a thousand clusters is shorter. Bytes. */
const CONFIG_MAX_BYTES = 1024 * 1024;
/** More mistakes than this are one: the wrong file. */
const MISTAKES_SHOWN = 40;

const name = z.string().regex(/^[a-z0-9-]{1,60}$/, 'expected 1 to 60 of a-z, 0-9 and -');
const listen = z
  .string()
  .regex(/^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]|localhost):\d{1,5}$/, 'expected address:port, such as 0.0.0.0:8443')
  .refine(hasPort, 'expected a port of 0 to 65535');
const network = z
  .union([z.cidrv4(), z.cidrv6()], 'expected a network such as 10.0.0.0/8')
  .refine((cidr) => !cidr.endsWith('/0'), 'expected a network: all addresses are no forwarder');
/** How long decryption must have been refused before "disabled" is said. Seconds; 60, since a disabled key may be usable for some seconds more. */
const disabledProofSeconds = z.number().min(0).max(86_400).default(60);

/** Understood here, and refused as `NotSupportedYet` by whoever opens it. `module` is the path of the token's PKCS #11 library. */
const pkcs11 = z.strictObject({
  kind: z.literal('pkcs11'),
  module: z.string().min(1).max(4096),
  token: z.string().min(1).max(64),
  pin: reference,
  disabledProofSeconds,
});
const keyStoreSchema = z.discriminatedUnion('kind', [awsKmsSchema, azureKeyVaultSchema, pkcs11]);

const serve = z
  .strictObject({
    /** Git's host must reach it; it takes an HMAC and nothing else. */
    webhook: z.strictObject({ listen }).default({ listen: '0.0.0.0:8080' }),
    /** Has no login: whoever may look comes through something that has. */
    dashboard: z.strictObject({ listen }).default({ listen: '127.0.0.1:8081' }),
    /** For Prometheus, and probes of health. */
    metrics: z.strictObject({ listen }).default({ listen: '0.0.0.0:9090' }),
  })
  .prefault({});

const proxy = z.strictObject({
  /** Where guests connect; `publicUrl` of its KBS names it. */
  listen: listen.default('0.0.0.0:8443'),
  /** Which KBS it stands before: a name of `kbs`. */
  kbs: name,
  /** PEM. Optional in the lab alone. Read again every minute. */
  tls: z.strictObject({ certificate: reference, key: reference }).optional(),
  /** Forwarders whose PROXY v2 header tells a pod's address where the network hides it. None: a connection's own address counts. */
  proxyProtocol: z.strictObject({ from: z.array(network).max(64).default([]) }).prefault({}),
  /** No word from the database for this long: every key is refused. Seconds; 300, longer than a failover, and the longest that a revocation waits for a proxy that was cut off. */
  denyListStaleSeconds: z.int().min(5).max(3600).default(300),
  /** Where `/metrics`, `/healthz` and `/readyz` are answered; absent: nowhere. Never the address that guests reach. */
  metrics: z.strictObject({ listen }).optional(),
});

/** A trust document, by the SHA-256 of its bytes. */
const trustDigest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'expected sha256: and 64 lower-case hexadecimal digits');

const configSchema = z.strictObject({
  apiVersion: z.literal('keyturn.dev/v1alpha1'),
  kind: z.literal('Configuration'),
  /** `lab` accepts TEE `sample` and listens on loopback only; a database remembers which it is and refuses the other. */
  mode: z.enum(['production', 'lab']),
  /** In every name and tag that we create: two installations never touch each other's things. */
  installation: name,
  /** Where this process stands. Keyturn handles keys: `insecure-inside` accepts the cluster that it does not trust. */
  runtime: z.enum(['outside', 'confidential', 'insecure-inside']),
  database: z.strictObject({
    /** `postgresql://…`, version 15 or later, a direct session: advisory locks and LISTEN do not survive a pooler of transactions. */
    url: reference,
    /** Sessions of one process; 10: one for each of six looks, and some for what they read beside their transaction. Fewer than 8 could wait for each other. */
    poolSize: z.int().min(8).max(200).default(10),
  }),
  repository: gitConfig,
  trust: z.strictObject({
    /** SHA-256 of the bytes of a trust document, at first `trust/1.yaml`: the root of all trust in documents. A newer one after a lost quorum. */
    initialDigest: trustDigest,
    /** Those that were pinned before it, oldest first: what was accepted under them and their successors stands. None at first. */
    formerDigests: z.array(trustDigest).max(64).default([]),
    /** `ignore`: an alert is raised. `suspend`: whoever can write to the branch can suspend. */
    unsignedRevocations: z.enum(['ignore', 'suspend']).default('ignore'),
  }),
  clusters: z.record(name, kubernetesSchema),
  kbs: z.record(name, trusteeSchema),
  keyStores: z.record(name, keyStoreSchema),
  artifactStores: z.record(name, artifactStoreSchema),
  serve,
  /** What `keyturn proxy` runs. Absent: this file is the controller's alone. */
  proxy: proxy.optional(),
  receipts: z.strictObject({
    /** Signs the heads of the receipts' log and the rows of wrapped keys. */
    signer: z.discriminatedUnion('kind', [
      ed25519SignerConfig,
      z.strictObject({ kind: z.literal('key-store'), store: name, keyId: z.string().min(1).max(2048) }),
    ]),
  }),
});

/** Everything that an operator configures, checked. */
export type Config = z.infer<typeof configSchema>;

/** A mistake at a field of the file. */
interface Mistake {
  readonly path: readonly PropertyKey[];
  readonly what: string;
}

/**
 * Reads and checks a configuration. Throws Fault('Malformed') whose message names the file, and on a
 * line for each mistake its line, its field and what was expected; Fault('NotFound') for a file that
 * is not there. Reads no secret; of `environment` it only sees whether the database's URL is set.
 */
export async function loadConfig(path: string, environment: Readonly<Record<string, string | undefined>>): Promise<Config> {
  const found = await stat(path).catch(() => null);
  if (found === null || !found.isFile()) throw new Fault('NotFound', `${path}: no such file (--config FILE, or KEYTURN_CONFIG)`);
  if (found.size > CONFIG_MAX_BYTES) throw new Fault('Malformed', `${path}: ${found.size} bytes, expected at most ${CONFIG_MAX_BYTES}`);
  return parseConfig(path, await readFile(path, 'utf8'), environment);
}

/** `loadConfig` for text that is there already; `path` only names it. Throws Fault('Malformed'). */
export function parseConfig(path: string, text: string, environment: Readonly<Record<string, string | undefined>>): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, strict: true, schema: 'core', merge: false });
  const [error] = [...document.errors, ...document.warnings];
  if (error !== undefined)
    throw new Fault('Malformed', `${path}:${lines.linePos(error.pos[0]).line}: ${(error.message.split('\n')[0] ?? '').replace(/ at line .*/, '')}`);
  const data = plain(path, document);
  const parsed = configSchema.safeParse(data, { reportInput: true });
  const mistakes = parsed.success ? contradictions(parsed.data, environment) : parsed.error.issues.flatMap(mistakesOf);
  if (parsed.success && mistakes.length === 0) return parsed.data;
  const lineOf = (at: readonly PropertyKey[]): string => {
    for (let depth = at.length; depth > 0; depth--) {
      const node = document.getIn(at.slice(0, depth), true);
      if (typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range)) return `:${lines.linePos(Number(node.range[0])).line}`;
    }
    return '';
  };
  const told = mistakes.slice(0, MISTAKES_SHOWN).map(({ path: at, what }) => `${path}${lineOf(at)}: ${at.map(String).join('.') || 'the whole file'}: ${what}`);
  throw new Fault('Malformed', told.join('\n'));
}

/** An alias would be a second place to look for what a setting is. */
function plain(path: string, document: ReturnType<typeof parseDocument>): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 });
  } catch (cause) {
    throw new Fault('Malformed', `${path}: aliases are not read: write the value where it stands`, { cause });
  }
}

/** What an operator should hear at start: allowed, and not good. */
export function configWarnings(config: Config): readonly string[] {
  const warnings = Object.entries(config.kbs).flatMap(([kbs, settings]) => trusteeWarnings(kbs, settings));
  if (config.runtime === 'insecure-inside')
    warnings.push('runtime is insecure-inside: the cluster’s owner can read every key that passes through this process');
  if (config.mode === 'production' && config.receipts.signer.kind === 'ed25519') {
    warnings.push('receipts.signer is a key in a file: in production a key store is better, since who copies the file can write receipts');
  }
  return warnings;
}

// ---------------------------------------------------------------- what a schema says

/** One issue of zod as a person reads it; those of a union's alternatives as what its best alternative says. */
function mistakesOf(issue: z.core.$ZodIssue): readonly Mistake[] {
  const { path, code } = issue;
  if (issue.input === undefined && code !== 'custom' && code !== 'unrecognized_keys') return [{ path, what: 'is missing' }];
  if (code === 'unrecognized_keys') return issue.keys.map((key) => ({ path: [...path, key], what: 'is not a setting' }));
  if (code === 'invalid_value' && issue.message.startsWith('Invalid')) return [{ path, what: `expected ${issue.values.map(String).join(' or ')}` }];
  if (code === 'invalid_type') return [{ path, what: `expected ${issue.expected === 'record' ? 'object' : issue.expected}` }];
  if (code === 'invalid_key') return issue.issues.map(({ message }) => ({ path, what: `${String(path.at(-1))}: ${message}` }));
  if (code === 'invalid_union' && issue.errors.length > 0 && issue.message.startsWith('Invalid input')) {
    const best = [...issue.errors].sort((a, b) => depthOf(b) - depthOf(a) || a.length - b.length)[0] ?? [];
    return best.flatMap((inner) => mistakesOf({ ...inner, path: [...path, ...inner.path] }));
  }
  if (code === 'invalid_union' && issue.discriminator !== undefined) return [{ path, what: 'is of no kind that this version knows' }];
  return [{ path, what: issue.message.replace(/^Invalid input: /, '') }];
}

/** How far an alternative got: the deeper its first mistake, the likelier it was meant. */
function depthOf(issues: readonly z.core.$ZodIssue[]): number {
  const keys = issues.filter(({ code }) => code === 'unrecognized_keys').length;
  return Math.max(0, ...issues.map(({ path }) => path.length)) - keys;
}

// ---------------------------------------------------------------- what settings say together

function contradictions(config: Config, environment: Readonly<Record<string, string | undefined>>): readonly Mistake[] {
  return [
    ...namedMistakes(config),
    ...(config.mode === 'production' ? productionMistakes(config) : labMistakes(config)),
    ...environmentMistakes(config, environment),
  ];
}

function namedMistakes(config: Config): readonly Mistake[] {
  const mistakes: Mistake[] = [];
  const { proxy: stands, receipts } = config;
  if (stands !== undefined && !Object.hasOwn(config.kbs, stands.kbs)) mistakes.push({ path: ['proxy', 'kbs'], what: `no kbs is called ${stands.kbs}` });
  if (receipts.signer.kind === 'key-store' && !Object.hasOwn(config.keyStores, receipts.signer.store)) {
    mistakes.push({ path: ['receipts', 'signer', 'store'], what: `no key store is called ${receipts.signer.store}` });
  }
  for (const [kbs, { admin, url }] of Object.entries(config.kbs)) {
    if (new Set(admin.keys.map(({ id }) => id)).size < admin.keys.length) mistakes.push({ path: ['kbs', kbs, 'admin', 'keys'], what: 'two keys have one id' });
    const twin = Object.keys(config.kbs).find((other) => other < kbs && config.kbs[other]?.url === url);
    if (twin !== undefined) mistakes.push({ path: ['kbs', kbs, 'url'], what: `is also that of kbs.${twin}: they would overwrite each other’s policy` });
  }
  for (const [cluster, { inCluster }] of Object.entries(config.clusters)) {
    if (inCluster === true && config.runtime === 'outside')
      mistakes.push({ path: ['clusters', cluster, 'inCluster'], what: 'runtime says that this process stands outside the cluster' });
  }
  const listeners = listenersOf(config).filter(({ address }) => !address.endsWith(':0'));
  for (const { path, address } of listeners) {
    const taken = listeners.find((other) => other.address === address);
    if (taken !== undefined && taken.path !== path) mistakes.push({ path, what: `is also ${taken.path.join('.')}` });
  }
  return mistakes;
}

function productionMistakes(config: Config): readonly Mistake[] {
  const urls: Mistake[] = [{ path: ['repository', 'url'], what: config.repository.url }];
  for (const [kbs, settings] of Object.entries(config.kbs)) {
    urls.push({ path: ['kbs', kbs, 'url'], what: settings.url }, { path: ['kbs', kbs, 'publicUrl'], what: settings.publicUrl });
    settings.replicas.forEach((url, index) => void urls.push({ path: ['kbs', kbs, 'replicas', index], what: url }));
  }
  for (const [store, settings] of Object.entries(config.keyStores)) {
    if (settings.kind === 'aws-kms' && settings.endpoint !== undefined) urls.push({ path: ['keyStores', store, 'endpoint'], what: settings.endpoint });
  }
  const plain = urls.filter(({ what }) => !what.startsWith('https:')).map(({ path }) => ({ path, what: 'expected https: mode is production' }));
  const bare = config.proxy !== undefined && config.proxy.tls === undefined ? [{ path: ['proxy', 'tls'], what: 'is missing: mode is production' }] : [];
  return [...plain, ...bare];
}

/** The lab's walls: nobody but this machine reaches it. */
function labMistakes(config: Config): readonly Mistake[] {
  const open = listenersOf(config).filter(({ address }) => !/^(?:127\.|localhost:|\[::1\]:)/.test(address));
  return open.map(({ path }) => ({ path, what: 'expected a loopback address: mode is lab' }));
}

function environmentMistakes({ database }: Config, environment: Readonly<Record<string, string | undefined>>): readonly Mistake[] {
  if (!('env' in database.url) || (environment[database.url.env] ?? '') !== '') return [];
  return [{ path: ['database', 'url', 'env'], what: `the environment variable ${database.url.env} is not set` }];
}

function listenersOf({ serve: controller, proxy: stands }: Config): readonly { readonly path: readonly string[]; readonly address: string }[] {
  const own = (['webhook', 'dashboard', 'metrics'] as const).map((one) => ({ path: ['serve', one, 'listen'], address: controller[one].listen }));
  if (stands === undefined) return own;
  const observed = stands.metrics === undefined ? [] : [{ path: ['proxy', 'metrics', 'listen'], address: stands.metrics.listen }];
  return [...own, { path: ['proxy', 'listen'], address: stands.listen }, ...observed];
}

function hasPort(address: string): boolean {
  return Number(address.slice(address.lastIndexOf(':') + 1)) <= 65_535;
}
