import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { crlOf } from '#src/domain/collateral/crl.ts';
import { readItem } from '#src/domain/collateral/read.ts';
import { extension, intelSigned, type Made, make, makeList, pem, trusting } from './pki.ts';
import { judged, manifest, told, vector } from './vectors.ts';

const TODAY = '2026-11-23T12:00:00Z';

/** The same bytes with one bit of one of them turned. */
function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

/** The same text with a piece replaced, which has to be there. */
function edited(bytes: Buffer, from: string | RegExp, to: string): Buffer {
  const text = bytes.toString('utf8');
  const changed = text.replace(from, to);
  expect(changed).not.toBe(text);
  return Buffer.from(changed);
}

describe('a bit that was turned anywhere', () => {
  // Good at its moment, of every kind that is signed. JSON and PEM have white space between, which nobody signed.
  const SIGNED: readonly { readonly file: string; readonly at: string; readonly other?: string }[] = [
    { file: 'intel/go-tdx-guest/pckcrl', at: '2023-06-20T00:00:00Z' },
    { file: 'intel/go-tdx-guest/rootcrl.der', at: '2023-06-20T00:00:00Z' },
    { file: 'amd/virtee-sev/vcek_milan.der', at: TODAY },
    { file: 'amd/virtee-sev/vcek_turin.der', at: TODAY },
    { file: 'trustee/snp/test-report.bin', at: TODAY, other: 'trustee/snp/test-vcek.der' },
    { file: 'intel/go-tdx-guest/tdx_prod_quote_SPR_E4.dat', at: TODAY },
    { file: 'intel/phala-dcap-qvl/sgx_quote', at: TODAY },
    { file: 'nvidia/attestation-sdk/hopperAttestationReport.txt', at: TODAY, other: 'nvidia/attestation-sdk/hopperCertChain.txt' },
    { file: 'trustee/tdx/tcbInfo.json', at: '2025-11-01T00:00:00Z' },
    { file: 'trustee/tdx/enclaveIdentity.json', at: '2025-11-01T00:00:00Z' },
    { file: 'nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml', at: TODAY },
  ];

  /** PEM has white space of its own, and an SNP signature its padding: signed by nobody. */
  function signedEnd(file: string, bytes: Buffer): number {
    if (file.endsWith('test-report.bin')) return 0x2a0;
    if (file.includes('quote')) return bytes.indexOf('-----BEGIN CERTIFICATE-----');
    if (file.endsWith('.xml')) return bytes.indexOf('<ds:KeyInfo>');
    return bytes.length;
  }

  it.each(SIGNED)('$file is not good any more', async ({ file, at, other }) => {
    const bytes = vector(file);
    const given = { at, with: other === undefined ? [] : [vector(other)] };
    expect(told(await judged(bytes, given))).toBe('good');
    const end = signedEnd(file, bytes);
    const step = Math.max(1, Math.floor(end / 150));
    const survivors: number[] = [];
    for (let place = 0; place < end; place += step) {
      const { verdict } = await judged(flipped(bytes, place), given);
      if (verdict === 'good') survivors.push(place);
    }
    expect(survivors.map((place) => bytes.subarray(Math.max(0, place - 8), place + 8).toString('latin1'))).toEqual([]);
  });

  it.each([
    ['trustee/tdx/tcbInfo.json', '"pcesvn":13', '"pcesvn":12', '2025-11-01T00:00:00Z'],
    ['trustee/tdx/tcbInfo.json', '00A06D080000', '00a06d080000', '2025-11-01T00:00:00Z'],
    ['trustee/tdx/tcbInfo.json', '{"tcbInfo":{', '{"tcbInfo":{ ', '2025-11-01T00:00:00Z'],
    ['trustee/tdx/tcbInfo.json', '"nextUpdate":"2025-11-26', '"nextUpdate":"2035-11-26', '2025-11-01T00:00:00Z'],
    ['trustee/tdx/enclaveIdentity.json', '"isvsvn":4', '"isvsvn":3', '2025-11-01T00:00:00Z'],
    ['nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml', 'colloquialVersion="550.144.03"', 'colloquialVersion="550.144.04"', TODAY],
    ['nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml', 'active="False"', 'active="True"', TODAY],
  ])('%s with %s as %s is tampered with', async (file, from, to, at) => {
    expect(told(await judged(edited(vector(file), from, to), { at }))).toBe('tampered CollateralTampered');
  });
});

describe('dates', () => {
  it.each([
    ['trustee/tdx/tcbInfo.json', '2025-10-27T13:07:16Z', 'expired CollateralNotYetValid'],
    ['trustee/tdx/tcbInfo.json', '2025-10-27T13:07:17Z', 'good'],
    ['trustee/tdx/tcbInfo.json', '2025-11-26T13:07:17Z', 'good'],
    ['trustee/tdx/tcbInfo.json', '2025-11-26T13:07:18Z', 'expired CollateralExpired'],
    ['amd/openpcc/test_amd_milan_crl.pem', '2025-05-06T12:39:05Z', 'expired CollateralNotYetValid'],
    ['amd/openpcc/test_amd_milan_crl.pem', '2026-05-12T00:00:01Z', 'expired CollateralExpired'],
    ['nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml', '2024-12-01T00:00:00Z', 'expired CollateralNotYetValid'],
    ['nvidia/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml', '2026-12-31T00:00:00Z', 'expired SignerExpired'],
  ])('%s at %s: %s', async (file, at, meaning) => {
    expect(told(await judged(vector(file), { at }))).toBe(meaning);
  });

  it('an item whose own chain has expired is not saved by a newer certificate of the same key that it does not carry', async () => {
    const body = JSON.parse(vector('intel/teepot-pcs-v4/tdx_tcb_info.json').toString()) as Record<string, string>;
    const old = vector('intel/go-tdx-guest/tcb_info_issuer_chain.pem').toString();
    const swapped = Buffer.from(JSON.stringify({ ...body, issuer_chain: old }));
    expect(told(await judged(swapped, { at: '2025-05-28T00:00:00Z' }))).toBe('expired SignerExpired');
  });
});

describe('whose signature it is', () => {
  const captured = JSON.parse(vector('intel/teepot-pcs-v4/tdx_tcb_info.json').toString()) as Record<string, string>;
  const list = JSON.parse(vector('intel/teepot-pcs-v4/pck_crl_platform.json').toString()) as Record<string, string>;
  const processor = JSON.parse(vector('intel/teepot-pcs-v4/pck_crl_processor.json').toString()) as Record<string, string>;
  const at = '2025-05-28T12:00:00Z';

  it('chains that were swapped do not count', async () => {
    const swapped = (value: object): Buffer => Buffer.from(JSON.stringify(value));
    expect(told(await judged(swapped({ ...captured, issuer_chain: list.issuer_chain }), { at }))).toBe('untrusted SignerWrong');
    expect(told(await judged(swapped({ ...list, issuer_chain: captured.issuer_chain }), { at }))).toBe('untrusted SignerMissing');
    expect(told(await judged(swapped({ ...list, issuer_chain: processor.issuer_chain }), { at }))).toBe('untrusted SignerMissing');
    expect(told(await judged(swapped({ ...list, crl_data: processor.crl_data }), { at }))).toBe('untrusted SignerMissing');
  });

  it('who signs certificates or lists under the genuine root does not sign TCB info', async () => {
    const root = make({ name: 'Intel SGX Root CA', ca: true });
    const trust = trusting('intel', root);
    const text = tcbInfo({});
    const genuine = make({ name: 'Intel SGX TCB Signing', by: root });
    const other = make({ name: 'Intel SGX PCK Platform CA', by: root, ca: true });
    const below = make({ name: 'Intel SGX TCB Signing', by: other });
    const carried = (by: typeof root, chain: string): Buffer =>
      Buffer.from(JSON.stringify({ issuer_chain: chain, tcb_info_json: intelSigned('tcbInfo', text, by) }));
    expect(told(await judged(carried(genuine, pem(genuine, root)), { at: AT, trust }))).toBe('good');
    expect(told(await judged(carried(other, pem(other, root)), { at: AT, trust }))).toBe('untrusted SignerWrong');
    expect(told(await judged(carried(below, pem(below, other, root)), { at: AT, trust }))).toBe('untrusted SignerWrong');
  });

  it('a certificate that may sign none signs none', async () => {
    const root = make({ name: 'Root', ca: true });
    const trust = trusting('amd', root);
    const leaf = make({ name: 'Leaf', by: root });
    const forged = make({ name: 'SEV-VCEK', by: leaf });
    expect(told(await judged(Buffer.from(pem(forged, leaf, root)), { at: AT, trust }))).toBe('untrusted SignerNotAuthority');
    // It says that it may sign others, and is no authority.
    const sly = make({ name: 'Sly', by: root, usage: '03020106' });
    expect(told(await judged(Buffer.from(pem(make({ name: 'SEV-VCEK', by: sly }), sly, root)), { at: AT, trust }))).toBe('untrusted SignerNotAuthority');
    // It is one, and may sign lists only.
    const lists = make({ name: 'Lists', by: root, ca: true, usage: '03020102' });
    expect(told(await judged(Buffer.from(pem(make({ name: 'SEV-VCEK', by: lists }), lists, root)), { at: AT, trust }))).toBe('untrusted SignerNotAuthority');
    const strange = make({ name: 'Strange', by: root, extensions: [extension('2b0601040182370a', Buffer.from('0500', 'hex'), true)] });
    expect(told(await judged(Buffer.from(pem(strange)), { at: AT, trust }))).toBe('untrusted SignerNotAuthority');
    const short = make({ name: 'Short', by: root, ca: true, pathLength: 0 });
    const middle = make({ name: 'Middle', by: short, ca: true });
    const low = make({ name: 'Low', by: middle });
    expect(told(await judged(Buffer.from(pem(low, middle, short)), { at: AT, trust }))).toBe('untrusted SignerNotAuthority');
    expect(told(await judged(Buffer.from(pem(middle, short)), { at: AT, trust }))).toBe('good');
  });

  it('ways without number between certificates that sign each other end', async () => {
    const key = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const ring = Array.from({ length: 60 }, (_, serial) => make({ name: 'Ring', ca: true, serial, key }));
    expect(told(await judged(Buffer.from(ring.map((one) => pem(one)).join('')), { at: AT }))).not.toBe('good');
  });

  it('a report counts under AMD’s root alone, and says of its own chip whether it was changed', async () => {
    const root = make({ name: 'ARK', ca: true });
    const chip = Buffer.alloc(64, 5);
    const vcek = make({ name: 'SEV-VCEK', by: root, curve: 'P-384', extensions: [extension('2b060104019c780104', chip)] });
    const report = snpReport(vcek, chip);
    const given = { at: AT, with: [Buffer.from(pem(vcek))] };
    expect(told(await judged(report, { ...given, trust: trusting('amd', root) }))).toBe('good');
    expect(told(await judged(report, { ...given, trust: trusting('operator', root) }))).toMatch(/^untrusted /);
    expect(told(await judged(flipped(report, 80), { ...given, trust: trusting('amd', root) }))).toBe('tampered CollateralTampered');
    expect(told(await judged(flipped(report, 0x1a0), { ...given, trust: trusting('amd', root) }))).toBe('untrusted SignerMissing');
  });

  it('evidence of a device answers the nonce that it is said to answer', async () => {
    const evidence = vector('nvidia/attestation-sdk/evidence/hopper_evidence.json');
    expect(told(await judged(edited(evidence, '"nonce": "e97b', '"nonce": "e97c'), { at: TODAY }))).toBe('untrusted CollateralMismatch');
  });

  it('a quote of another enclave than Intel’s is worth nothing, whatever PCK has signed it', async () => {
    const root = make({ name: 'Intel SGX Root CA', ca: true });
    const authority = make({ name: 'Intel SGX PCK Platform CA', by: root, ca: true });
    const pck = make({ name: 'Intel SGX PCK Certificate', by: authority });
    const trust = trusting('intel', root);
    const chain = pem(pck, authority, root);
    const intel = Buffer.from('8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff', 'hex');
    const given = { at: AT, trust };
    expect(told(await judged(sgxQuote({ pck, chain, signer: intel, product: 1, flags: 1 }), given))).toBe('good');
    expect(told(await judged(sgxQuote({ pck, chain, signer: Buffer.alloc(32, 1), product: 1, flags: 1 }), given))).toBe('untrusted SignerWrong');
    expect(told(await judged(sgxQuote({ pck, chain, signer: intel, product: 2, flags: 1 }), given))).toBe('untrusted SignerWrong');
    expect(told(await judged(sgxQuote({ pck, chain, signer: intel, product: 1, flags: 3 }), given))).toBe('untrusted SignerWrong');
    expect(told(await judged(sgxQuote({ pck: authority, chain, signer: intel, product: 1, flags: 1 }), given))).toBe('tampered CollateralTampered');
    const leafless = sgxQuote({ pck: authority, chain: pem(authority, root), signer: intel, product: 1, flags: 1 });
    expect(told(await judged(leafless, given))).toBe('untrusted SignerWrong');
    expect(
      told(await judged(sgxQuote({ pck, chain, signer: intel, product: 1, flags: 1 }), { ...given, with: [makeList({ by: authority, revoked: [7] })] })),
    ).toBe('revoked SignerRevoked');
  });

  it('a root that merely has the vendor’s name is a stranger', async () => {
    for (const name of ['Intel SGX Root CA', 'ARK-Milan', 'NVIDIA CoRIM signing Root CA', 'NVIDIA Device Identity CA']) {
      const root = make({ name, ca: true });
      expect(told(await judged(Buffer.from(pem(make({ name: 'Leaf', by: root }), root)), { at: AT }))).toBe('untrusted RootNotPinned');
    }
  });
});

/** A report of version 2, signed by this VCEK. */
function snpReport(vcek: Made, chip: Buffer): Buffer {
  const report = Buffer.alloc(1184);
  report.writeUInt32LE(2, 0);
  report.writeUInt32LE(1, 0x34);
  chip.copy(report, 0x1a0);
  const signature = sign('sha384', report.subarray(0, 0x2a0), { key: vcek.key, dsaEncoding: 'ieee-p1363' });
  Buffer.from(signature.subarray(0, 48)).reverse().copy(report, 0x2a0);
  Buffer.from(signature.subarray(48))
    .reverse()
    .copy(report, 0x2a0 + 72);
  return report;
}

/** A quote of version 3, by an enclave that is described. */
function sgxQuote(of: { readonly pck: Made; readonly chain: string; readonly signer: Buffer; readonly product: number; readonly flags: number }): Buffer {
  const attestation = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const point = attestation.publicKey.export({ format: 'der', type: 'spki' }).subarray(-64);
  const header = Buffer.alloc(48);
  header.writeUInt16LE(3, 0);
  header.writeUInt16LE(2, 2);
  Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex').copy(header, 12);
  const signed = Buffer.concat([header, Buffer.alloc(384)]);
  const raw = (key: KeyObject, bytes: Buffer): Buffer => sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' });
  const report = Buffer.alloc(384);
  report[48] = of.flags;
  of.signer.copy(report, 128);
  report.writeUInt16LE(of.product, 256);
  createHash('sha256').update(point).digest().copy(report, 320);
  const size16 = (value: number): Buffer => Buffer.from([value & 0xff, value >> 8]);
  const size32 = (value: number): Buffer => Buffer.concat([size16(value & 0xffff), size16(value >> 16)]);
  const data = Buffer.concat([
    raw(attestation.privateKey, signed),
    point,
    report,
    raw(of.pck.key, report),
    size16(0),
    size16(5),
    size32(of.chain.length),
    Buffer.from(of.chain),
  ]);
  return Buffer.concat([signed, size32(data.length), data]);
}

// ---------------------------------------------------------------- revocation

const AT = '2025-06-15T00:00:00Z';

describe('revocation lists of the same call', () => {
  const root = make({ name: 'ARK', ca: true, serial: 1 });
  const middle = make({ name: 'ASK', by: root, ca: true, serial: 2 });
  const leaf = make({ name: 'SEV-VCEK', by: middle, serial: 3 });
  const chain = Buffer.from(pem(leaf, middle, root));
  const trust = trusting('amd', root);
  const withList = async (...lists: readonly Buffer[]): Promise<string> => told(await judged(chain, { at: AT, trust, with: lists }));

  it('revoke what they name, at every height', async () => {
    expect(await withList()).toBe('good');
    expect(await withList(makeList({ by: root, revoked: [9] }))).toBe('good');
    expect(await withList(makeList({ by: root, revoked: [9, 2] }))).toBe('revoked SignerRevoked');
    expect(await withList(makeList({ by: middle, revoked: [3] }))).toBe('revoked SignerRevoked');
  });

  it('revoke for ever: an old list counts, and a newer one that is silent takes nothing back', async () => {
    const old = makeList({ by: root, revoked: [2], from: '2025-01-01T00:00:00', until: '2025-02-01T00:00:00' });
    expect(await withList(makeList({ by: root }), old)).toBe('revoked SignerRevoked');
  });

  it('of another issuer say nothing: neither a namesake’s, nor one whose serial numbers happen to be the same', async () => {
    const namesake = make({ name: 'ARK', ca: true, serial: 1 });
    expect(await withList(makeList({ by: namesake, revoked: [2] }))).toBe('good');
    expect(await withList(makeList({ by: root, revoked: [3] }))).toBe('good');
    expect(await withList(makeList({ by: middle, revoked: [2] }))).toBe('good');
    const list = makeList({ by: root, revoked: [2] });
    expect(await withList(flipped(list, list.length - 5))).toBe('good');
    expect(told(await judged(flipped(list, list.length - 5), { at: AT, trust }))).toMatch(/tampered|malformed/);
  });

  it('may not be signed by who may sign no lists', async () => {
    const list = makeList({ by: leaf, revoked: [3] });
    expect(told(await judged(list, { at: AT, trust, with: [chain] }))).not.toBe('good');
  });

  it('need an end, and stand for all that their issuer signed', () => {
    expect(() => crlOf(makeList({ by: root }))).not.toThrow();
    expect(() => crlOf(makeList({ by: root, until: null }))).toThrow();
    // A delta, and an indirect list (RFC 5280 §5.2.4 and §5.2.5).
    expect(() => crlOf(makeList({ by: root, extensions: [extension('551d1b', Buffer.from('020101', 'hex'), true)] }))).toThrow();
    expect(() => crlOf(makeList({ by: root, extensions: [extension('551d1c', Buffer.from('3003840101', 'hex'), true)] }))).toThrow();
  });

  it('a vendor’s own list keeps the retired key of its line out: AMD revoked 020001, and pins 020002', () => {
    const item = readItem(vector('amd/openpcc/test_amd_genoa_crl.pem'));
    const [part] = item.parts;
    expect(part?.kind === 'crl' && [...part.crl.revoked]).toEqual(['20001']);
  });

  it('Intel’s items are revoked with their signer and their PCK CA', async () => {
    const intel = make({ name: 'Intel SGX Root CA', ca: true });
    const signer = make({ name: 'Intel SGX TCB Signing', by: intel, serial: 5 });
    const text = Buffer.from(JSON.stringify({ issuer_chain: pem(signer, intel), tcb_info_json: intelSigned('tcbInfo', tcbInfo({}), signer) }));
    const given = { at: AT, trust: trusting('intel', intel) };
    expect(told(await judged(text, given))).toBe('good');
    expect(told(await judged(text, { ...given, with: [makeList({ by: intel, revoked: [5] })] }))).toBe('revoked SignerRevoked');
  });
});

// ---------------------------------------------------------------- Intel's documents

function tcbInfo(change: object): string {
  const level = { tcb: { sgxtcbcomponents: [{ svn: 2 }], pcesvn: 11 }, tcbDate: '2025-05-14T00:00:00Z', tcbStatus: 'UpToDate' };
  const dates = { issueDate: '2025-06-01T00:00:00Z', nextUpdate: '2025-07-01T00:00:00Z' };
  return JSON.stringify({
    id: 'SGX',
    version: 3,
    ...dates,
    fmspc: '00906ED50000',
    pceId: '0000',
    tcbType: 0,
    tcbEvaluationDataNumber: 19,
    tcbLevels: [level],
    ...change,
  });
}

describe('Intel’s documents, genuinely signed', () => {
  const root = make({ name: 'Intel SGX Root CA', ca: true });
  const signer = make({ name: 'Intel SGX TCB Signing', by: root });
  const trust = trusting('intel', root);
  const verdictOf = async (text: string): Promise<string> => told(await judged(Buffer.from(text), { at: AT, trust, with: [Buffer.from(pem(signer, root))] }));
  const signed = async (change: object): Promise<string> => verdictOf(intelSigned('tcbInfo', tcbInfo(change), signer));

  it('are refused where they are not of the form that is known', async () => {
    expect(await signed({})).toBe('good');
    expect(await signed({ tcbLevels: [{ tcb: {}, tcbDate: '2025-05-14T00:00:00Z', tcbStatus: 'MostlyHarmless' }] })).toBe('malformed TcbStatusUnknown');
    const modules = [{ id: 'TDX_01', tcbLevels: [{ tcbDate: '2025-05-14T00:00:00Z', tcbStatus: 'Fine' }] }];
    expect(await signed({ tdxModuleIdentities: modules })).toBe('malformed TcbStatusUnknown');
    expect(await signed({ tcbLevels: [] })).toBe('malformed CollateralMalformed');
    expect(await signed({ version: 4 })).toBe('malformed CollateralMalformed');
    expect(await signed({ fmspc: '00906ED5' })).toBe('malformed CollateralMalformed');
    expect(await signed({ nextUpdate: '2025-06-01T00:00:00Z' })).toBe('malformed CollateralMalformed');
    expect(await signed({ nextUpdate: 'never' })).toBe('malformed CollateralMalformed');
    expect(await signed({ id: 'TPM' })).toBe('malformed CollateralMalformed');
  });

  it('a member that stands there twice is refused, whichever of the two was signed', async () => {
    const good = intelSigned('tcbInfo', tcbInfo({}), signer);
    const evil = tcbInfo({ tcbEvaluationDataNumber: 99 });
    expect(await verdictOf(`{"tcbInfo":${evil},${good.slice(1)}`)).toBe('malformed CollateralMalformed');
    expect(await verdictOf(`${good.slice(0, -1)},"tcbInfo":${evil}}`)).toBe('malformed CollateralMalformed');
    expect(await verdictOf(`${good.slice(0, -1)},"more":1}`)).toBe('malformed CollateralMalformed');
  });

  it('files with several parts are as good as their worst, and no part goes unread', async () => {
    const chain = pem(signer, root);
    const good = intelSigned('tcbInfo', tcbInfo({}), signer);
    const bent = good.replace('"pcesvn":11', '"pcesvn":12');
    const captured = (...texts: readonly string[]): string =>
      JSON.stringify({ issuer_chain: chain, ...Object.fromEntries(texts.map((text, place) => [`part${place}_json`, text])) });
    expect(await verdictOf(captured(good, good))).toBe('good');
    expect(await verdictOf(captured(good, bent))).toBe('tampered CollateralTampered');
    expect(await verdictOf(captured(bent, good))).toBe('tampered CollateralTampered');
    expect(await verdictOf(captured())).toBe('malformed CollateralMalformed');
  });

  it('in Trustee’s file have to stand where they belong', async () => {
    const file = vector('derived/trustee-platform_collaterals.2025-06-19.json');
    const at = '2025-06-20T00:00:00Z';
    expect(told(await judged(file, { at }))).toBe('good');
    expect(told(await judged(edited(file, '"fmspc":"B0C06F000000"', '"fmspc":"00A067110000"'), { at }))).toBe('untrusted CollateralMismatch');
    expect(told(await judged(edited(file, '"tdx_tcbinfo"', '"sgx_tcbinfo"'), { at }))).toBe('untrusted CollateralMismatch');
    expect(told(await judged(edited(file, '"tdqeidentity"', '"qeidentity_early"'), { at }))).toBe('untrusted CollateralMismatch');
    expect(told(await judged(edited(file, '"tcbinfos":[', '"tcbinfos":{"a":['), { at }))).toBe('malformed CollateralMalformed');
    expect(told(await judged(edited(file, '"tcbinfos"', '"infos"'), { at }))).toBe('malformed CollateralMalformed');
    expect(told(await judged(edited(file, '"svn":2', '"svn":3'), { at }))).toBe('tampered CollateralTampered');
  });

  it('a signature in another form is refused', async () => {
    const text = tcbInfo({});
    expect(await verdictOf(`{"tcbInfo":${text},"signature":"00"}`)).toBe('malformed CollateralMalformed');
    expect(await verdictOf(`{"tcbInfo":${text},"signature":"${'00'.repeat(64)}"}`)).toBe('tampered CollateralTampered');
    expect(await verdictOf(`{"tcbInfo":${text}}`)).toBe('malformed CollateralMalformed');
  });
});

// ---------------------------------------------------------------- bytes

describe('bytes', () => {
  it.each([
    ['nothing', Buffer.alloc(0), 'malformed CollateralMalformed'],
    ['zeros', Buffer.alloc(2000), 'malformed CollateralKindUnknown'],
    ['half a certificate', vector('amd/virtee-sev/vcek_milan.der').subarray(0, 600), 'malformed CollateralMalformed'],
    ['half a quote', vector('intel/phala-dcap-qvl/tdx_quote').subarray(0, 1000), 'malformed CollateralMalformed'],
    ['half a list', vector('intel/go-tdx-guest/pckcrl').subarray(0, 900), 'malformed CollateralMalformed'],
    ['half a PEM', vector('amd/virtee-sev/cert_chain_milan').subarray(0, 3000), 'malformed CollateralMalformed'],
    ['half a document', vector('trustee/tdx/tcbInfo.json').subarray(0, 900), 'malformed CollateralMalformed'],
    ['a certificate with more behind it', Buffer.concat([vector('amd/virtee-sev/vcek_milan.der'), Buffer.alloc(3)]), 'malformed CollateralMalformed'],
    ['deep JSON', Buffer.from(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), 'malformed CollateralMalformed'],
    ['many kinds of keys', Buffer.from(JSON.stringify({ keys: Array.from({ length: 300 }, () => ({ kty: 'EC' })) })), 'malformed CollateralMalformed'],
    ['more than is ever read', Buffer.alloc(4 * 1024 * 1024 + 1, 'a'), 'malformed LimitExceeded'],
    ['a list of nothing', Buffer.from('[]'), 'malformed CollateralMalformed'],
    ['deep DER', Buffer.from('30820190'.repeat(200), 'hex'), 'malformed CollateralMalformed'],
  ])('%s', async (_, bytes, meaning) => {
    expect(told(await judged(bytes, { at: TODAY }))).toBe(meaning);
  });

  it('cut anywhere, a genuine file is never good, and never a bug', async () => {
    for (const { file } of manifest.filter((_, place) => place % 6 === 0)) {
      const bytes = vector(file);
      for (const part of [0.1, 0.5, 0.9]) {
        const { verdict } = await judged(bytes.subarray(0, Math.floor(bytes.length * part)), { at: '2025-06-20T00:00:00Z' });
        expect(verdict, file).not.toBe('good');
      }
    }
  });
});
