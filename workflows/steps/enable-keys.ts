import { ciphertextPrefix } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { pendingWrite } from '../keys.ts';
import { placesOf } from '../places.ts';
import { refusalOfCanary } from '../resource.ts';
import { type Effect, type Look, liftedOf, type NotYet, notYet, type Seen, seen } from '../step.ts';

/**
 * The key of everything that is about to be freed opens its canary again. Before that, every disabling
 * that was ever sent has its answer or can land no more: one that slept would take the key from under a
 * target (protocol §9). From the acceptance of the reinstatement on none is given leave.
 */
export const enableKeys: Effect<Revoked> = { kind: 'effect', name: 'enable-keys', observe, act };

async function observe(look: Look<Revoked>): Promise<Seen | NotYet> {
  const keys = [];
  for (const known of perSealing(look)) {
    const standing = await standingOf(look, known);
    if (standing.kind === 'not-yet') return standing;
    keys.push(standing.evidence);
  }
  return seen({ revocation: look.subject.revocation.path, keys });
}

async function act(look: Look<Revoked>): Promise<void> {
  for (const known of perSealing(look)) {
    const standing = await standingOf(look, known);
    const { sealing, release } = known;
    if (standing.kind === 'seen' || standing.waitingFor !== 'KeyDisabled' || sealing.facts.keyId === undefined) continue;
    const store = look.world.keyStore(release.key.store);
    await store.enable(look.ledger.key(look.run, store.name, 'enable', { rotation: sealing.rotation, keyId: sealing.facts.keyId }));
  }
}

/** One revision of each sealing. */
function perSealing(look: Look<Revoked>): readonly Known[] {
  const { frees } = liftedOf(look);
  return frees.filter(({ sealing }, place) => frees.findIndex((other) => other.sealing.id === sealing.id) === place);
}

async function standingOf(look: Look<Revoked>, known: Known): Promise<Seen | NotYet> {
  const { world, ledger } = look;
  const { sealing, release } = known;
  const { keyId, ciphertextDigest } = sealing.facts;
  const store = world.keyStore(release.key.store);
  if (keyId === undefined) return seen({ store: store.name, rotation: sealing.rotation, key: 'none was used' });
  const pending = await pendingWrite(look, known, 'disable', null);
  if (pending !== null) return pending;
  const sends = (await ledger.keySends(store.name, sealing.rotation)).filter(({ path }) => path === keyId);
  if (sends.some(({ verb, answer }) => verb === 'destroy' && (answer === null || answer.type === null))) return notYet('DestructionPending', keyId);
  // A disabling that is on its way through the store lets the key open for a while: only an enabling that came after it counts.
  const disabled = sends.findLast(({ verb, answer }) => verb === 'disable' && answer?.type === null);
  const enabled = sends.findLast(({ verb, answer }) => verb === 'enable' && answer?.type === null);
  if (disabled !== undefined && (enabled === undefined || enabled.id < disabled.id)) return notYet('KeyDisabled', `${store.name} ${keyId}`);
  const key = await store.describe(keyId);
  if (key?.state !== 'active') return notYet('KeyDisabled', `${store.name} ${keyId} is ${key?.state ?? 'not there'}`);
  const refusal = await canaryRefusal(look, known);
  if (refusal !== null) return notYet('KeyDisabled', `${store.name} ${keyId}: ${refusal}`);
  const missing = ciphertextDigest === undefined ? null : await missingCiphertext(look, known);
  return missing ?? seen({ store: store.name, keyId, rotation: sealing.rotation, enabledAt: enabled?.answeredAt ?? null });
}

/** Why the key does not open what was wrapped by it; null: it does, or nothing ever was. */
async function canaryRefusal({ world, ledger }: Look<Revoked>, known: Known): Promise<string | null> {
  for (const { path } of placesOf(world, known)) {
    const row = await ledger.kept(path);
    const refusal = row === null ? null : await refusalOfCanary(world, known, row);
    if (refusal !== null) return refusal.type ?? String(refusal.status);
  }
  return null;
}

/** A key without its ciphertext is of no use: it was deleted with the key's destruction in view. */
async function missingCiphertext({ world }: Look<Revoked>, { sealing }: Known): Promise<NotYet | null> {
  const prefix = ciphertextPrefix(sealing);
  for (const store of sealing.facts.stores ?? []) if (!(await world.weights.present(store, prefix))) return notYet('CiphertextMissing', `${store} ${prefix}`);
  return null;
}
