import { randomBytes } from 'node:crypto';
import type { CryptographyClient, KeyVaultKey } from '@azure/keyvault-keys';
import { Fault } from '#src/errors.ts';
import { Secret } from '#src/secret.ts';
import type { Clock, KeyOrder, KeyStore } from '#src/world.ts';
import type { AzureKeyVaultConfig } from './config.ts';
import { refusalFault } from './faults.ts';
import { enabledBeside, findTagged, INSTALLATION_TAG, namePrefixOf, ROTATION_TAG } from './find.ts';
import { deletedKey, describe, placeOf, type Seen } from './keys.ts';
import { answerOf, ask, type CallOptions, openWire, type Wire, write } from './wire.ts';
import { drawWrappingKey, open, partsOf, seal, WRAPPING_KEY_BYTES } from './wrapping.ts';

/** What AWS KMS takes, so that no release works in one store alone. A keyset has 123 bytes. */
const PLAINTEXT_MAX_BYTES = 4096;
/** RFC 8017 §7.1 with SHA-256: the vault's own work both ways; the SDK does the older RSA-OAEP by itself, without asking the vault. */
const WRAPPING = 'RSA-OAEP-256';
/** So that no two creations name the same key. */
const NAME_SUFFIX_BYTES = 4;

type Context = Readonly<Record<string, string>>;

/**
 * A vault of Azure Key Vault, or a Managed HSM, as a key store. A key's id is that of one version, as Azure writes it. Opening calls
 * nobody. The README has the permissions, the mapping of states, and what an answer proves. Throws where a file that the
 * configuration names cannot be read.
 */
export async function openAzureKeyVault(
  name: string,
  config: AzureKeyVaultConfig,
  world: { readonly installation: string; readonly clock: Clock },
): Promise<KeyStore> {
  const wire = await openWire(name, config);
  const seen: Seen = { purgedAt: new Map(), missingSince: new Map() };
  return {
    name,
    disabledProofSeconds: config.disabledProofSeconds,
    find: async (rotation) => findTagged(wire, seen, world.installation, rotation, await world.clock()),
    describe: async (keyId) => describe(wire, seen, keyId, await world.clock()),
    create: (read) =>
      write(
        wire,
        'createKey',
        read,
        (order, options) => createKey(wire, config, world.installation, order, options),
        (key) => key.id ?? null,
      ),
    disable: (read) => write(wire, 'updateKey', read, setEnabled(wire, false), keyIdIf(false)),
    enable: (read) => write(wire, 'updateKey', read, setEnabled(wire, true), keyIdIf(true)),
    scheduleDestruction: (read) =>
      write(
        wire,
        'deleteKey',
        read,
        (order, options) => deleteKey(wire, keyIdOf(order, wire), options),
        (_, order) => order.keyId,
        (order) => versionsInUse(wire, keyIdOf(order, wire)),
      ),
    encrypt: (keyId, plaintext, context) => encrypt(wire, seen, keyId, plaintext, context, world.clock),
    decrypt: (keyId, ciphertext, context) => decrypt(wire, seen, keyId, ciphertext, context, world.clock),
  };
}

// ---------------------------------------------------------------- writes

function keyIdOf(order: KeyOrder, { title }: Wire): string {
  if (order.keyId === null) throw new Fault('InvalidRequest', `${title}: the order for ${order.rotation} names no key`);
  return order.keyId;
}

function createKey({ client }: Wire, config: AzureKeyVaultConfig, installation: string, { rotation }: KeyOrder, options: CallOptions): Promise<KeyVaultKey> {
  return client.createRsaKey(`${namePrefixOf(rotation)}${randomBytes(NAME_SUFFIX_BYTES).toString('hex')}`, {
    ...options,
    keySize: config.keySizeBits,
    hsm: config.protection === 'hsm',
    keyOps: ['wrapKey', 'unwrapKey'],
    enabled: true,
    tags: { [INSTALLATION_TAG]: installation, [ROTATION_TAG]: rotation },
  });
}

function setEnabled(wire: Wire, enabled: boolean) {
  return async (order: KeyOrder, options: CallOptions): Promise<KeyVaultKey> => {
    const { name, version } = placeOf(wire, keyIdOf(order, wire));
    return wire.client.updateKeyProperties(name, version, { ...options, enabled });
  };
}

/** The id, where the answer is of that key and says what it was told. */
function keyIdIf(enabled: boolean) {
  return ({ id, properties }: KeyVaultKey, { keyId }: KeyOrder): string | null => (id === keyId && properties.enabled === enabled ? keyId : null);
}

/** A deletion takes every version of the name along; whoever made and enabled another one uses it. */
async function versionsInUse(wire: Wire, keyId: string): Promise<Fault | null> {
  const others = await enabledBeside(wire, keyId);
  return others === 0 ? null : new Fault('KeyInUse', `${wire.title} deleteKey ${keyId}: ${others} other versions of it are enabled`);
}

/** The SDK looks after the deletion whether it is done; only the vault's answer to the deletion itself counts. */
async function deleteKey(wire: Wire, keyId: string, options: CallOptions): Promise<void> {
  let isTaken = false;
  const onResponse: CallOptions['onResponse'] = (response) => {
    if (!isTaken) options.onResponse(response);
    isTaken ||= response.status === 200;
  };
  try {
    await wire.client.beginDeleteKey(placeOf(wire, keyId).name, { ...options, onResponse });
  } catch (error) {
    if (!isTaken) throw error;
  }
}

// ---------------------------------------------------------------- cryptography

/** A client for one operation: one that was used before would judge by the key as it was then. */
function freshClient(wire: Wire, keyId: string): CryptographyClient {
  const { name, version } = placeOf(wire, keyId);
  return wire.client.getCryptographyClient(name, { keyVersion: version });
}

async function encrypt(wire: Wire, seen: Seen, keyId: string, plaintext: Secret, context: Context, clock: Clock): Promise<Buffer> {
  const { title } = wire;
  const bytes = plaintext.reveal();
  if (bytes.length === 0 || bytes.length > PLAINTEXT_MAX_BYTES) {
    throw new Fault('LimitExceeded', `${title} wrapKey: ${bytes.length} bytes; expected 1 to ${PLAINTEXT_MAX_BYTES}`);
  }
  // A disabled key still wraps: only what needs its private half is refused. So its state is asked for.
  const key = await describe(wire, seen, keyId, await clock());
  if (key === null) throw new Fault('NotFound', `${title} wrapKey ${keyId}: no such key`);
  if (key.state !== 'active') throw new Fault('KeyDisabled', `${title} wrapKey ${keyId}: it is ${key.state}`);
  using wrappingKey = new Secret(drawWrappingKey());
  const doing = `${title} wrapKey ${keyId}`;
  const outcome = await ask(doing, (options) => freshClient(wire, keyId).wrapKey(WRAPPING, wrappingKey.reveal(), options));
  if (outcome.kind === 'refused') throw refusalFault(outcome.heard, doing);
  const { result } = outcome.value;
  if (!(result instanceof Uint8Array) || result.length === 0 || outcome.heard.kid !== keyId)
    throw new Fault('UnexpectedAnswer', `${doing}: no wrapped key, or another key’s`);
  return seal(wrappingKey.reveal(), result, bytes, context);
}

async function decrypt(wire: Wire, seen: Seen, keyId: string, ciphertext: Buffer, context: Context, clock: Clock): ReturnType<KeyStore['decrypt']> {
  const doing = `${wire.title} unwrapKey ${keyId}`;
  const parts = partsOf(ciphertext);
  if (parts === null) throw new Fault('InvalidRequest', `${doing}: not sealed here`);
  const outcome = await ask(doing, (options) => freshClient(wire, keyId).unwrapKey(WRAPPING, parts.wrappedKey, options));
  if (outcome.kind === 'refused') {
    const { heard } = outcome;
    const now = await clock();
    const isRefusal = heard.code === 'KeyDisabled' || (heard.code === 'KeyNotFound' && (await deletedKey(wire, seen, placeOf(wire, keyId).name, now)) !== null);
    if (!isRefusal) throw refusalFault(heard, doing);
    const answer = answerOf(heard, keyId);
    return { kind: 'refused', answer: { ...answer, detail: { ...answer.detail, at: now } } };
  }
  const { result } = outcome.value;
  if (!(result instanceof Uint8Array) || outcome.heard.kid !== keyId) throw new Fault('UnexpectedAnswer', `${doing}: no key, or another key’s`);
  using wrappingKey = new Secret(Buffer.from(result.buffer, result.byteOffset, result.byteLength));
  const plaintext = wrappingKey.reveal().length === WRAPPING_KEY_BYTES ? open(wrappingKey.reveal(), parts, context) : null;
  if (plaintext === null) throw new Fault('InvalidRequest', `${doing}: not sealed by it under this context`);
  return { kind: 'opened', plaintext: new Secret(plaintext) };
}
