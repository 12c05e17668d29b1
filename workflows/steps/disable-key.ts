import type { Json } from '#src/domain/json.ts';
import type { Wrapped } from '#src/domain/kbs.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { later } from '#src/instant.ts';
import { targetHasOwnCiphertext } from '../gates/target-has-own-ciphertext.ts';
import { enabledKeysOf, pendingWrite } from '../keys.ts';
import { placesOf } from '../places.ts';
import { refusalOfCanary } from '../resource.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/**
 * An enabling without an answer is waited for this long, as AWS takes a signed request for at most a quarter
 * of an hour. One that a frozen sender lets go later still opens nothing to a guest: no path has the key.
 */
const LATE_ENABLE_SECONDS = 900;

/** The old key opens nothing any more: proven by its store's refusal of the canary, since a status field proves nothing. Reversible. */
export const disableKey: Effect = { kind: 'effect', name: 'disable-key', gates: [targetHasOwnCiphertext], observe, act };

/**
 * The same for every key that was taken with what was revoked. A workload that is held keeps its key
 * until a successor has its own ciphertext: with it the last way to the weights would go (R14).
 */
export const disableKeys: Effect<Revoked> = {
  kind: 'effect',
  name: 'disable-keys',
  observe: async (look) => {
    const keys: Json[] = [];
    for (const own of perSealing(look)) {
      const asked = await targetHasOwnCiphertext.ask(own);
      if (asked.kind === 'no') return notYet(asked.reason, asked.about, asked.lookAt);
      const found = await observe(own);
      if (found.kind === 'not-yet') return found;
      keys.push(found.evidence);
    }
    return seen({ keys });
  },
  act: async (look) => {
    for (const own of perSealing(look)) if ((await targetHasOwnCiphertext.ask(own)).kind === 'yes') await act(own);
  },
};

/** A look at each sealing, by its first revision, with that workload's own target. */
function perSealing(look: Look<Revoked>): readonly Look[] {
  const { revisions, targets } = look.subject;
  const firsts = revisions.filter(({ sealing }, place) => revisions.findIndex((other) => other.sealing.id === sealing.id) === place);
  return firsts.map((subject) => ({ ...look, subject, target: targets[subject.release.workload] ?? null }));
}

async function observe(look: Look): Promise<Seen | NotYet> {
  const { sealing, id } = look.subject;
  const { keyId } = sealing.facts;
  if (!sealing.taken) return seen({ keyId: keyId ?? null, sharedWith: await look.ledger.sharers(sealing.id, id) });
  if (keyId === undefined) return observeUnused(look);
  const refusals = await refusalsOf(look, keyId);
  if (refusals === null) return notYet('KeyStillEnabled', keyId);
  // A reinstatement that another revocation overtook: its enabling may still be on its way.
  const pending = await pendingWrite(look, look.subject, 'enable', LATE_ENABLE_SECONDS);
  if (pending !== null) return pending;
  return proven(look, keyId, refusals);
}

/** No receipt names a key, so nothing was ever wrapped by one; but a creation may have landed that nobody heard of. A later one is swept. */
async function observeUnused(look: Look): Promise<Seen | NotYet> {
  const [key] = await enabledKeysOf(look, look.subject);
  return key === undefined ? seen({ key: 'none was used' }, { proof: 'accepted' }) : notYet('KeyStillEnabled', key.keyId);
}

/** Refused now is not yet refused: stores take a while until all of them have heard. An unbroken wait proves it. */
function proven(look: Look, keyId: string, refusals: Refusals): Seen | NotYet {
  const { waitingFor, about, since } = look.run;
  const { disabledProofSeconds } = look.world.keyStore(look.subject.release.key.store);
  const refusedSince = waitingFor === 'KeyRefusalProving' && about === keyId && since !== null ? since : look.now;
  const provenAt = later(refusedSince, disabledProofSeconds);
  if (provenAt > look.now) return notYet('KeyRefusalProving', keyId, provenAt);
  return seen({ keyId, refusedSince, refusals: refusals.answers }, { proof: refusals.observed ? 'observed' : 'accepted' });
}

async function act(look: Look): Promise<void> {
  const { sealing, release } = look.subject;
  const { keyId } = sealing.facts;
  if (!sealing.taken || (keyId !== undefined && (await refusalsOf(look, keyId)) !== null)) return;
  const keys = keyId === undefined ? (await enabledKeysOf(look, look.subject)).map((key) => key.keyId) : [keyId];
  const store = look.world.keyStore(release.key.store);
  for (const one of keys) await store.disable(look.ledger.key(look.run, store.name, 'disable', { rotation: sealing.rotation, keyId: one }));
}

interface Refusals {
  /** false: only the store's word, where no canary was ever wrapped. */
  readonly observed: boolean;
  readonly answers: readonly Json[];
}

/** The store's refusals of every canary under the key; null: it still opens one, or says that the key is active. */
async function refusalsOf(look: Look, keyId: string): Promise<Refusals | null> {
  const { world, subject } = look;
  const rows = await keptRows(look);
  if (rows.length === 0) {
    const key = await world.keyStore(subject.release.key.store).describe(keyId);
    return key?.state === 'active' ? null : { observed: false, answers: [{ keyId, state: key?.state ?? 'not there' }] };
  }
  const answers: Json[] = [];
  for (const row of rows) {
    const refusal = await refusalOfCanary(world, subject, row);
    if (refusal === null) return null;
    answers.push({ path: row.path, type: refusal.type, status: refusal.status, ...refusal.detail });
  }
  return { observed: true, answers };
}

async function keptRows(look: Look): Promise<readonly Wrapped[]> {
  const paths = [...new Set(placesOf(look.world, look.subject).map((place) => place.path))];
  return (await Promise.all(paths.map((path) => look.ledger.kept(path)))).filter((row) => row !== null);
}
