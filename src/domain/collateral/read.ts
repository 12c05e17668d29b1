import { type Certificate, certificateOf, certificatesIn } from './certificate.ts';
import { crlOf } from './crl.ts';
import { deviceReportOf, isDeviceReport } from './device.ts';
import { type CollateralKind, malformed, type Trouble } from './finding.ts';
import { type Item, type Part, unsignedItem } from './item.ts';
import { isQuote, quoteOf } from './quote.ts';
import { readJson } from './read-json.ts';
import { RIM_MAX_BYTES } from './rim.ts';
import { isSnpReport, snpReportOf } from './snp.ts';

/** Trustee's file for a hundred kinds of platform has 1 MiB; beyond this nothing is read. */
export const COLLATERAL_MAX_BYTES = 4 * 1024 * 1024;
/** Certificates and lists in one text. */
const BLOCKS_MAX = 64;

/** A header's value, as Intel sends its chains: URL-encoded PEM. */
const ENCODED_PEM = /^\s*-----BEGIN%20/;
const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]+)-----END \1-----/g;
const TOKEN = /^[\w-]+\.[\w-]+\.[\w-]*$/;
const HEXADECIMAL = /^(?:[0-9a-fA-F]{2})+$/;
const DER_SEQUENCE = 0x30;

/** Finds out what bytes are, from nothing but the bytes, and takes them apart. Throws nothing: what cannot be read is an item with that trouble. */
export function readItem(bytes: Buffer): Item {
  if (bytes.length === 0) return bad('unknown', malformed('an empty file'));
  if (bytes.length > COLLATERAL_MAX_BYTES)
    return bad('unknown', { verdict: 'malformed', reason: 'LimitExceeded', about: `${bytes.length} bytes, expected at most ${COLLATERAL_MAX_BYTES}` });
  const binary = readBinary(bytes);
  if (binary !== null) return binary;
  const text = textOf(bytes);
  if (text === null) return unknown('neither text nor a format that is known');
  const trimmed = trimmedOf(text);
  if (trimmed.startsWith('<')) return bytes.length > RIM_MAX_BYTES ? tooLargeXml(bytes.length) : { kind: 'rim', parts: [{ kind: 'rim', bytes }] };
  if (trimmed.startsWith('{') || trimmed.startsWith('[')) return guarded('unknown', () => readJson(trimmed));
  if (ENCODED_PEM.test(text)) return guarded('certificate-chain', () => readBlocks(decodeURIComponent(trimmed)));
  if (text.includes('-----BEGIN ')) return guarded('certificate', () => readBlocks(text));
  if (TOKEN.test(trimmed)) return { kind: 'attestation-result', parts: [{ kind: 'result', token: trimmed }] };
  const joined = trimmed.replace(/\s/g, '');
  const inner = HEXADECIMAL.test(joined) ? readBinary(Buffer.from(joined, 'hex')) : null;
  return inner ?? unknown('no kind of collateral that is known');
}

function tooLargeXml(sizeBytes: number): Item {
  return bad('rim', { verdict: 'malformed', reason: 'LimitExceeded', about: `${sizeBytes} bytes, expected at most ${RIM_MAX_BYTES}` });
}

function bad(kind: CollateralKind, trouble: Trouble): Item {
  return { kind, parts: [{ kind: 'bad', trouble }] };
}

function unknown(about: string): Item {
  return bad('unknown', { verdict: 'malformed', reason: 'CollateralKindUnknown', about });
}

/** An item, or what kept it from being read. The readers below throw for bytes that are cut or bent; that is no bug of ours. */
function guarded(kind: CollateralKind, read: () => Item): Item {
  try {
    return read();
  } catch (thrown) {
    return bad(kind, malformed(thrown instanceof Error ? (thrown.message.split('\n')[0] ?? '').slice(0, 120) : 'cannot be read'));
  }
}

/** Without what JSON calls white space at both ends. By hand: the pattern for the end takes the square of a text's length. */
function trimmedOf(text: string): string {
  const isSpace = (at: number): boolean => ' \t\r\n'.includes(text.charAt(at));
  let from = 0;
  let to = text.length;
  while (from < to && isSpace(from)) from += 1;
  while (to > from && isSpace(to - 1)) to -= 1;
  return text.slice(from, to);
}

function textOf(bytes: Buffer): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** null: it is not binary, as far as its first bytes tell. */
function readBinary(bytes: Buffer): Item | null {
  if (isQuote(bytes)) return guarded('quote', () => ({ kind: 'quote', parts: [{ kind: 'quote', quote: quoteOf(bytes) }] }));
  if (isSnpReport(bytes)) return guarded('snp-report', () => ({ kind: 'snp-report', parts: [{ kind: 'snp', report: snpReportOf(bytes, null) }] }));
  if (isDeviceReport(bytes))
    return guarded('device-report', () => ({ kind: 'device-report', parts: [{ kind: 'device', report: deviceReportOf(bytes, null) }] }));
  if (bytes[0] !== DER_SEQUENCE || (bytes[1] ?? 0) < 0x80) return null;
  try {
    return { kind: 'certificate', parts: [{ kind: 'certificates', certificates: [certificateOf(bytes)] }] };
  } catch {
    return guarded('crl', () => ({ kind: 'crl', parts: [{ kind: 'crl', crl: crlOf(bytes), chain: null }] }));
  }
}

/** PEM (RFC 7468), whatever stands around it: chains, lists, a report in base64, and archives of these. */
function readBlocks(text: string): Item {
  const blocks = [...text.matchAll(BLOCK)];
  if (blocks.length === 0 || blocks.length > BLOCKS_MAX) throw new Error(`${blocks.length} PEM blocks`);
  if (text.split('-----BEGIN ').length - 1 !== blocks.length) throw new Error('a PEM block that does not end');
  const certificates: Certificate[] = [];
  const parts: Part[] = [];
  for (const [whole, label = '', body = ''] of blocks) {
    const der = Buffer.from(body, 'base64');
    if (label === 'CERTIFICATE') certificates.push(...certificatesIn(whole));
    else if (label === 'X509 CRL') parts.push({ kind: 'crl', crl: crlOf(der), chain: null });
    else if (label === 'REPORT') parts.push({ kind: 'snp', report: snpReportOf(der, null) });
    else if (label === 'PUBLIC KEY') return unsignedItem('public-key', 'a key without a certificate');
    else return unknown(`a PEM block ${label}`);
  }
  if (certificates.length > 0) parts.unshift({ kind: 'certificates', certificates });
  return { kind: kindOf(certificates.length, parts), parts };
}

function kindOf(certificates: number, parts: readonly Part[]): CollateralKind {
  const [first, ...more] = parts;
  if (more.length > 0) return 'collateral-bundle';
  if (first?.kind === 'crl') return 'crl';
  if (first?.kind === 'snp') return 'snp-report';
  return certificates === 1 ? 'certificate' : 'certificate-chain';
}
