import { type Digest, isDigest } from '#src/digest.ts';
import { ciphertextPrefix } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import { Fault } from '#src/errors.ts';
import type { Secret } from '#src/secret.ts';
import type { Ciphertext, SealOrder } from '#src/world.ts';
import { isShared, placesOf } from '../places.ts';
import { unwrapResource, unwrapSealing } from '../resource.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/**
 * The ciphertext, whole and opened for a trial, in new objects of every store. The old ciphertext stays
 * readable. A revision that keeps a sealing has it already: no byte of it is read or written.
 */
export const encryptWeights: Effect = { kind: 'effect', name: 'encrypt-weights', observe, act };

async function observe(look: Look): Promise<Seen | NotYet> {
  if (isShared(look.subject)) return observeShared(look);
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
  const { plaintextManifest, prefix } = order;
  const source = order.source.kind === 'ciphertext' ? { reencryptedFrom: order.source.prefix } : {};
  return seen({ ciphertextDigest: digest, prefix, stores, ...source }, { facts: { ciphertextDigest: digest, plaintextManifest, stores: order.stores } });
}

/** What the receipt of the rotation that sealed it says, and that it still lies there. */
async function observeShared({ subject, world }: Look): Promise<Seen | NotYet> {
  const { sealing, release } = subject;
  const { ciphertextDigest } = sealing.facts;
  const prefix = ciphertextPrefix(sealing);
  if (ciphertextDigest === undefined) return notYet('CiphertextMissing', prefix);
  for (const store of release.artifact.stores) {
    if (!(await world.weights.present(store, prefix))) return notYet('CiphertextMissing', `${store} ${prefix}`);
  }
  return seen({ sealedBy: sealing.rotation, ciphertextDigest, prefix, stores: release.artifact.stores }, { proof: 'accepted' });
}

async function act(look: Look): Promise<void> {
  if (isShared(look.subject)) return;
  const { source } = look.subject.sealing;
  using seal = await keyOf(look);
  using open = source === null ? null : await unwrapSealing(look, source);
  await look.world.weights.seal(orderOf(look.subject), { seal, open }, look.ledger.mine(look.run), look.ledger.progress(look.run));
}

/** The one key of the revision: every path of it holds the same. */
async function keyOf(look: Look): Promise<Secret> {
  const [place] = placesOf(look.world, look.subject);
  const row = place === undefined ? null : await look.ledger.kept(place.path);
  if (row === null) throw new Fault('Tampered', `make-resource of ${look.subject.rotation} has a receipt, but its row is gone`);
  return unwrapResource(look.world, look.subject, row);
}

function orderOf(known: Known): SealOrder {
  const { sealing, release } = known;
  const { codec, stores } = release.artifact;
  return { source: sourceOf(known), plaintextManifest: manifestOf(known), codec, stores, prefix: ciphertextPrefix(sealing) };
}

/** A key that falls due is renewed by re-encryption, whatever its release once came from. */
function sourceOf({ sealing, release }: Known): SealOrder['source'] {
  if (sealing.source !== null) return { kind: 'ciphertext', stores: sealing.source.facts.stores ?? [], prefix: ciphertextPrefix(sealing.source) };
  const { source, address } = release.artifact;
  if (address === null) throw new Fault('Tampered', `${release.path}: artifact.source is ${source}, and its sealing starts from nothing`);
  return { kind: 'plaintext', address };
}

/** As the release says; where it says nothing, as the ciphertext that is opened was sealed. */
function manifestOf({ sealing, release }: Known): Digest {
  const manifest = release.artifact.plaintextManifest ?? sealing.source?.facts.plaintextManifest ?? null;
  if (manifest === null || !isDigest(manifest)) throw new Fault('Tampered', `${release.path}: neither it nor a receipt says what the weights are`);
  return manifest;
}
