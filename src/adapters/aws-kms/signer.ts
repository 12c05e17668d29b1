import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { GetPublicKeyCommand, SignCommand } from '@aws-sdk/client-kms';
import { readPublicKey, verifySignature } from '#src/domain/receipts.ts';
import { Fault } from '#src/errors.ts';
import type { Signer } from '#src/world.ts';
import type { AwsKmsConfig } from './config.ts';
import { asFault } from './faults.ts';
import { ask, openWire, type Wire } from './wire.ts';

/** ECDSA on P-256: what every key store has. */
const ALGORITHM = 'ECDSA_SHA_256';

/**
 * A signer of receipts whose private key never leaves AWS KMS: an ECC_NIST_P256 key for SIGN_VERIFY, named by its ARN. Its public half is
 * asked for once, here; what was signed before tells whether it is still the same. Throws Fault, `KeyUnsupported` for another kind of key.
 */
export async function openAwsKmsSigner(name: string, config: AwsKmsConfig, keyId: string): Promise<Signer> {
  const wire = openWire(name, config);
  const publicKey = await publicKeyOf(wire, keyId);
  return {
    publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    sign: (bytes) => sign(wire, keyId, publicKey, bytes),
    verify: (bytes, signature) => verifySignature(publicKey, bytes, signature),
  };
}

async function publicKeyOf({ client, title }: Wire, keyId: string): Promise<KeyObject> {
  const doing = `${title} GetPublicKey ${keyId}`;
  const output = await ask((options) => client.send(new GetPublicKeyCommand({ KeyId: keyId }), options)).catch((error: unknown) => {
    throw asFault(error, doing);
  });
  if (output.KeyId !== keyId || !(output.PublicKey instanceof Uint8Array)) throw new Fault('UnexpectedAnswer', `${doing}: no public key, or another key’s`);
  if (output.KeyUsage !== 'SIGN_VERIFY' || output.KeySpec !== 'ECC_NIST_P256')
    throw new Fault('KeyUnsupported', `${doing}: expected ECC_NIST_P256 for SIGN_VERIFY`);
  try {
    const key = createPublicKey({ key: Buffer.from(output.PublicKey), format: 'der', type: 'spki' });
    return readPublicKey(key.export({ type: 'spki', format: 'pem' }).toString());
  } catch (cause) {
    throw new Fault('UnexpectedAnswer', `${doing}: not a public key`, { cause });
  }
}

async function sign({ client, title }: Wire, keyId: string, publicKey: KeyObject, bytes: Buffer): Promise<string> {
  const doing = `${title} Sign ${keyId}`;
  // The digest: a message may have no more than 4,096 bytes.
  const Message = createHash('sha256').update(bytes).digest();
  const command = new SignCommand({ KeyId: keyId, Message, MessageType: 'DIGEST', SigningAlgorithm: ALGORITHM });
  const { Signature, KeyId } = await ask((options) => client.send(command, options)).catch((error: unknown) => {
    throw asFault(error, doing);
  });
  const signature = Signature instanceof Uint8Array ? Buffer.from(Signature).toString('base64') : '';
  if (KeyId !== keyId || !verifySignature(publicKey, bytes, signature)) throw new Fault('UnexpectedAnswer', `${doing}: not a signature of that key`);
  return signature;
}
