import { lstat, open, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Digest } from '#src/digest.ts';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import {
  associatedDataOf,
  checkInside,
  eachAtMost,
  MANIFEST_NAME,
  manifestOf,
  openManifest,
  readSealedManifest,
  SEALED_MANIFEST_NAME,
  sealedPath,
  sealManifest,
} from '#src/envelope/layout.ts';
import { MANIFEST_MAX_BYTES, type Manifest, type ManifestLine, parseManifest } from '#src/envelope/manifest.ts';
import type { EnvelopeWorkers } from '#src/envelope/workers.ts';
import { Fault } from '#src/errors.ts';
import type { Secret } from '#src/secret.ts';
import type { Mine } from '#src/world.ts';
import { codeOf } from './faults.ts';
import { type Place, putFile, removeParts, stampOf } from './store.ts';

/** Everything that sealing one model needs. */
export interface Sealing {
  /** The plaintext's folder, a real path. */
  readonly source: string;
  readonly manifest: Manifest;
  /** The 32 bytes. */
  readonly key: Secret;
  /** At least one. */
  readonly places: readonly Place[];
  readonly workers: EnvelopeWorkers;
  readonly mine: Mine;
}

/** The folder that a `file://` address names. Throws Fault `InvalidRequest`, `NotFound`, or `NotSupportedYet` for another scheme. */
export async function sourceOf(address: string): Promise<string> {
  if (!address.startsWith('file:///')) throw new Fault('NotSupportedYet', `artifact.address: only file:/// is read, not ${address}`);
  let path: string;
  try {
    path = fileURLToPath(address);
  } catch (cause) {
    throw new Fault('InvalidRequest', `artifact.address: not a file address: ${address}`, { cause });
  }
  return realpath(path).catch((cause: unknown) => {
    throw new Fault('NotFound', `artifact.address: ${path} is not there`, { cause });
  });
}

/**
 * The approved manifest of a folder of plaintext: a `keyturn.manifest` beside the files, where it has the approved digest; else it is
 * made from the files, which reads them once more. Throws Fault `WeightsChanged` where that is another one.
 */
export async function approvedManifest(source: string, approved: Digest, workers: EnvelopeWorkers): Promise<Manifest> {
  const beside = await manifestBeside(source);
  if (beside?.digest === approved) return beside;
  const made = await manifestOf(source, workers);
  if (made.digest !== approved)
    throw new Fault('WeightsChanged', `weights ${source}: its ${made.lines.length} files give ${made.digest}, approved is ${approved}`);
  return made;
}

async function manifestBeside(source: string): Promise<Manifest | null> {
  const path = join(source, MANIFEST_NAME);
  const found = await lstat(path).catch(() => null);
  if (found === null || !found.isFile() || found.size > MANIFEST_MAX_BYTES) return null;
  try {
    return parseManifest(await readFile(path, 'utf8'));
  } catch {
    // Not approved in this form: what counts is made from the files.
    return null;
  }
}

/** Seals a model into every place; the manifests last. Returns early where `mine` says no. */
export async function sealAll(sealing: Sealing): Promise<void> {
  for (const place of sealing.places) await removeParts(place);
  let stopped = false;
  await eachAtMost(sealing.workers.threads, sealing.manifest.lines, async (line) => {
    stopped = stopped || !(await sealing.mine());
    if (!stopped) await sealOne(sealing, line);
  });
  if (stopped || !(await sealing.mine())) return;
  await sealManifests(sealing);
}

/** One file: what is whole somewhere is copied to where it is not, so that every store has the same bytes. */
async function sealOne(sealing: Sealing, line: ManifestLine): Promise<void> {
  const { source, manifest, key, places, workers } = sealing;
  const path = sealedPath(line.path);
  const associatedData = associatedDataOf(manifest.digest, line.path);
  const states = await Promise.all(places.map((place) => look(sealing, place, line)));
  let whole: { readonly place: Place; readonly digest: Digest | null } | null = states.find((state) => state.kind === 'whole') ?? null;
  for (const state of states) {
    if (whole !== null && state.kind === 'whole' && state.digest === whole.digest) continue;
    const torn = state.kind === 'missing' ? null : state.stamp;
    if (whole !== null) {
      const { digest } = whole;
      const from = join(whole.place.folder, path);
      await putFile(state.place, path, torn, async (to) => {
        const { plaintextDigest } = await workers.pass({ from, to, openWith: null, sealWith: null, associatedData: '', hash: 'both' });
        if (plaintextDigest !== digest) throw new Fault('Conflict', `weights store ${state.place.store}: ${path} changed while it was copied`);
      });
      continue;
    }
    await checkInside(source, line.path).catch((error: unknown) => {
      throw codeOf(error) === 'ENOENT' ? changed(source, line.path, error) : error;
    });
    const passed = await putFile(state.place, path, torn, async (to) => {
      const result = await workers.pass({ from: join(source, line.path), to, openWith: null, sealWith: key, associatedData, hash: 'both' });
      if (result.plaintextDigest !== line.digest) throw changed(source, line.path);
      return result;
    });
    whole = { place: state.place, digest: passed.ciphertextDigest };
  }
}

function changed(source: string, path: string, cause?: unknown): Fault {
  return new Fault('WeightsChanged', `weights ${source}: ${path} is not the file that the approved manifest lists`, { cause });
}

/** A file as one store has it. */
type State =
  | { readonly kind: 'missing'; readonly place: Place }
  | { readonly kind: 'torn'; readonly place: Place; readonly stamp: string }
  | { readonly kind: 'whole'; readonly place: Place; readonly stamp: string; readonly digest: Digest | null };

/** Reads a sealed file, if it is there, and opens it for a trial. */
async function look({ manifest, key, workers }: Sealing, place: Place, line: ManifestLine): Promise<State> {
  const from = join(place.folder, sealedPath(line.path));
  const stamp = await stampOf(from);
  if (stamp === null) return { kind: 'missing', place };
  try {
    const associatedData = associatedDataOf(manifest.digest, line.path);
    const passed = await workers.pass({ from, to: null, openWith: key, sealWith: null, associatedData, hash: 'both' });
    return passed.plaintextDigest === line.digest ? { kind: 'whole', place, stamp, digest: passed.ciphertextDigest } : { kind: 'torn', place, stamp };
  } catch (error) {
    if (isEnvelopeError(error)) return { kind: 'torn', place, stamp };
    throw error;
  }
}

/** The manifest says that everything it lists is there: it comes when that is so. The first store's is copied to the others. */
async function sealManifests({ manifest, key, places }: Sealing): Promise<void> {
  let sealed: Buffer | null = null;
  for (const place of places) sealed ??= await presentManifest(place, manifest, key);
  const bytes = sealed ?? sealManifest(manifest, key);
  for (const place of places) {
    const path = join(place.folder, SEALED_MANIFEST_NAME);
    const there = await stampOf(path);
    if (there !== null && (await readSealedManifest(place.folder).catch(() => null))?.equals(bytes) === true) continue;
    await putFile(place, SEALED_MANIFEST_NAME, there, async (part) => {
      const handle = await open(part, 'wx', 0o644);
      try {
        await handle.writeFile(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }
}

async function presentManifest(place: Place, manifest: Manifest, key: Secret): Promise<Buffer | null> {
  try {
    const sealed = await readSealedManifest(place.folder);
    return openManifest(sealed, key).digest === manifest.digest ? sealed : null;
  } catch (error) {
    if (isEnvelopeError(error) || codeOf(error) === 'ENOENT') return null;
    throw error;
  }
}
