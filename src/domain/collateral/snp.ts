import { verify } from 'node:crypto';
import { type Certificate, certificateOf, certificatesIn, elementOf } from './certificate.ts';
import { pathOf, type Scope, signersMax, troublesOf } from './chain.ts';
import { type Finding, findingOf, type Trouble } from './finding.ts';

/** A report of SEV-SNP (ABI specification §7.3), taken apart and not verified. */
export interface SnpReport {
  readonly version: number;
  readonly signed: Buffer;
  /** r‖s, 48 bytes each, as Node reads them. */
  readonly signature: Buffer;
  readonly chipId: string;
  readonly key: 'VCEK' | 'VLEK';
  /** Certificates that came with it; null: none did. */
  readonly certificates: readonly Certificate[] | null;
}

/** Bytes of a whole report. */
export const SNP_REPORT_BYTES = 1184;
const SIGNED_BYTES = 0x2a0;
/** r and s are stored in 72 bytes each, little-endian. */
const SCALAR_BYTES = 72;
const P384_BYTES = 48;
const ECDSA_P384 = 1;
/** Azure's HCL puts a header in front of the report. */
const HCL_MAGIC = 'HCLA';
const HCL_HEADER_BYTES = 32;

/** Whether bytes are a report, or one in Azure's wrapping. */
export function isSnpReport(bytes: Buffer): boolean {
  if (bytes.subarray(0, 4).toString('latin1') === HCL_MAGIC) return isSnpReport(bytes.subarray(HCL_HEADER_BYTES, HCL_HEADER_BYTES + SNP_REPORT_BYTES));
  const version = bytes.length === SNP_REPORT_BYTES ? bytes.readUInt32LE(0) : 0;
  return version >= 2 && version <= 5 && bytes.readUInt32LE(0x34) === ECDSA_P384;
}

/** Takes a report apart. Throws Error for what is none. */
export function snpReportOf(given: Buffer, certificates: readonly Certificate[] | null): SnpReport {
  if (!isSnpReport(given)) throw new Error('not an SEV-SNP report');
  const from = given.length === SNP_REPORT_BYTES ? 0 : HCL_HEADER_BYTES;
  const bytes = given.subarray(from, from + SNP_REPORT_BYTES);
  const scalar = (place: number): Buffer => {
    const start = SIGNED_BYTES + place * SCALAR_BYTES;
    return Buffer.from(bytes.subarray(start, start + P384_BYTES)).reverse();
  };
  const key = (bytes.readUInt32LE(0x48) >> 2) & 7;
  if (key > 1) throw new Error('a report that no key signed');
  return {
    version: bytes.readUInt32LE(0),
    signed: bytes.subarray(0, SIGNED_BYTES),
    signature: Buffer.concat([scalar(0), scalar(1)]),
    chipId: bytes.subarray(0x1a0, 0x1e0).toString('hex'),
    key: key === 0 ? 'VCEK' : 'VLEK',
    certificates,
  };
}

/** `hwID` of AMD's certificate extensions (VCEK specification §3.1). */
const HARDWARE_ID = '1.3.6.1.4.1.3704.1.4';

/** The chip that a VCEK is for, in hexadecimal; null: it is none. Newer ones wrap it in an octet string. */
export function chipOf({ extensions }: Certificate): string | null {
  const value = extensions.get(HARDWARE_ID)?.value;
  if (value === undefined) return null;
  if (value.length === 64 || value.length === 8) return value.toString('hex');
  try {
    return elementOf(value).value.toString('hex');
  } catch {
    return null;
  }
}

/** Judges a report: signed by a VCEK or VLEK that leads to AMD. What it measures is judged by an attestation service. */
export function judgeSnp(report: SnpReport, scope: Scope): Finding {
  const name = `SNP report v${report.version}`;
  const offered = (report.certificates ?? scope.known).filter(({ commonName }) => commonName === `SEV-${report.key}`).slice(0, signersMax);
  const signer = offered.find(({ key }) => {
    return key.asymmetricKeyType === 'ec' && verify('sha384', report.signed, { key, dsaEncoding: 'ieee-p1363' }, report.signature);
  });
  if (signer === undefined) return findingOf('snp-report', name, null, [unsigned(report, offered)]);
  const path = pathOf(signer, null, ['amd'], scope);
  const troubles = 'verdict' in path ? [path] : troublesOf(path, scope);
  return findingOf('snp-report', `${name} under ${report.key}`, 'verdict' in path ? signer.until : path.until, troubles);
}

/** With this very chip's certificate at hand the report was changed; without it nobody can tell. */
function unsigned(report: SnpReport, offered: readonly Certificate[]): Trouble {
  const own = report.certificates !== null ? offered : offered.filter((one) => report.chipId.startsWith(chipOf(one) ?? 'none'));
  if (own.length > 0) return { verdict: 'tampered', reason: 'CollateralTampered', about: '' };
  return { verdict: 'untrusted', reason: 'SignerMissing', about: `no ${report.key} of its chip` };
}

/** Certificates of a host's table (SNP_GET_EXT_REPORT, GHCB specification §4.1.8.1): entries of a GUID, an offset and a length; each PEM or DER. */
export function tableCertificates(table: Buffer): readonly Certificate[] {
  const found: Certificate[] = [];
  for (let at = 0; at + 24 <= table.length && found.length < TABLE_MAX; at += 24) {
    if (table.subarray(at, at + 16).every((byte) => byte === 0)) break;
    const from = table.readUInt32LE(at + 16);
    const bytes = table.subarray(from, from + table.readUInt32LE(at + 20));
    if (bytes.subarray(0, 5).toString('latin1') === '-----') found.push(...certificatesIn(bytes.toString('latin1')));
    else if (bytes[0] === 0x30) found.push(certificateOf(bytes));
  }
  return found;
}

/** ARK, ASK, and one of VCEK and VLEK, and room for what a host adds. */
const TABLE_MAX = 16;
