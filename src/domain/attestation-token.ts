import { createHash, timingSafeEqual, X509Certificate } from 'node:crypto';
import { compactVerify } from 'jose';
import { type Digest, digestOf } from '../digest.ts';
import { type Instant, millisecondsOf } from '../instant.ts';
import { canonicalJson, type Json } from './json.ts';

/** A token of an eight-GPU guest with its evidence in it is long; more than a request's head may hold is none. */
const TOKEN_MAX_CHARACTERS = 256 * 1024;
/** Leaf, intermediates, root. */
const CHAIN_MAX = 8;

/** A JSON object, as a token holds it: read by own members only. */
export type Members = { readonly [name: string]: Json };

/** A value as an object; null: it is none. */
export function membersOf(value: Json | undefined): Members | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Members) : null;
}

/** An own member of an object; undefined: the value is no object, or has no such member of its own. */
export function memberOf(value: Json | undefined, name: string): Json | undefined {
  const members = membersOf(value);
  return members !== null && Object.hasOwn(members, name) ? members[name] : undefined;
}

/** Header and payload of a JWS in compact form, not verified; null: it is none. */
export function decodeToken(token: string): { readonly header: Members; readonly payload: Members } | null {
  if (token.length > TOKEN_MAX_CHARACTERS) return null;
  const parts = token.split('.');
  const [header, payload] = parts.slice(0, 2).map((part) => jsonOf(part));
  if (parts.length !== 3 || header === undefined || payload === undefined || header === null || payload === null) return null;
  return { header, payload };
}

function jsonOf(part: string): Members | null {
  try {
    return membersOf(JSON.parse(Buffer.from(part, 'base64url').toString('utf8')) as Json);
  } catch {
    return null;
  }
}

// ---------------------------------------------------------------- the signer

/** Whose signature a token carries. */
export interface TokenSigner {
  /** SHA-256 of the leaf certificate's DER. */
  readonly leaf: Digest;
  /** SHA-256 of the pinned CA's DER. */
  readonly authority: Digest;
}

/** What was found wrong, in the words of a log line. */
export interface Wrong {
  readonly wrong: string;
}

/**
 * Verifies a token as RFC 7515 says, with the key of `x5c[0]` and no other: algorithm ES256, header
 * `jwk` the same key, and a chain to one of the pinned CAs (PEM, several a text allowed) in which every
 * certificate is in date at `at`. A genuine chain in front of somebody else's key is the trap here.
 */
export async function verifyToken(token: string, header: Members, at: Instant, authorities: readonly string[]): Promise<TokenSigner | Wrong> {
  if (memberOf(header, 'alg') !== 'ES256') return { wrong: 'alg is not ES256' };
  if (memberOf(header, 'crit') !== undefined) return { wrong: 'crit is not understood' };
  const jwk = membersOf(memberOf(header, 'jwk'));
  const chain = jwk === null ? null : chainOf(memberOf(jwk, 'x5c'));
  const leaf = chain?.[0];
  if (jwk === null || chain === null || leaf === undefined) return { wrong: 'the header carries no certificate chain (jwk.x5c)' };
  if (!isKeyOf(leaf, jwk)) return { wrong: 'the header’s jwk is not the key of its certificate' };
  const authority = authorityOf(chain, at, authorities);
  if (authority === null) return { wrong: 'the signer’s certificate does not chain to a pinned CA in date' };
  const verified = await compactVerify(token, leaf.publicKey, { algorithms: ['ES256'] }).catch(() => null);
  if (verified === null) return { wrong: 'the signature does not verify' };
  return { leaf: digestOf(leaf.raw), authority: digestOf(authority.raw) };
}

function chainOf(x5c: Json | undefined): readonly X509Certificate[] | null {
  if (!Array.isArray(x5c) || x5c.length === 0 || x5c.length > CHAIN_MAX) return null;
  try {
    return x5c.map((entry: Json) => {
      if (typeof entry !== 'string') throw new TypeError('not a certificate');
      return new X509Certificate(Buffer.from(entry, 'base64'));
    });
  } catch {
    return null;
  }
}

function isKeyOf(leaf: X509Certificate, jwk: Members): boolean {
  const key = leaf.publicKey.export({ format: 'jwk' });
  return key.kty === 'EC' && key.crv === 'P-256' && (['kty', 'crv', 'x', 'y'] as const).every((name) => memberOf(jwk, name) === key[name]);
}

/** Walks from the leaf through the chain that was sent, in any order, to a pinned CA. The CA that counts is ours, never the one sent. */
function authorityOf(chain: readonly X509Certificate[], at: Instant, authorities: readonly string[]): X509Certificate | null {
  const pinned = authorities.flatMap(certificatesIn).filter((certificate) => certificate.ca && inDate(certificate, at));
  let [current, ...others] = chain;
  for (let links = 0; links < CHAIN_MAX && current !== undefined; links++) {
    const issued: X509Certificate = current;
    if (!inDate(issued, at)) return null;
    const authority = pinned.find((certificate) => isIssuedBy(issued, certificate));
    if (authority !== undefined) return authority;
    current = others.find((certificate) => certificate.ca && isIssuedBy(issued, certificate));
    others = others.filter((certificate) => certificate !== current);
  }
  return null;
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** Throws Error for a pinned certificate that cannot be read: that is the operator's file, not the guest's word. */
function certificatesIn(pem: string): readonly X509Certificate[] {
  return (pem.match(PEM_CERTIFICATE) ?? []).map((text) => new X509Certificate(text));
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function inDate(certificate: X509Certificate, at: Instant): boolean {
  const moment = millisecondsOf(at);
  return certificate.validFromDate.getTime() <= moment && moment <= certificate.validToDate.getTime();
}

// ---------------------------------------------------------------- the TEE key

/** RFC 7638 §3.2 and, for AKP, draft-ietf-cose-dilithium: the members that make the thumbprint. */
const THUMBPRINT_MEMBERS: Readonly<Record<string, readonly string[]>> = { EC: ['crv', 'kty', 'x', 'y'], RSA: ['e', 'kty', 'n'], AKP: ['alg', 'kty', 'pub'] };
/** Members that are base64url of bytes: two spellings of one key must not have two thumbprints. */
const BYTES = new Set(['x', 'y', 'n', 'e', 'pub']);

/** RFC 7638 thumbprint, base64url of SHA-256; null: no public key that a KBS could encrypt to. */
export function thumbprintOf(key: Json | undefined): string | null {
  const kty = memberOf(key, 'kty');
  const names = typeof kty === 'string' && Object.hasOwn(THUMBPRINT_MEMBERS, kty) ? THUMBPRINT_MEMBERS[kty] : undefined;
  if (names === undefined) return null;
  const members: Record<string, string> = {};
  for (const name of names) {
    const value = memberOf(key, name);
    if (typeof value !== 'string' || value === '' || (BYTES.has(name) && Buffer.from(value, 'base64url').toString('base64url') !== value)) return null;
    members[name] = value;
  }
  return createHash('sha256').update(canonicalJson(members)).digest('base64url');
}

/** `submods.cpu0`'s annotated evidence: what the attestation service took the evidence to say. */
export function evidenceOf(submod: Json | undefined): Members | null {
  return membersOf(memberOf(submod, 'ear.veraison.annotated-evidence'));
}

// ---------------------------------------------------------------- the binding

/** Bytes of evidence as verifiers write them: hexadecimal (snp, tdx, nvidia) or base64 (sample). */
function bytesIn(text: string): Buffer {
  return /^(?:[0-9a-f]{2})+$/i.test(text) && [64, 96, 128].includes(text.length) ? Buffer.from(text, 'hex') : Buffer.from(text, 'base64');
}

/** Report data of a CPU is 64 bytes, a GPU's nonce 32; SHA-384 gives 48. */
const CPU_REPORT_BYTES = 64;
const GPU_NONCE_BYTES = 32;

/**
 * Whether `report_data` is SHA-384 over the RFC 8785 form of these runtime data, as the TEE holds it:
 * whole, padded with zeros to 64 bytes or, for a device, cut to 32 bytes.
 */
export function isBound(reportData: string, runtimeData: Members, kind: 'cpu' | 'device'): boolean {
  const digest = createHash('sha384').update(canonicalJson(runtimeData)).digest();
  const padded = Buffer.concat([digest], CPU_REPORT_BYTES);
  const forms = kind === 'device' ? [digest, padded, digest.subarray(0, GPU_NONCE_BYTES)] : [digest, padded];
  const bytes = bytesIn(reportData);
  return forms.some((form) => form.length === bytes.length && timingSafeEqual(form, bytes));
}
