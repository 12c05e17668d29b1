import { createPublicKey, type KeyObject } from 'node:crypto';
import { type Digest, digestOf } from '../digest.ts';
import { type Instant, parseInstant } from '../instant.ts';
import { parseDocument } from './documents/parse.ts';
import { rolesOf } from './documents/rules.ts';
import type { TrustDocument } from './documents/trust.ts';
import type { Reason } from './reasons.ts';
import type { Quorum, RepositoryFile, TrustedKey } from './signatures.ts';

/** A checked trust document. Only `verifyTrust` makes one. */
export interface Trust {
  readonly version: number;
  readonly digest: Digest;
  readonly expires: Instant;
  readonly keys: readonly TrustedKey[];
  readonly roles: TrustDocument['roles'];
}

/** Where the pinned trust document lives. */
export const TRUST_PATH = 'trust/1.yaml';

/** The curves that the verifier takes. */
const CURVES: readonly (string | undefined)[] = ['prime256v1', 'secp384r1'];

/**
 * Checks version 1 against the digest that the configuration pins, then against itself: every key is
 * P-256 or P-384 and belongs to one person, and every role can be filled by people who have a key. The
 * identities of keyless signers are read past: they do not count in this version. `file` null: the
 * repository holds none.
 */
export function verifyTrust(
  file: RepositoryFile | null,
  initialDigest: Digest,
): { readonly kind: 'trusted'; readonly trust: Trust } | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string } {
  if (file === null) return { kind: 'bad', reason: 'TrustMissing', about: `${TRUST_PATH} is not there; the configuration pins ${initialDigest}` };
  const digest = digestOf(file.bytes);
  if (digest !== initialDigest) return { kind: 'bad', reason: 'TrustMissing', about: `${TRUST_PATH} is ${digest}; the configuration pins ${initialDigest}` };
  const parsed = parseDocument(TRUST_PATH, file.bytes);
  if (parsed.kind === 'bad') return parsed;
  if (parsed.document.kind !== 'Trust') return { kind: 'bad', reason: 'WrongPlace', about: `${TRUST_PATH}: kind: expected Trust` };
  return checkKeys(parsed.document, digest);
}

function checkKeys(document: TrustDocument, digest: Digest): ReturnType<typeof verifyTrust> {
  const owners = new Map<string, string>();
  const keys: TrustedKey[] = [];
  for (const [index, { id: person, keys: pems }] of document.people.entries()) {
    for (const [at, pem] of pems.entries()) {
      const field = `${TRUST_PATH}: people.${index}.keys.${at}`;
      const key = readPublicKey(pem);
      if (key === null) return { kind: 'bad', reason: 'Malformed', about: `${field}: expected one PEM public key (SubjectPublicKeyInfo)` };
      if (!isSupportedKey(key)) return { kind: 'bad', reason: 'KeyUnsupported', about: `${field}: expected P-256 or P-384, found ${nameOf(key)}` };
      const name = pointOf(key);
      const owner = owners.get(name);
      if (owner !== undefined) return { kind: 'bad', reason: 'Malformed', about: `${field}: expected a key of its own; ${owner} has the same` };
      owners.set(name, person);
      keys.push({ person, pem });
    }
  }
  const unfilled = roleWithoutKeys(document, new Set(owners.values()));
  if (unfilled !== null)
    return { kind: 'bad', reason: 'NotSupportedYet', about: `${TRUST_PATH}: ${unfilled}: expected enough people with keys; identities do not count yet` };
  return { kind: 'trusted', trust: { version: document.version, digest, expires: parseInstant(document.expires), keys, roles: document.roles } };
}

function roleWithoutKeys(document: TrustDocument, withKeys: ReadonlySet<string>): string | null {
  const found = rolesOf(document).find(({ threshold, people, spare }) => people.filter((person) => withKeys.has(person)).length < threshold + spare);
  return found?.field ?? null;
}

/** A public key in PEM, exactly one; null: it is none. A private key is none. */
export function readPublicKey(pem: string): KeyObject | null {
  const trimmed = pem.trim();
  if (!/^-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----$/.test(trimmed)) return null;
  try {
    return createPublicKey(trimmed);
  } catch {
    return null;
  }
}

/** Whether signatures by this key can be verified: ECDSA on P-256 or P-384. */
export function isSupportedKey(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ec' && CURVES.includes(key.asymmetricKeyDetails?.namedCurve);
}

/** SHA-256 of the DER SubjectPublicKeyInfo: a key's name. */
export function keyDigestOf(key: KeyObject): Digest {
  return digestOf(key.export({ format: 'der', type: 'spki' }));
}

/** The key itself, however its bytes were written: DER has a compressed form beside the plain one, and two digests for one key would be two people. */
function pointOf(key: KeyObject): string {
  const { crv, x, y } = key.export({ format: 'jwk' });
  return `${crv} ${x} ${y}`;
}

function nameOf(key: KeyObject): string {
  return key.asymmetricKeyDetails?.namedCurve ?? key.asymmetricKeyType ?? 'another kind';
}

/** Who approves this workload's releases: the first entry that names it or `*` decides. null: nobody does. */
export function approversOf(trust: Trust, workload: string): Quorum | null {
  return trust.roles.approvers.find((entry) => entry.workloads.includes(workload) || entry.workloads.includes('*')) ?? null;
}
