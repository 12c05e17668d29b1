import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { Fault } from '#src/errors.ts';
import { type Reference, readReference } from '#src/reference.ts';
import type { Signer } from '#src/world.ts';
import type { Ed25519SignerConfig } from './config.ts';

/**
 * Opens the signer for receipts' heads and stored rows whose key is a file or a variable of ours. It
 * is read once: a key that changed while we run would sign what the next start cannot verify.
 *
 * Throws Fault('NotFound') where the reference cannot be read, Fault('KeyUnsupported') where it holds
 * no Ed25519 private key. The PEM's bytes are wiped; the key lives on inside OpenSSL.
 */
export async function openEd25519Signer({ key: from }: Ed25519SignerConfig): Promise<Signer> {
  const key = await readKey(from);
  const publicKey = createPublicKey(key);
  return {
    publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    sign: async (bytes) => sign(null, bytes, key).toString('base64'),
    verify: (bytes, signature) => {
      const raw = Buffer.from(signature, 'base64');
      // The decoder passes over what is no base64: only the one way to write a signature is taken.
      return raw.toString('base64') === signature && verify(null, bytes, publicKey, raw);
    },
  };
}

async function readKey(from: Reference): Promise<KeyObject> {
  const where = 'file' in from ? from.file : from.env;
  using pem = await readReference(from).catch((cause: unknown) => {
    throw new Fault('NotFound', `ed25519 read the receipts’ key from ${where}: it is not there`, { cause });
  });
  const key = parseKey(pem.reveal(), where);
  if (key.asymmetricKeyType !== 'ed25519') throw new Fault('KeyUnsupported', `ed25519 read the receipts’ key from ${where}: it is ${key.asymmetricKeyType}`);
  return key;
}

/** What OpenSSL says of a key that it cannot read may hold bytes of it: it is not passed on. */
function parseKey(pem: Buffer, where: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new Fault('KeyUnsupported', `ed25519 read the receipts’ key from ${where}: not a private key in PKCS #8, PEM`);
  }
}
