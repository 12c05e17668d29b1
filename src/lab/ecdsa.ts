import { createECDH, type KeyObject } from 'node:crypto';

/** The order of P-256's base point (FIPS 186-5, SP 800-186 §3.2.1.3). */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const DIGEST_BYTES = 32;

/**
 * An ECDSA signature on P-256 over a digest that was made elsewhere, as a key store's client sends it: r and s, 32 bytes each. Node signs
 * what it has hashed itself alone. Not in constant time: the lab's keys protect nothing. Throws RangeError for another length of digest.
 */
export function signDigest(privateKey: KeyObject, digest: Buffer): Buffer {
  if (digest.length !== DIGEST_BYTES) throw new RangeError(`a digest of ${DIGEST_BYTES} bytes`);
  const { d = '' } = privateKey.export({ format: 'jwk' });
  // An ephemeral key pair is the nonce and the point that belongs to it.
  const ephemeral = createECDH('prime256v1');
  const r = numberOf(ephemeral.generateKeys().subarray(1, 1 + DIGEST_BYTES)) % ORDER;
  const nonce = numberOf(ephemeral.getPrivateKey());
  const s = (inverseOf(nonce) * (numberOf(digest) + r * numberOf(Buffer.from(d, 'base64url')))) % ORDER;
  return Buffer.from([r, s].map((number) => number.toString(16).padStart(2 * DIGEST_BYTES, '0')).join(''), 'hex');
}

/** The same as ECDSA-Sig-Value of RFC 3279 §2.2.3, DER. */
export function derOf(signature: Buffer): Buffer {
  const integer = (bytes: Buffer): Buffer => {
    const digits = bytes.subarray(
      Math.max(
        0,
        Math.min(
          bytes.length - 1,
          bytes.findIndex((byte) => byte !== 0),
        ),
      ),
    );
    // A first bit of one would make it negative.
    const content = digits.readUInt8() < 0x80 ? digits : Buffer.concat([Buffer.of(0), digits]);
    return Buffer.concat([Buffer.of(0x02, content.length), content]);
  };
  const body = Buffer.concat([integer(signature.subarray(0, DIGEST_BYTES)), integer(signature.subarray(DIGEST_BYTES))]);
  return Buffer.concat([Buffer.of(0x30, body.length), body]);
}

function numberOf(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex')}`);
}

/** By Fermat's little theorem: the order is prime. */
function inverseOf(number: bigint): bigint {
  let [result, base] = [1n, number];
  for (let exponent = ORDER - 2n; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * base) % ORDER;
    base = (base * base) % ORDER;
  }
  return result;
}
