/**
 * A guest of the lab: what runs inside a pod. It is a real client: its init-data names the KBS and the images it may run, it attests
 * from its own address, fetches the key, and opens the sealed weights, every file against the manifest. Only then does it serve.
 */
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { parse } from 'smol-toml';
import { type OpenedFolder, openFolder } from '#src/envelope/layout.ts';
import type { EnvelopeWorkers } from '#src/envelope/workers.ts';
import { fetchKey } from './guest-kbs.ts';
import { openObjects } from './guest-objects.ts';

/** Where kata takes a guest's init-data from: base64 of gzip of TOML. */
export const INIT_DATA_ANNOTATION = 'io.katacontainers.config.hypervisor.cc_init_data';

/** Annotations are no longer than this in all; unpacked, this much is allowed. Bytes. */
const INIT_DATA_MAX_BYTES = 4 * 1024 * 1024;

/** The lab's runtime classes: the number is the sample guest's security version, and its measurement. */
const RUNTIME_CLASS = /^kata-lab-([1-9]\d{0,8})$/;

/** A pod, as its guest sees it. */
export interface GuestOrder {
  readonly runtimeClass: string;
  /** The annotation's text. */
  readonly initData: string;
  /** `kbs:///repository/type/tag`. */
  readonly keyUri: string;
  /** `file:///…/`, or `s3://…/`: where the sealed files lie. */
  readonly artifact: string;
  /** Of every container. */
  readonly images: readonly string[];
  /** The pod's own. */
  readonly address: string;
}

/** What guests share. */
export interface GuestOptions {
  readonly workers: EnvelopeWorkers;
  /** Between handshakes that failed. */
  readonly pauseSeconds: number;
  /** Where guests find what `s3://` names; null: nowhere. */
  readonly objectStoreUrl: string | null;
}

/** What a guest's init-data says, as far as a guest of the lab reads it. */
interface InitData {
  readonly toml: string;
  readonly kbsUrl: string;
  readonly kbsCertificate: string | null;
  /** A policy of containers/image as JSON text; null: every image is admitted. */
  readonly imagePolicy: string | null;
}

/**
 * Starts a guest up to where it serves. Throws Error, with the words of the stock components where they have some, and its reason
 * for the pod's log; nothing of the weights is written anywhere.
 */
export async function bootGuest(order: GuestOrder, options: GuestOptions, log: (line: string) => void, signal: AbortSignal): Promise<OpenedFolder> {
  const svn = RUNTIME_CLASS.exec(order.runtimeClass)?.[1];
  if (svn === undefined) throw new Error(`no lab guest runs in the runtime class "${order.runtimeClass}"`);
  const initData = readInitData(order.initData);
  for (const image of order.images) if (!admits(initData.imagePolicy, image)) throw new Error(`Image policy rejected: Denied by policy: ${image}`);
  const path = /^kbs:\/\/\/([^/]+\/[^/]+\/[^/]+)$/.exec(order.keyUri)?.[1];
  if (path === undefined) throw new Error(`not a KBS resource URI: ${order.keyUri}`);
  const { kbsUrl, kbsCertificate, toml } = initData;
  using keyset = await fetchKey({ kbsUrl, kbsCertificate, path, address: order.address, svn, initData: toml, pauseSeconds: options.pauseSeconds, signal, log });
  log(`fetched ${path}`);
  signal.throwIfAborted();
  const { artifact } = order;
  const { objectStoreUrl, workers } = options;
  const folder = artifact.startsWith('s3://') && objectStoreUrl !== null ? openObjects(artifact, objectStoreUrl) : fileURLToPath(artifact);
  const opened = await openFolder({ folder, keyset, to: null, workers });
  log(`opened ${opened.files} files, ${opened.sizeBytes} bytes, ciphertext ${opened.ciphertextDigest}`);
  return opened;
}

/** Reads an init-data annotation. Throws Error where it is none. */
export function readInitData(annotation: string): InitData {
  const toml = gunzipSync(Buffer.from(annotation, 'base64'), { maxOutputLength: INIT_DATA_MAX_BYTES }).toString('utf8');
  const cdh = parse(textOf(parse(toml), 'data', 'cdh.toml'));
  const kbsUrl = textOf(cdh, 'kbc', 'url');
  if (!URL.canParse(kbsUrl)) throw new Error('the init-data names no KBS: cdh.toml has no [kbc] url');
  return { toml, kbsUrl, kbsCertificate: textOf(cdh, 'kbc', 'kbs_cert') || null, imagePolicy: textOf(cdh, 'image', 'image_security_policy') || null };
}

function textOf(table: unknown, ...path: readonly string[]): string {
  let here: unknown = table;
  for (const part of path) here = typeof here === 'object' && here !== null ? (here as Readonly<Record<string, unknown>>)[part] : undefined;
  return typeof here === 'string' ? here : '';
}

/** containers-policy.json(5), as far as it needs no signature: an image is admitted by its exact reference, its repository, or the default. */
function admits(policy: string | null, image: string): boolean {
  if (policy === null) return true;
  const parsed = JSON.parse(policy) as { readonly default?: unknown; readonly transports?: { readonly docker?: Readonly<Record<string, unknown>> } };
  const repository = image.split('@')[0] ?? image;
  const rules = parsed.transports?.docker?.[image] ?? parsed.transports?.docker?.[repository] ?? parsed.transports?.docker?.[''] ?? parsed.default;
  return (
    Array.isArray(rules) &&
    rules.length > 0 &&
    rules.every((rule) => typeof rule === 'object' && rule !== null && 'type' in rule && rule.type === 'insecureAcceptAnything')
  );
}
