import { newFetchedKey, type OpenedKey, openFetchedKey } from '#src/envelope/codec.ts';
import { envelopeError, isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { type DistantFolder, MANIFEST_NAME, openFolder } from '#src/envelope/layout.ts';
import { type EnvelopeWorkers, openWorkers } from '#src/envelope/workers.ts';
import { Fault } from '#src/errors.ts';
import type { Secret } from '#src/secret.ts';
import type { Ciphertext, Mine, SealKeys, SealOrder, SealProgress, Weights } from '#src/world.ts';
import { openCiphertext } from './ciphertext.ts';
import type { StoreConfig } from './config.ts';
import { asFault, codeOf } from './faults.ts';
import { openFolderPlace } from './folder.ts';
import type { Place } from './place.ts';
import { openPlaintext } from './plaintext.ts';
import { openLanes } from './s3-lanes.ts';
import { openPartMemory, type PartMemory } from './s3-memory.ts';
import { openS3Place } from './s3-place.ts';
import { openBucket, S3_PATIENCE, type S3Patience } from './s3-wire.ts';
import { sealAll } from './seal.ts';
import type { Source } from './source.ts';

/** What every call needs: where things lie, and who does the work. */
interface Opened {
  /** Throws Fault `NotConfigured`, `NotFound`, `InvalidRequest`. */
  readonly place: (store: string, prefix: string) => Promise<Place>;
  readonly workers: EnvelopeWorkers;
  /** The same, where a place is a distant one. */
  readonly lanes: EnvelopeWorkers;
}

/** A store, as it is configured. */
interface Store {
  readonly guestAddress: string;
  readonly place: (prefix: string) => Promise<Place>;
}

/** Parts on their way to S3, all together: two of them a pass, and some small files. */
const PART_MEMORY_BYTES = 24 * 1024 * 1024;

/** The artifact stores of keyturn.yaml. Opening reads nothing; the threads that do the work start when there is some, and end when there is none. */
export function openWeights(
  stores: Readonly<Record<string, StoreConfig>>,
  workers: EnvelopeWorkers = openWorkers(),
  patience: S3Patience = S3_PATIENCE,
): Weights {
  const memory = openPartMemory(PART_MEMORY_BYTES);
  const known = new Map(Object.entries(stores).map(([name, config]) => [name, openStore(name, config, memory, patience)]));
  const storeOf = (name: string): Store => {
    const store = known.get(name);
    if (store === undefined) throw new Fault('NotConfigured', `artifactStores.${name} is not configured`);
    return store;
  };
  const opened: Opened = { place: async (store, prefix) => storeOf(store).place(prefix), workers, lanes: openLanes(workers) };
  return {
    guestAddress: (store) => storeOf(store).guestAddress,
    newKey: newFetchedKey,
    inspect: (order, store, key) => inspect(opened, order, store, key),
    seal: (order, keys, mine, progress) => seal(opened, order, keys, mine, progress),
    remove: async (store, prefix, mine) => {
      if (!(await mine())) return;
      await named(`remove ${store}/${prefix}`, async () => (await opened.place(store, prefix)).remove());
    },
    present: (store, prefix) => named(`look at ${store}/${prefix}`, async () => (await opened.place(store, prefix)).isPresent()),
  };
}

function openStore(name: string, config: StoreConfig, memory: PartMemory, patience: S3Patience): Store {
  const { guestAddress } = config;
  switch (config.kind) {
    case 'file':
      return { guestAddress, place: (prefix) => openFolderPlace(name, config.path, prefix) };
    case 's3': {
      const bucket = openBucket(name, config, patience);
      return { guestAddress, place: (prefix) => openS3Place(name, bucket, memory, prefix) };
    }
  }
}

/** The key of what is sealed, which must be one of the order's codec: else guests, who go by the key, would look for other files. */
function sealingKey({ codec, prefix }: SealOrder, fetched: Secret): OpenedKey {
  const opened = openFetchedKey(fetched);
  if (opened.codec === codec) return opened;
  opened[Symbol.dispose]();
  throw new Fault('InvalidRequest', `artifact.codec: ${prefix} is to be ${codec}, but its key is one of ${opened.codec}`);
}

/** What is thrown meanwhile, as a Fault that says what we were doing. */
async function named<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asFault(error, doing);
  }
}

function inspect({ place, workers, lanes }: Opened, order: SealOrder, store: string, keyset: Secret): Promise<Ciphertext | null> {
  return named(`inspect ${store}/${order.prefix}`, async () => {
    sealingKey(order, keyset)[Symbol.dispose]();
    const found = await place(store, order.prefix);
    const folder = folderOf(found);
    try {
      const opened = await openFolder({ folder, keyset, to: null, workers: found.isDistant ? lanes : workers });
      if (opened.manifest.digest !== order.plaintextManifest) return null;
      return { digest: opened.ciphertextDigest, files: opened.files, sizeBytes: opened.sizeBytes };
    } catch (error) {
      // Not there, cut short, or not what it should be: it is not whole.
      if (isEnvelopeError(error) || codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
      throw error;
    }
  });
}

/** A place as a guest sees it. What is missing there is not whole. */
function folderOf(place: Place): DistantFolder {
  const there = <T>(found: T | null, path: string): T => {
    if (found === null) throw envelopeError('truncated', 'it is not there', path);
    return found;
  };
  return {
    manifest: async (codec) => there(await place.manifest(codec), MANIFEST_NAME),
    file: async (path) => there(await place.open(path), path).from,
  };
}

function seal(opened: Opened, order: SealOrder, keys: SealKeys, mine: Mine, progress: (progress: SealProgress) => Promise<void>): Promise<void> {
  return named(`seal ${order.prefix}`, async () => {
    if (order.stores.length === 0) throw new Fault('InvalidRequest', `artifact.stores: there is none to seal ${order.prefix} into`);
    using under = sealingKey(order, keys.seal);
    using open = keys.open === null ? null : openFetchedKey(keys.open);
    const places = await Promise.all(order.stores.map((store) => opened.place(store, order.prefix)));
    const workers = places.some(({ isDistant }) => isDistant) ? opened.lanes : opened.workers;
    const source = await sourceOf({ ...opened, workers }, order, open);
    await sealAll({ source, under, places, workers, mine, progress });
  });
}

async function sourceOf({ place, workers }: Opened, { source, plaintextManifest, prefix, codec }: SealOrder, open: OpenedKey | null): Promise<Source> {
  if (source.kind === 'plaintext') return openPlaintext(source.address, plaintextManifest, workers);
  if (open === null) throw new Fault('InvalidRequest', `weights ${source.prefix}: there is no key to open it with`);
  if (source.prefix === prefix) throw new Fault('InvalidRequest', `weights ${prefix}: a ciphertext is not sealed onto itself`);
  const places = source.stores.map((store) => () => place(store, source.prefix));
  return openCiphertext({ places, open, sealAs: codec }, plaintextManifest, workers);
}
