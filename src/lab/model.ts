import { createCipheriv, createHash, type Hash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '#src/digest.ts';
import { MANIFEST_NAME, manifestOf as manifestOfFolder } from '#src/envelope/layout.ts';
import { type ManifestLine, manifestFrom } from '#src/envelope/manifest.ts';
import { openWorkers } from '#src/envelope/workers.ts';

/** What the story's releases carry: large enough that nobody can mistake sealing it for a toy, small enough for a laptop. */
const MODEL_BYTES = 64 * 1024 * 1024;
const SHARD_BYTES = 16 * 1024 * 1024;
const CHUNK_BYTES = 1024 * 1024;
/** A row of 512 numbers in bfloat16. */
const ROW_BYTES = 1024;
const TENSORS_A_SHARD = 4;
const HIDDEN_SIZE = 512;

/** Which model is made. */
export interface ModelOptions {
  /** Bytes of all tensors together, rounded up to whole rows of 1 KiB. 64 MiB otherwise. */
  readonly sizeBytes?: number;
  /** Another seed gives other weights, the same seed the same. */
  readonly seed: number;
}

/** What was written. */
export interface WrittenModel {
  /** SHA-256 of the manifest: a release's `plaintextManifest`. */
  readonly manifestDigest: Digest;
  readonly files: readonly string[];
}

/**
 * Writes a model into a folder, which is made: safetensors shards (https://huggingface.co/docs/safetensors) of pseudo-random bfloat16
 * numbers, their index, `config.json`, and the manifest beside them.
 */
export async function writeModel(folder: string, { sizeBytes = MODEL_BYTES, seed }: ModelOptions): Promise<WrittenModel> {
  await mkdir(folder, { recursive: true });
  const rows = Math.ceil(sizeBytes / ROW_BYTES);
  const shards = Math.max(1, Math.ceil((rows * ROW_BYTES) / SHARD_BYTES));
  const lines: ManifestLine[] = [];
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard += 1) {
    const path = `model-${ordinal(shard + 1)}-of-${ordinal(shards)}.safetensors`;
    const shardRows = Math.floor((rows * (shard + 1)) / shards) - Math.floor((rows * shard) / shards);
    const tensors = tensorsOf(shard, shardRows);
    for (const name of Object.keys(tensors)) weightMap[name] = path;
    lines.push({ path, digest: await writeHashed(join(folder, path), shardBytes(tensors, shardRows * ROW_BYTES, `${seed}/${path}`)) });
  }
  const index = { metadata: { total_size: rows * ROW_BYTES }, weight_map: weightMap };
  const config = { architectures: ['KeyturnLabModel'], hidden_size: HIDDEN_SIZE, torch_dtype: 'bfloat16', seed };
  for (const [path, content] of Object.entries({ 'config.json': config, 'model.safetensors.index.json': index })) {
    lines.push({ path, digest: await writeHashed(join(folder, path), [Buffer.from(`${JSON.stringify(content, null, 2)}\n`)]) });
  }
  const manifest = manifestFrom(lines);
  await writeFile(join(folder, MANIFEST_NAME), manifest.text);
  return { manifestDigest: manifest.digest, files: manifest.lines.map(({ path }) => path) };
}

/** The manifest of any folder of weights: its text, as `sha256sum` prints it, and its digest. Throws EnvelopeError for files that no model may have. */
export async function manifestOf(folder: string): Promise<{ readonly text: string; readonly digest: Digest }> {
  const workers = openWorkers();
  try {
    const { text, digest } = await manifestOfFolder(folder, workers);
    return { text, digest };
  } finally {
    await workers.close();
  }
}

interface Tensor {
  readonly dtype: 'BF16';
  readonly shape: readonly [number, number];
  /** From the end of the header. */
  readonly data_offsets: readonly [number, number];
}

/** The header of one shard: its rows, dealt out to a few tensors. */
function tensorsOf(shard: number, rows: number): Readonly<Record<string, Tensor>> {
  const tensors: Record<string, Tensor> = {};
  for (let part = 0; part < TENSORS_A_SHARD; part += 1) {
    const from = Math.floor((rows * part) / TENSORS_A_SHARD);
    const to = Math.floor((rows * (part + 1)) / TENSORS_A_SHARD);
    const name = `model.layers.${shard}.weights.${part}`;
    if (to > from) tensors[name] = { dtype: 'BF16', shape: [to - from, HIDDEN_SIZE], data_offsets: [from * ROW_BYTES, to * ROW_BYTES] };
  }
  return tensors;
}

/** A shard's bytes: the header's length (64 bits, little-endian), the header padded with spaces to a multiple of 8, then the numbers. */
function* shardBytes(tensors: Readonly<Record<string, Tensor>>, bytes: number, seed: string): Generator<Buffer> {
  const json = JSON.stringify(tensors);
  const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8, ' '));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  yield Buffer.concat([length, header]);
  // The key stream of AES-CTR is a fast generator of numbers that are the same everywhere.
  const numbers = createCipheriv('aes-256-ctr', createHash('sha256').update(seed).digest(), Buffer.alloc(16));
  const zeros = Buffer.alloc(CHUNK_BYTES);
  for (let at = 0; at < bytes; at += CHUNK_BYTES) yield numbers.update(zeros.subarray(0, Math.min(CHUNK_BYTES, bytes - at)));
}

async function writeHashed(path: string, chunks: Iterable<Buffer>): Promise<Digest> {
  const hash = createHash('sha256');
  await writeFile(path, hashed(chunks, hash));
  return `sha256:${hash.digest('hex')}`;
}

function* hashed(chunks: Iterable<Buffer>, hash: Hash): Generator<Buffer> {
  for (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
}

function ordinal(number: number): string {
  return String(number).padStart(5, '0');
}
