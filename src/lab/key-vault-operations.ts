import { constants, createPrivateKey, createPublicKey, privateDecrypt, publicEncrypt } from 'node:crypto';
import { signDigest } from './ecdsa.ts';
import type { VaultOperation } from './key-states.ts';
import { badParameter, vaultFailure } from './key-vault-failure.ts';
import type { VaultKey, VaultKeyOrder, VaultKeys, VaultVersion } from './key-vault-keys.ts';

/** JSON, unchecked. */
export type Body = Readonly<Record<string, unknown>>;

/** One call of the API. */
export interface VaultCall {
  readonly name: string;
  /** null: the latest. */
  readonly version: string | null;
  readonly query: URLSearchParams;
  readonly body: Body;
}

/** What an operation works on. */
export interface VaultSetting {
  readonly keys: VaultKeys;
  /** `https://host:port`: begins every key's id. */
  readonly origin: string;
  /** Milliseconds since 1970, on the lab's clock. */
  readonly now: number;
  /** How long a new key stays out of lists. Milliseconds. */
  readonly listLagMilliseconds: number;
  /** No list gives more at once. */
  readonly pageMax: number;
  readonly recoverableDays: number;
}

/** Answers one call; null: 204. Throws a VaultFailure. */
type Operation = (call: VaultCall, setting: VaultSetting) => Promise<Body | null>;

const OPERATIONS = { rsa: ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'], ec: ['sign', 'verify'] } as const;
const HASH_OF_ALGORITHM: Readonly<Record<string, string>> = { 'RSA-OAEP-256': 'sha256', 'RSA-OAEP': 'sha1' };

/** Every operation of Key Vault that the lab has. */
export const vaultOperations: Readonly<Record<Exclude<VaultOperation, 'verify'> | 'getKeys' | 'getDeletedKeys', Operation>> = {
  createKey: async ({ name, body }, setting) => bundleOf(setting, ...(await setting.keys.create(name, orderOf(body), setting.now))),
  getKey: async (call, setting) => bundleOf(setting, ...allowed('getKey', call, setting)),
  getKeys: async ({ query }, setting) => {
    const standing = setting.keys.list(setting.now).filter((key) => isListed(key, setting) && !['Deleted', 'Moving'].includes(stateOf(key, setting)));
    return pageOf(
      standing,
      ({ name }) => name,
      query,
      setting,
      'keys',
      (key) => itemOf(setting, key, latest(key), false),
    );
  },
  getKeyVersions: async (call, setting) => {
    const [key] = allowed('getKeyVersions', { ...call, version: null }, setting);
    const at = `keys/${key.name}/versions`;
    return pageOf(
      key.versions,
      ({ version }) => version,
      call.query,
      setting,
      at,
      (version) => itemOf(setting, key, version, true),
    );
  },
  updateKey: async (call, setting) => {
    const [key, version] = allowed('updateKey', call, setting);
    const { attributes, tags } = call.body;
    const enabled = isBody(attributes) && typeof attributes.enabled === 'boolean' ? attributes.enabled : version.enabled;
    const changed = { ...version, enabled, tags: tags === undefined ? version.tags : tagsOf(tags), updatedAt: setting.now };
    const [first, ...rest] = key.versions.map((one) => (one.version === version.version ? changed : one));
    return bundleOf(setting, await setting.keys.change({ ...key, versions: [first ?? changed, ...rest] }), changed);
  },
  deleteKey: async (call, setting) => {
    const [key] = allowed('deleteKey', { ...call, version: null }, setting);
    return deletedOf(setting, await setting.keys.change({ ...key, deletedAt: setting.now, recoveredAt: null }));
  },
  getDeletedKey: async (call, setting) => deletedOf(setting, allowed('getDeletedKey', call, setting)[0]),
  getDeletedKeys: async ({ query }, setting) => {
    const deleted = setting.keys.list(setting.now).filter((key) => stateOf(key, setting) === 'Deleted');
    const ofKey = (key: VaultKey) => ({ ...itemOf(setting, key, latest(key), false), ...deletionOf(setting, key) });
    return pageOf(deleted, ({ name }) => name, query, setting, 'deletedkeys', ofKey);
  },
  // The versions are as they were before: what was disabled comes back disabled.
  recoverDeletedKey: async (call, setting) => {
    const [key] = allowed('recoverDeletedKey', call, setting);
    const back = await setting.keys.change({ ...key, deletedAt: null, recoveredAt: setting.now });
    return bundleOf(setting, back, latest(back));
  },
  purgeDeletedKey: async (call, setting) => {
    await setting.keys.remove(allowed('purgeDeletedKey', call, setting)[0]);
    return null;
  },
  wrapKey: async (call, setting) => encrypt('wrapKey', call, setting),
  encrypt: async (call, setting) => encrypt('encrypt', call, setting),
  unwrapKey: async (call, setting) => decrypt('unwrapKey', call, setting),
  decrypt: async (call, setting) => decrypt('decrypt', call, setting),
  sign: async (call, setting) => sign(call, setting),
};

function allowed(operation: VaultOperation, { name, version }: VaultCall, { keys, now }: VaultSetting): readonly [VaultKey, VaultVersion] {
  return keys.allowed(operation, name, version, now);
}

function latest({ versions }: VaultKey): VaultVersion {
  return versions.at(-1) ?? versions[0];
}

function stateOf(key: VaultKey, { keys, now }: VaultSetting) {
  return keys.stateOf(key, latest(key), now);
}

function isListed(key: VaultKey, { now, listLagMilliseconds }: VaultSetting): boolean {
  return now - key.versions[0].createdAt >= listLagMilliseconds;
}

// ---------------------------------------------------------------- cryptography

function encrypt(operation: 'wrapKey' | 'encrypt', call: VaultCall, setting: VaultSetting): Body {
  const [key, version] = usable(operation, call, setting);
  const publicKey = createPublicKey(privateKeyOf(version));
  const input = { key: publicKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hashOf(call.body.alg) };
  try {
    return { kid: idOf(setting, key, version), value: publicEncrypt(input, bytesOf(call.body.value)).toString('base64url') };
  } catch {
    throw badParameter('The value is too long for the key.');
  }
}

function decrypt(operation: 'unwrapKey' | 'decrypt', call: VaultCall, setting: VaultSetting): Body {
  const [key, version] = usable(operation, call, setting);
  const input = { key: privateKeyOf(version), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hashOf(call.body.alg) };
  try {
    return { kid: idOf(setting, key, version), value: privateDecrypt(input, bytesOf(call.body.value)).toString('base64url') };
  } catch {
    throw badParameter('The parameter is incorrect.');
  }
}

function sign(call: VaultCall, setting: VaultSetting): Body {
  const [key, version] = usable('sign', call, setting);
  const digest = bytesOf(call.body.value);
  if (call.body.alg !== 'ES256' || !version.kty.startsWith('EC') || digest.length !== 32) throw badParameter('The lab signs ES256 with an EC key.');
  return { kid: idOf(setting, key, version), value: signDigest(privateKeyOf(version), digest).toString('base64url') };
}

function usable(operation: 'wrapKey' | 'encrypt' | 'unwrapKey' | 'decrypt' | 'sign', call: VaultCall, setting: VaultSetting) {
  const found = allowed(operation, call, setting);
  if (!found[1].keyOps.includes(operation))
    throw vaultFailure(403, 'Forbidden', `Operation ${operation} is not permitted on this key.`, 'KeyOperationForbidden');
  return found;
}

/** The private half of a version. */
export function privateKeyOf({ privateKey }: VaultVersion) {
  return createPrivateKey({ key: Buffer.from(privateKey, 'base64'), format: 'der', type: 'pkcs8' });
}

function hashOf(algorithm: unknown): string {
  const hash = typeof algorithm === 'string' && Object.hasOwn(HASH_OF_ALGORITHM, algorithm) ? HASH_OF_ALGORITHM[algorithm] : undefined;
  if (hash === undefined) throw badParameter(`Invalid algorithm: ${String(algorithm)}`);
  return hash;
}

function bytesOf(value: unknown): Buffer {
  if (typeof value !== 'string' || !/^[A-Za-z0-9_-]{1,4096}$/.test(value)) throw badParameter('value: expected base64url');
  return Buffer.from(value, 'base64url');
}

// ---------------------------------------------------------------- what keys look like

function idOf({ origin }: VaultSetting, { name }: VaultKey, { version }: VaultVersion): string {
  return `${origin}/keys/${name}/${version}`;
}

function attributesOf({ recoverableDays }: VaultSetting, { enabled, createdAt, updatedAt }: VaultVersion): Body {
  const seconds = (milliseconds: number) => Math.floor(milliseconds / 1000);
  return { enabled, created: seconds(createdAt), updated: seconds(updatedAt), recoveryLevel: 'Recoverable+Purgeable', recoverableDays, exportable: false };
}

function bundleOf(setting: VaultSetting, key: VaultKey, version: VaultVersion): Body {
  const material = createPublicKey(privateKeyOf(version)).export({ format: 'jwk' });
  const jwk = { ...material, kid: idOf(setting, key, version), kty: version.kty, key_ops: version.keyOps };
  return { key: jwk, attributes: attributesOf(setting, version), tags: version.tags };
}

function itemOf(setting: VaultSetting, key: VaultKey, version: VaultVersion, versioned: boolean): Body {
  const kid = versioned ? idOf(setting, key, version) : `${setting.origin}/keys/${key.name}`;
  return { kid, attributes: attributesOf(setting, version), tags: version.tags };
}

function deletionOf({ keys, origin }: VaultSetting, key: VaultKey): Body {
  const seconds = (milliseconds: number) => Math.floor(milliseconds / 1000);
  return { recoveryId: `${origin}/deletedkeys/${key.name}`, deletedDate: seconds(key.deletedAt ?? 0), scheduledPurgeDate: seconds(keys.purgedAt(key)) };
}

function deletedOf(setting: VaultSetting, key: VaultKey): Body {
  return { ...bundleOf(setting, key, latest(key)), ...deletionOf(setting, key) };
}

// ---------------------------------------------------------------- what is asked

/** Whether JSON is an object. */
export function isBody(value: unknown): value is Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function orderOf({ kty, crv, key_size, key_ops, attributes, tags }: Body): VaultKeyOrder {
  if (kty !== 'RSA' && kty !== 'RSA-HSM' && kty !== 'EC' && kty !== 'EC-HSM') throw badParameter('kty: the lab makes RSA and EC keys');
  if (crv !== undefined && crv !== 'P-256') throw badParameter('crv: the lab knows P-256');
  const possible: readonly string[] = kty.startsWith('EC') ? OPERATIONS.ec : OPERATIONS.rsa;
  const sizeBits = key_size ?? 2048;
  if (sizeBits !== 2048 && sizeBits !== 3072 && sizeBits !== 4096) throw badParameter('key_size is 2048, 3072 or 4096');
  const keyOps = key_ops ?? possible;
  if (!Array.isArray(keyOps) || !keyOps.every((operation) => possible.includes(operation))) throw badParameter('key_ops');
  return { kty, sizeBits, keyOps, tags: tagsOf(tags ?? {}), enabled: !isBody(attributes) || attributes.enabled !== false };
}

function tagsOf(tags: unknown): Readonly<Record<string, string>> {
  const pairs = isBody(tags) ? Object.entries(tags) : [];
  const isGood = ([name, value]: [string, unknown]) => name.length <= 256 && typeof value === 'string' && value.length <= 256;
  if (!isBody(tags) || pairs.length > 15 || !pairs.every(isGood)) throw badParameter('tags: at most 15, each name and value at most 256 characters');
  return Object.fromEntries(pairs) as Readonly<Record<string, string>>;
}

/** A page in the order of `nameOf`; the marker is the last name given, so that nothing is skipped when keys come and go between. */
function pageOf<T>(all: readonly T[], nameOf: (item: T) => string, query: URLSearchParams, setting: VaultSetting, at: string, show: (item: T) => Body): Body {
  const asked = Number(query.get('maxresults') ?? 25);
  if (!Number.isInteger(asked) || asked < 1 || asked > 25) throw badParameter('maxresults is 1 to 25');
  const after = Buffer.from(query.get('$skiptoken') ?? '', 'base64url').toString('utf8');
  const sorted = all.filter((item) => nameOf(item) > after).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  const items = sorted.slice(0, Math.min(asked, setting.pageMax));
  const last = items.at(-1);
  const more = items.length < sorted.length && last !== undefined ? Buffer.from(nameOf(last)).toString('base64url') : null;
  const next = new URLSearchParams({ 'api-version': query.get('api-version') ?? '', $skiptoken: more ?? '', maxresults: String(asked) });
  return { value: items.map(show), nextLink: more === null ? null : `${setting.origin}/${at}?${next}` };
}
