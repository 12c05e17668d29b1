/**
 * Init-data: the TOML that a confidential guest is started with, bound to its evidence by digest
 * (Trustee, `kbs/docs/initdata.md`; struct `Initdata` of the attestation service).
 *
 * It names the KBS and, in `cdh.toml`, which images the guest may pull: nothing else ties a workload's
 * image to its key. Everything here fails closed: what the guest could read in another way is refused.
 */
import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { parse } from 'smol-toml';
import { Fault } from '../errors.ts';
import type { Tee } from './documents/fields.ts';
import type { Json } from './json.ts';

/** Kata passes init-data in an annotation, and Kubernetes holds 256 KiB of annotations a pod: more than this packs into none. */
const INIT_DATA_MAX_BYTES = 1024 * 1024;
/** SNP has 32 bytes for it (HOST_DATA), TDX 48 (MRCONFIGID). Longer digests are cut, shorter ones filled with zeros (`regularize_data`). */
const SNP_HOST_DATA_BYTES = 32;
const TDX_MRCONFIGID_BYTES = 48;

const ALGORITHMS = ['sha256', 'sha384', 'sha512'] as const;

/** Which images the guest's own puller admits: written into init-data, or fetched at start from somewhere that can change. */
type ImagePolicy = { readonly kind: 'inline'; readonly policy: Json } | { readonly kind: 'uri'; readonly uri: string };

/** What Keyturn reads of init-data. */
export interface InitData {
  readonly algorithm: (typeof ALGORITHMS)[number];
  /** Digest of the file's exact bytes under `algorithm`, in lower-case hexadecimal. */
  readonly digestHex: string;
  /** `[kbc] url` of `cdh.toml`: where the guest fetches its keys. null: not said. */
  readonly kbsUrl: string | null;
  /** `[image]` of `cdh.toml`. null: any image may be pulled. Where both forms are there the guest follows the URI, and so do we. */
  readonly imagePolicy: ImagePolicy | null;
}

type Table = Readonly<Record<string, unknown>>;

/** Reads init-data. Throws Fault('Malformed') for anything that the attestation service would not read, or the guest could read differently. */
export function readInitData(toml: string): InitData {
  if (Buffer.byteLength(toml) > INIT_DATA_MAX_BYTES) throw malformed(`it is longer than ${INIT_DATA_MAX_BYTES} bytes`);
  const document = parseTable(toml, 'init-data');
  const algorithm = ALGORITHMS.find((name) => name === document.algorithm);
  if (algorithm === undefined) throw malformed(`algorithm must be one of ${ALGORITHMS.join(', ')}`);
  if (typeof document.version !== 'string') throw malformed('version must be a text');
  const data = tableOf(document.data, 'data');
  for (const [name, value] of Object.entries(data)) if (typeof value !== 'string') throw malformed(`data.${name} must be a text`);
  const digestHex = createHash(algorithm).update(toml).digest('hex');
  const hub = data['cdh.toml'];
  if (typeof hub !== 'string') return { algorithm, digestHex, kbsUrl: null, imagePolicy: null };
  return { algorithm, digestHex, ...readHub(parseTable(hub, 'cdh.toml')) };
}

/** The confidential data hub's own file (guest-components, `confidential-data-hub/example.config.toml`). */
function readHub(hub: Table): Pick<InitData, 'kbsUrl' | 'imagePolicy'> {
  const kbc = sectionOf(hub, 'kbc');
  const image = sectionOf(hub, 'image');
  return { kbsUrl: kbc === null ? null : textOf(kbc, 'url'), imagePolicy: image === null ? null : imagePolicyOf(image) };
}

function imagePolicyOf(image: Table): ImagePolicy | null {
  const uri = textOf(image, 'image_security_policy_uri');
  if (uri !== null) return { kind: 'uri', uri };
  const inline = textOf(image, 'image_security_policy');
  if (inline === null) return null;
  try {
    return { kind: 'inline', policy: JSON.parse(inline) as Json };
  } catch (cause) {
    throw malformed('image_security_policy of cdh.toml is not JSON', cause);
  }
}

/** Init-data's digest as that TEE's verifier writes it into the token (`init_data`). Throws Fault('NotSupportedYet') for TEEs without one here. */
export function initDataClaim(toml: string, tee: Tee): string {
  const digest = Buffer.from(readInitData(toml).digestHex, 'hex');
  switch (tee) {
    case 'sample':
      return digest.toString('base64');
    case 'snp':
      return fitted(digest, SNP_HOST_DATA_BYTES).toString('hex');
    case 'tdx':
      return fitted(digest, TDX_MRCONFIGID_BYTES).toString('hex');
    case 'az-snp-vtpm':
    case 'az-tdx-vtpm':
      throw new Fault('NotSupportedYet', `init-data of a guest with tee ${tee}: its claim is not in the table yet`);
    default:
      return tee satisfies never;
  }
}

/** Init-data as Kata's annotation carries it: base64 of its gzip. */
export function initDataAnnotation(toml: string): string {
  return gzipSync(toml).toString('base64');
}

/** Whether an annotation carries exactly these bytes, however it was packed. Anything unreadable is a no. */
export function sameInitData(annotation: string, toml: string): boolean {
  try {
    const unpacked = gunzipSync(Buffer.from(annotation, 'base64'), { maxOutputLength: INIT_DATA_MAX_BYTES });
    return unpacked.equals(Buffer.from(toml));
  } catch {
    return false;
  }
}

const IMAGE_BY_DIGEST = /^[^@\s]+@sha256:[0-9a-f]{64}$/;

/**
 * The images that an image policy admits, where it rejects by default and admits each by its digest
 * alone (`containers-policy.json(5)` as image-rs reads it: the whole reference is looked up first, then
 * its parents). Sorted. null: it admits more, or something that cannot be told from here.
 */
export function admittedImages(policy: Json): readonly string[] | null {
  if (!isTable(policy) || !onlyHas(policy, ['default', 'transports'])) return null;
  if (!isRequirement(policy.default, 'reject')) return null;
  const transports = policy.transports;
  if (!isTable(transports) || !onlyHas(transports, ['docker'])) return null;
  const scopes = transports.docker;
  if (!isTable(scopes)) return null;
  const entries = Object.entries(scopes);
  const exact = entries.every(([scope, requirements]) => IMAGE_BY_DIGEST.test(scope) && isRequirement(requirements, 'insecureAcceptAnything'));
  return exact ? entries.map(([scope]) => scope).sort() : null;
}

/** Whether it is exactly `[{ "type": type }]`. */
function isRequirement(value: unknown, type: string): boolean {
  if (!Array.isArray(value) || value.length !== 1) return false;
  const only: unknown = value[0];
  return isTable(only) && onlyHas(only, ['type']) && only.type === type;
}

function fitted(digest: Buffer, length: number): Buffer {
  return Buffer.concat([digest.subarray(0, length), Buffer.alloc(Math.max(0, length - digest.length))]);
}

/** The guest's configuration reader ignores case in some versions: a name that differs in case alone would be read there and not here. */
function sectionOf(table: Table, name: string): Table | null {
  const value = memberOf(table, name);
  return value === undefined ? null : tableOf(value, name);
}

function textOf(table: Table, name: string): string | null {
  const value = memberOf(table, name);
  if (value === undefined) return null;
  if (typeof value !== 'string' || value === '') throw malformed(`${name} of cdh.toml must be a text`);
  return value;
}

function memberOf(table: Table, name: string): unknown {
  const other = Object.keys(table).find((key) => key !== name && key.toLowerCase() === name);
  if (other !== undefined) throw malformed(`cdh.toml has ${other}, which guests may read as ${name}`);
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

function parseTable(text: string, what: string): Table {
  try {
    return parse(text);
  } catch (cause) {
    throw malformed(`${what} is not TOML`, cause);
  }
}

function tableOf(value: unknown, what: string): Table {
  if (!isTable(value)) throw malformed(`${what} must be a table`);
  return value;
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function onlyHas(table: Table, names: readonly string[]): boolean {
  return Object.keys(table).every((name) => names.includes(name));
}

function malformed(what: string, cause?: unknown): Fault {
  return new Fault('Malformed', `init-data: ${what}`, cause === undefined ? {} : { cause });
}
