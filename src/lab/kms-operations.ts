import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { derOf, signDigest } from './ecdsa.ts';
import { KMS_TABLE } from './key-states.ts';
import { kmsFailure } from './kms-failure.ts';
import { arnOf, decryptUnder, encryptUnder, keyIdInside, type LabKey, type LabKeys } from './kms-keys.ts';

/** A request's JSON, unchecked. */
export type Input = Readonly<Record<string, unknown>>;

/** What an operation works on. */
export interface Setting {
  readonly keys: LabKeys;
  /** Milliseconds since 1970, on the lab's clock. */
  readonly now: number;
  /** How long a new key stays out of ListKeys. Milliseconds. */
  readonly listLagMilliseconds: number;
  /** How long a new key's tags stay unseen. Milliseconds. */
  readonly tagLagMilliseconds: number;
  /** How long a disabled key goes on working, though it is shown as disabled. Milliseconds. */
  readonly disableLagMilliseconds: number;
  /** No list gives more at once, whatever was asked for. */
  readonly pageMax: number;
}

/** Answers one call of the API. Throws a KmsFailure. */
type Operation = (input: Input, setting: Setting) => Promise<Input | null>;

/** What Encrypt takes. */
const PLAINTEXT_MAX_BYTES = 4096;
const DAY_MILLISECONDS = 86_400_000;
const USAGE_OF_SPEC = { SYMMETRIC_DEFAULT: 'ENCRYPT_DECRYPT', ECC_NIST_P256: 'SIGN_VERIFY' } as const;

/** Every operation of AWS KMS that the lab has, by its name on the wire. */
export const operations: Readonly<Record<string, Operation>> = {
  CreateKey: async ({ Description, KeySpec, KeyUsage, Tags }, { keys, now }) => {
    const spec = KeySpec ?? 'SYMMETRIC_DEFAULT';
    if (spec !== 'SYMMETRIC_DEFAULT' && spec !== 'ECC_NIST_P256') throw kmsFailure('UnsupportedOperationException', `the lab makes no ${String(spec)}`);
    if ((KeyUsage ?? 'ENCRYPT_DECRYPT') !== USAGE_OF_SPEC[spec]) throw kmsFailure('ValidationException', `KeyUsage of ${spec}`);
    const description = typeof Description === 'string' ? Description : '';
    return { KeyMetadata: metadataOf(await keys.create({ description, tags: tagsOf(Tags), spec }, now)) };
  },
  DescribeKey: async ({ KeyId }, { keys, now }) => ({ KeyMetadata: metadataOf(allowed('DescribeKey', keys.find(KeyId, now))) }),
  ListKeys: async ({ Limit, Marker }, { keys, now, listLagMilliseconds, pageMax }) => {
    const listed = keys.list(now).filter(({ createdAt }) => now - createdAt >= listLagMilliseconds);
    const page = pageOf(listed, ({ id }) => id, Marker, Math.min(pageMax, limitOf(Limit, 100, 1000)));
    return { Keys: page.items.map((key) => ({ KeyId: key.id, KeyArn: arnOf(key) })), ...page.more };
  },
  ListResourceTags: async ({ KeyId, Limit, Marker }, { keys, now, tagLagMilliseconds, pageMax }) => {
    const { tags, createdAt } = allowed('ListResourceTags', keys.find(KeyId, now));
    const seen = now - createdAt >= tagLagMilliseconds ? Object.entries(tags) : [];
    const page = pageOf(seen, ([name]) => name, Marker, Math.min(pageMax, limitOf(Limit, 50, 50)));
    return { Tags: page.items.map(([TagKey, TagValue]) => ({ TagKey, TagValue })), ...page.more };
  },
  Encrypt: async ({ KeyId, Plaintext, EncryptionContext }, setting) => {
    const key = withSpec('SYMMETRIC_DEFAULT', working('Encrypt', setting.keys.find(KeyId, setting.now), setting));
    const plaintext = bytesOf(Plaintext, 'plaintext', PLAINTEXT_MAX_BYTES);
    const blob = encryptUnder(key, plaintext, contextOf(EncryptionContext));
    return { KeyId: arnOf(key), CiphertextBlob: blob.toString('base64'), EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' };
  },
  Decrypt: async ({ KeyId, CiphertextBlob, EncryptionContext }, setting) => {
    const { keys, now } = setting;
    const named = KeyId === undefined ? null : keys.find(KeyId, now);
    const blob = bytesOf(CiphertextBlob, 'ciphertextBlob', 6144);
    if (named !== null) withSpec('SYMMETRIC_DEFAULT', working('Decrypt', named, setting));
    const inside = keyIdInside(blob);
    if (named !== null && named.id !== inside)
      throw kmsFailure('IncorrectKeyException', 'The key ID in the request does not identify a CMK that can perform this operation.');
    const key = named ?? working('Decrypt', keys.find(inside, now), setting);
    const plaintext = decryptUnder(key, blob, contextOf(EncryptionContext));
    return { KeyId: arnOf(key), Plaintext: plaintext.toString('base64'), EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' };
  },
  GenerateDataKey: async ({ KeyId, KeySpec, NumberOfBytes, EncryptionContext }, setting) => {
    const key = withSpec('SYMMETRIC_DEFAULT', working('GenerateDataKey', setting.keys.find(KeyId, setting.now), setting));
    const length = KeySpec === 'AES_256' ? 32 : KeySpec === 'AES_128' ? 16 : NumberOfBytes;
    if (typeof length !== 'number' || !Number.isInteger(length) || length < 1 || length > 1024)
      throw kmsFailure('ValidationException', 'NumberOfBytes or KeySpec');
    const plaintext = randomBytes(length);
    const blob = encryptUnder(key, plaintext, contextOf(EncryptionContext));
    return { KeyId: arnOf(key), CiphertextBlob: blob.toString('base64'), Plaintext: plaintext.toString('base64') };
  },
  GetPublicKey: async ({ KeyId }, setting) => {
    const key = withSpec('ECC_NIST_P256', working('GetPublicKey', setting.keys.find(KeyId, setting.now), setting));
    const publicKey = createPublicKey(privateKeyOf(key)).export({ format: 'der', type: 'spki' }).toString('base64');
    return { KeyId: arnOf(key), PublicKey: publicKey, KeySpec: key.spec, KeyUsage: USAGE_OF_SPEC[key.spec], SigningAlgorithms: ['ECDSA_SHA_256'] };
  },
  Sign: async ({ KeyId, Message, MessageType, SigningAlgorithm }, setting) => {
    const key = withSpec('ECC_NIST_P256', working('Sign', setting.keys.find(KeyId, setting.now), setting));
    const digest = bytesOf(Message, 'message', PLAINTEXT_MAX_BYTES);
    if (MessageType !== 'DIGEST' || SigningAlgorithm !== 'ECDSA_SHA_256' || digest.length !== 32)
      throw kmsFailure('ValidationException', 'the lab signs a digest, with ECDSA_SHA_256');
    return { KeyId: arnOf(key), Signature: derOf(signDigest(privateKeyOf(key), digest)).toString('base64'), SigningAlgorithm };
  },
  DisableKey: async ({ KeyId }, { keys, now }) => {
    await keys.change(allowed('DisableKey', keys.find(KeyId, now)), { state: 'Disabled', disabledAt: now });
    return null;
  },
  EnableKey: async ({ KeyId }, { keys, now }) => {
    await keys.change(allowed('EnableKey', keys.find(KeyId, now)), { state: 'Enabled' });
    return null;
  },
  ScheduleKeyDeletion: async ({ KeyId, PendingWindowInDays }, { keys, now }) => {
    const days = PendingWindowInDays ?? 30;
    if (typeof days !== 'number' || !Number.isInteger(days) || days < 7 || days > 30) throw kmsFailure('ValidationException', 'PendingWindowInDays is 7 to 30');
    const key = await keys.change(allowed('ScheduleKeyDeletion', keys.find(KeyId, now)), {
      state: 'PendingDeletion',
      deletedAt: now + days * DAY_MILLISECONDS,
    });
    return { KeyId: arnOf(key), KeyState: key.state, DeletionDate: (key.deletedAt ?? 0) / 1000, PendingWindowInDays: days };
  },
  // The key comes back disabled, not enabled.
  CancelKeyDeletion: async ({ KeyId }, { keys, now }) => {
    const key = allowed('CancelKeyDeletion', keys.find(KeyId, now));
    await keys.change(key, { state: 'Disabled', deletedAt: null });
    return { KeyId: arnOf(key) };
  },
  CreateAlias: async ({ AliasName, TargetKeyId }, { keys, now }) => {
    if (typeof AliasName !== 'string' || !/^alias\/[A-Za-z0-9/_-]{1,249}$/.test(AliasName)) throw kmsFailure('InvalidAliasNameException', 'AliasName');
    const key = allowed('CreateAlias', keys.find(TargetKeyId, now));
    if (keys.aliases().has(AliasName)) throw kmsFailure('AlreadyExistsException', `An alias with the name ${AliasName} already exists`);
    await keys.alias(AliasName, key.id);
    return null;
  },
  DeleteAlias: async ({ AliasName }, { keys }) => {
    if (typeof AliasName !== 'string' || !keys.aliases().has(AliasName)) throw kmsFailure('NotFoundException', `Alias ${String(AliasName)} is not found.`);
    await keys.alias(AliasName, null);
    return null;
  },
};

function metadataOf(key: LabKey): Input {
  return {
    AWSAccountId: '000000000000',
    KeyId: key.id,
    Arn: arnOf(key),
    CreationDate: key.createdAt / 1000,
    Enabled: key.state === 'Enabled',
    Description: key.description,
    KeyUsage: USAGE_OF_SPEC[key.spec],
    KeyState: key.state,
    ...(key.deletedAt === null ? {} : { DeletionDate: key.deletedAt / 1000 }),
    Origin: 'AWS_KMS',
    KeyManager: 'CUSTOMER',
    CustomerMasterKeySpec: key.spec,
    KeySpec: key.spec,
    ...(key.spec === 'SYMMETRIC_DEFAULT' ? { EncryptionAlgorithms: [key.spec] } : { SigningAlgorithms: ['ECDSA_SHA_256'] }),
    MultiRegion: false,
  };
}

/** How a key is said to be in the way; the error names the key's ARN, which one about permissions does not. */
const STATE_WORDS = { Enabled: 'is not pending deletion.', Disabled: 'is disabled.', PendingDeletion: 'is pending deletion.' } as const;

/** The key, where the table allows the operation in its state. Throws what AWS names otherwise. */
function allowed(operation: keyof typeof KMS_TABLE, key: LabKey): LabKey {
  const refusal = KMS_TABLE[operation][key.state];
  if (refusal !== null) throw kmsFailure(refusal, `${arnOf(key)} ${operation === 'CancelKeyDeletion' ? STATE_WORDS.Enabled : STATE_WORDS[key.state]}`);
  return key;
}

/** The same for work with the key, which one that was just disabled may still do. */
function working(operation: keyof typeof KMS_TABLE, key: LabKey, { now, disableLagMilliseconds }: Setting): LabKey {
  // Without a lag none is late, also where the clock was turned back.
  const isLate = key.state === 'Disabled' && disableLagMilliseconds > 0 && now - (key.disabledAt ?? 0) < disableLagMilliseconds;
  return isLate ? key : allowed(operation, key);
}

/** The key, where it is of the kind that the operation is for. */
function withSpec(spec: LabKey['spec'], key: LabKey): LabKey {
  if (key.spec !== spec) throw kmsFailure('InvalidKeyUsageException', `${arnOf(key)} key usage is ${USAGE_OF_SPEC[key.spec]}.`);
  return key;
}

function privateKeyOf({ material }: LabKey) {
  return createPrivateKey({ key: Buffer.from(material, 'base64'), format: 'der', type: 'pkcs8' });
}

function tagsOf(tags: unknown): Readonly<Record<string, string>> {
  if (tags === undefined) return {};
  if (!Array.isArray(tags) || tags.length > 50) throw kmsFailure('TagException', 'at most 50 tags');
  const pairs = tags.map((tag: Input) => {
    const { TagKey, TagValue } = tag;
    if (typeof TagKey !== 'string' || !/^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,128}$/u.test(TagKey) || TagKey.startsWith('aws:'))
      throw kmsFailure('TagException', 'TagKey');
    if (typeof TagValue !== 'string' || !/^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$/u.test(TagValue)) throw kmsFailure('TagException', 'TagValue');
    return [TagKey, TagValue] as const;
  });
  if (new Set(pairs.map(([name]) => name)).size !== pairs.length) throw kmsFailure('TagException', 'a tag key comes twice');
  return Object.fromEntries(pairs);
}

function contextOf(context: unknown): Readonly<Record<string, string>> {
  if (context === undefined || context === null) return {};
  const entries = typeof context === 'object' ? Object.entries(context) : [];
  if (typeof context !== 'object' || entries.some(([, value]) => typeof value !== 'string')) throw kmsFailure('SerializationException', 'EncryptionContext');
  return Object.fromEntries(entries) as Readonly<Record<string, string>>;
}

function bytesOf(base64: unknown, field: string, maxBytes: number): Buffer {
  const bytes = typeof base64 === 'string' ? Buffer.from(base64, 'base64') : Buffer.alloc(0);
  if (bytes.length < 1 || bytes.length > maxBytes)
    throw kmsFailure('ValidationException', `Value at '${field}' failed to satisfy constraint: length 1 to ${maxBytes}`);
  return bytes;
}

function limitOf(limit: unknown, byDefault: number, max: number): number {
  if (limit === undefined) return byDefault;
  if (typeof limit !== 'number' || !Number.isInteger(limit) || limit < 1 || limit > max) throw kmsFailure('ValidationException', `Limit is 1 to ${max}`);
  return limit;
}

interface Paged<T> {
  readonly items: readonly T[];
  readonly more: { readonly Truncated: false } | { readonly Truncated: true; readonly NextMarker: string };
}

/** A page in the order of `nameOf`; the marker is the last name given, so that nothing is skipped when keys come and go between. */
function pageOf<T>(all: readonly T[], nameOf: (item: T) => string, marker: unknown, limit: number): Paged<T> {
  if (marker !== undefined && typeof marker !== 'string') throw kmsFailure('InvalidMarkerException', 'Marker');
  const after = marker === undefined ? '' : Buffer.from(marker, 'base64url').toString('utf8');
  const sorted = all.filter((item) => nameOf(item) > after).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  const items = sorted.slice(0, limit);
  const last = items.at(-1);
  if (items.length === sorted.length || last === undefined) return { items, more: { Truncated: false } };
  return { items, more: { Truncated: true, NextMarker: Buffer.from(nameOf(last)).toString('base64url') } };
}
