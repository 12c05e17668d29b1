import { type Members, memberOf, membersOf } from '../attestation-token.ts';
import type { Json } from '../json.ts';
import { type Certificate, certificateOf, certificatesIn } from './certificate.ts';
import { crlOf } from './crl.ts';
import { deviceReportOf } from './device.ts';
import type { CollateralKind } from './finding.ts';
import { type IntelMember, intelMembers } from './intel.ts';
import { type Item, type Part, unsignedItem } from './item.ts';
import { quoteOf } from './quote.ts';
import { rawElements, rawMembers } from './raw-json.ts';
import { snpReportOf, tableCertificates } from './snp.ts';
import { KEYS_MAX } from './tokens.ts';

/** A guest with sixteen devices answers with one entry each. */
const EVIDENCE_MAX = 64;
/** Kinds of platforms in one file of Trustee's. */
const PLATFORMS_MAX = 512;

/** The kinds of a signed document of Intel's. */
const INTEL_KINDS: Readonly<Record<IntelMember, CollateralKind>> = {
  tcbInfo: 'tcb-info',
  enclaveIdentity: 'enclave-identity',
  tcbEvaluationDataNumbers: 'tcb-evaluation-numbers',
};

/** Reads a JSON text: the vendors' own answers, what clients and Trustee make of them, evidence, token keys. Throws Error for what is not whole. */
export function readJson(text: string): Item {
  const value = JSON.parse(text) as Json;
  if (Array.isArray(value)) return readList(value as readonly Json[]);
  const raw = rawMembers(text);
  const members = membersOf(value);
  if (raw === null || members === null) throw new Error('a member twice, or nested too deep');
  const plain = intelMembers.find((member) => raw.has(member));
  if (plain !== undefined) return { kind: INTEL_KINDS[plain], parts: [intelPart(text, null)] };
  if (raw.has('collaterals')) return { kind: 'collateral-bundle', parts: trusteeParts(raw.get('collaterals') ?? '') };
  if (raw.has('tcb_info') && raw.has('qe_identity')) return { kind: 'collateral-bundle', parts: quoteCollateral(members) };
  if (raw.has('issuer_chain')) return readCaptured(members);
  if (raw.has('keys')) return readKeys(memberOf(value, 'keys'));
  if (raw.has('kty'))
    return raw.has('x5c') ? { kind: 'jwks', parts: [{ kind: 'keys', keys: { keys: [members] } }] } : unsignedItem('public-key', 'a key without a certificate');
  if (raw.has('outblob')) return readTsm(members);
  if (raw.has('td_quote')) return { kind: 'quote', parts: [{ kind: 'quote', quote: quoteOf(base64In(members, 'td_quote')) }] };
  if (raw.has('hcl_report')) return readAzureSnp(members);
  return unsignedItem('claims', 'claims without a signature');
}

function readKeys(keys: Json | undefined): Item {
  const read = Array.isArray(keys) ? keys.map((key: Json) => membersOf(key)) : [];
  if (read.length > KEYS_MAX || read.some((key) => key === null)) throw new Error('not a set of keys');
  return { kind: 'jwks', parts: [{ kind: 'keys', keys: { keys: read.filter((key) => key !== null) } }] };
}

/** Lists: evidence of devices, or an answer of NRAS. */
function readList(list: readonly Json[]): Item {
  const [first, second] = list;
  if (Array.isArray(first) && first[0] === 'JWT' && typeof first[1] === 'string') {
    const devices = Object.entries(membersOf(second) ?? {});
    if (list.length !== 2 || devices.length === 0 || devices.length > EVIDENCE_MAX) throw new Error('not an answer of NRAS');
    const tokens = Object.fromEntries(devices.map(([name, token]) => [name, typeof token === 'string' ? token : '']));
    return { kind: 'device-result', parts: [{ kind: 'device-result', result: { overall: first[1], devices: tokens } }] };
  }
  if (list.length === 0 || list.length > EVIDENCE_MAX) throw new Error(`a list of ${list.length}`);
  if (memberOf(first, 'evidence') === undefined) return unsignedItem('claims', 'a list without a signature');
  return {
    kind: 'device-evidence',
    parts: list.map((entry): Part => {
      const members = membersOf(entry) ?? {};
      const chain = certificatesIn(base64In(members, 'certificate').toString('latin1'));
      const nonce = memberOf(entry, 'nonce');
      return { kind: 'device', report: deviceReportOf(base64In(members, 'evidence'), chain, typeof nonce === 'string' ? nonce : null) };
    }),
  };
}

// ---------------------------------------------------------------- Intel

/** `{"tcbInfo": …, "signature": …}` of PCS: nothing else may stand in it, and what was signed is the member's text as it stands. */
function intelPart(text: string, chain: readonly Certificate[] | null): Part {
  const raw = rawMembers(text);
  const member = intelMembers.find((one) => raw?.has(one) === true);
  const signature = stringIn(raw?.get('signature') ?? 'null');
  const body = member === undefined ? undefined : raw?.get(member);
  if (raw?.size !== 2 || member === undefined || body === undefined || signature === null) throw new Error('expected one signed member and its signature');
  return { kind: 'intel', signed: { member, text: body, signature, chain } };
}

function stringIn(raw: string): string | null {
  const value = JSON.parse(raw) as Json;
  return typeof value === 'string' ? value : null;
}

function textIn(members: Members, name: string): string {
  const value = memberOf(members, name);
  if (typeof value !== 'string') throw new Error(`${name} is missing`);
  return value;
}

/** Base64 in either alphabet, as `Buffer` reads it; what comes of it is verified. */
function base64In(members: Members, name: string): Buffer {
  return Buffer.from(textIn(members, name), 'base64');
}

function chainIn(pem: string): readonly Certificate[] {
  const chain = certificatesIn(pem.includes('%20') ? decodeURIComponent(pem) : pem);
  if (chain.length === 0) throw new Error('an issuer chain without a certificate');
  return chain;
}

/** An answer of PCS with its header, as clients keep it. */
function readCaptured(members: Members): Item {
  const chain = chainIn(textIn(members, 'issuer_chain'));
  const parts = Object.keys(members).flatMap((name): readonly Part[] => {
    if (name.endsWith('_json')) return [intelPart(textIn(members, name), chain)];
    return name.startsWith('crl_data') ? [{ kind: 'crl', crl: crlOf(listBytes(textIn(members, name))), chain }] : [];
  });
  const [part, ...more] = parts;
  if (part === undefined) throw new Error('a chain, and nothing that it has signed');
  if (more.length > 0) return { kind: 'collateral-bundle', parts };
  return { kind: part.kind === 'intel' ? INTEL_KINDS[part.signed.member] : 'crl', parts };
}

/** All that is needed for one quote (`sgx_ql_qve_collateral_t`): three signed parts, each with its chain. */
function quoteCollateral(members: Members): readonly Part[] {
  const chain = (name: string): readonly Certificate[] => chainIn(textIn(members, `${name}_issuer_chain`));
  const list = (name: string): ReturnType<typeof crlOf> => crlOf(listBytes(textIn(members, name)));
  const signed = (member: IntelMember, name: string): Part => ({
    kind: 'intel',
    signed: { member, text: textIn(members, name), signature: textIn(members, `${name}_signature`), chain: chain(name) },
  });
  return [
    signed('tcbInfo', 'tcb_info'),
    signed('enclaveIdentity', 'qe_identity'),
    { kind: 'crl', crl: list('pck_crl'), chain: chain('pck_crl') },
    { kind: 'crl', crl: list('root_ca_crl'), chain: null },
  ];
}

/** Hexadecimal of DER, or DER itself in base64, with or without PEM's lines. */
function listBytes(text: string): Buffer {
  const plain = text.replace(/-----[A-Z0-9 ]+-----/g, '').replace(/\s/g, '');
  return /^[0-9a-fA-F]+$/.test(plain) ? Buffer.from(plain, 'hex') : Buffer.from(plain, 'base64');
}

/** The file that Trustee reads in place of a service (`file://`, since 0.21). */
function trusteeParts(text: string): readonly Part[] {
  const raw = rawMembers(text);
  const members = membersOf(JSON.parse(text) as Json);
  if (raw === null || members === null) throw new Error('collaterals: a member twice, or no object');
  const certificates = membersOf(memberOf(members, 'certificates')) ?? {};
  const pck = membersOf(memberOf(certificates, 'SGX-PCK-Certificate-Issuer-Chain')) ?? {};
  const tcbChain = chainIn(textIn(certificates, 'TCB-Info-Issuer-Chain'));
  const enclaveChain = chainIn(textIn(certificates, 'SGX-Enclave-Identity-Issuer-Chain'));
  const platforms = rawElements(raw.get('tcbinfos') ?? '');
  if (platforms === null || platforms.length === 0 || platforms.length > PLATFORMS_MAX) throw new Error(`tcbinfos: expected 1 to ${PLATFORMS_MAX} platforms`);
  const infos = platforms.flatMap((platform) => platformParts(platform, tcbChain));
  const identities = ['qeidentity', 'qeidentity_early', 'tdqeidentity', 'tdqeidentity_early'].flatMap((name) => {
    const identity = raw.get(name);
    return identity === undefined ? [] : placed(name, intelPart(identity, enclaveChain), null);
  });
  const lists = membersOf(memberOf(members, 'pckcacrl')) ?? {};
  return [
    ...infos,
    ...identities,
    { kind: 'crl', crl: crlOf(listBytes(textIn(lists, 'processorCrl'))), chain: chainIn(textIn(pck, 'PROCESSOR')) },
    { kind: 'crl', crl: crlOf(listBytes(textIn(lists, 'platformCrl'))), chain: chainIn(textIn(pck, 'PLATFORM')) },
    { kind: 'crl', crl: crlOf(listBytes(textIn(members, 'rootcacrl'))), chain: null },
  ];
}

function platformParts(text: string, chain: readonly Certificate[]): readonly Part[] {
  const raw = rawMembers(text);
  if (raw === null) throw new Error('tcbinfos: a member twice, or no object');
  const named = stringIn(raw.get('fmspc') ?? 'null');
  return [...raw].flatMap(([name, value]): readonly Part[] => {
    if (!name.includes('_tcbinfo')) return [];
    return placed(name, intelPart(value, chain), named ?? '');
  });
}

/** What belongs under a name of Trustee's file. */
const PLACES: Readonly<Record<string, readonly [member: IntelMember, id: string]>> = {
  tdx_tcbinfo: ['tcbInfo', 'TDX'],
  sgx_tcbinfo: ['tcbInfo', 'SGX'],
  qeidentity: ['enclaveIdentity', 'QE'],
  tdqeidentity: ['enclaveIdentity', 'TD_QE'],
};

/** A genuine document in the wrong place is read as another: a trouble beside its own. */
function placed(name: string, part: Part, fmspc: string | null): readonly Part[] {
  const [member, id] = PLACES[name.replace(/_early$/, '')] ?? [];
  const body = part.kind === 'intel' ? membersOf(JSON.parse(part.signed.text) as Json) : null;
  const own = memberOf(body ?? undefined, 'fmspc');
  const isOfPlatform = fmspc === null || (typeof own === 'string' && own.toUpperCase() === fmspc.toUpperCase());
  if (part.kind === 'intel' && part.signed.member === member && memberOf(body ?? undefined, 'id') === id && isOfPlatform) return [part];
  return [part, { kind: 'bad', trouble: { verdict: 'untrusted', reason: 'CollateralMismatch', about: `another document stands under ${name}` } }];
}

// ---------------------------------------------------------------- AMD

/** What configfs-tsm gives: a report, and the host's table of certificates. */
function readTsm(members: Members): Item {
  const table = memberOf(members, 'auxblob');
  const certificates = typeof table === 'string' && table !== '' ? tableCertificates(Buffer.from(table, 'base64')) : null;
  return { kind: 'snp-report', parts: [{ kind: 'snp', report: snpReportOf(base64In(members, 'outblob'), certificates) }] };
}

/** Azure's guests: the report in their host's wrapping, its VCEK beside it. The vTPM's quote is an attestation service's to judge. */
function readAzureSnp(members: Members): Item {
  const vcek = memberOf(members, 'vcek');
  const certificates = typeof vcek === 'string' ? [certificateOf(Buffer.from(vcek, 'base64'))] : null;
  return { kind: 'snp-report', parts: [{ kind: 'snp', report: snpReportOf(base64In(members, 'hcl_report'), certificates) }] };
}
