import { createPublicKey, type KeyObject } from 'node:crypto';
import { type Digest, digestOf } from '../digest.ts';
import { type Instant, parseInstant } from '../instant.ts';
import { parseDocument } from './documents/parse.ts';
import { rolesOf } from './documents/rules.ts';
import type { TrustDocument } from './documents/trust.ts';
import type { Reason } from './reasons.ts';
import type { Quorum, RepositoryFile, TrustedKey } from './signatures.ts';

/** A checked trust document. Only `readTrust` makes one. */
export interface Trust {
  readonly version: number;
  readonly digest: Digest;
  readonly expires: Instant;
  readonly keys: readonly TrustedKey[];
  readonly roles: TrustDocument['roles'];
  /** The commit from which a rewritten branch is accepted again; null: none. */
  readonly history: string | null;
}

/** A trust document that holds, or what is wrong with it. */
export type TrustVerdict = { readonly kind: 'trusted'; readonly trust: Trust } | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string };

/** The curves that the verifier takes. */
const CURVES: readonly (string | undefined)[] = ['prime256v1', 'secp384r1'];

/** Checks a document against a digest that the configuration pins, then by itself (`readTrust`). `file` null: the repository holds none. */
export function verifyTrust(file: RepositoryFile | null, pinned: Digest): TrustVerdict {
  if (file === null) return { kind: 'bad', reason: 'TrustMissing', about: `no trust document is ${pinned}, which the configuration pins` };
  const digest = digestOf(file.bytes);
  if (digest !== pinned) return { kind: 'bad', reason: 'TrustMissing', about: `${file.path} is ${digest}; the configuration pins ${pinned}` };
  return readTrust(file);
}

/**
 * Checks a trust document by itself: every key is P-256 or P-384 and belongs to one person, and every role
 * can be filled by people who have a key. The identities of keyless signers are read past: they do not count
 * in this version. Who signed the document is not asked here. Never throws.
 */
export function readTrust(file: RepositoryFile): TrustVerdict {
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return parsed;
  if (parsed.document.kind !== 'Trust') return { kind: 'bad', reason: 'WrongPlace', about: `${file.path}: kind: expected Trust` };
  const { document } = parsed;
  const read = keysOf(document, file.path);
  if (read.kind === 'bad') return read;
  const { keys } = read;
  const able = new Set(keys.map(({ person }) => person));
  const unfilled = rolesOf(document).find(({ threshold, people, spare }) => people.filter((person) => able.has(person)).length < threshold + spare);
  if (unfilled !== undefined)
    return { kind: 'bad', reason: 'NotSupportedYet', about: `${file.path}: ${unfilled.field}: expected enough people with keys; identities do not count yet` };
  const { version, roles, history = null } = document;
  return { kind: 'trusted', trust: { version, digest: digestOf(file.bytes), expires: parseInstant(document.expires), keys, roles, history } };
}

type Read = { readonly kind: 'read'; readonly keys: readonly TrustedKey[] } | Extract<TrustVerdict, { kind: 'bad' }>;

function keysOf(document: TrustDocument, path: string): Read {
  const owners = new Map<string, string>();
  const keys: TrustedKey[] = [];
  for (const [index, { id: person, keys: pems }] of document.people.entries()) {
    for (const [at, pem] of pems.entries()) {
      const field = `${path}: people.${index}.keys.${at}`;
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
  return { kind: 'read', keys };
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
