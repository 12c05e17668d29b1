import { lstat, mkdir, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { type Digest, digestOf } from '#src/digest.ts';
import type { Secret } from '#src/secret.ts';
import { type Codec, DEFAULT_CODEC, openFetchedKey } from './codec.ts';
import type { ByteSource } from './distant.ts';
import { envelopeError } from './envelope-error.ts';
import { JWE_PLAINTEXT_MAX_BYTES, JWE_TOO_LONG, openJwe, sealJwe } from './jwe.ts';
import { isModelPath, linesText, MANIFEST_MAX_BYTES, MANIFEST_MAX_LINES, type Manifest, type ManifestLine, manifestFrom, parseManifest } from './manifest.ts';
import { openMessage, sealMessage } from './message.ts';
import type { EnvelopeWorkers } from './workers.ts';

/** The plaintext manifest's name, beside the files that it lists. */
export const MANIFEST_NAME = 'keyturn.manifest';

/** Where a file lies once it is sealed. Throws EnvelopeError `unfit` for a path that KServe's reader would take for a sealed one. */
export function sealedPath(path: string, codec: Codec = DEFAULT_CODEC): string {
  if (codec === DEFAULT_CODEC) return `${path}.sealed`;
  // It opens in place, in any order: what is called so already would be opened again, or stand where another sealed file has to.
  if (path.split('/').some((part) => part.toLowerCase().endsWith('.jwe'))) throw envelopeError('unfit', `a name that ends in .jwe: ${path}`, path);
  return `${path}.jwe`;
}

/** Throws EnvelopeError `unfit` where a codec cannot carry a file of this length under this name; `plaintextBytes` is 0 where nobody knows it yet. */
export function checkFits(path: string, plaintextBytes: number, codec: Codec): void {
  sealedPath(path, codec);
  if (codec === 'kserve-jwe' && plaintextBytes > JWE_PLAINTEXT_MAX_BYTES) throw envelopeError('unfit', `${path}: ${JWE_TOO_LONG}`, path);
}

/** The manifest's own name once Tink has sealed it. */
export const SEALED_MANIFEST_NAME = `${MANIFEST_NAME}.sealed`;

/** The manifest's own name once it is sealed: what a guest of ours opens first, and what is written last. */
export function sealedManifestName(codec: Codec = DEFAULT_CODEC): string {
  return sealedPath(MANIFEST_NAME, codec);
}

/** Whether a name is one of a sealed file, of any codec. */
export function isSealedName(name: string): boolean {
  return name.endsWith('.sealed') || name.endsWith('.jwe');
}

const MANIFEST_ASSOCIATED_DATA = 'keyturn/v1\nmanifest';

/** What a file's ciphertext is bound to: the whole model, and the file's place in it. */
export function associatedDataOf(manifest: Digest, path: string): string {
  return `keyturn/v1\n${manifest}\n${path}`;
}

/** Seals a manifest's text. `key`: the 32 bytes. */
export function sealManifest(manifest: Manifest, key: Secret, codec: Codec = DEFAULT_CODEC): Buffer {
  const text = Buffer.from(manifest.text);
  return codec === 'kserve-jwe' ? sealJwe(text, key.reveal()) : sealMessage(text, key.reveal(), Buffer.from(MANIFEST_ASSOCIATED_DATA));
}

/** Opens a sealed manifest. Throws EnvelopeError. */
export function openManifest(sealed: Buffer, key: Secret, codec: Codec = DEFAULT_CODEC): Manifest {
  const text = codec === 'kserve-jwe' ? openJwe(sealed, key.reveal()) : openMessage(sealed, key.reveal(), Buffer.from(MANIFEST_ASSOCIATED_DATA));
  return parseManifest(text.toString('utf8'));
}

/** The sealed text of the longest manifest: a JWE's is a third and 139 bytes longer, Tink's less. */
export const SEALED_MANIFEST_MAX_BYTES = Math.ceil((MANIFEST_MAX_BYTES * 4) / 3) + 1024;

/** Reads a sealed manifest from a folder. Throws EnvelopeError `too-large`, or the file system's error. */
export async function readSealedManifest(folder: string, codec: Codec = DEFAULT_CODEC): Promise<Buffer> {
  const place = join(folder, sealedManifestName(codec));
  const found = await stat(place);
  if (!found.isFile() || found.size > SEALED_MANIFEST_MAX_BYTES) throw envelopeError('too-large', 'the sealed manifest is no file, or too long', MANIFEST_NAME);
  return readFile(place);
}

/** The ciphertext's name: SHA-256 over the sorted `<sha256>  <path>` lines of all sealed files, the manifest's among them. */
export function ciphertextDigestOf(sealed: readonly ManifestLine[]): Digest {
  return digestOf(linesText(sealed));
}

/**
 * Every file of a model's folder, by its path from there, in no order. A link to a file counts as the file where it stays inside; a link
 * that leaves, a link to a folder, or anything that is neither file nor folder is EnvelopeError `unsafe-path`. A file named
 * `keyturn.manifest` at the top is not part of the model.
 */
export async function filesOf(folder: string): Promise<readonly string[]> {
  const root = await realpath(folder);
  const files: string[] = [];
  const visit = async (below: string): Promise<void> => {
    for (const entry of await readdir(join(root, below), { withFileTypes: true })) {
      const path = below === '' ? entry.name : `${below}/${entry.name}`;
      if (path === MANIFEST_NAME) continue;
      if (entry.isDirectory()) {
        await visit(path);
        continue;
      }
      await checkInside(root, path);
      if (!isModelPath(path)) throw envelopeError('unsafe-path', `a model cannot have a file named ${JSON.stringify(path)}`, path);
      files.push(path);
      if (files.length > MANIFEST_MAX_LINES) throw envelopeError('too-large', `a model has at most ${MANIFEST_MAX_LINES} files`);
    }
  };
  await visit('');
  return files;
}

/** Throws EnvelopeError `unsafe-path` unless `path` is a file whose bytes lie inside `root` (a real path). */
export async function checkInside(root: string, path: string): Promise<void> {
  const place = join(root, path);
  const real = await realpath(place);
  const inside = real.startsWith(root.endsWith(sep) ? root : `${root}${sep}`);
  if (!inside || !(await lstat(real)).isFile())
    throw envelopeError('unsafe-path', `not a file inside its folder: ${path} (a link out of it? copy the folder with links followed)`, path);
}

/** The manifest of a folder of plaintext: reads every byte once, in the workers' threads. Throws EnvelopeError, or the file system's error. */
export async function manifestOf(folder: string, workers: EnvelopeWorkers): Promise<Manifest> {
  const files = await filesOf(folder);
  const digests = await eachAtMost(workers.threads, files, async (path) => {
    const { plaintextDigest } = await workers.pass({ from: join(folder, path), to: null, openWith: null, sealWith: null, associatedData: '', hash: 'both' });
    return { path, digest: asDigest(plaintextDigest) };
  });
  return manifestFrom(digests);
}

/** A sealed folder that does not lie on this machine. */
export interface DistantFolder {
  /** The sealed manifest's bytes; it need not hold more than `SEALED_MANIFEST_MAX_BYTES` of them. */
  readonly manifest: (codec: Codec) => Promise<Buffer>;
  /** A sealed file, by its path there. */
  readonly file: (path: string) => Promise<string | ByteSource>;
}

/** What `openFolder` is asked. */
export interface OpenOrder {
  /** Where the sealed files lie. */
  readonly folder: string | DistantFolder;
  /** What the guest fetched; its form tells the codec: see `codec.ts`. */
  readonly keyset: Secret;
  /** A folder for the plaintext, or null for a trial that writes nothing. Files in it are not overwritten. */
  readonly to: string | null;
  readonly workers: EnvelopeWorkers;
}

/** A ciphertext that opened, all of it. */
export interface OpenedFolder {
  readonly manifest: Manifest;
  readonly ciphertextDigest: Digest;
  /** Sealed files, the manifest's among them. */
  readonly files: number;
  /** Bytes of all sealed files. */
  readonly sizeBytes: number;
}

/**
 * Opens a sealed model as a guest does: the manifest first, then every file that it lists, each compared with the manifest's digest. Throws
 * EnvelopeError (`changed` where a file opens to something else), or the file system's error where one is missing. Files that the
 * manifest does not list are not looked at.
 */
export async function openFolder({ folder, keyset, to, workers }: OpenOrder): Promise<OpenedFolder> {
  using opening = openFetchedKey(keyset);
  const { codec, key } = opening;
  const place = typeof folder === 'string' ? localFolder(folder) : folder;
  const sealedManifest = await place.manifest(codec);
  const manifest = openManifest(sealedManifest, key, codec);
  const opened = await eachAtMost(workers.threads, manifest.lines, async ({ path, digest }) => {
    if (to !== null) await mkdir(dirname(join(to, path)), { recursive: true });
    const sealed = sealedPath(path, codec);
    const from = await place.file(sealed);
    const passed = await workers.pass({
      from,
      to: to === null ? null : join(to, path),
      openWith: key,
      openAs: codec,
      sealWith: null,
      associatedData: associatedDataOf(manifest.digest, path),
      hash: 'both',
    });
    if (passed.plaintextDigest !== digest) throw envelopeError('changed', `${path} opens to other bytes than the manifest says`, path);
    return { path: sealed, digest: asDigest(passed.ciphertextDigest), bytes: passed.ciphertextBytes };
  });
  const all = [...opened, { path: sealedManifestName(codec), digest: digestOf(sealedManifest), bytes: sealedManifest.length }];
  return { manifest, ciphertextDigest: ciphertextDigestOf(all), files: all.length, sizeBytes: all.reduce((sum, { bytes }) => sum + bytes, 0) };
}

function localFolder(folder: string): DistantFolder {
  return { manifest: (codec) => readSealedManifest(folder, codec), file: async (path) => join(folder, path) };
}

/** Does `work` for each, at most `limit` at once; stops beginning new ones after the first failure, and throws that. Results in the order of `items`. */
export async function eachAtMost<T, R>(limit: number, items: readonly T[], work: (item: T) => Promise<R>): Promise<readonly R[]> {
  const results: R[] = [];
  const entries = items.entries();
  let failed = false;
  const lane = async (): Promise<void> => {
    for (const [index, item] of entries) {
      if (failed) return;
      try {
        results[index] = await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  // All lanes end before this returns: nobody is still writing when the caller cleans up.
  const ended = await Promise.allSettled(Array.from({ length: limit }, lane));
  for (const end of ended) if (end.status === 'rejected') throw end.reason;
  return results;
}

/** A digest that was asked for is there. */
export function asDigest(digest: Digest | null): Digest {
  if (digest === null) throw new TypeError('the pass was not asked for a digest');
  return digest;
}
