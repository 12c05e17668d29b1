import { createCipheriv, createDecipheriv, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { openKeptFile } from './kept-file.ts';
import type { KmsState } from './key-states.ts';
import { kmsFailure } from './kms-failure.ts';

/** Where the keys pretend to live. */
const ARN_PREFIX = 'arn:aws:kms:eu-central-1:000000000000:key/';
const IV_BYTES = 12;
const TAG_BYTES = 16;
const ID_BYTES = 16;
/** In front of every ciphertext: the blob's version. */
const BLOB_VERSION = 1;
/** Plenty for a lab; a story makes three. */
const KEYS_MAX = 10_000;

/** A key as it is kept, its material in the open: this is a lab. */
export interface LabKey {
  readonly id: string;
  /** `ECC_NIST_P256` signs, the other encrypts. */
  readonly spec: 'SYMMETRIC_DEFAULT' | 'ECC_NIST_P256';
  /** Base64: 32 bytes, or PKCS #8. */
  readonly material: string;
  readonly description: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Milliseconds since 1970, as are the others. */
  readonly createdAt: number;
  readonly state: KmsState;
  /** When it was disabled last; null: never. */
  readonly disabledAt: number | null;
  /** When it is gone; null where it is not pending deletion. */
  readonly deletedAt: number | null;
}

/** All that one KMS holds. */
interface Kept {
  readonly keys: Map<string, LabKey>;
  /** `alias/…` → key id. */
  readonly aliases: Map<string, string>;
}

/** The keys of one lab KMS, kept in `kms.json` of a folder, or in memory alone. */
export interface LabKeys {
  /** Every key that is not gone at `now`, oldest first. */
  readonly list: (now: number) => readonly LabKey[];
  /** By id, ARN or alias. Throws `NotFoundException`. */
  readonly find: (keyId: unknown, now: number) => LabKey;
  readonly create: (key: Pick<LabKey, 'description' | 'tags' | 'spec'>, now: number) => Promise<LabKey>;
  readonly change: (key: LabKey, change: Partial<Pick<LabKey, 'state' | 'deletedAt' | 'disabledAt'>>) => Promise<LabKey>;
  readonly aliases: () => ReadonlyMap<string, string>;
  /** `keyId` null: removes it. */
  readonly alias: (name: string, keyId: string | null) => Promise<void>;
}

/** The name that answers and errors give a key. */
export function arnOf(key: LabKey): string {
  return `${ARN_PREFIX}${key.id}`;
}

/** Opens the keys, and reads those that an earlier lab left in the folder. */
export async function openLabKeys(folder: string | null): Promise<LabKeys> {
  const file = await openKeptFile(folder, 'kms.json');
  const kept = keptIn(file.text);
  const save = () => file.save(() => JSON.stringify({ keys: [...kept.keys.values()], aliases: [...kept.aliases] }));
  const list = (now: number) => [...kept.keys.values()].filter((key) => key.deletedAt === null || now < key.deletedAt);
  return {
    list,
    find: (keyId, now) => {
      if (typeof keyId !== 'string' || keyId.length === 0) throw kmsFailure('ValidationException', 'KeyId is missing');
      const id = keyId.startsWith('alias/') ? kept.aliases.get(keyId) : keyId.replace(ARN_PREFIX, '');
      const key = list(now).find((candidate) => candidate.id === id);
      if (key === undefined) throw kmsFailure('NotFoundException', `Key '${keyId.startsWith('arn:') ? keyId : ARN_PREFIX + keyId}' does not exist`);
      return key;
    },
    create: async ({ description, tags, spec }, now) => {
      if (kept.keys.size >= KEYS_MAX) throw kmsFailure('LimitExceededException', 'too many keys');
      const material = (spec === 'ECC_NIST_P256' ? makeSigningKey() : randomBytes(32)).toString('base64');
      const key: LabKey = { id: randomUUID(), spec, material, description, tags, createdAt: now, state: 'Enabled', disabledAt: null, deletedAt: null };
      kept.keys.set(key.id, key);
      await save();
      return key;
    },
    change: async (key, change) => {
      const changed = { ...key, ...change };
      kept.keys.set(key.id, changed);
      await save();
      return changed;
    },
    aliases: () => kept.aliases,
    alias: async (name, keyId) => {
      if (keyId === null) kept.aliases.delete(name);
      else kept.aliases.set(name, keyId);
      await save();
    },
  };
}

function keptIn(text: string | null): Kept {
  const { keys, aliases } = JSON.parse(text ?? '{"keys":[],"aliases":[]}') as { keys: LabKey[]; aliases: [string, string][] };
  return { keys: new Map(keys.map((key) => [key.id, key])), aliases: new Map(aliases) };
}

function makeSigningKey(): Buffer {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'der', type: 'pkcs8' });
}

/** The context's one form: AWS authenticates the pairs, whatever their order. */
function contextBytes(context: Readonly<Record<string, string>>): Buffer {
  return Buffer.from(JSON.stringify(Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** AES-256-GCM with the encryption context as associated data, behind the id of the key. */
export function encryptUnder(key: LabKey, plaintext: Buffer, context: Readonly<Record<string, string>>): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', Buffer.from(key.material, 'base64'), iv).setAAD(contextBytes(context));
  const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return Buffer.concat([Buffer.of(BLOB_VERSION), Buffer.from(key.id.replaceAll('-', ''), 'hex'), iv, cipher.getAuthTag(), body]);
}

/** The id of the key that a blob was encrypted under. Throws `InvalidCiphertextException`. */
export function keyIdInside(blob: Buffer): string {
  if (blob.length < 1 + ID_BYTES + IV_BYTES + TAG_BYTES + 1 || blob[0] !== BLOB_VERSION) throw kmsFailure('InvalidCiphertextException');
  const hex = blob.subarray(1, 1 + ID_BYTES).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** The plaintext. Throws `InvalidCiphertextException`, without a message as AWS does, for another context or changed bytes. */
export function decryptUnder(key: LabKey, blob: Buffer, context: Readonly<Record<string, string>>): Buffer {
  const rest = blob.subarray(1 + ID_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', Buffer.from(key.material, 'base64'), rest.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(contextBytes(context)).setAuthTag(rest.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  try {
    return Buffer.concat([decipher.update(rest.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]);
  } catch {
    throw kmsFailure('InvalidCiphertextException');
  }
}
