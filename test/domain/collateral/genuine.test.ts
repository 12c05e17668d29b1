import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { vendorTrust } from '#src/domain/collateral/chain.ts';
import { readItem } from '#src/domain/collateral/read.ts';
import { certificatesFrom, type Entry, judgedAmong, manifest, told, VECTORS, vector } from './vectors.ts';

/** The day of which the manifest speaks as today. */
const TODAY = '2026-11-23T12:01:00.000Z';

const EXPIRED = 'expired CollateralExpired';
const TAMPERED = 'tampered CollateralTampered';
const STRANGER = 'untrusted RootNotPinned';
const UNSIGNED = 'untrusted CollateralUnsigned';
const NO_KIND = 'malformed CollateralKindUnknown';
const LATE_SIGNER = 'expired SignerExpired';

/** What the manifest's words mean: today, and (second) a day after the item was issued; null: it has no such day, or one that says no more. */
const MEANING: Readonly<Record<string, readonly [today: string, then: string | null]>> = {
  'GOOD (chain and/or report verify)': ['good', 'good'],
  'GOOD with test_vcek.pem (SNP report at +32)': ['good', null],
  'GOOD; EXPIRED 2025-11-03; REVOKES serial 020001 (retired ASK), not the current 020002': [EXPIRED, 'good'],
  'GOOD (RSASSA-PSS/SHA-384); EXPIRED 2026-05-12; nothing revoked': [EXPIRED, 'good'],
  'GOOD: chain to ARK-Genoa and report signature verify': ['good', null],
  'GOOD 2025-06-19..2025-07-19 (every part verifies; survives Trustee re-serialisation); EXPIRED today. Layout from source, not loaded into a live Trustee': [
    EXPIRED,
    'good',
  ],
  'GOOD to Intel root, valid to 2033': ['good', 'good'],
  'GOOD at its own time; EXPIRED today': [EXPIRED, 'good'],
  'GOOD to Intel root; leaf EXPIRED 2025-05-21 (re-issued with the same key to 2032)': [EXPIRED, 'good'],
  'signatures GOOD, PCK chain valid today': ['good', null],
  'signature GOOD; needs re-issued signer cert (bundled chain expired 2025-05-21, same key); EXPIRED today': [EXPIRED, 'good'],
  licence: [NO_KIND, null],
  'signatures GOOD; tdx_quote = UpToDate at 2025-06-20': ['good', null],
  'GOOD 2025-06-19..2025-07-19; EXPIRED today': [EXPIRED, 'good'],
  'signatures GOOD; TCB match against its collateral = no matching level (NotSupported)': ['good', null],
  'GOOD 2026-02-18..2026-03-20; EXPIRED today': [EXPIRED, 'good'],
  'TEST PKI: signatures good, root is NOT the Intel root -> must be rejected by the root pin': [STRANGER, STRANGER],
  'GOOD; signer VALID today, EXPIRES 2026-12-30': ['good', 'good'],
  'GOOD (signature and chain verify)': ['good', null],
  'signatures GOOD; OCSP answer upstream is certificate_hold': ['good', null],
  'signatures GOOD; upstream pairs it with the expired RIM': ['good', null],
  'BAD: SPDM signature invalid': [TAMPERED, null],
  'BAD chain: debug root': ['untrusted ChainIncomplete', 'untrusted ChainIncomplete'],
  'WRONG root (negative test: an L4 signer offered as root)': ['untrusted ChainIncomplete', null],
  'BAD: XML signature invalid, chain good': [TAMPERED, TAMPERED],
  'reference claims (unsigned)': [UNSIGNED, null],
  'submod digests GOOD; JWKS of that day not archived, so signatures are NOT checkable; EXPIRED': [EXPIRED, null],
  'root pin': ['good', 'good'],
  'BAD: edited measurements, XML signature invalid': [TAMPERED, TAMPERED],
  'BAD: 1-day signer EXPIRED 2025-01-02; XML signature invalid': [TAMPERED, null],
  'signature GOOD but signer EXPIRED 2025-12-12; measurements differ from the paired report': [LATE_SIGNER, 'good'],
  'GOOD; VALID today, chain expires 2027-11-02 (re-signed 2026-05-20 under the same id)': ['good', 'good'],
  'signature GOOD; signer EXPIRED 2025-06; L3 GH100 001 EXPIRED 2026-11-11': [LATE_SIGNER, 'good'],
  'openpcc pin set: Intermediate 002 (EXPIRED 2025-12-14) and 003 (to 2029-12-08); an NRAS token captured in 2026-06 (not included) was signed under 004, so this pin set would reject it':
    [EXPIRED, 'good'],
  'NRAS leaf under Intermediate 003, 48 h; EXPIRED 2025-12-12': [EXPIRED, 'good'],
  'GOOD: report signature verifies with embedded VCEK': ['good', null],
  'TDX quote signatures GOOD': ['good', null],
  'Trustee JWKS fixture (test key)': [STRANGER, STRANGER],
  'EAR payload example (decoded, unsigned; contraindicated)': [UNSIGNED, null],
  GOOD: ['good', 'good'],
  'BAD: one intermediate missing': ['untrusted ChainIncomplete', 'untrusted ChainIncomplete'],
  'BAD: leaf missing': ['untrusted ChainIncomplete', 'untrusted ChainIncomplete'],
  reference: [NO_KIND, null],
  'GOOD; valid to 2045+': ['good', 'good'],
  'BAD: fake VCEK, must fail chain, report signature and chip-id': [TAMPERED, TAMPERED],
  'GOOD with test-vlek.der; its VLEK is EXPIRED': [LATE_SIGNER, null],
  'chain GOOD; EXPIRED 2025-12-10 (Trustee does not check)': [EXPIRED, 'good'],
  'signature GOOD (Intel TCB signing key); EXPIRED today': [EXPIRED, 'good'],
  'expected Trustee claims for a v4 quote (debug TD)': [UNSIGNED, null],
  'signatures GOOD, PCK chain valid today (Trustee claim-parsing vectors)': ['good', null],
  'Veraison EAR vector (public key + claims only)': [UNSIGNED, null],
};

/** Where the words are about less than the file holds, or of several files at once. */
const BY_FILE: Readonly<Record<string, readonly [today: string, then: string | null]>> = {
  // Its certificates are good to 2032; its two revocation lists have expired, as they have by themselves.
  'amd/openpcc/sev_certificates.txt': [EXPIRED, 'good'],
  // A list that PCS does not sign, and one more genuine document.
  'intel/teepot-pcs-v4/fmspcs.json': [UNSIGNED, null],
  'intel/teepot-pcs-v4/sgx_tcb_info_alt.json': [EXPIRED, 'good'],
  // The same certificate as the root pins: alone it is good, and as the chain of a device Trustee finds it too short.
  'trustee/nvidia/hopper_cert_chain_case2.txt': ['good', 'good'],
  // A device's certificate may be older than those above it.
  'trustee/nvidia/hopper_signing_cert.pem': ['good', null],
  'ear/synthetic-trustee/ca.pem': [STRANGER, null],
  'ear/synthetic-trustee/jwks.json': [STRANGER, null],
  'ear/synthetic-trustee/expectations.json': [UNSIGNED, null],
  'ear/synthetic-trustee/good.decoded.json': [UNSIGNED, null],
};

/** Tokens and their keys are another's to trust: below. */
const OPERATORS = /^(?:ear\/synthetic-trustee\/.*\.jwt|trustee\/jwk-endorsement\/.*)$/;

const items = new Map(manifest.map(({ file }) => [file, readItem(vector(file))]));
const all = [...items.values()];

async function verdictOf(file: string, at: string): Promise<string> {
  const item = items.get(file);
  return item === undefined ? 'not there' : told(await judgedAmong(item, all, at));
}

/** A day after it was issued, or an hour, where that is told to the second. */
function soonAfter(issued: string): string {
  const moment = issued.length === 10 ? Date.parse(`${issued}T00:00:00Z`) + 86_400_000 : Date.parse(issued) + 3_600_000;
  return new Date(moment).toISOString();
}

describe('genuine files', () => {
  const vendors = manifest.filter(({ file }) => !OPERATORS.test(file));

  it('are all there, and unchanged', () => {
    expect(manifest).toHaveLength(186);
    const changed = manifest.filter(({ file, sha256 }) => createHash('sha256').update(vector(file)).digest('hex') !== sha256);
    expect(changed, VECTORS).toEqual([]);
  });

  it.each(vendors)('$file: today what the manifest says ($expected)', async ({ file, expected }) => {
    const [today] = BY_FILE[file] ?? MEANING[expected] ?? ['no meaning'];
    expect(await verdictOf(file, TODAY)).toBe(today);
  });

  const dated = vendors.filter(({ file, expected }) => (BY_FILE[file] ?? MEANING[expected])?.[1] != null && /^\d{4}-/.test(dayOf(file)));
  it.each(dated)('$file: what it was soon after it was issued', async ({ file, expected, issued }) => {
    const [, then] = BY_FILE[file] ?? MEANING[expected] ?? [];
    expect(await verdictOf(file, soonAfter(issued))).toBe(then);
  });

  function dayOf(file: string): string {
    return manifest.find((entry) => entry.file === file)?.issued ?? '';
  }

  /** The manifest counts the file's own date there, and not a signer's that ends earlier, or another part's. */
  const otherEnd = ['intel/qvl-testpki-tdx/qeIdentity.json', 'intel/qvl-testpki-tdx/tcbInfo.json', 'amd/openpcc/sev_certificates.txt'];
  const ending = vendors.filter(
    ({ file, expires, expected }) => /^\d{4}-\d\d-\d\d/.test(expires) && !otherEnd.includes(file) && !/unsigned|claims only/.test(expected),
  );
  it('end on the day that the manifest names', async () => {
    const ends = await Promise.all(ending.map(async ({ file }) => [file, (await judgedOf(file)).nextUpdate?.slice(0, 10)]));
    expect(ends).toEqual(ending.map(({ file, expires }: Entry) => [file, expires.slice(0, 10)]));
    expect(ending.length).toBeGreaterThan(90);
  });

  async function judgedOf(file: string): Promise<Awaited<ReturnType<typeof judgedAmong>>> {
    return judgedAmong(items.get(file) ?? { kind: 'unknown', parts: [] }, all, TODAY);
  }
});

describe('tokens, under the CA that an operator names', () => {
  const operator = vendorTrust(certificatesFrom('ear/synthetic-trustee/ca.pem'));
  const MEANINGS: Readonly<Record<string, string>> = {
    good: 'good',
    'alg-none': 'untrusted AlgorithmRefused',
    'bad-signature': TAMPERED,
    'tampered-payload': TAMPERED,
    'ephemeral-jwk-only': UNSIGNED,
    'jwk-not-x5c-leaf': 'untrusted CollateralMismatch',
    'untrusted-ca-same-subject': STRANGER,
    expired: EXPIRED,
    'iat-in-future': 'expired CollateralNotYetValid',
    'lifetime-30d': 'untrusted AttestationInvalid',
    'gpu-contraindicated-ocsp-revoked': 'untrusted MeasurementMismatch',
    'status-lies-about-vector': 'untrusted MeasurementMismatch',
    'warning-executables-33': 'untrusted MeasurementMismatch',
    'tdx-collateral-expired': 'untrusted MeasurementMismatch',
    'tdx-out-of-date-tcb': 'untrusted MeasurementMismatch',
    'report-data-not-bound': 'untrusted AttestationInvalid',
    'wrong-nonce': 'untrusted AttestationInvalid',
    // What these say is genuine and affirming: a release would refuse it (`attestation-result.test.ts`), and none is asked here.
    'gpu-missing': 'good',
    'measurement-not-in-release': 'good',
    'wrong-policy-id': 'good',
  };

  it.each(Object.entries(MEANINGS))('%s: %s', async (name, meaning) => {
    const item = readItem(vector(`ear/synthetic-trustee/${name}.jwt`));
    expect(told(await judgedAmong(item, all, TODAY, operator))).toBe(meaning);
  });

  it('are all told apart here, and none is good under nobody’s CA', async () => {
    const tokens = manifest.filter(({ file }) => file.endsWith('.jwt')).map(({ file }) => file);
    expect(tokens.map((file) => file.replace(/^.*\/|\.jwt$/g, '')).sort()).toEqual(Object.keys(MEANINGS).sort());
    for (const file of tokens) expect(await verdictOf(file, TODAY), file).not.toBe('good');
  });

  it('the CA is believed for tokens, and for nothing that a vendor signs', async () => {
    const intel = vendorTrust([...certificatesFrom('intel/qvl-testpki-tdx/trustedRootCaCert.pem')]);
    for (const file of ['tcbInfo.json', 'qeIdentity.json', 'quote.dat', 'rootCaCrl.der', 'intermediateCaCrl.der']) {
      expect(told(await judgedAmong(readItem(vector(`intel/qvl-testpki-tdx/${file}`)), all, TODAY, intel)), file).toBe(STRANGER);
    }
  });

  it.each(manifest.filter(({ file }) => file.endsWith('-jwk.json')))('$file: $expected under its own trust', async ({ file, expected }) => {
    const trust = vendorTrust(certificatesFrom(file.replace('-jwk.json', '-trust.pem')));
    const verdict = told(await judgedAmong(readItem(vector(file)), [], TODAY, trust));
    if (expected === 'ACCEPT') expect(verdict).toBe('good');
    else expect(verdict).toMatch(/^untrusted /);
    expect(await verdictOf(file, TODAY)).toMatch(/^untrusted /);
  });
});
