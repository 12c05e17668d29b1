import { verify } from 'node:crypto';
import type { Certificate } from './certificate.ts';
import { pathOf, type Scope, signersMax, troublesOf } from './chain.ts';
import { type Finding, findingOf, type Trouble } from './finding.ts';

/** Measurements of an NVIDIA GPU or switch (DSP0274 SPDM 1.1, request and response), taken apart and not verified. */
export interface DeviceReport {
  readonly signed: Buffer;
  readonly signature: Buffer;
  readonly nonce: string;
  /** Of the driver, as the report's opaque data tells it; null: a switch has none. */
  readonly driver: string | null;
  /** The chain that came with it, leaf first; null: none did. */
  readonly chain: readonly Certificate[] | null;
  /** The nonce that whoever asked says to have sent; null: nobody says. */
  readonly expectedNonce: string | null;
}

const REQUEST_BYTES = 37;
const NONCE = { from: 4, bytes: 32 };
/** r‖s on P-384. */
const SIGNATURE_BYTES = 96;
/** SPDM 1.1 GET_MEASUREMENTS, and its answer. */
const REQUEST = [0x11, 0xe0];
const RESPONSE = [0x11, 0x60];
const DRIVER_VERSION = 3;
/** 64 measurements and their opaque data are some 4 KiB. */
const REPORT_MAX_BYTES = 64 * 1024;

/** Whether bytes start as a request for measurements does. */
export function isDeviceReport(bytes: Buffer): boolean {
  return bytes.length > REQUEST_BYTES + SIGNATURE_BYTES && bytes[0] === REQUEST[0] && bytes[1] === REQUEST[1];
}

/** Takes a report apart. Throws Error for what is none, or is cut short. A byte or two behind the signature is padding. */
export function deviceReportOf(bytes: Buffer, chain: readonly Certificate[] | null, expectedNonce: string | null = null): DeviceReport {
  if (!isDeviceReport(bytes) || bytes.length > REPORT_MAX_BYTES) throw new Error('not a device’s report');
  const response = bytes.subarray(REQUEST_BYTES);
  if (response[0] !== RESPONSE[0] || response[1] !== RESPONSE[1]) throw new Error('not an answer with measurements');
  const opaqueAt = 8 + response.readUIntLE(5, 3) + NONCE.bytes;
  if (opaqueAt + 2 > response.length) throw new Error('a report that is cut short');
  const opaqueBytes = response.readUInt16LE(opaqueAt);
  const end = REQUEST_BYTES + opaqueAt + 2 + opaqueBytes;
  if (end + SIGNATURE_BYTES > bytes.length || bytes.length - end - SIGNATURE_BYTES > 2) throw new Error('a report whose parts do not add up');
  return {
    signed: bytes.subarray(0, end),
    signature: bytes.subarray(end, end + SIGNATURE_BYTES),
    nonce: bytes.subarray(NONCE.from, NONCE.from + NONCE.bytes).toString('hex'),
    driver: fieldOf(response.subarray(opaqueAt + 2, opaqueAt + 2 + opaqueBytes), DRIVER_VERSION),
    chain,
    expectedNonce,
  };
}

/** NVIDIA's opaque data: type and size in 16 bits each, little-endian, then the value. */
function fieldOf(opaque: Buffer, wanted: number): string | null {
  for (let at = 0; at + 4 <= opaque.length; ) {
    const size = opaque.readUInt16LE(at + 2);
    if (opaque.readUInt16LE(at) === wanted) {
      const text = opaque
        .subarray(at + 4, at + 4 + size)
        .toString('latin1')
        .replaceAll('\0', '');
      return /^[0-9.]{1,20}$/.test(text) ? text : null;
    }
    at += 4 + size;
  }
  return null;
}

/** Who signs measurements: the firmware's own key, as its boot ROM certified it. */
const FIRMWARE_KEY = /\b[GF]SP FMC LF$/;

/** Whether a certificate is a device's own, the lowest of its chain. */
export function isDeviceLeaf({ commonName }: Certificate): boolean {
  return FIRMWARE_KEY.test(commonName);
}

/** Judges a device's report: its signature, and the chain to NVIDIA's root for devices. What it measures is judged by an attestation service. */
export function judgeDevice(report: DeviceReport, scope: Scope): Finding {
  const name = report.driver === null ? 'device report' : `device report of driver ${report.driver}`;
  const troubles: Trouble[] = [];
  if (report.expectedNonce !== null && report.expectedNonce.toLowerCase() !== report.nonce)
    troubles.push({ verdict: 'untrusted', reason: 'CollateralMismatch', about: 'another nonce than it is said to answer' });
  const offered = report.chain === null ? scope.known.filter(isDeviceLeaf).slice(0, signersMax) : report.chain.slice(0, 1);
  const signer = offered.find((one) => isSignedWith(report, one.key));
  if (signer === undefined) {
    if (offered.length === 0) troubles.push({ verdict: 'untrusted', reason: 'SignerMissing', about: 'no certificate of a device' });
    else troubles.push({ verdict: 'tampered', reason: 'CollateralTampered', about: `signed by none of ${offered.length} devices given` });
    return findingOf('device-report', name, null, troubles);
  }
  const path = pathOf(signer, report.chain, ['nvidia-device'], scope);
  if ('verdict' in path) troubles.push(path);
  else troubles.push(...troublesOf(path, scope));
  if (!isDeviceLeaf(signer)) troubles.push({ verdict: 'untrusted', reason: 'SignerWrong', about: signer.commonName });
  return findingOf('device-report', name, 'verdict' in path ? signer.until : path.until, troubles);
}

function isSignedWith({ signed, signature }: DeviceReport, key: Certificate['key']): boolean {
  return key.asymmetricKeyType === 'ec' && verify('sha384', signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
}
