import type { Digest } from '#src/digest.ts';
import type { OpenedKey } from '#src/envelope/codec.ts';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { associatedDataOf, checkFits, eachAtMost, openManifest, sealedManifestName, sealedPath, sealManifest } from '#src/envelope/layout.ts';
import type { ManifestLine } from '#src/envelope/manifest.ts';
import type { EnvelopeWorkers } from '#src/envelope/workers.ts';
import { Fault } from '#src/errors.ts';
import type { Mine, SealProgress } from '#src/world.ts';
import type { Place } from './place.ts';
import type { Source } from './source.ts';
import { openTally, type Tally } from './tally.ts';

/** Everything that sealing one model needs. */
export interface Sealing {
  readonly source: Source;
  /** What is sealed under, and how. */
  readonly under: OpenedKey;
  /** At least one. */
  readonly places: readonly Place[];
  readonly workers: EnvelopeWorkers;
  readonly mine: Mine;
  readonly progress: (progress: SealProgress) => Promise<void>;
}

/** A sealing that has begun. */
interface Begun extends Sealing {
  readonly tally: Tally;
  /** Plaintext bytes of each file. */
  readonly sizes: ReadonlyMap<string, number>;
}

/** Seals a model into every place; the manifests last. Returns early where `mine` says no. */
export async function sealAll(sealing: Sealing): Promise<void> {
  const { source, places, workers, mine } = sealing;
  const { codec } = sealing.under;
  if (!(await mine())) return;
  const { lines } = source.manifest;
  const wanted = new Set(source.resumable ? lines.map(({ path }) => sealedPath(path, codec)) : []);
  for (const place of places) await place.takeParts((path) => wanted.has(path));
  const sizes = new Map(await eachAtMost(workers.threads, lines, async ({ path }) => [path, await source.sizeOf(path)] as const));
  // Before hours of work, as far as lengths are known.
  for (const [path, size] of sizes) checkFits(path, size, codec);
  const totalBytes = [...sizes.values()].reduce((sum, size) => sum + size, 0) * places.length;
  const tally = openTally(totalBytes, sealing.progress);
  const begun: Begun = { ...sealing, tally, sizes };
  try {
    let stopped = false;
    await eachAtMost(workers.threads, lines, async (line) => {
      stopped = stopped || !(await mine());
      if (!stopped) await sealOne(begun, line);
    });
    if (stopped || !(await mine())) return;
    // Once for all: the manifest must not be on the disk before them, and each of these waits for all that is being written meanwhile.
    const names = [...sizes.keys()].map((path) => sealedPath(path, codec));
    for (const place of places) await place.settle(names);
    await sealManifests(sealing);
    for (const place of places) await place.settle([sealedManifestName(codec)]);
  } finally {
    await tally.end();
  }
}

/** One file: what is whole somewhere is copied to where it is not, so that every store has the same bytes. */
async function sealOne(sealing: Begun, line: ManifestLine): Promise<void> {
  const { source, under, places } = sealing;
  const path = sealedPath(line.path, under.codec);
  const states = await Promise.all(places.map((place) => look(sealing, place, line)));
  let whole: { readonly place: Place; readonly digest: Digest | null } | null = states.find((state) => state.kind === 'whole') ?? null;
  for (const state of states) {
    if (whole !== null && state.kind === 'whole' && state.digest === whole.digest) continue;
    const torn = state.kind === 'missing' ? null : state.stamp;
    const { place } = state;
    if (whole !== null) {
      await copy(sealing, line, { ...whole, to: place, torn });
      continue;
    }
    const told = toldOf(sealing, place, line);
    const passed = await place.put(path, torn, source.resumable, (goal) => source.seal(line, { goal, under, hash: hashOf(sealing), told }));
    whole = { place, digest: passed.ciphertextDigest };
  }
  for (const place of places) {
    toldOf(sealing, place, line)(Number.POSITIVE_INFINITY);
    await place.dropPart(path);
  }
}

interface Copying {
  readonly place: Place;
  readonly digest: Digest | null;
  readonly to: Place;
  readonly torn: string | null;
}

async function copy(sealing: Begun, line: ManifestLine, { place, digest, to: target, torn }: Copying): Promise<void> {
  const path = sealedPath(line.path, sealing.under.codec);
  const changed = (): Fault => new Fault('Conflict', `weights store ${place.store}: ${path} changed while it was copied`);
  await target.put(path, torn, false, async ({ order }) => {
    const readable = await place.open(path);
    if (readable === null) throw changed();
    const pass = { ...order, from: readable.from, openWith: null, sealWith: null, associatedData: '', hash: 'plaintext' } as const;
    const { plaintextDigest } = await sealing.workers.pass(pass, toldOf(sealing, target, line));
    if (plaintextDigest !== digest) throw changed();
  });
}

/** Counts a file in one store: not more than it has, whatever is told. */
function toldOf({ tally, sizes }: Begun, place: Place, { path }: ManifestLine): (bytes: number) => void {
  return (bytes) => tally.at(`${place.store} ${path}`, Math.min(bytes, sizes.get(path) ?? 0));
}

/** The ciphertext's digest tells whether two stores hold the same; for one alone it is not worth its time. */
function hashOf({ places }: Sealing): 'both' | 'plaintext' {
  return places.length > 1 ? 'both' : 'plaintext';
}

/** A file as one store has it. */
type State =
  | { readonly kind: 'missing'; readonly place: Place }
  | { readonly kind: 'torn'; readonly place: Place; readonly stamp: string }
  | { readonly kind: 'whole'; readonly place: Place; readonly stamp: string; readonly digest: Digest | null };

/** Reads a sealed file, if it is there, and opens it for a trial. */
async function look(sealing: Begun, place: Place, line: ManifestLine): Promise<State> {
  const { codec, key } = sealing.under;
  const path = sealedPath(line.path, codec);
  const stamp = await place.stampOf(path);
  if (stamp === null) return { kind: 'missing', place };
  const told = toldOf(sealing, place, line);
  try {
    const associatedData = associatedDataOf(sealing.source.manifest.digest, line.path);
    const readable = await place.open(path);
    if (readable === null) return { kind: 'missing', place };
    const order = { from: readable.from, to: null, openWith: key, openAs: codec, sealWith: null, associatedData, hash: hashOf(sealing) } as const;
    const passed = await sealing.workers.pass(order, told);
    if (passed.plaintextDigest === line.digest) return { kind: 'whole', place, stamp, digest: passed.ciphertextDigest };
  } catch (error) {
    if (!isEnvelopeError(error)) throw error;
  }
  told(0);
  return { kind: 'torn', place, stamp };
}

/** The manifest says that everything it lists is there: it comes when that is so. The first store's is copied to the others. */
async function sealManifests({ source, under, places }: Sealing): Promise<void> {
  const { manifest } = source;
  const { codec, key } = under;
  const name = sealedManifestName(codec);
  let sealed: Buffer | null = null;
  for (const place of places) sealed ??= await presentManifest(place, manifest.digest, under);
  const bytes = sealed ?? sealManifest(manifest, key, codec);
  for (const place of places) {
    const there = await place.stampOf(name);
    if (there !== null && (await place.manifest(codec).catch(nullWhereForeign))?.equals(bytes) === true) continue;
    await place.putBytes(name, there, bytes);
  }
}

async function presentManifest(place: Place, manifest: Digest, { codec, key }: OpenedKey): Promise<Buffer | null> {
  try {
    const sealed = await place.manifest(codec);
    return sealed !== null && openManifest(sealed, key, codec).digest === manifest ? sealed : null;
  } catch (error) {
    return nullWhereForeign(error);
  }
}

/** What does not open, or is no manifest by its length, is replaced like what is not there. */
function nullWhereForeign(error: unknown): null {
  if (isEnvelopeError(error)) return null;
  throw error;
}
