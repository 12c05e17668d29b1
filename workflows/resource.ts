import { randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '#src/digest.ts';
import { canonicalJson } from '#src/domain/json.ts';
import type { Answer, Wrapped } from '#src/domain/kbs.ts';
import type { KeyPath } from '#src/domain/paths.ts';
import type { Known, Sealing } from '#src/domain/release.ts';
import { Fault } from '#src/errors.ts';
import { Secret } from '#src/secret.ts';
import type { KeyStore, World } from '#src/world.ts';
import type { Look } from './step.ts';

/** As long as the data key: enough that nobody guesses it, and nothing depends on it but the refusal to open it. */
const CANARY_BYTES = 32;

/** The encryption context of the bytes at a path: a store that knows contexts opens them under no other. */
function contextOf(world: World, known: Known, path: KeyPath): Readonly<Record<string, string>> {
  return { installation: world.installation, rotation: known.rotation, path, release: known.madeBy };
}

/** The canary's context differs, so that neither can be presented as the other. */
function canaryContext(context: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return { ...context, purpose: 'canary' };
}

/** Wraps the key that guests will fetch at a path, and a fresh canary, under the revision's KEK, and signs the row. Throws Fault. */
export async function wrapResource(world: World, known: Known, keyId: string, path: KeyPath, key: Secret): Promise<Wrapped> {
  const store = world.keyStore(known.release.key.store);
  const context = contextOf(world, known, path);
  using canary = new Secret(randomBytes(CANARY_BYTES));
  const wrapped = await store.encrypt(keyId, key, context);
  const sealedCanary = await store.encrypt(keyId, canary, canaryContext(context));
  const row = { path, store: store.name, keyId, context, wrapped: wrapped.toString('base64'), canary: sealedCanary.toString('base64') };
  const text = canonicalJson(row);
  return { ...row, digest: digestOf(text), signature: await world.signer.sign(Buffer.from(text)) };
}

/** What a receipt says of the rows that it brought: the row's own digest; of several, SHA-256 over their digests, one a line, sorted. */
export function resourceDigestOf(rows: readonly Wrapped[]): Digest {
  const digests = rows.map((row) => row.digest).sort();
  const [only] = digests;
  return digests.length === 1 && only !== undefined ? only : digestOf(digests.map((digest) => `${digest}\n`).join(''));
}

/**
 * Opens a stored row: the key that guests fetch. The ledger has checked its signature; here its
 * store, key and context are checked to be this revision's, since a row that is rightly signed can
 * still be another one's. Throws Fault('Tampered') where they are not, Fault('KeyDisabled') where
 * the key store refuses.
 */
export async function unwrapResource(world: World, known: Known, wrapped: Wrapped): Promise<Secret> {
  return opened(storeOf(world, known, wrapped), wrapped);
}

/**
 * Opens the key of a sealing that another rotation made, from the rows that it brought: what a
 * revision that keeps it gives to its own guests, and what a re-encryption opens. Throws as `unwrapResource`.
 */
export async function unwrapSealing(look: Look, { rotation, facts }: Pick<Sealing, 'rotation' | 'facts'>): Promise<Secret> {
  const rows = await look.ledger.sealed(rotation);
  const row = rows.find(({ keyId, context }) => keyId === facts.keyId && context.rotation === rotation && context.installation === look.world.installation);
  if (row === undefined) throw new Fault('Tampered', `the rows of ${rotation} are gone, or are not of the key ${facts.keyId ?? 'that no receipt names'}`);
  return opened(look.world.keyStore(row.store), row);
}

async function opened(store: KeyStore, wrapped: Wrapped): Promise<Secret> {
  const answer = await store.decrypt(wrapped.keyId, Buffer.from(wrapped.wrapped, 'base64'), wrapped.context);
  if (answer.kind === 'refused') throw new Fault('KeyDisabled', `${store.name} decrypt with ${wrapped.keyId}: ${answer.answer.type ?? answer.answer.status}`);
  return answer.plaintext;
}

/** Tries to open the row's canary. The answer is the store's refusal; null: it still opens. Throws Fault. */
export async function refusalOfCanary(world: World, known: Known, wrapped: Wrapped): Promise<Answer | null> {
  const store = storeOf(world, known, wrapped);
  const answer = await store.decrypt(wrapped.keyId, Buffer.from(wrapped.canary, 'base64'), canaryContext(wrapped.context));
  if (answer.kind === 'refused') return answer.answer;
  answer.plaintext[Symbol.dispose]();
  return null;
}

function storeOf(world: World, known: Known, wrapped: Wrapped): KeyStore {
  const expected = canonicalJson({ store: known.release.key.store, keyId: known.sealing.facts.keyId ?? null, context: contextOf(world, known, wrapped.path) });
  const found = canonicalJson({ store: wrapped.store, keyId: wrapped.keyId, context: wrapped.context });
  if (expected !== found) throw new Fault('Tampered', `the stored bytes of ${wrapped.path} belong to another revision or key`);
  return world.keyStore(wrapped.store);
}
