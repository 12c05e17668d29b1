import type { Certificate } from './certificate.ts';
import { families, isListOf, nameOf, pathOf, type Scope, troublesOf } from './chain.ts';
import type { Crl } from './crl.ts';
import { isDeviceLeaf, judgeDevice } from './device.ts';
import { type CollateralKind, type Finding, findingOf, type Trouble, togetherOf } from './finding.ts';
import { judgeIntel } from './intel.ts';
import type { Item, Part } from './item.ts';
import { judgeQuote } from './quote.ts';
import { judgeRim, type RimReader } from './rim.ts';
import { judgeSnp } from './snp.ts';
import { judgeDeviceResult, judgeKeys, judgeResult, type KeySet } from './tokens.ts';

/** What else judging needs: token keys that were given, and who reads XML. */
export interface Around {
  readonly keySets: readonly KeySet[];
  readonly readRim: RimReader;
}

/** Judges an item: the verdict on its worst part, under the earliest end of any. */
export async function judgeItem({ kind, parts }: Item, scope: Scope, around: Around): Promise<Finding> {
  const findings = await Promise.all(parts.map((part) => judgePart(kind, part, scope, around)));
  const [only, ...more] = findings;
  return only !== undefined && more.length === 0 ? { ...only, kind } : togetherOf(kind, findings);
}

async function judgePart(kind: CollateralKind, part: Part, scope: Scope, { keySets, readRim }: Around): Promise<Finding> {
  switch (part.kind) {
    case 'intel':
      return judgeIntel(part.signed, scope);
    case 'crl':
      return judgeList(part.crl, part.chain, scope);
    case 'certificates':
      return judgeCertificates(part.certificates, scope);
    case 'quote':
      return judgeQuote(part.quote, scope);
    case 'snp':
      return judgeSnp(part.report, scope);
    case 'device':
      return judgeDevice(part.report, scope);
    case 'rim': {
      const rim = await readRim(part.bytes);
      return 'verdict' in rim ? findingOf('rim', 'RIM', null, [rim]) : judgeRim(rim, scope);
    }
    case 'keys':
      return judgeKeys(part.keys, scope);
    case 'result':
      return judgeResult(part.token, scope);
    case 'device-result':
      return judgeDeviceResult(part.result, keySets, scope);
    case 'bad':
      return findingOf(kind, part.trouble.about, null, [part.trouble]);
  }
}

/** Judges a revocation list: signed by its issuer, whose chain leads to a root; in date. */
function judgeList(crl: Crl, chain: readonly Certificate[] | null, scope: Scope): Finding {
  const name = `revocation list of ${crl.issuerName} (${crl.revoked.size} revoked)`;
  const troubles: Trouble[] = [];
  if (crl.until <= crl.from) troubles.push({ verdict: 'malformed', reason: 'CollateralMalformed', about: 'nextUpdate is not after thisUpdate' });
  if (scope.at < crl.from) troubles.push({ verdict: 'expired', reason: 'CollateralNotYetValid', about: '' });
  if (scope.at > crl.until) troubles.push({ verdict: 'expired', reason: 'CollateralExpired', about: '' });
  const vendors = families.filter((family) => family !== 'operator');
  const roots = vendors.flatMap((family) => scope.trust.roots[family]);
  const namesakes = [...(chain ?? scope.known), ...roots].filter(({ subject }) => subject === crl.issuer);
  const issuer = namesakes.find((one) => isListOf(crl, one, scope));
  if (issuer === undefined) return findingOf('crl', name, crl.until, [...troubles, whoElse(crl, namesakes)]);
  const path = pathOf(issuer, chain, vendors, scope);
  if ('verdict' in path) troubles.push(path);
  else troubles.push(...troublesOf(path, scope));
  const until = 'verdict' in path || path.until > crl.until ? crl.until : path.until;
  return findingOf('crl', name, until, troubles);
}

function whoElse(crl: Crl, namesakes: readonly Certificate[]): Trouble {
  const meant = namesakes.filter((one) => crl.issuerKeyId === null || crl.issuerKeyId === one.keyId);
  if (meant.some((one) => one.signsLists)) return { verdict: 'tampered', reason: 'CollateralTampered', about: '' };
  if (namesakes.length > 0) return { verdict: 'untrusted', reason: 'RootNotPinned', about: 'signed by a namesake' };
  return { verdict: 'untrusted', reason: 'SignerMissing', about: `no certificate of ${crl.issuerName}` };
}

/**
 * Judges certificates that are the item themselves. One may lead to its root over whatever is known; several are a
 * chain, and have to stand by themselves: a link that is missing there is missing for whoever reads it.
 */
function judgeCertificates(certificates: readonly Certificate[], scope: Scope): Finding {
  const carried = certificates.length === 1 ? null : certificates;
  const kind = carried === null ? 'certificate' : 'certificate-chain';
  const paths = certificates.map((certificate) => pathOf(certificate, carried, families, scope));
  const troubles = paths.flatMap((path) => ('verdict' in path ? [path] : troublesOf(path, scope, true)));
  const ends = [...certificates.map(({ until }) => until), ...paths.flatMap((path) => ('verdict' in path ? [] : [path.until]))];
  const until = ends.reduce((a, b) => (b < a ? b : a));
  const isDevice = paths.some((path) => !('verdict' in path) && path.family === 'nvidia-device');
  if (isDevice && carried !== null && !certificates.some(isDeviceLeaf))
    troubles.push({ verdict: 'untrusted', reason: 'ChainIncomplete', about: 'no certificate of a device itself' });
  return findingOf(kind, certificates.slice(0, 6).map(nameOf).join(', '), until, troubles);
}
