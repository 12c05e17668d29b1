import {
  type KeyState as AwsKeyState,
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  DisableKeyCommand,
  EnableKeyCommand,
  EncryptCommand,
  ScheduleKeyDeletionCommand,
} from '@aws-sdk/client-kms';
import { Fault } from '#src/errors.ts';
import { type Instant, instantOf } from '#src/instant.ts';
import { Secret } from '#src/secret.ts';
import type { Clock, KeyOrder, KeyState, KeyStore, StoredKey } from '#src/world.ts';
import type { AwsKmsConfig } from './config.ts';
import { answerOf, asFault, isNotFound } from './faults.ts';
import { type Foreign, findTagged, INSTALLATION_TAG, ROTATION_TAG } from './find.ts';
import { ask, openWire, type Wire, write } from './wire.ts';

/** What Encrypt takes at most. A keyset has 123 bytes. */
const PLAINTEXT_MAX_BYTES = 4096;

/**
 * AWS KMS as a key store. A key's id is its ARN, never an alias. Opening calls nobody. The README has the permissions, the mapping of
 * states, and what an answer proves.
 */
export function openAwsKms(name: string, config: AwsKmsConfig, world: { readonly installation: string; readonly clock: Clock }): KeyStore {
  const wire = openWire(name, config);
  const { client, title } = wire;
  const foreign: Foreign = { settled: new Set(), firstSeenAt: new Map() };
  return {
    name,
    disabledProofSeconds: config.disabledProofSeconds,
    find: (rotation) => find(wire, foreign, world.installation, rotation, world.clock),
    describe: (keyId) => describe(wire, keyId),
    create: (read) => {
      const commandOf = ({ rotation }: KeyOrder) => createCommand(world.installation, rotation);
      return write(
        wire,
        'CreateKey',
        read,
        (order, options) => client.send(commandOf(order), options),
        (output) => output.KeyMetadata?.Arn,
      );
    },
    disable: (read) =>
      write(
        wire,
        'DisableKey',
        read,
        (order, options) => client.send(new DisableKeyCommand({ KeyId: keyIdOf(order, title) }), options),
        (_, order) => order.keyId,
      ),
    enable: (read) =>
      write(
        wire,
        'EnableKey',
        read,
        (order, options) => client.send(new EnableKeyCommand({ KeyId: keyIdOf(order, title) }), options),
        (_, order) => order.keyId,
      ),
    scheduleDestruction: (read) => {
      const commandOf = (order: KeyOrder) =>
        new ScheduleKeyDeletionCommand({ KeyId: keyIdOf(order, title), PendingWindowInDays: config.destructionWindowDays });
      return write(
        wire,
        'ScheduleKeyDeletion',
        read,
        (order, options) => client.send(commandOf(order), options),
        (_, order) => order.keyId,
      );
    },
    encrypt: (keyId, plaintext, context) => encrypt(wire, keyId, plaintext, context),
    decrypt: (keyId, ciphertext, context) => decrypt(wire, keyId, ciphertext, context, world.clock),
  };
}

function createCommand(installation: string, rotation: string): CreateKeyCommand {
  return new CreateKeyCommand({
    Description: `Keyturn ${installation} ${rotation}`,
    KeySpec: 'SYMMETRIC_DEFAULT',
    KeyUsage: 'ENCRYPT_DECRYPT',
    Origin: 'AWS_KMS',
    MultiRegion: false,
    Tags: [
      { TagKey: INSTALLATION_TAG, TagValue: installation },
      { TagKey: ROTATION_TAG, TagValue: rotation },
    ],
  });
}

function keyIdOf(order: KeyOrder, title: string): string {
  if (order.keyId === null) throw new Fault('InvalidRequest', `${title}: the order for ${order.rotation} names no key`);
  return order.keyId;
}

async function find(wire: Wire, foreign: Foreign, installation: string, rotation: string, clock: Clock): Promise<readonly StoredKey[]> {
  const now = await clock();
  try {
    const arns = await findTagged(wire, foreign, installation, rotation, now);
    const keys = await Promise.all(arns.map((arn) => describe(wire, arn)));
    return keys.filter((key) => key !== null);
  } catch (error) {
    throw asFault(error, `${wire.title} ListKeys`);
  }
}

async function describe({ client, title }: Wire, keyId: string): Promise<StoredKey | null> {
  try {
    const { KeyMetadata } = await ask((options) => client.send(new DescribeKeyCommand({ KeyId: keyId }), options));
    if (KeyMetadata?.Arn === undefined) throw new Fault('UnexpectedAnswer', `${title} DescribeKey ${keyId}: no ARN`);
    const { Arn, KeyState, DeletionDate } = KeyMetadata;
    const state = stateOf(KeyState, `${title} DescribeKey ${keyId}`);
    return { keyId: Arn, state, destruction: isPending(KeyState) ? { at: instantIn(DeletionDate) } : null };
  } catch (error) {
    if (isNotFound(error)) return null;
    throw asFault(error, `${title} DescribeKey ${keyId}`);
  }
}

/**
 * AWS's state in the words of NIST SP 800-57 part 1 §7. A key that is to be deleted can still be called back, so it is deactivated and
 * not destroyed; one that is destroyed is no longer there (`describe`: null).
 */
function stateOf(state: AwsKeyState | undefined, doing: string): KeyState {
  switch (state) {
    case 'Enabled':
      return 'active';
    case 'Disabled':
    case 'PendingDeletion':
    case 'PendingReplicaDeletion':
      return 'deactivated';
    case 'Creating':
    case 'Updating':
    case 'PendingImport':
    case 'Unavailable':
      return 'suspended';
    default:
      throw new Fault('UnexpectedAnswer', `${doing}: unknown state ${String(state)}`);
  }
}

function isPending(state: AwsKeyState | undefined): boolean {
  return state === 'PendingDeletion' || state === 'PendingReplicaDeletion';
}

/** A key with replicas waits for them, and AWS names no date. */
function instantIn(date: Date | undefined): Instant | null {
  return date instanceof Date && !Number.isNaN(date.getTime()) ? instantOf(date.getTime()) : null;
}

async function encrypt({ client, title }: Wire, keyId: string, plaintext: Secret, context: Readonly<Record<string, string>>): Promise<Buffer> {
  const bytes = plaintext.reveal();
  if (bytes.length === 0 || bytes.length > PLAINTEXT_MAX_BYTES) {
    throw new Fault('LimitExceeded', `${title} Encrypt: ${bytes.length} bytes; AWS takes 1 to ${PLAINTEXT_MAX_BYTES}`);
  }
  try {
    const command = new EncryptCommand({ KeyId: keyId, Plaintext: bytes, EncryptionContext: context });
    const { CiphertextBlob, KeyId } = await ask((options) => client.send(command, options));
    // The types are a promise of AWS's model; the answer is whatever came.
    if (!(CiphertextBlob instanceof Uint8Array) || KeyId !== keyId)
      throw new Fault('UnexpectedAnswer', `${title} Encrypt ${keyId}: no ciphertext, or another key’s`);
    return Buffer.from(CiphertextBlob);
  } catch (error) {
    throw asFault(error, `${title} Encrypt ${keyId}`);
  }
}

async function decrypt(
  wire: Wire,
  keyId: string,
  ciphertext: Buffer,
  context: Readonly<Record<string, string>>,
  clock: Clock,
): ReturnType<KeyStore['decrypt']> {
  const { client, title } = wire;
  try {
    // Always with the key's id: without it AWS would take any key that fits, and a disabled one could hide behind another.
    const command = new DecryptCommand({ KeyId: keyId, CiphertextBlob: ciphertext, EncryptionContext: context });
    const { Plaintext, KeyId } = await ask((options) => client.send(command, options));
    if (!(Plaintext instanceof Uint8Array) || KeyId !== keyId) throw new Fault('UnexpectedAnswer', `${title} Decrypt ${keyId}: no plaintext, or another key’s`);
    return { kind: 'opened', plaintext: new Secret(Buffer.from(Plaintext.buffer, Plaintext.byteOffset, Plaintext.byteLength)) };
  } catch (error) {
    const answer = answerOf(error, keyId);
    if (answer !== null && (await isRefusal(wire, keyId, answer.type)))
      return { kind: 'refused', answer: { ...answer, detail: { ...answer.detail, at: await clock() } } };
    throw asFault(error, `${title} Decrypt ${keyId}`);
  }
}

/**
 * Whether an error says that this key exists and is disabled. AWS answers for a key that is pending deletion with either name; the second
 * one also has other causes, so the state is read. A denied permission, a wrong key or context proves nothing about the key.
 */
async function isRefusal(wire: Wire, keyId: string, type: string | null): Promise<boolean> {
  if (type === 'DisabledException') return true;
  return type === 'KMSInvalidStateException' && (await describe(wire, keyId))?.state === 'deactivated';
}
