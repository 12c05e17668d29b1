import type { Digest } from '../digest.ts';
import type { Instant } from '../instant.ts';
import { signerOfBundle } from './documents/places.ts';
import type { Reason } from './reasons.ts';

/** A key that counts, and whose it is. */
export interface TrustedKey {
  /** An id of the trust document's `people`. */
  readonly person: string;
  /** SubjectPublicKeyInfo, PEM. */
  readonly pem: string;
}

/** What one bundle says about one document: whose signature it is, or why it is none. */
export type BundleVerdict =
  | { readonly kind: 'signed'; readonly person: string; readonly keyDigest: Digest }
  | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string };

/** Verifies a Sigstore bundle over a document's exact bytes. Never throws: whatever goes wrong is a refusal (`adapters/sigstore`). */
export type VerifyBundle = (bundle: Uint8Array, document: Uint8Array, keys: readonly TrustedKey[]) => BundleVerdict;

/** Somebody whose signatures do not count any more. */
export interface RevokedSigner {
  readonly person: string;
  /** Of that one key: SHA-256 of its SubjectPublicKeyInfo; null: of any. */
  readonly key: string | null;
  /** What was accepted before stands; null: nothing does. */
  readonly since: Instant | null;
}

/** The same verification, without what these people signed: their bundles are bad ones, and the reason is `Revoked`. */
export function withoutSigners(verifyBundle: VerifyBundle, signers: readonly RevokedSigner[]): VerifyBundle {
  if (signers.length === 0) return verifyBundle;
  return (bundle, document, keys) => {
    const verdict = verifyBundle(bundle, document, keys);
    if (verdict.kind === 'bad') return verdict;
    const { person, keyDigest } = verdict;
    const revoked = signers.some((signer) => signer.person === person && (signer.key === null || signer.key === keyDigest));
    return revoked ? { kind: 'bad', reason: 'Revoked', about: `a revocation names ${person} as a signer` } : verdict;
  };
}

/** A file of the repository. */
export interface RepositoryFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** How many of whom must have signed. */
export interface Quorum {
  readonly threshold: number;
  readonly people: readonly string[];
}

/** Who signed: enough people, in the order of their ids, or what is missing. */
export type Count =
  | { readonly kind: 'enough'; readonly people: readonly string[] }
  | { readonly kind: 'short'; readonly people: readonly string[]; readonly reason: Reason; readonly about: string };

/** Bundles of one document that are looked at: each costs a verification under every key. */
export const BUNDLES_MAX = 64;

/** What a bundle of a document says: verified once, counted for several roles. */
export interface Looked {
  readonly path: string;
  readonly verdict: BundleVerdict;
}

/**
 * Verifies a document's bundles: first those whose name says a person of the trust document, then the
 * others, each as given. A name is free for anybody to take, but one file holds it: whoever lays junk beside
 * the bundles of `ann` and `bob` cannot push those beyond `BUNDLES_MAX`, which are left out and said to be.
 */
export function lookAt(
  document: RepositoryFile,
  bundles: readonly RepositoryFile[],
  keys: readonly TrustedKey[],
  verifyBundle: VerifyBundle,
): readonly Looked[] {
  const people = new Set(keys.map(({ person }) => person));
  const [named = [], others = []] = [true, false].map((isNamed) => bundles.filter(({ path }) => people.has(signerOfBundle(path) ?? '') === isNamed));
  return [...named, ...others].map(({ path, bytes }, index) => {
    if (index >= BUNDLES_MAX) return { path, verdict: { kind: 'bad', reason: 'LimitExceeded', about: `more than ${BUNDLES_MAX} bundles` } };
    return { path, verdict: verifyBundle(bytes, document.bytes, keys) };
  });
}

/**
 * Counts distinct people (DESIGN §6). A bad bundle never spoils a good quorum: it is named only where
 * the count falls short, and then it is the reason, since mending it is the nearest way out.
 */
export function countPeople(looked: readonly Looked[], quorum: Quorum): Count {
  const signed = looked.flatMap(({ verdict }) => (verdict.kind === 'signed' ? [verdict.person] : []));
  const people = [...new Set(signed)].filter((person) => quorum.people.includes(person)).sort();
  if (people.length >= quorum.threshold && quorum.threshold > 0) return { kind: 'enough', people };
  const about = `${people.length} of ${quorum.threshold} people have signed${people.length > 0 ? ` (${people.join(', ')})` : ''}`;
  for (const { path, verdict } of looked) {
    if (verdict.kind === 'bad') return { kind: 'short', people, reason: verdict.reason, about: `${about}; ${path}: ${verdict.about}` };
    if (!quorum.people.includes(verdict.person)) {
      return { kind: 'short', people, reason: 'SignerNotEntitled', about: `${about}; ${path}: ${verdict.person} holds no role for it` };
    }
  }
  const twice = signed.find((person, index) => signed.indexOf(person) !== index);
  if (twice !== undefined) return { kind: 'short', people, reason: 'SignedTwiceByOne', about: `${about}; ${twice} signed more than once` };
  return { kind: 'short', people, reason: 'SignaturesMissing', about };
}
