import { generateKeyPair, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { openKeptFile } from './kept-file.ts';
import { VAULT_TABLE, type VaultOperation, type VaultState } from './key-states.ts';
import { badParameter, stateFailure, vaultFailure } from './key-vault-failure.ts';

const VERSION_BYTES = 16;
/** Plenty for a lab; a story makes three. */
const KEYS_MAX = 10_000;
const VERSIONS_MAX = 100;
const DAY_MILLISECONDS = 86_400_000;
const NAME = /^[0-9a-zA-Z-]{1,127}$/;

/** One version of a key as it is kept, its private half in the open: this is a lab. Times are milliseconds since 1970. */
export interface VaultVersion {
  readonly version: string;
  readonly kty: 'RSA' | 'RSA-HSM' | 'EC' | 'EC-HSM';
  /** PKCS #8, base64. */
  readonly privateKey: string;
  readonly keyOps: readonly string[];
  readonly tags: Readonly<Record<string, string>>;
  readonly enabled: boolean;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** All versions under one name. They are deleted and recovered together. */
export interface VaultKey {
  readonly name: string;
  /** Oldest first; never empty. */
  readonly versions: readonly [VaultVersion, ...VaultVersion[]];
  /** When it was deleted; null: it stands. */
  readonly deletedAt: number | null;
  /** When it was called back last; null: never. */
  readonly recoveredAt: number | null;
}

/** What a new version is made with. */
export interface VaultKeyOrder {
  readonly kty: VaultVersion['kty'];
  /** Of an RSA key. An EC key is on P-256. */
  readonly sizeBits: 2048 | 3072 | 4096;
  readonly keyOps: readonly string[];
  readonly tags: Readonly<Record<string, string>>;
  readonly enabled: boolean;
}

/** How slow the vault is to hear of its own changes. */
export interface VaultLags {
  /** A key that is deleted or called back is seen nowhere for this long. Milliseconds. */
  readonly moveLagMilliseconds: number;
  /** A disabled version does the work of an enabled one for this long, though it is shown as disabled. Milliseconds. */
  readonly disableLagMilliseconds: number;
  /** How long a deleted key can be called back: a setting of the vault, 7 to 90. Days. */
  readonly recoverableDays: number;
}

/** The keys of one lab vault, kept in `key-vault.json` of a folder, or in memory alone. */
export interface VaultKeys {
  /** Every key that is not purged, oldest first. */
  readonly list: (now: number) => readonly VaultKey[];
  readonly stateOf: (key: VaultKey, version: VaultVersion, now: number) => VaultState;
  /** The key and a version of it (null: the latest), where the table allows the operation in its state. Throws a VaultFailure. */
  readonly allowed: (operation: VaultOperation, name: string, version: string | null, now: number) => readonly [VaultKey, VaultVersion];
  /** One version more, under a new name or one that stands. */
  readonly create: (name: string, order: VaultKeyOrder, now: number) => Promise<readonly [VaultKey, VaultVersion]>;
  readonly change: (key: VaultKey) => Promise<VaultKey>;
  readonly remove: (key: VaultKey) => Promise<void>;
  /** When a deleted key is gone for good. */
  readonly purgedAt: (key: VaultKey) => number;
}

const makeKeyPair = promisify(generateKeyPair);

/** Opens the keys, and reads those that an earlier lab left in the folder. */
export async function openVaultKeys(folder: string | null, lags: VaultLags): Promise<VaultKeys> {
  const file = await openKeptFile(folder, 'key-vault.json');
  const keys = new Map((JSON.parse(file.text ?? '[]') as VaultKey[]).map((key) => [key.name, key]));
  const save = () => file.save(() => JSON.stringify([...keys.values()]));
  const purgedAt = ({ deletedAt }: VaultKey) => (deletedAt ?? 0) + lags.recoverableDays * DAY_MILLISECONDS;
  const list = (now: number) => [...keys.values()].filter((key) => key.deletedAt === null || now < purgedAt(key));
  const keep = async (key: VaultKey): Promise<VaultKey> => {
    keys.set(key.name, key);
    await save();
    return key;
  };
  const stateOf = (key: VaultKey, { enabled }: VaultVersion, now: number): VaultState => {
    const movedAt = key.deletedAt ?? key.recoveredAt;
    if (movedAt !== null && lags.moveLagMilliseconds > 0 && now - movedAt < lags.moveLagMilliseconds) return 'Moving';
    if (key.deletedAt !== null) return 'Deleted';
    return enabled ? 'Enabled' : 'Disabled';
  };
  return {
    list,
    stateOf,
    allowed: (operation, name, version, now) => {
      const key = list(now).find((candidate) => candidate.name === name);
      const found = version === null ? key?.versions.at(-1) : key?.versions.find((candidate) => candidate.version === version);
      if (key === undefined || found === undefined) throw stateFailure('KeyNotFound', operation, name);
      // Without a lag none is late, also where the clock was turned back.
      const late = !found.enabled && lags.disableLagMilliseconds > 0 && now - found.updatedAt < lags.disableLagMilliseconds;
      const refusal = VAULT_TABLE[operation][stateOf(key, found, now)];
      if (refusal !== null && !(refusal === 'KeyDisabled' && late)) throw stateFailure(refusal, operation, name);
      return [key, found];
    },
    create: async (name, order, now) => {
      if (!NAME.test(name)) throw badParameter('Invalid key name');
      const standing = list(now).find((candidate) => candidate.name === name);
      if (standing !== undefined) {
        const refusal = VAULT_TABLE.createKey[stateOf(standing, standing.versions[0], now)];
        if (refusal !== null) throw stateFailure(refusal, 'createKey', name);
      }
      const earlier = standing?.versions ?? [];
      if (keys.size >= KEYS_MAX || earlier.length >= VERSIONS_MAX) throw vaultFailure(403, 'Forbidden', 'too many keys or versions');
      const made = await makeVersion(order, now);
      const [first = made, ...rest] = [...earlier, made];
      return [await keep({ name, versions: [first, ...rest], deletedAt: null, recoveredAt: standing?.recoveredAt ?? null }), made];
    },
    change: keep,
    remove: async ({ name }) => {
      keys.delete(name);
      await save();
    },
    purgedAt,
  };
}

async function makeVersion({ kty, sizeBits, keyOps, tags, enabled }: VaultKeyOrder, now: number): Promise<VaultVersion> {
  const isRsa = kty === 'RSA' || kty === 'RSA-HSM';
  const { privateKey } = isRsa ? await makeKeyPair('rsa', { modulusLength: sizeBits }) : await makeKeyPair('ec', { namedCurve: 'P-256' });
  const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64');
  const version = randomBytes(VERSION_BYTES).toString('hex');
  return { version, kty, privateKey: pkcs8, keyOps, tags, enabled, createdAt: now, updatedAt: now };
}
