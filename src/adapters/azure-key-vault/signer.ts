import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import type { KeyVaultKey } from '@azure/keyvault-keys';
import { verifySignature } from '#src/domain/receipts.ts';
import { Fault } from '#src/errors.ts';
import type { Signer } from '#src/world.ts';
import type { AzureKeyVaultConfig } from './config.ts';
import { refusalFault } from './faults.ts';
import { placeOf } from './keys.ts';
import { ask, found, openWire, type Wire } from './wire.ts';

/** ECDSA on P-256 with SHA-256 (RFC 7518 §3.4): r and s, of this many bytes together. */
const ALGORITHM = 'ES256';
const SIGNATURE_BYTES = 64;

/**
 * A signer of receipts whose private key never leaves the vault: an EC key on P-256, named by the id of one version. Its public half is
 * asked for once, here; what was signed before tells whether it is still the same. Throws Fault, `KeyUnsupported` for another kind of key.
 */
export async function openAzureKeyVaultSigner(name: string, config: AzureKeyVaultConfig, keyId: string): Promise<Signer> {
  const wire = await openWire(name, config);
  const publicKey = await publicKeyOf(wire, keyId);
  return {
    publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    sign: (bytes) => sign(wire, keyId, publicKey, bytes),
    verify: (bytes, signature) => verifySignature(publicKey, bytes, signature),
  };
}

async function publicKeyOf(wire: Wire, keyId: string): Promise<KeyObject> {
  const doing = `${wire.title} getKey ${keyId}`;
  const { name, version } = placeOf(wire, keyId);
  const key = await found(doing, (options) => wire.client.getKey(name, { version, ...options }));
  if (key === null) throw new Fault('NotFound', `${doing}: no such key`);
  if (key.id !== keyId) throw new Fault('UnexpectedAnswer', `${doing}: another key’s`);
  return pointOf(key, doing);
}

function pointOf({ key }: KeyVaultKey, doing: string): KeyObject {
  const { kty, crv, x, y } = key ?? {};
  if ((kty !== 'EC' && kty !== 'EC-HSM') || crv !== 'P-256') throw new Fault('KeyUnsupported', `${doing}: expected an EC key on P-256`);
  try {
    const [xText, yText] = [x, y].map((half) => Buffer.from(half ?? []).toString('base64url'));
    return createPublicKey({
      key: { kty: 'EC', crv, ...(xText === undefined ? {} : { x: xText }), ...(yText === undefined ? {} : { y: yText }) },
      format: 'jwk',
    });
  } catch (cause) {
    throw new Fault('UnexpectedAnswer', `${doing}: not a point on P-256`, { cause });
  }
}

async function sign(wire: Wire, keyId: string, publicKey: KeyObject, bytes: Buffer): Promise<string> {
  const doing = `${wire.title} sign ${keyId}`;
  const { name, version } = placeOf(wire, keyId);
  const digest = createHash('sha256').update(bytes).digest();
  const outcome = await ask(doing, (options) => wire.client.getCryptographyClient(name, { keyVersion: version }).sign(ALGORITHM, digest, options));
  if (outcome.kind === 'refused') throw refusalFault(outcome.heard, doing);
  const { result } = outcome.value;
  const signature = result instanceof Uint8Array && result.length === SIGNATURE_BYTES ? derOf(Buffer.from(result)).toString('base64') : '';
  if (outcome.heard.kid !== keyId || !verifySignature(publicKey, bytes, signature))
    throw new Fault('UnexpectedAnswer', `${doing}: not a signature of that key`);
  return signature;
}

/** r and s as ECDSA-Sig-Value of RFC 3279 §2.2.3, DER: what every verifier of receipts reads. */
function derOf(raw: Buffer): Buffer {
  const body = Buffer.concat([integer(raw.subarray(0, SIGNATURE_BYTES / 2)), integer(raw.subarray(SIGNATURE_BYTES / 2))]);
  return Buffer.concat([Buffer.of(0x30, body.length), body]);
}

/** Without leading zeros, but for one where the first bit would make it negative. */
function integer(bytes: Buffer): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const digits = bytes.subarray(start);
  const content = digits.readUInt8() < 0x80 ? digits : Buffer.concat([Buffer.of(0), digits]);
  return Buffer.concat([Buffer.of(0x02, content.length), content]);
}
