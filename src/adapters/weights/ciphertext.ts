import type { Digest } from '#src/digest.ts';
import { reasons } from '#src/domain/reasons.ts';
import { type Codec, DEFAULT_CODEC, type OpenedKey } from '#src/envelope/codec.ts';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { associatedDataOf, MANIFEST_NAME, openManifest, sealedPath } from '#src/envelope/layout.ts';
import type { Manifest, ManifestLine } from '#src/envelope/manifest.ts';
import { type Passed, plaintextBytesOf } from '#src/envelope/tink.ts';
import type { EnvelopeWorkers } from '#src/envelope/workers.ts';
import { Fault, isFault } from '#src/errors.ts';
import { asFault, codeOf } from './faults.ts';
import type { Place, Readable } from './place.ts';
import type { Source, Writing } from './source.ts';

/** An older ciphertext of ours. */
export interface OldCiphertext {
  /** Finds the place in each store that may have it; throws Fault where there is none. */
  readonly places: readonly (() => Promise<Place>)[];
  /** What it was sealed under, and how. */
  readonly open: OpenedKey;
  /** How it is sealed anew. */
  readonly sealAs: Codec;
}

/**
 * A ciphertext that is opened while its plaintext is sealed anew: from the first store that has a file whole. It is not touched. Throws
 * Fault `WeightsChanged` where it is not the approved one, `CiphertextTorn` where no store has it.
 */
export async function openCiphertext(old: OldCiphertext, approved: Digest, workers: EnvelopeWorkers): Promise<Source> {
  const places: Place[] = [];
  const failed: Fault[] = [];
  let manifest: Manifest | null = null;
  for (const find of old.places) {
    try {
      const place = await find();
      places.push(place);
      manifest ??= await oldManifest(place, approved, old.open);
    } catch (error) {
      failed.push(faultOf(error));
    }
  }
  if (manifest === null) throw oneOf(failed);
  const { digest } = manifest;
  // Nothing of a JWE is authentic before its end, and none can be taken up in its middle.
  const resumable = old.open.codec === DEFAULT_CODEC && old.sealAs === DEFAULT_CODEC;
  return {
    manifest,
    resumable,
    sizeOf: (path) => oldSize(places, path, old.open.codec),
    seal: (line, writing) => reseal({ places, open: old.open, resumable, manifest: digest, workers }, line, writing),
  };
}

async function oldManifest(place: Place, approved: Digest, { codec, key }: OpenedKey): Promise<Manifest> {
  const name = nameIn(place, MANIFEST_NAME, codec);
  try {
    const sealed = await place.manifest(codec);
    if (sealed === null) throw missing(name);
    const manifest = openManifest(sealed, key, codec);
    if (manifest.digest === approved) return manifest;
    throw new Fault('WeightsChanged', `weights ${name}: it is ${manifest.digest}, approved is ${approved}`);
  } catch (error) {
    if (isEnvelopeError(error)) throw new Fault('WeightsChanged', `weights ${name}: ${error.message}`, { cause: error });
    throw torn(error, name);
  }
}

async function oldSize(places: readonly Place[], path: string, codec: Codec): Promise<number> {
  for (const place of places) {
    try {
      return plaintextBytesOf(await place.sizeOf(sealedPath(path, codec)), codec);
    } catch {
      // Told by whoever reads the file, if no store has it.
    }
  }
  return 0;
}

interface Resealing {
  readonly places: readonly Place[];
  readonly open: OpenedKey;
  readonly resumable: boolean;
  readonly manifest: Digest;
  readonly workers: EnvelopeWorkers;
}

/** Opens one file and seals it anew, from the first store that has it whole. */
async function reseal(resealing: Resealing, line: ManifestLine, writing: Writing): Promise<Passed> {
  const failed: Fault[] = [];
  const { codec } = resealing.open;
  const sealed = sealedPath(line.path, codec);
  let goal = writing.goal;
  for (const place of resealing.places) {
    const name = nameIn(place, line.path, codec);
    if (failed.length > 0) goal = await (resealing.resumable ? goal.rewound() : goal.again());
    let readable: Readable | null = null;
    try {
      readable = await place.open(sealed);
      if (readable === null) throw missing(name);
      let passed = await resealFrom(resealing, readable, line, { ...writing, goal });
      if (passed.plaintextDigest !== line.digest && passed.keptBytes > 0) {
        // The part may be from another store's file than this one.
        goal = await goal.again();
        passed = await resealFrom(resealing, (await place.open(sealed)) ?? readable, line, { ...writing, goal });
      }
      if (passed.plaintextDigest === line.digest) return passed;
      goal = await goal.again();
      failed.push(new Fault('WeightsChanged', `weights ${name} opens to another file than the approved manifest lists`));
    } catch (error) {
      // What the new codec cannot carry is no fault of this ciphertext.
      if (isEnvelopeError(error) && error.kind === 'unfit') throw error;
      const read = readable === null || readable.isAbout(error) || isEnvelopeError(error);
      if (!read) throw error;
      failed.push(faultOf(torn(error, name)));
    }
  }
  throw oneOf(failed);
}

function resealFrom({ open, manifest, workers }: Resealing, { from }: Readable, line: ManifestLine, { goal, under, hash, told }: Writing): Promise<Passed> {
  const keys = { openWith: open.key, openAs: open.codec, sealWith: under.key, sealAs: under.codec };
  return workers.pass({ ...goal.order, from, ...keys, associatedData: associatedDataOf(manifest, line.path), hash }, told);
}

function missing(name: string): Fault {
  return new Fault('CiphertextTorn', `weights ${name}: it is not there`);
}

function nameIn({ store, prefix }: Place, path: string, codec: Codec): string {
  return `store ${store}: ${prefix}/${sealedPath(path, codec)}`;
}

/** What is wrong with a file of an older ciphertext: missing, cut short, changed, under another key. */
function torn(error: unknown, name: string): unknown {
  const code = codeOf(error);
  if (isEnvelopeError(error) || code === 'ENOENT' || code === 'ENOTDIR')
    return new Fault('CiphertextTorn', `weights ${name}: ${error instanceof Error && code === null ? error.message : 'it is not there'}`, { cause: error });
  return asFault(error, name);
}

/** A Fault, or a bug, which is thrown on. */
function faultOf(error: unknown): Fault {
  if (isFault(error)) return error;
  throw error;
}

/** One Fault of what every store failed with: a reason that asking again can help, if any has one. */
function oneOf(failed: readonly Fault[]): Fault {
  const [first, ...others] = failed;
  if (first === undefined) return new Fault('InvalidRequest', 'weights: no store is named that has the older ciphertext');
  if (others.length === 0) return first;
  const told = failed.find(({ reason }) => reasons[reason].next === 'retry') ?? first;
  return new Fault(told.reason, failed.map(({ message }) => message).join('; '), { cause: told });
}
