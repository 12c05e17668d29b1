import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { CompactSign, compactVerify, decodeProtectedHeader, FlattenedEncrypt, importJWK, type JWK } from 'jose';
import { inTime } from './kbs-admin.ts';
import { isObject, type Json, member } from './kbs-wire.ts';

/** The attestation service's token signer: an EC P-256 key, and its chain with the leaf first and the trusted CA last. PEM. */
export interface LabTokenSigner {
  readonly keyPem: string;
  readonly chainPem: string;
}

/** Signs attestation results, and says whether one may be believed. */
export interface LabTokens {
  /** The EAR as a JWT: the key, and its chain where there is one, stand in the header. */
  readonly sign: (claims: Json) => Promise<string>;
  /** Its claims, where signature, chain and `exp` hold; null otherwise. Nothing else is checked. */
  readonly verify: (token: string, now: number) => Promise<Json | null>;
}

/**
 * Opens the signer. null: a key of its own, and any key in a token's header is believed, as a KBS with
 * `insecure_header_jwk = true` does.
 */
export function openTokens(signer: LabTokenSigner | null, leewaySeconds: number): LabTokens {
  const key = signer === null ? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey : createPrivateKey(signer.keyPem);
  const chain = signer === null ? [] : certificatesOf(signer.chainPem);
  const { x, y } = createPublicKey(key).export({ format: 'jwk' });
  const x5c = chain.map((certificate) => certificate.raw.toString('base64'));
  const jwk = { alg: 'ES256', ...(x5c.length === 0 ? {} : { x5c }), kty: 'EC', crv: 'P-256', x: x ?? '', y: y ?? '' };
  const anchor = chain.at(-1) ?? null;
  return {
    sign: (claims) => new CompactSign(Buffer.from(JSON.stringify(claims))).setProtectedHeader({ typ: 'JWT', alg: 'ES256', jwk } as { alg: string }).sign(key),
    verify: async (token, now) => {
      try {
        return await verified(token, anchor, leewaySeconds, now);
      } catch {
        return null;
      }
    },
  };
}

/** `anchor` null: the key in the header is believed as it is. */
async function verified(token: string, anchor: X509Certificate | null, leewaySeconds: number, now: number): Promise<Json | null> {
  const header: unknown = decodeProtectedHeader(token).jwk;
  const jwk = header as JWK | undefined;
  if (jwk === undefined) return null;
  if (anchor !== null && !chains(jwk, anchor)) return null;
  const { payload } = await compactVerify(token, await importJWK(jwk, 'ES256'), { algorithms: ['ES256'] });
  const claims = JSON.parse(Buffer.from(payload).toString('utf8')) as Json;
  return isObject(claims) && inTime(claims.exp, leewaySeconds, now) ? claims : null;
}

/** The leaf's key is the header's, and it leads to the anchor, which need not be in the chain itself. Dates are the machine's, as OpenSSL has them. */
function chains(jwk: JWK, anchor: X509Certificate): boolean {
  const [leaf, ...others] = (jwk.x5c ?? []).map((der) => new X509Certificate(Buffer.from(der, 'base64')));
  if (leaf === undefined) return false;
  const { x, y } = leaf.publicKey.export({ format: 'jwk' });
  if (x !== jwk.x || y !== jwk.y) return false;
  let current = leaf;
  for (let depth = 0; depth <= others.length + 1; depth += 1) {
    if (!current.validFromDate || current.validFromDate > new Date() || current.validToDate < new Date()) return false;
    if (current.raw.equals(anchor.raw)) return true;
    const issuer = [anchor, ...others].find((candidate) => candidate !== current && current.checkIssued(candidate) && current.verify(candidate.publicKey));
    if (issuer === undefined) return false;
    current = issuer;
  }
  return false;
}

function certificatesOf(pem: string): readonly X509Certificate[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map((one) => new X509Certificate(one));
}

/**
 * The bytes, encrypted to the guest's key that stands in its token: a flattened JWE (RFC 7516 §7.2.2),
 * A256GCM. null: there is no such key in the token, or none that is served.
 */
export async function encryptTo(claims: Json, bytes: Buffer): Promise<Json | null> {
  const evidence = member(member(member(claims, 'submods'), 'cpu0'), 'ear.veraison.annotated-evidence');
  const jwk = member(member(evidence, 'runtime_data_claims'), 'tee-pubkey');
  if (!isObject(jwk)) return null;
  const alg = jwk.kty === 'RSA' ? 'RSA-OAEP-256' : 'ECDH-ES+A256KW';
  if (jwk.alg !== alg) return null;
  const key = (await importJWK({ ...(jwk as JWK) }, alg)) as CryptoKey | KeyObject;
  const jwe = await new FlattenedEncrypt(bytes).setProtectedHeader({ alg, enc: 'A256GCM' }).encrypt(key);
  const { protected: head = '', encrypted_key = '', iv = '', ciphertext, tag = '' } = jwe;
  return { protected: head, encrypted_key, iv, ciphertext, tag };
}
