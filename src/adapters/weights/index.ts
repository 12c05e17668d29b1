import { newFetchedKey, type OpenedKey, openFetchedKey } from '#src/envelope/codec.ts';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { openFolder } from '#src/envelope/layout.ts';
import { type EnvelopeWorkers, openWorkers } from '#src/envelope/workers.ts';
import { Fault } from '#src/errors.ts';
import type { Secret } from '#src/secret.ts';
import type { Ciphertext, Mine, SealKeys, SealOrder, SealProgress, Weights } from '#src/world.ts';
import { openCiphertext } from './ciphertext.ts';
import type { StoreConfig } from './config.ts';
import { asFault, codeOf } from './faults.ts';
import { openPlaintext } from './plaintext.ts';
import { isPresent, removeCiphertext } from './remove.ts';
import { sealAll } from './seal.ts';
import type { Source } from './source.ts';
import { type Place, placeOf } from './store.ts';

type FileStore = Extract<StoreConfig, { kind: 'file' }>;

/** What every call needs: where things lie, and who does the work. */
interface Opened {
  /** Throws Fault `NotConfigured`, `NotFound`, `InvalidRequest`. */
  readonly place: (store: string, prefix: string) => Promise<Place>;
  readonly workers: EnvelopeWorkers;
}

/**
 * The artifact stores of keyturn.yaml. Opening reads nothing; the threads that do the work start when there is some, and end when there
 * is none. Throws Fault `NotSupportedYet` for a kind of store that is not here yet.
 */
export function openWeights(stores: Readonly<Record<string, StoreConfig>>, workers: EnvelopeWorkers = openWorkers()): Weights {
  const known = new Map(Object.entries(stores).map(([name, config]) => [name, fileStore(name, config)]));
  const storeOf = (name: string): FileStore => {
    const store = known.get(name);
    if (store === undefined) throw new Fault('NotConfigured', `artifactStores.${name} is not configured`);
    return store;
  };
  const opened: Opened = { place: async (store, prefix) => placeOf(store, storeOf(store).path, prefix), workers };
  return {
    guestAddress: (store) => storeOf(store).guestAddress,
    newKey: newFetchedKey,
    inspect: (order, store, key) => inspect(opened, order, store, key),
    seal: (order, keys, mine, progress) => seal(opened, order, keys, mine, progress),
    remove: async (store, prefix, mine) => {
      if (!(await mine())) return;
      await named(`remove ${store}/${prefix}`, async () => removeCiphertext(await opened.place(store, prefix)));
    },
    present: (store, prefix) => named(`look at ${store}/${prefix}`, async () => isPresent(await opened.place(store, prefix))),
  };
}

function fileStore(name: string, config: StoreConfig): FileStore {
  if (config.kind !== 'file') throw new Fault('NotSupportedYet', `artifactStores.${name}.kind: ${config.kind} is not supported yet; mount it and use file`);
  return config;
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

function inspect({ place, workers }: Opened, order: SealOrder, store: string, keyset: Secret): Promise<Ciphertext | null> {
  return named(`inspect ${store}/${order.prefix}`, async () => {
    sealingKey(order, keyset)[Symbol.dispose]();
    const { folder } = await place(store, order.prefix);
    try {
      const opened = await openFolder({ folder, keyset, to: null, workers });
      if (opened.manifest.digest !== order.plaintextManifest) return null;
      return { digest: opened.ciphertextDigest, files: opened.files, sizeBytes: opened.sizeBytes };
    } catch (error) {
      // Not there, cut short, or not what it should be: it is not whole.
      if (isEnvelopeError(error) || codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
      throw error;
    }
  });
}

function seal(opened: Opened, order: SealOrder, keys: SealKeys, mine: Mine, progress: (progress: SealProgress) => Promise<void>): Promise<void> {
  return named(`seal ${order.prefix}`, async () => {
    if (order.stores.length === 0) throw new Fault('InvalidRequest', `artifact.stores: there is none to seal ${order.prefix} into`);
    using under = sealingKey(order, keys.seal);
    using open = keys.open === null ? null : openFetchedKey(keys.open);
    const places = await Promise.all(order.stores.map((store) => opened.place(store, order.prefix)));
    const source = await sourceOf(opened, order, open);
    await sealAll({ source, under, places, workers: opened.workers, mine, progress });
  });
}

async function sourceOf({ place, workers }: Opened, { source, plaintextManifest, prefix, codec }: SealOrder, open: OpenedKey | null): Promise<Source> {
  if (source.kind === 'plaintext') return openPlaintext(source.address, plaintextManifest, workers);
  if (open === null) throw new Fault('InvalidRequest', `weights ${source.prefix}: there is no key to open it with`);
  if (source.prefix === prefix) throw new Fault('InvalidRequest', `weights ${prefix}: a ciphertext is not sealed onto itself`);
  const places = source.stores.map((store) => () => place(store, source.prefix));
  return openCiphertext({ places, open, sealAs: codec }, plaintextManifest, workers);
}
