import { type Digest, digestOf, hexOf, isDigest } from '#src/digest.ts';
import { envelopeError } from './envelope-error.ts';

/** One file of a model. */
export interface ManifestLine {
  /** SHA-256 of the file's bytes. */
  readonly digest: Digest;
  /** From the model's folder, with `/`. */
  readonly path: string;
}

/** What a model consists of. Its text is what `sha256sum` prints, sorted by the paths' bytes; its digest is the text's SHA-256. */
export interface Manifest {
  readonly lines: readonly ManifestLine[];
  readonly text: string;
  readonly digest: Digest;
}

/** The largest open models have under 1,000 files. */
export const MANIFEST_MAX_LINES = 20_000;
/** So that a whole manifest is handled in memory: 20,000 lines of the longest path would be 12 MiB. */
export const MANIFEST_MAX_BYTES = 16 * 1024 * 1024;
/** With the digest in front it has to fit into HKDF's `info` (1,024 bytes in Node). */
export const PATH_MAX_BYTES = 512;

/**
 * Whether a path may be part of a model: relative, `/` between its parts, no part empty, `.` or `..`, no control character and no
 * backslash (`sha256sum` escapes those), no folder that ends in `.sealed` (it could stand where a sealed file has to), and not the
 * manifest's own name.
 */
export function isModelPath(path: string): boolean {
  if (Buffer.byteLength(path) > PATH_MAX_BYTES || path === 'keyturn.manifest') return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused.
  if (/[\u0000-\u001f\u007f\\]/.test(path) || !path.isWellFormed()) return false;
  const parts = path.split('/');
  return parts.every((part) => part !== '' && part !== '.' && part !== '..') && !parts.slice(0, -1).some((folder) => folder.endsWith('.sealed'));
}

/** `<sha256>  <path>` and a line feed for each, sorted by the paths' bytes, as `LC_ALL=C sort` does. */
export function linesText(lines: readonly ManifestLine[]): string {
  const sorted = lines.map((line) => ({ line, key: Buffer.from(line.path) })).sort((a, b) => Buffer.compare(a.key, b.key));
  return sorted.map(({ line }) => `${hexOf(line.digest)}  ${line.path}\n`).join('');
}

/** Puts a manifest together, in whatever order its lines come. Throws EnvelopeError `unsafe-path`, `too-large`, or `malformed` where a path comes twice. */
export function manifestFrom(lines: readonly ManifestLine[]): Manifest {
  return parseManifest(linesText(lines));
}

/** Reads a manifest. Strict: only the one form that `manifestFrom` writes. Throws EnvelopeError. */
export function parseManifest(text: string): Manifest {
  if (Buffer.byteLength(text) > MANIFEST_MAX_BYTES) throw envelopeError('too-large', `a manifest has more than ${MANIFEST_MAX_BYTES} bytes`);
  const rows = text.split('\n');
  if (rows.pop() !== '' || rows.length === 0) throw envelopeError('malformed', 'a manifest has at least one line, and each ends in a line feed');
  if (rows.length > MANIFEST_MAX_LINES) throw envelopeError('too-large', `a manifest has more than ${MANIFEST_MAX_LINES} lines`);
  const lines = rows.map((row) => {
    const digest = `sha256:${row.slice(0, 64)}`;
    const path = row.slice(66);
    if (!isDigest(digest) || row.slice(64, 66) !== '  ') throw envelopeError('malformed', 'a manifest line is not `<sha256>  <path>`');
    if (!isModelPath(path)) throw envelopeError('unsafe-path', `a model cannot have a file named ${JSON.stringify(path)}`, path);
    return { digest, path };
  });
  if (linesText(lines) !== text) throw envelopeError('malformed', 'the lines of a manifest are not sorted by path');
  if (new Set(lines.map(({ path }) => path)).size !== lines.length) throw envelopeError('malformed', 'a path stands twice in a manifest');
  return { lines, text, digest: digestOf(text) };
}
