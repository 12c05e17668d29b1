import type { Certificate } from './certificate.ts';
import type { Crl } from './crl.ts';
import type { DeviceReport } from './device.ts';
import type { CollateralKind, Trouble } from './finding.ts';
import type { SignedByIntel } from './intel.ts';
import type { Quote } from './quote.ts';
import type { SnpReport } from './snp.ts';
import type { DeviceResult, KeySet } from './tokens.ts';

/** One thing that is signed, or should be. */
export type Part =
  | { readonly kind: 'intel'; readonly signed: SignedByIntel }
  | { readonly kind: 'crl'; readonly crl: Crl; readonly chain: readonly Certificate[] | null }
  | { readonly kind: 'certificates'; readonly certificates: readonly Certificate[] }
  | { readonly kind: 'rim'; readonly bytes: Buffer }
  | { readonly kind: 'quote'; readonly quote: Quote }
  | { readonly kind: 'snp'; readonly report: SnpReport }
  | { readonly kind: 'device'; readonly report: DeviceReport }
  | { readonly kind: 'keys'; readonly keys: KeySet }
  | { readonly kind: 'result'; readonly token: string }
  | { readonly kind: 'device-result'; readonly result: DeviceResult }
  | { readonly kind: 'bad'; readonly trouble: Trouble };

/** A file, read: what it is, and what in it is to be judged. */
export interface Item {
  readonly kind: CollateralKind;
  readonly parts: readonly Part[];
}

/** Every certificate of an item, for others in the same call that came without theirs. */
export function certificatesOf({ parts }: Item): readonly Certificate[] {
  return parts.flatMap(carriedBy);
}

function carriedBy(part: Part): readonly Certificate[] {
  switch (part.kind) {
    case 'intel':
      return part.signed.chain ?? [];
    case 'crl':
      return part.chain ?? [];
    case 'certificates':
      return part.certificates;
    case 'quote':
      return part.quote.chain ?? [];
    case 'snp':
      return part.report.certificates ?? [];
    case 'device':
      return part.report.chain ?? [];
    case 'rim':
    case 'keys':
    case 'result':
    case 'device-result':
    case 'bad':
      return [];
  }
}

/** Every revocation list of an item. */
export function listsOf({ parts }: Item): readonly Crl[] {
  return parts.flatMap((part) => (part.kind === 'crl' ? [part.crl] : []));
}

/** Every set of token keys of an item. */
export function keySetsOf({ parts }: Item): readonly KeySet[] {
  return parts.flatMap((part) => (part.kind === 'keys' ? [part.keys] : []));
}

/** What nobody signed. */
export function unsignedItem(kind: CollateralKind, about: string): Item {
  return { kind, parts: [{ kind: 'bad', trouble: { verdict: 'untrusted', reason: 'CollateralUnsigned', about } }] };
}
