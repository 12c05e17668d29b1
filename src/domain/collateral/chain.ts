import type { Instant } from '../../instant.ts';
import { type Certificate, certificateOf } from './certificate.ts';
import { type Crl, isSignedBy, names } from './crl.ts';
import type { Trouble } from './finding.ts';
import { amdHints, amdRoots } from './pins-amd.ts';
import { intelHints, intelRoots } from './pins-intel.ts';
import { nvidiaDeviceRoots, nvidiaRimRoots, nvidiaServiceRoots } from './pins-nvidia.ts';

/** Whose root it is. `operator`: who signs attestation results, named by the person who asks; it counts for tokens and nothing else. */
export type Family = 'intel' | 'amd' | 'nvidia-rim' | 'nvidia-device' | 'nvidia-service' | 'operator';

/** All families, for a certificate that may be anybody's. */
export const families: readonly Family[] = ['intel', 'amd', 'nvidia-rim', 'nvidia-device', 'nvidia-service', 'operator'];

/** What is believed: pinned roots. And certificates that are known, for items that carry no chain; those are believed for nothing. */
export interface Trust {
  readonly roots: Readonly<Record<Family, readonly Certificate[]>>;
  readonly hints: readonly Certificate[];
}

/** The vendors' own roots, and an operator's for tokens. Throws Error for an operator's certificate that cannot be read. */
export function vendorTrust(operator: readonly Certificate[] = []): Trust {
  const read = (all: readonly string[]): readonly Certificate[] => all.map((der) => certificateOf(Buffer.from(der, 'base64')));
  return {
    roots: {
      intel: read(intelRoots),
      amd: read(amdRoots),
      'nvidia-rim': read(nvidiaRimRoots),
      'nvidia-device': read(nvidiaDeviceRoots),
      'nvidia-service': read(nvidiaServiceRoots),
      operator,
    },
    hints: read([...intelHints, ...amdHints]),
  };
}

/** Under what an item is judged. Made by `scopeOf`, for one call. */
export interface Scope {
  readonly at: Instant;
  readonly trust: Trust;
  /** Every certificate that was given, and the hints: anybody's word, so each has to lead to a root. */
  readonly known: readonly Certificate[];
  /** The known ones by subject. */
  readonly bySubject: Issuers;
  /** Lists that were given, by issuer: anybody's word, so each is verified where it is used. Dates are not asked: who was ever revoked stays it. */
  readonly lists: ReadonlyMap<string, readonly Crl[]>;
  /** Signatures that were checked already. */
  readonly checked: Map<string, boolean>;
}

type Issuers = ReadonlyMap<string, readonly Certificate[]>;

/** Puts what was given in order. */
export function scopeOf(at: Instant, trust: Trust, certificates: readonly Certificate[], lists: readonly Crl[]): Scope {
  // The hints first: whoever tries some of many tries those.
  const known = [...new Map([...trust.hints, ...certificates].map((one) => [one.fingerprint, one])).values()];
  return { at, trust, known, bySubject: Map.groupBy(known, ({ subject }) => subject), lists: Map.groupBy(lists, ({ issuer }) => issuer), checked: new Map() };
}

/** From a certificate to a pinned root, both in it. */
export interface Path {
  readonly certificates: readonly Certificate[];
  readonly family: Family;
  readonly from: Instant;
  readonly until: Instant;
}

/** How many steps are taken in search of a root. Genuine ways have five; certificates can be made so that ways between them have no number. */
const STEPS_MAX = 400;
/** How many of the certificates that were given are tried as an item's signer. A folder with every device of a cluster has fewer. */
export const signersMax = 4096;

/** Leaf, four between as NVIDIA's devices have them, root; one more. */
const PATH_MAX = 7;

/**
 * The best way from a certificate to a root of one of these families: one that is in date, else the one that
 * ends last. `carried`: the only certificates that may stand between; null: whatever is known. Dates and
 * revocation are told by `troublesOf`.
 */
export function pathOf(leaf: Certificate, carried: readonly Certificate[] | null, allowed: readonly Family[], scope: Scope): Path | Trouble {
  const issuers = carried === null ? scope.bySubject : Map.groupBy(carried, ({ subject }) => subject);
  const found: Path[] = [];
  const failures: Trouble[] = [];
  walk([leaf], { issuers, allowed, scope, found, failures, steps: { left: STEPS_MAX } });
  const inDate = (path: Path): boolean => path.from <= scope.at && scope.at <= path.until;
  const best = found.reduce<Path | null>((a, b) => (a === null || (inDate(b) && !inDate(a)) || (inDate(a) === inDate(b) && b.until > a.until) ? b : a), null);
  if (best !== null) return best;
  const order: readonly string[] = ['CollateralTampered', 'RootNotPinned', 'SignerNotAuthority', 'ChainIncomplete'];
  return failures.reduce((a, b) => (order.indexOf(b.reason) < order.indexOf(a.reason) ? b : a), nowhere(leaf));
}

function nowhere(leaf: Certificate): Trouble {
  return { verdict: 'untrusted', reason: 'ChainIncomplete', about: `nobody given here has signed ${nameOf(leaf)}` };
}

/** A certificate as a person knows it. */
export function nameOf({ commonName, serial }: Certificate): string {
  return `${commonName === '' ? 'a certificate without a name' : commonName} (serial ${serial})`;
}

interface Search {
  readonly issuers: Issuers;
  readonly allowed: readonly Family[];
  readonly scope: Scope;
  readonly found: Path[];
  readonly failures: Trouble[];
  readonly steps: { left: number };
}

function walk(path: readonly Certificate[], search: Search): void {
  const { issuers, allowed, scope, found, failures, steps } = search;
  const last = path.at(-1);
  steps.left -= 1;
  if (last === undefined || path.length > PATH_MAX || steps.left < 0) return;
  const strange = last.strange;
  if (strange !== null) {
    failures.push({ verdict: 'untrusted', reason: 'SignerNotAuthority', about: `${nameOf(last)} has the critical extension ${strange}` });
    return;
  }
  for (const family of allowed) {
    const roots = scope.trust.roots[family];
    const own = roots.find(({ fingerprint }) => fingerprint === last.fingerprint);
    const root = own ?? roots.find((one) => one.subject === last.issuer && isIssued(last, one, scope));
    if (root === undefined) continue;
    const certificates = own === undefined && root.subject !== last.subject ? [...path, root] : path;
    const below = lengthTrouble(certificates);
    if (below === null) found.push({ certificates, family, from: latestOf(certificates), until: earliestOf(certificates) });
    else failures.push(below);
    return;
  }
  const named = (issuers.get(last.issuer) ?? []).filter((one) => one.fingerprint !== last.fingerprint);
  const next = named.filter((one) => isIssued(last, one, scope) && !path.includes(one));
  for (const issuer of next) walk([...path, issuer], search);
  if (next.length === 0) failures.push(whyNobody(last, named, allowed, scope));
}

/** A self-signed stranger, a namesake under another key, bytes that were changed, or nobody. */
function whyNobody(last: Certificate, named: readonly Certificate[], allowed: readonly Family[], scope: Scope): Trouble {
  if (last.subject === last.issuer) return { verdict: 'untrusted', reason: 'RootNotPinned', about: nameOf(last) };
  const namesakes = [...named, ...allowed.flatMap((family) => scope.trust.roots[family]).filter(({ subject }) => subject === last.issuer)];
  const wanted = last.issuerKeyId;
  const meant = namesakes.filter((one) => {
    const own = one.keyId;
    return wanted === null || own === null || wanted === own;
  });
  if (meant.some((one) => one.signsCertificates)) return { verdict: 'tampered', reason: 'CollateralTampered', about: nameOf(last) };
  if (meant.length > 0) return { verdict: 'untrusted', reason: 'SignerNotAuthority', about: `${nameOf(last)} is signed by who may sign none` };
  if (namesakes.length > 0)
    return { verdict: 'untrusted', reason: 'RootNotPinned', about: `${nameOf(last)} is signed by a namesake of ${namesakes[0]?.commonName}` };
  return nowhere(last);
}

function isIssued(certificate: Certificate, issuer: Certificate, scope: Scope): boolean {
  const key = `${certificate.fingerprint}|${issuer.fingerprint}`;
  const before = scope.checked.get(key);
  if (before !== undefined) return before;
  const now = issuer.signsCertificates && certificate.x509.verify(issuer.key);
  scope.checked.set(key, now);
  return now;
}

function lengthTrouble(certificates: readonly Certificate[]): Trouble | null {
  for (const [place, certificate] of certificates.entries()) {
    const most = certificate.pathLength;
    // Below the one at `place` stand `place` certificates, of which the first is the leaf.
    if (most !== null && place - 1 > most)
      return { verdict: 'untrusted', reason: 'SignerNotAuthority', about: `${nameOf(certificate)} may have ${most} authorities below it` };
  }
  return null;
}

function latestOf(certificates: readonly Certificate[]): Instant {
  return certificates.map(({ from }) => from).reduce((a, b) => (b > a ? b : a));
}

function earliestOf(certificates: readonly Certificate[]): Instant {
  return certificates.map(({ until }) => until).reduce((a, b) => (b < a ? b : a));
}

/** What dates and revocation lists have against a way that is otherwise good. `own`: the certificates are the item itself, and not its signers. */
export function troublesOf(path: Path, scope: Scope, own = false): readonly Trouble[] {
  const { certificates } = path;
  const dates = certificates.flatMap((certificate): readonly Trouble[] => {
    if (scope.at < certificate.from) return [{ verdict: 'expired', reason: 'CollateralNotYetValid', about: nameOf(certificate) }];
    if (scope.at <= certificate.until) return [];
    return [{ verdict: 'expired', reason: own ? 'CollateralExpired' : 'SignerExpired', about: nameOf(certificate) }];
  });
  const revoked = certificates.flatMap((certificate, place): readonly Trouble[] => {
    const issuer = certificates[place + 1];
    if (issuer === undefined) return [];
    const naming = (scope.lists.get(certificate.issuer) ?? []).find((list) => names(list, certificate) && isListOf(list, issuer, scope));
    return naming === undefined ? [] : [{ verdict: 'revoked', reason: 'SignerRevoked', about: nameOf(certificate) }];
  });
  return [...revoked, ...dates];
}

/** Whether this authority has signed the list. */
export function isListOf(list: Crl, issuer: Certificate, scope: Scope): boolean {
  if (list.issuer !== issuer.subject || !issuer.signsLists) return false;
  const key = `${list.fingerprint}|${issuer.fingerprint}`;
  const before = scope.checked.get(key);
  if (before !== undefined) return before;
  const now = isSignedBy(list, issuer.key);
  scope.checked.set(key, now);
  return now;
}
