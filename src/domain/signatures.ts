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

/** An identity that counts, and whose it is: what a certificate of the trusted root's authority has to say, byte for byte. */
export interface TrustedIdentity {
  /** An id of the trust document's `people`. */
  readonly person: string;
  /** The OpenID Connect issuer that vouched for the subject. */
  readonly issuer: string;
  /** The certificate's one subject alternative name: an address or a URI. */
  readonly subject: string;
}

/** Whose signatures count. */
export interface TrustedSigners {
  readonly keys: readonly TrustedKey[];
  /** Empty where there is no trusted root. */
  readonly identities: readonly TrustedIdentity[];
  /** Sigstore's trusted root, as JSON: whose certificates, log entries and timestamps are believed; null: nobody's, and keys alone count. */
  readonly trustedRoot: Uint8Array | null;
}

/** With what somebody signed: a key (SHA-256 of its SubjectPublicKeyInfo), or an identity that a certificate names. */
export type SignedWith = { readonly kind: 'key'; readonly digest: Digest } | { readonly kind: 'identity'; readonly issuer: string; readonly subject: string };

/** Somebody's signature that counted. */
export interface Signature {
  readonly person: string;
  readonly by: SignedWith;
}

/** What one bundle says about one document: whose signature it is, or why it is none. */
export type BundleVerdict = ({ readonly kind: 'signed' } & Signature) | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string };

/** Verifies a Sigstore bundle over a document's exact bytes. Never throws: whatever goes wrong is a refusal (`adapters/sigstore`). */
export type VerifyBundle = (bundle: Uint8Array, document: Uint8Array, signers: TrustedSigners) => BundleVerdict;

/** Somebody whose signatures do not count any more. */
export interface RevokedSigner {
  readonly person: string;
  /** Of that one key: SHA-256 of its SubjectPublicKeyInfo; null: of any, and of every identity. */
  readonly key: string | null;
  /** What was accepted before stands; null: nothing does. */
  readonly since: Instant | null;
}

/** The same verification, without what these people signed: their bundles are bad ones, and the reason is `Revoked`. */
export function withoutSigners(verifyBundle: VerifyBundle, signers: readonly RevokedSigner[]): VerifyBundle {
  if (signers.length === 0) return verifyBundle;
  return (bundle, document, trusted) => {
    const verdict = verifyBundle(bundle, document, trusted);
    if (verdict.kind === 'bad') return verdict;
    const { person, by } = verdict;
    const revoked = signers.some((signer) => signer.person === person && (signer.key === null || (by.kind === 'key' && signer.key === by.digest)));
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

/** Who signed, and how: enough people, in the order of their ids, or what is missing. */
export type Count =
  | { readonly kind: 'enough'; readonly people: readonly string[]; readonly signatures: readonly Signature[] }
  | { readonly kind: 'short'; readonly people: readonly string[]; readonly reason: Reason; readonly about: string };

/** Reasons for which another signature is the way on. */
export const SIGNATURE_REASONS: readonly Reason[] = [
  ...(['SignaturesMissing', 'SignatureInvalid', 'SignerUnknown', 'SignerNotEntitled', 'SignedTwiceByOne'] as const),
  ...(['BundleUnsupported', 'KeyUnsupported', 'UnsignedRevocation', 'TrustedRootMissing', 'StatementUnfit'] as const),
  ...(['CertificateUnfit', 'CertificateUntrusted', 'CertificateExpired'] as const),
  ...(['LogEntryMissing', 'LogEntryInvalid', 'TimestampMissing', 'TimestampInvalid'] as const),
];

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
export function lookAt(document: RepositoryFile, bundles: readonly RepositoryFile[], signers: TrustedSigners, verifyBundle: VerifyBundle): readonly Looked[] {
  const people = new Set(signersIn(signers));
  const [named = [], others = []] = [true, false].map((isNamed) => bundles.filter(({ path }) => people.has(signerOfBundle(path) ?? '') === isNamed));
  return [...named, ...others].map(({ path, bytes }, index) => {
    if (index >= BUNDLES_MAX) return { path, verdict: { kind: 'bad', reason: 'LimitExceeded', about: `more than ${BUNDLES_MAX} bundles` } };
    return { path, verdict: verifyBundle(bytes, document.bytes, signers) };
  });
}

/**
 * Counts distinct people (DESIGN §6). A bad bundle never spoils a good quorum: it is named only where
 * the count falls short, and then it is the reason, since mending it is the nearest way out.
 */
export function countPeople(looked: readonly Looked[], quorum: Quorum): Count {
  const signed = looked.flatMap(({ verdict }) => (verdict.kind === 'signed' ? [verdict.person] : []));
  const people = [...new Set(signed)].filter((person) => quorum.people.includes(person)).sort();
  if (people.length >= quorum.threshold && quorum.threshold > 0) return { kind: 'enough', people, signatures: signaturesOf(looked, people) };
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

/** The signatures of these people, each once, in the order of the people's ids. */
export function signaturesOf(looked: readonly Looked[], people: readonly string[]): readonly Signature[] {
  const found = new Map<string, Signature>();
  for (const { verdict } of looked) {
    if (verdict.kind === 'signed' && people.includes(verdict.person))
      found.set(JSON.stringify([verdict.person, verdict.by]), { person: verdict.person, by: verdict.by });
  }
  return [...found.values()].sort((a, b) => (a.person < b.person ? -1 : Number(a.person > b.person)));
}

/** Everybody who has a key or an identity among these. */
export function signersIn({ keys, identities }: TrustedSigners): readonly string[] {
  return [...keys, ...identities].map(({ person }) => person);
}

/** Who signed, for people: the person, and behind those who signed with an identity its subject and issuer. */
export function signerNames(people: readonly string[], signatures: readonly Signature[]): readonly string[] {
  return people.map((person) => {
    const identities = signatures.flatMap(({ person: signer, by }) => (signer === person && by.kind === 'identity' ? [`${by.subject} of ${by.issuer}`] : []));
    return identities.length === 0 ? person : `${person} (${identities.join(', ')})`;
  });
}
