import { createPublicKey, type KeyObject } from 'node:crypto';
import { type Digest, digestOf, isDigest } from '../digest.ts';
import { type Instant, parseInstant } from '../instant.ts';
import { parseDocument } from './documents/parse.ts';
import { rolesOf } from './documents/rules.ts';
import type { TrustDocument } from './documents/trust.ts';
import type { Reason } from './reasons.ts';
import type { Quorum, RepositoryFile, TrustedIdentity, TrustedKey, TrustedSigners } from './signatures.ts';
import { trustedRootMistake } from './trusted-root.ts';

/** A checked trust document. Only `readTrust` makes one. */
export interface Trust extends TrustedSigners {
  readonly version: number;
  readonly digest: Digest;
  readonly expires: Instant;
  readonly roles: TrustDocument['roles'];
  /** The commit from which a rewritten branch is accepted again; null: none. */
  readonly history: string | null;
}

/** A trust document that holds, or what is wrong with it. */
export type TrustVerdict = { readonly kind: 'trusted'; readonly trust: Trust } | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string };

/** The curves that the verifier takes. */
const CURVES: readonly (string | undefined)[] = ['prime256v1', 'secp384r1'];

/** The bytes of a file that a document names, where the repository held exactly those; null: they were not there. */
export type NamedFiles = (path: string, digest: Digest) => Uint8Array | null;

/** Of a document that can name none, or of whom nobody could ask. */
export const NO_FILES: NamedFiles = () => null;

/** Checks a document against a digest that the configuration pins, then by itself (`readTrust`). `file` null: the repository holds none. */
export function verifyTrust(file: RepositoryFile | null, pinned: Digest, files: NamedFiles = NO_FILES): TrustVerdict {
  if (file === null) return { kind: 'bad', reason: 'TrustMissing', about: `no trust document is ${pinned}, which the configuration pins` };
  const digest = digestOf(file.bytes);
  if (digest !== pinned) return { kind: 'bad', reason: 'TrustMissing', about: `${file.path} is ${digest}; the configuration pins ${pinned}` };
  return readTrust(file, files);
}

/**
 * Checks a trust document by itself: every key is P-256 or P-384 and belongs to one person, so does every
 * identity, the trusted root that it names is there and is one, and every role can be filled by people who
 * have a key or an identity. Without a trusted root identities are read past: nobody vouches for them. Who
 * signed the document is not asked here. `FileMissing`: the root may still come. Never throws.
 */
export function readTrust(file: RepositoryFile, files: NamedFiles = NO_FILES): TrustVerdict {
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return parsed;
  if (parsed.document.kind !== 'Trust') return { kind: 'bad', reason: 'WrongPlace', about: `${file.path}: kind: expected Trust` };
  const { document } = parsed;
  const root = rootOf(document, file.path, files);
  if (root.kind === 'bad') return root;
  const read = signersOf(document, file.path, root.bytes !== null);
  if (read.kind === 'bad') return read;
  const { keys, identities } = read;
  const able = new Set([...keys, ...identities].map(({ person }) => person));
  const unfilled = unfilledBy(document, able);
  if (unfilled !== null) {
    const named = new Set([...able, ...document.people.flatMap(({ id, identities: own = [] }) => (own.length > 0 ? [id] : []))]);
    if (root.bytes !== null || unfilledBy(document, named) !== null)
      return { kind: 'bad', reason: 'Malformed', about: `${file.path}: ${unfilled}: expected enough people with a key or an identity` };
    return { kind: 'bad', reason: 'TrustedRootMissing', about: `${file.path}: ${unfilled}: expected enough people with keys, or a trustedRoot` };
  }
  const { version, roles, history = null } = document;
  const signers: TrustedSigners = { keys, identities, trustedRoot: root.bytes };
  return { kind: 'trusted', trust: { version, digest: digestOf(file.bytes), expires: parseInstant(document.expires), ...signers, roles, history } };
}

/** The first role that these people cannot fill; null: they fill every one. */
function unfilledBy(document: TrustDocument, able: ReadonlySet<string>): string | null {
  const unfilled = rolesOf(document).find(({ threshold, people, spare }) => people.filter((person) => able.has(person)).length < threshold + spare);
  return unfilled?.field ?? null;
}

/** The trusted root that the document names; `bytes` null: it names none. */
function rootOf(
  { trustedRoot = null }: TrustDocument,
  path: string,
  files: NamedFiles,
): { readonly kind: 'found'; readonly bytes: Uint8Array | null } | Extract<TrustVerdict, { kind: 'bad' }> {
  if (trustedRoot === null) return { kind: 'found', bytes: null };
  const { file, digest } = trustedRoot;
  const bytes = isDigest(digest) ? files(file, digest) : null;
  if (bytes === null || digestOf(bytes) !== digest)
    return { kind: 'bad', reason: 'FileMissing', about: `${path}: trustedRoot: ${file} with ${digest} is not there` };
  const mistake = trustedRootMistake(bytes);
  if (mistake !== null) return { kind: 'bad', reason: 'Malformed', about: `${path}: trustedRoot: ${file}: ${mistake.field}: expected ${mistake.expected}` };
  return { kind: 'found', bytes };
}

type Read =
  | { readonly kind: 'read'; readonly keys: readonly TrustedKey[]; readonly identities: readonly TrustedIdentity[] }
  | Extract<TrustVerdict, { kind: 'bad' }>;

function signersOf(document: TrustDocument, path: string, hasRoot: boolean): Read {
  const read = keysOf(document, path);
  if (read.kind === 'bad') return read;
  if (!hasRoot) return { ...read, identities: [] };
  const identities: TrustedIdentity[] = [];
  for (const [index, { id: person, identities: own = [] }] of document.people.entries()) {
    for (const [at, { issuer, subject }] of own.entries()) {
      const twin = identities.find((one) => one.issuer === issuer && one.subject === subject);
      const field = `${path}: people.${index}.identities.${at}`;
      if (twin !== undefined) return { kind: 'bad', reason: 'Malformed', about: `${field}: expected an identity of its own; ${twin.person} has the same` };
      identities.push({ person, issuer, subject });
    }
  }
  return { ...read, identities };
}

function keysOf(
  document: TrustDocument,
  path: string,
): { readonly kind: 'read'; readonly keys: readonly TrustedKey[] } | Extract<TrustVerdict, { kind: 'bad' }> {
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
