import { isDigest } from '#src/digest.ts';
import { ciphertextPrefix } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import { Fault } from '#src/errors.ts';
import type { Secret } from '#src/secret.ts';
import type { Ciphertext, SealOrder } from '#src/world.ts';
import { placesOf } from '../places.ts';
import { unwrapResource } from '../resource.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** The ciphertext, whole and opened for a trial, in new objects of every store. The old ciphertext stays readable. */
export const encryptWeights: Effect = { kind: 'effect', name: 'encrypt-weights', observe, act };

async function observe(look: Look): Promise<Seen | NotYet> {
  const order = orderOf(look.subject);
  using key = await keyOf(look);
  const found = new Map<string, Ciphertext>();
  for (const store of order.stores) {
    const ciphertext = await look.world.weights.inspect(order, store, key);
    if (ciphertext === null) return notYet('CiphertextMissing', `${store} ${order.prefix}`);
    found.set(store, ciphertext);
  }
  const [digest, ...others] = new Set([...found.values()].map((ciphertext) => ciphertext.digest));
  // Guests of two stores are guests of one release: what they open must be the same bytes.
  if (digest === undefined || others.length > 0) return notYet('CiphertextMissing', `${order.stores.join(', ')} do not hold the same ${order.prefix}`);
  const stores = Object.fromEntries([...found].map(([store, { files, sizeBytes }]) => [store, { files, sizeBytes }]));
  return seen({ ciphertextDigest: digest, prefix: order.prefix, stores }, { facts: { ciphertextDigest: digest } });
}

async function act(look: Look): Promise<void> {
  using key = await keyOf(look);
  await look.world.weights.seal(orderOf(look.subject), key, look.ledger.mine(look.run));
}

/** The one key of the revision: every path of it holds the same. */
async function keyOf(look: Look): Promise<Secret> {
  const [place] = placesOf(look.world, look.subject);
  const row = place === undefined ? null : await look.ledger.kept(place.path);
  if (row === null) throw new Fault('Tampered', `make-resource of ${look.subject.rotation} has a receipt, but its row is gone`);
  return unwrapResource(look.world, look.subject, row);
}

function orderOf(known: Known): SealOrder {
  const { artifact, path } = known.release;
  const { address, plaintextManifest, codec, stores } = artifact;
  if (address === null || plaintextManifest === null || !isDigest(plaintextManifest)) {
    throw new Fault('NotSupportedYet', `${path}: artifact.source ${artifact.source} without address and plaintextManifest`);
  }
  return { source: address, plaintextManifest, codec, stores, prefix: ciphertextPrefix(known.sealing) };
}
