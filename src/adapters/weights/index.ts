import { randomBytes } from 'node:crypto';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { keyOf, keysetOf } from '#src/envelope/keyset.ts';
import { openFolder } from '#src/envelope/layout.ts';
import { type EnvelopeWorkers, openWorkers } from '#src/envelope/workers.ts';
import { Fault } from '#src/errors.ts';
import { Secret } from '#src/secret.ts';
import type { Ciphertext, Mine, SealOrder, Weights } from '#src/world.ts';
import type { StoreConfig } from './config.ts';
import { asFault, codeOf } from './faults.ts';
import { approvedManifest, sealAll, sourceOf } from './seal.ts';
import { placeOf } from './store.ts';

type FileStore = Extract<StoreConfig, { kind: 'file' }>;

/**
 * The artifact stores of keyturn.yaml. Opening reads nothing; the threads that do the work start when there is some, and end when there
 * is none. Throws Fault `NotSupportedYet` for a kind of store that is not here yet.
 */
export function openWeights(stores: Readonly<Record<string, StoreConfig>>): Weights {
  const known = new Map(Object.entries(stores).map(([name, config]) => [name, fileStore(name, config)]));
  const workers = openWorkers();
  const storeOf = (name: string): FileStore => {
    const store = known.get(name);
    if (store === undefined) throw new Fault('NotConfigured', `artifactStores.${name} is not configured`);
    return store;
  };
  return {
    guestAddress: (store) => storeOf(store).guestAddress,
    newKey: (codec) => {
      checkCodec(codec);
      using key = new Secret(randomBytes(32));
      return keysetOf(key);
    },
    inspect: (order, store, key) => inspect(order, { store, path: storeOf(store).path }, key, workers),
    seal: (order, key, mine) =>
      seal(
        order,
        order.stores.map((store) => ({ store, path: storeOf(store).path })),
        key,
        mine,
        workers,
      ),
  };
}

function fileStore(name: string, config: StoreConfig): FileStore {
  if (config.kind !== 'file') throw new Fault('NotSupportedYet', `artifactStores.${name}.kind: ${config.kind} is not supported yet; mount it and use file`);
  return config;
}

function checkCodec(codec: SealOrder['codec']): void {
  if (codec !== 'tink-aes256-gcm-hkdf-1mb') throw new Fault('NotSupportedYet', `artifact.codec: ${codec} is not supported yet`);
}

interface StorePath {
  readonly store: string;
  readonly path: string;
}

async function inspect(order: SealOrder, { store, path }: StorePath, keyset: Secret, workers: EnvelopeWorkers): Promise<Ciphertext | null> {
  try {
    checkCodec(order.codec);
    const { folder } = await placeOf(store, path, order.prefix);
    const opened = await openFolder({ folder, keyset, to: null, workers });
    if (opened.manifest.digest !== order.plaintextManifest) return null;
    return { digest: opened.ciphertextDigest, files: opened.files, sizeBytes: opened.sizeBytes };
  } catch (error) {
    // Not there, cut short, or not what it should be: it is not whole.
    if (isEnvelopeError(error) || codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
    throw asFault(error, `inspect ${store}/${order.prefix}`);
  }
}

async function seal(order: SealOrder, stores: readonly StorePath[], keyset: Secret, mine: Mine, workers: EnvelopeWorkers): Promise<void> {
  checkCodec(order.codec);
  if (stores.length === 0) throw new Fault('InvalidRequest', `artifact.stores: there is none to seal ${order.prefix} into`);
  try {
    using key = keyOf(keyset);
    const source = await sourceOf(order.source);
    const places = await Promise.all(stores.map(({ store, path }) => placeOf(store, path, order.prefix)));
    const manifest = await approvedManifest(source, order.plaintextManifest, workers);
    await sealAll({ source, manifest, key, places, workers, mine });
  } catch (error) {
    throw asFault(error, `seal ${order.source} to ${order.prefix}`);
  }
}
