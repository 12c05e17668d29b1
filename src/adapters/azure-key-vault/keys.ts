import type { KeyVaultKey } from '@azure/keyvault-keys';
import { Fault } from '#src/errors.ts';
import { type Instant, instantOf, secondsBetween } from '#src/instant.ts';
import type { KeyState, StoredKey } from '#src/world.ts';
import { fieldOf } from './faults.ts';
import { found, type Wire } from './wire.ts';

/**
 * A key on its way into or out of the deleted ones is seen in neither place for some seconds. One that was seen nowhere for this long, or
 * whose time to be called back is over, is gone. Seconds.
 */
const MOVE_SECONDS = 600;
/** Names of keys that this process misses or saw deleted; beyond it forgets, and waits again. */
const NAMES_MAX = 10_000;

/** What this process saw last of keys that do not stand, by name. */
export interface Seen {
  /** From when on a deleted key is gone for good. */
  readonly purgedAt: Map<string, Instant>;
  /** Since when a key is seen nowhere. */
  readonly missingSince: Map<string, Instant>;
}

/** A key's name and version. */
export interface KeyPlace {
  readonly name: string;
  readonly version: string;
}

/** Where in the vault a key is. Throws Fault('InvalidRequest') for an id that is not one version of a key of this vault. */
export function placeOf({ title, origin }: Wire, keyId: string): KeyPlace {
  const place = placeIn(origin, keyId);
  if (place === null) throw new Fault('InvalidRequest', `${title}: ${keyId} is no version of a key at ${origin}`);
  return place;
}

function placeIn(origin: string, keyId: string): KeyPlace | null {
  const match = keyId.startsWith(`${origin}/`) ? /^\/keys\/([0-9a-zA-Z-]{1,127})\/([0-9a-zA-Z]{1,64})$/.exec(keyId.slice(origin.length)) : null;
  return match === null ? null : { name: match[1] ?? '', version: match[2] ?? '' };
}

/** The key as its vault shows it: standing, deleted and still to be called back, or (null) gone. Throws Fault. */
export async function describe(wire: Wire, seen: Seen, keyId: string, now: Instant): Promise<StoredKey | null> {
  const { client, title } = wire;
  const { name, version } = placeOf(wire, keyId);
  const doing = `${title} getKey ${keyId}`;
  const exact = () => found(doing, (options) => client.getKey(name, { version, ...options }));
  const standing = await exact();
  if (standing !== null) return shown(wire, seen, standing, now);
  const deleted = await deletedKey(wire, seen, name, now);
  if (deleted !== null) return { ...deleted, keyId };
  // Between the two questions it may have been called back. Where its name stands and it does not, it never was.
  if ((await found(doing, (options) => client.getKey(name, options))) !== null) {
    const back = await exact();
    return back === null ? null : shown(wire, seen, back, now);
  }
  return missing(seen, keyId, name, now);
}

/** A key that was deleted and can be called back; null: none of that name. Throws Fault. */
export async function deletedKey(wire: Wire, seen: Seen, name: string, now: Instant): Promise<StoredKey | null> {
  const doing = `${wire.title} getDeletedKey ${name}`;
  const deleted = await found(doing, (options) => wire.client.getDeletedKey(name, options));
  if (deleted === null) return null;
  const keyId = deleted.id ?? '';
  if (placeIn(wire.origin, keyId)?.name !== name) throw new Fault('UnexpectedAnswer', `${doing}: another key’s`);
  const date = fieldOf(deleted.properties, 'scheduledPurgeDate');
  const at = date instanceof Date && !Number.isNaN(date.getTime()) ? instantOf(date.getTime()) : null;
  if (seen.purgedAt.size + seen.missingSince.size >= NAMES_MAX) forget(seen);
  seen.missingSince.delete(name);
  if (at !== null) seen.purgedAt.set(name, at);
  return at !== null && at <= now ? null : { keyId, state: 'deactivated', destruction: { at } };
}

/** The deletion is for certain, or nothing is said of it but that it may be under way. */
function missing(seen: Seen, keyId: string, name: string, now: Instant): StoredKey | null {
  const purgedAt = seen.purgedAt.get(name) ?? null;
  if (purgedAt !== null && purgedAt <= now) return null;
  const since = seen.missingSince.get(name);
  if (since === undefined) {
    if (seen.missingSince.size >= NAMES_MAX) forget(seen);
    seen.missingSince.set(name, now);
  } else if (secondsBetween(since, now) >= MOVE_SECONDS) return null;
  return { keyId, state: 'deactivated', destruction: { at: purgedAt } };
}

function forget(seen: Seen): void {
  seen.purgedAt.clear();
  seen.missingSince.clear();
}

/** A standing version. Throws Fault('UnexpectedAnswer') for what is not of this vault, or says nothing of its state. */
export function shown({ title, origin }: Pick<Wire, 'title' | 'origin'>, seen: Seen, key: Pick<KeyVaultKey, 'id' | 'properties'>, now: Instant): StoredKey {
  const keyId = key.id ?? '';
  const place = placeIn(origin, keyId);
  if (place === null) throw new Fault('UnexpectedAnswer', `${title} getKey: ${keyId} is not of this vault`);
  seen.purgedAt.delete(place.name);
  seen.missingSince.delete(place.name);
  return { keyId, state: stateOf(key.properties, `${title} getKey ${keyId}`, now), destruction: null };
}

/** Key Vault's attributes in the words of NIST SP 800-57 part 1 §7. */
function stateOf({ enabled, notBefore, expiresOn }: KeyVaultKey['properties'], doing: string, now: Instant): KeyState {
  if (enabled === false) return 'deactivated';
  if (enabled !== true) throw new Fault('UnexpectedAnswer', `${doing}: neither enabled nor disabled`);
  const [from, to] = [notBefore, expiresOn].map((date) => (date instanceof Date ? instantOf(date.getTime()) : null));
  const isInTime = (from == null || from <= now) && (to == null || now < to);
  return isInTime ? 'active' : 'suspended';
}
