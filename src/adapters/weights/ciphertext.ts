import type { Digest } from '#src/digest.ts';
import { reasons } from '#src/domain/reasons.ts';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { associatedDataOf, MANIFEST_NAME, openManifest, sealedPath } from '#src/envelope/layout.ts';
import type { Manifest, ManifestLine } from '#src/envelope/manifest.ts';
import { type Passed, plaintextBytesOf } from '#src/envelope/tink.ts';
import type { EnvelopeWorkers } from '#src/envelope/workers.ts';
import { Fault, isFault } from '#src/errors.ts';
import type { Secret } from '#src/secret.ts';
import { asFault, codeOf } from './faults.ts';
import type { Place, Readable } from './place.ts';
import type { Source, Writing } from './source.ts';

/** An older ciphertext of ours. */
export interface OldCiphertext {
  /** Finds the place in each store that may have it; throws Fault where there is none. */
  readonly places: readonly (() => Promise<Place>)[];
  /** The 32 bytes that it was sealed under. */
  readonly key: Secret;
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
      manifest ??= await oldManifest(place, approved, old.key);
    } catch (error) {
      failed.push(faultOf(error));
    }
  }
  if (manifest === null) throw oneOf(failed);
  const { digest } = manifest;
  return {
    manifest,
    resumable: true,
    sizeOf: (path) => oldSize(places, path),
    seal: (line, writing) => reseal({ places, key: old.key, manifest: digest, workers }, line, writing),
  };
}

async function oldManifest(place: Place, approved: Digest, key: Secret): Promise<Manifest> {
  const name = nameIn(place, MANIFEST_NAME);
  try {
    const sealed = await place.manifest();
    if (sealed === null) throw missing(name);
    const manifest = openManifest(sealed, key);
    if (manifest.digest === approved) return manifest;
    throw new Fault('WeightsChanged', `weights ${name}: it is ${manifest.digest}, approved is ${approved}`);
  } catch (error) {
    if (isEnvelopeError(error)) throw new Fault('WeightsChanged', `weights ${name}: ${error.message}`, { cause: error });
    throw torn(error, name);
  }
}

async function oldSize(places: readonly Place[], path: string): Promise<number> {
  for (const place of places) {
    try {
      return plaintextBytesOf(await place.sizeOf(sealedPath(path)));
    } catch {
      // Told by whoever reads the file, if no store has it.
    }
  }
  return 0;
}

interface Resealing {
  readonly places: readonly Place[];
  readonly key: Secret;
  readonly manifest: Digest;
  readonly workers: EnvelopeWorkers;
}

/** Opens one file and seals it anew, from the first store that has it whole. */
async function reseal(resealing: Resealing, line: ManifestLine, writing: Writing): Promise<Passed> {
  const failed: Fault[] = [];
  let goal = writing.goal;
  for (const place of resealing.places) {
    const name = nameIn(place, line.path);
    if (failed.length > 0) goal = await goal.rewound();
    let readable: Readable | null = null;
    try {
      readable = await place.open(sealedPath(line.path));
      if (readable === null) throw missing(name);
      let passed = await resealFrom(resealing, readable, line, { ...writing, goal });
      if (passed.plaintextDigest !== line.digest && passed.keptBytes > 0) {
        // The part may be from another store's file than this one.
        goal = await goal.again();
        passed = await resealFrom(resealing, (await place.open(sealedPath(line.path))) ?? readable, line, { ...writing, goal });
      }
      if (passed.plaintextDigest === line.digest) return passed;
      goal = await goal.again();
      failed.push(new Fault('WeightsChanged', `weights ${name} opens to another file than the approved manifest lists`));
    } catch (error) {
      const read = readable === null || readable.isAbout(error) || isEnvelopeError(error);
      if (!read) throw error;
      failed.push(faultOf(torn(error, name)));
    }
  }
  throw oneOf(failed);
}

function resealFrom(
  { key, manifest, workers }: Resealing,
  { from }: Readable,
  line: ManifestLine,
  { goal, key: sealWith, hash, told }: Writing,
): Promise<Passed> {
  return workers.pass({ ...goal.order, from, openWith: key, sealWith, associatedData: associatedDataOf(manifest, line.path), hash }, told);
}

function missing(name: string): Fault {
  return new Fault('CiphertextTorn', `weights ${name}: it is not there`);
}

function nameIn({ store, prefix }: Place, path: string): string {
  return `store ${store}: ${prefix}/${sealedPath(path)}`;
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
