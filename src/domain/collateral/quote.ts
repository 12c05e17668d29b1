import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { type Certificate, certificatesIn, childrenOf, elementOf } from './certificate.ts';
import { pathOf, type Scope, signersMax, troublesOf } from './chain.ts';
import { type Finding, findingOf, type Trouble } from './finding.ts';

/** An ECDSA quote of Intel's (DCAP: v3 for SGX, v4 and v5 for TDX), taken apart and not verified. */
export interface Quote {
  readonly version: number;
  readonly tee: 'SGX' | 'TDX';
  /** Header and body: what the attestation key signed. */
  readonly signed: Buffer;
  readonly signature: Buffer;
  /** X and Y on P-256. */
  readonly attestationKey: Buffer;
  readonly enclaveReport: Buffer;
  readonly enclaveSignature: Buffer;
  readonly authentication: Buffer;
  /** The PCK chain inside; null: the quote names its platform in another way. */
  readonly chain: readonly Certificate[] | null;
}

/** With a chain and a vendor's authentication data a quote has 4 to 6 KiB. */
const QUOTE_MAX_BYTES = 64 * 1024;
const HEADER_BYTES = 48;
const ENCLAVE_REPORT_BYTES = 384;
/** Where `REPORTDATA` stands in a report of an enclave. */
const REPORT_DATA = 320;
/** TDX 1.0 and 1.5. */
const TD_REPORT_BYTES = [584, 648];
/** Key type: ECDSA on P-256. */
const ECDSA_P256 = 2;
const TEE_TDX = 0x81;
/** Vendor id of Intel's quoting enclave, at offset 12 of every quote. */
const INTEL_QE = Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex');
const PEM_CHAIN = 5;
const ENCLAVE_DATA = 6;

/** Whether bytes start as a quote does. */
export function isQuote(bytes: Buffer): boolean {
  return bytes.length > HEADER_BYTES && bytes.subarray(12, 28).equals(INTEL_QE);
}

/** Walks through bytes; throws RangeError at their end. */
function cursor(bytes: Buffer): { readonly take: (size: number) => Buffer; readonly u16: () => number; readonly u32: () => number; readonly at: () => number } {
  let at = 0;
  const take = (size: number): Buffer => {
    if (at + size > bytes.length) throw new RangeError('a quote that is cut short');
    at += size;
    return bytes.subarray(at - size, at);
  };
  return { take, u16: () => take(2).readUInt16LE(), u32: () => take(4).readUInt32LE(), at: () => at };
}

/** Takes a quote apart. Throws Error for what is none of these versions, or is cut short. Bytes behind it are padding, and not looked at. */
export function quoteOf(bytes: Buffer): Quote {
  if (bytes.length > QUOTE_MAX_BYTES) throw new RangeError(`a quote of ${bytes.length} bytes`);
  const all = cursor(bytes);
  const header = all.take(HEADER_BYTES);
  const version = header.readUInt16LE(0);
  if (![3, 4, 5].includes(version) || header.readUInt16LE(2) !== ECDSA_P256) throw new Error(`a quote of version ${version} with another key`);
  const tee = version > 3 && header.readUInt32LE(4) === TEE_TDX ? 'TDX' : 'SGX';
  if (version === 5) takeBody(all.u16(), all.u32(), all.take);
  else all.take(tee === 'TDX' ? (TD_REPORT_BYTES[0] ?? 0) : ENCLAVE_REPORT_BYTES);
  const signed = bytes.subarray(0, all.at());
  const data = cursor(all.take(all.u32()));
  const signature = data.take(64);
  const attestationKey = data.take(64);
  const rest = version === 3 ? data : cursor(certification(data, ENCLAVE_DATA));
  const enclaveReport = rest.take(ENCLAVE_REPORT_BYTES);
  const enclaveSignature = rest.take(64);
  const authentication = rest.take(rest.u16());
  const type = rest.u16();
  const certificates = rest.take(rest.u32());
  const inside = type === PEM_CHAIN ? certificatesIn(certificates.toString('latin1')) : [];
  const chain = inside.length === 0 ? null : inside;
  return { version, tee, signed, signature, attestationKey, enclaveReport, enclaveSignature, authentication, chain };
}

/** Version 5 says which body it carries. */
function takeBody(type: number, size: number, take: (size: number) => Buffer): void {
  const sizes = type === 1 ? [ENCLAVE_REPORT_BYTES] : TD_REPORT_BYTES;
  if (!sizes.includes(size)) throw new Error(`a quote with a body of ${size} bytes`);
  take(size);
}

function certification(data: ReturnType<typeof cursor>, wanted: number): Buffer {
  const type = data.u16();
  if (type !== wanted) throw new Error(`a quote with certification data of type ${type}`);
  return data.take(data.u32());
}

const PCK = 'Intel SGX PCK Certificate';

/** Judges a quote: quote, attestation key, quoting enclave, PCK chain. What it measures is judged by an attestation service. */
export function judgeQuote(quote: Quote, scope: Scope): Finding {
  const troubles: Trouble[] = [];
  const tampered = (about: string): Trouble => ({ verdict: 'tampered', reason: 'CollateralTampered', about });
  const key = pointKey(quote.attestationKey);
  if (key === null || !verify('sha256', quote.signed, { key, dsaEncoding: 'ieee-p1363' }, quote.signature)) troubles.push(tampered('the quote’s signature'));
  const bound = createHash('sha256').update(quote.attestationKey).update(quote.authentication).digest();
  if (!quote.enclaveReport.subarray(REPORT_DATA, REPORT_DATA + 32).equals(bound)) troubles.push(tampered('the attestation key'));
  const offered = quote.chain === null ? scope.known.filter(({ commonName }) => commonName === PCK).slice(0, signersMax) : quote.chain.slice(0, 1);
  const signer = offered.find(({ key }) => verify('sha256', quote.enclaveReport, { key, dsaEncoding: 'ieee-p1363' }, quote.enclaveSignature));
  const name = `${quote.tee} quote v${quote.version}`;
  if (signer === undefined) {
    const missing: Trouble = { verdict: 'untrusted', reason: 'SignerMissing', about: 'no PCK certificate' };
    return findingOf('quote', name, null, [...troubles, quote.chain === null ? missing : tampered('the quoting enclave’s report')]);
  }
  const path = pathOf(signer, quote.chain, ['intel'], scope);
  if ('verdict' in path) troubles.push(path);
  else troubles.push(...troublesOf(path, scope));
  if (!isIntelEnclave(quote)) troubles.push({ verdict: 'untrusted', reason: 'SignerWrong', about: 'made by another enclave than Intel’s' });
  if (signer.commonName !== PCK) troubles.push({ verdict: 'untrusted', reason: 'SignerWrong', about: signer.commonName });
  const fmspc = fmspcOf(signer);
  return findingOf('quote', fmspc === null ? name : `${name} of ${fmspc}`, 'verdict' in path ? signer.until : path.until, troubles);
}

/** Intel's quoting enclaves, by their signer and product (as Intel's own identity documents name them). */
const ENCLAVES = {
  SGX: { signer: '8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff', product: 1 },
  TDX: { signer: 'dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5', product: 2 },
} as const;
const DEBUG = 0x02;

/** A PCK certifies the reports of any enclave: that one's attestation key is worth something only if it is Intel's own enclave, and not open to a debugger. */
function isIntelEnclave({ enclaveReport, tee }: Quote): boolean {
  const { signer, product } = ENCLAVES[tee];
  const isDebug = ((enclaveReport[48] ?? DEBUG) & DEBUG) !== 0;
  return enclaveReport.subarray(128, 160).toString('hex') === signer && enclaveReport.readUInt16LE(256) === product && !isDebug;
}

/** null: no point of the curve. */
function pointKey(point: Buffer): KeyObject | null {
  const part = (from: number): string => point.subarray(from, from + 32).toString('base64url');
  try {
    return createPublicKey({ key: { kty: 'EC', crv: 'P-256', x: part(0), y: part(32) }, format: 'jwk' });
  } catch {
    return null;
  }
}

/** Intel's own extension of a PCK certificate, and FMSPC in it. */
const SGX_EXTENSION = '1.2.840.113741.1.13.1';
const FMSPC = `${SGX_EXTENSION}.4`;

/** Which kind of platform a PCK certificate is for; null: it does not say. */
export function fmspcOf({ extensions }: Certificate): string | null {
  const extension = extensions.get(SGX_EXTENSION);
  if (extension === undefined) return null;
  try {
    const entry = childrenOf(elementOf(extension.value)).find((one) => childrenOf(one)[0]?.toOID() === FMSPC);
    return childrenOf(entry)[1]?.value.toString('hex').toUpperCase() ?? null;
  } catch {
    return null;
  }
}
