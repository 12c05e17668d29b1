import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type Certificate, certificateOf } from '#src/domain/collateral/certificate.ts';
import { type Family, type Trust, vendorTrust } from '#src/domain/collateral/chain.ts';

/** A made-up vendor's keys and certificates: for what no genuine file shows. DER is written here apart from the code that reads it. */
export interface Made {
  readonly certificate: Certificate;
  readonly key: KeyObject;
}

export function der(tag: number, ...contents: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(contents.map((one) => (typeof one === 'string' ? Buffer.from(one) : one)));
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = Buffer.from(body.length.toString(16).padStart(body.length < 0x100 ? 2 : body.length < 0x10000 ? 4 : 6, '0'), 'hex');
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, body]);
}

const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'));
const ECDSA_SHA256 = der(0x30, oid('2a8648ce3d040302'));
const ECDSA_SHA384 = der(0x30, oid('2a8648ce3d040303'));
const TRUE = Buffer.from('0101ff', 'hex');

function name(common: string): Buffer {
  return der(0x30, der(0x31, der(0x30, oid('550403'), der(0x0c, common))));
}

/** GeneralizedTime throughout: readers take either. */
function time(at: string): Buffer {
  return der(0x18, `${at.replace(/[-:T]/g, '').slice(0, 14)}Z`);
}

export function extension(id: string, value: Buffer, critical = false): Buffer {
  return der(0x30, oid(id), ...(critical ? [TRUE] : []), der(0x04, value));
}

function keyId(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ format: 'der', type: 'spki' }))
    .digest();
}

export interface Draft {
  readonly name: string;
  /** Absent: signs itself. */
  readonly by?: Made;
  readonly ca?: boolean;
  readonly pathLength?: number;
  /** keyUsage, a BIT STRING in hexadecimal. */
  readonly usage?: string;
  readonly serial?: number;
  readonly from?: string;
  readonly until?: string;
  readonly curve?: 'P-256' | 'P-384';
  readonly extensions?: readonly Buffer[];
  readonly key?: { readonly privateKey: KeyObject; readonly publicKey: KeyObject };
}

/** Makes a certificate and its key. */
export function make(draft: Draft): Made {
  const { privateKey, publicKey } = draft.key ?? generateKeyPairSync('ec', { namedCurve: draft.curve ?? 'P-256' });
  const issuerKey = draft.by?.key ?? privateKey;
  const is384 = issuerKey.asymmetricKeyDetails?.namedCurve === 'secp384r1';
  const algorithm = is384 ? ECDSA_SHA384 : ECDSA_SHA256;
  const ca = draft.ca ?? false;
  const length = draft.pathLength === undefined ? [] : [der(0x02, Buffer.from([draft.pathLength]))];
  const body = der(
    0x30,
    der(0xa0, Buffer.from('020102', 'hex')),
    der(0x02, Buffer.from([draft.serial ?? 7])),
    algorithm,
    name(draft.by?.certificate.commonName ?? draft.name),
    der(0x30, time(draft.from ?? '2025-01-01T00:00:00'), time(draft.until ?? '2035-01-01T00:00:00')),
    name(draft.name),
    publicKey.export({ format: 'der', type: 'spki' }),
    der(
      0xa3,
      der(
        0x30,
        extension('551d0e', der(0x04, keyId(publicKey))),
        extension('551d23', der(0x30, der(0x80, draft.by === undefined ? keyId(publicKey) : keyId(draft.by.certificate.x509.publicKey)))),
        extension('551d13', der(0x30, ...(ca ? [TRUE, ...length] : [])), true),
        // keyCertSign and cRLSign, or digitalSignature.
        extension('551d0f', Buffer.from(draft.usage ?? (ca ? '03020106' : '03020780'), 'hex'), true),
        ...(draft.extensions ?? []),
      ),
    ),
  );
  const signature = sign(is384 ? 'sha384' : 'sha256', body, issuerKey);
  return { certificate: certificateOf(der(0x30, body, algorithm, der(0x03, Buffer.from([0]), signature))), key: privateKey };
}

export interface DraftList {
  readonly by: Made;
  readonly revoked?: readonly number[];
  readonly from?: string;
  /** null: none at all. */
  readonly until?: string | null;
  readonly extensions?: readonly Buffer[];
}

/** Makes a revocation list, in DER. */
export function makeList({ by, revoked = [], from = '2025-06-01T00:00:00', until = '2025-07-01T00:00:00', extensions = [] }: DraftList): Buffer {
  const is384 = by.key.asymmetricKeyDetails?.namedCurve === 'secp384r1';
  const algorithm = is384 ? ECDSA_SHA384 : ECDSA_SHA256;
  const entries = revoked.map((serial) => der(0x30, der(0x02, Buffer.from([serial])), time('2025-05-01T00:00:00')));
  const body = der(
    0x30,
    der(0x02, Buffer.from([1])),
    algorithm,
    name(by.certificate.commonName),
    time(from),
    ...(until === null ? [] : [time(until)]),
    ...(entries.length === 0 ? [] : [der(0x30, ...entries)]),
    ...(extensions.length === 0 ? [] : [der(0xa0, der(0x30, ...extensions))]),
  );
  return der(0x30, body, algorithm, der(0x03, Buffer.from([0]), sign(is384 ? 'sha384' : 'sha256', body, by.key)));
}

/** The vendors' trust, with this root in place of one family's. */
export function trusting(family: Family, root: Made): Trust {
  const vendors = vendorTrust();
  return { roots: { ...vendors.roots, [family]: [root.certificate] }, hints: vendors.hints };
}

export function pem(...made: readonly Made[]): string {
  return made.map(({ certificate }) => certificate.x509.toString()).join('');
}

/** Signs as Intel does: r‖s over the exact text, in hexadecimal. */
export function intelSigned(member: string, text: string, by: Made): string {
  return `{"${member}":${text},"signature":"${sign('sha256', Buffer.from(text), { key: by.key, dsaEncoding: 'ieee-p1363' }).toString('hex')}"}`;
}
