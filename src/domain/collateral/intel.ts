import { verify } from 'node:crypto';
import { z } from 'zod';
import { type Instant, parseInstant } from '../../instant.ts';
import type { Certificate } from './certificate.ts';
import { pathOf, type Scope, signersMax, troublesOf } from './chain.ts';
import { type CollateralKind, type Finding, findingOf, malformed, type Trouble } from './finding.ts';

/** What Intel's provisioning certification service signs (PCS v4): the exact text of the value, and the signature beside it. */
export interface SignedByIntel {
  readonly member: IntelMember;
  readonly text: string;
  readonly signature: string;
  /** The chain that came with it; null: none did. */
  readonly chain: readonly Certificate[] | null;
}

/** The name of the signed member, which tells what it is. */
export type IntelMember = 'tcbInfo' | 'enclaveIdentity' | 'tcbEvaluationDataNumbers';

/** All of them. */
export const intelMembers: readonly IntelMember[] = ['tcbInfo', 'enclaveIdentity', 'tcbEvaluationDataNumbers'];

const KINDS: Readonly<Record<IntelMember, CollateralKind>> = {
  tcbInfo: 'tcb-info',
  enclaveIdentity: 'enclave-identity',
  tcbEvaluationDataNumbers: 'tcb-evaluation-numbers',
};

/** Who signs them all. The key outlives its certificates, so the name is asked for and the root is pinned. */
const TCB_SIGNING = 'Intel SGX TCB Signing';

/** What a level may be (PCS v4, `tcbStatus`). Trustee's file backend refuses its whole file for another. */
export const tcbStatuses = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;

const instant = z.iso.datetime({ offset: false });
const hex = (bytes: number): z.ZodString => z.string().regex(new RegExp(`^[0-9a-fA-F]{${bytes * 2}}$`));
const level = z.object({ tcbStatus: z.string(), tcbDate: instant, advisoryIDs: z.array(z.string()).optional() });
const levels = z.array(level).min(1);
const common = { version: z.number().int(), issueDate: instant, nextUpdate: instant };

const BODIES = {
  tcbInfo: z.object({
    ...common,
    id: z.enum(['SGX', 'TDX']),
    version: z.literal(3),
    fmspc: hex(6),
    pceId: hex(2),
    tcbType: z.number().int(),
    tcbEvaluationDataNumber: z.number().int(),
    tdxModuleIdentities: z.array(z.object({ id: z.string(), tcbLevels: levels })).optional(),
    tcbLevels: levels,
  }),
  enclaveIdentity: z.object({
    ...common,
    id: z.enum(['QE', 'TD_QE', 'QVE', 'QAE']),
    version: z.literal(2),
    mrsigner: hex(32),
    isvprodid: z.number().int(),
    tcbEvaluationDataNumber: z.number().int(),
    tcbLevels: levels,
  }),
  tcbEvaluationDataNumbers: z.object({
    ...common,
    id: z.enum(['SGX', 'TDX']),
    tcbEvalNumbers: z.array(z.object({ tcbEvaluationDataNumber: z.number().int(), tcbDate: instant })).min(1),
  }),
} as const;

/** What an item says of itself: read from the signed text, and true only where its finding is good. */
export interface IntelFields {
  readonly member: IntelMember;
  /** `SGX`, `TDX`; of an enclave `QE`, `TD_QE`, `QVE`, `QAE`. */
  readonly id: string;
  /** As it stands there: PCS echoes the letters' case of the request. null: not of one platform. */
  readonly fmspc: string | null;
  /** `tcbEvaluationDataNumber`; null: a list of such numbers. */
  readonly evaluation: number | null;
  readonly issuedAt: Instant;
  readonly nextUpdate: Instant;
  readonly unknownStatus: string | null;
}

/** Reads the signed text. A Trouble: it is not what PCS v4 gives. */
export function intelFieldsOf({ member, text }: Pick<SignedByIntel, 'member' | 'text'>): IntelFields | Trouble {
  const read = BODIES[member].safeParse(parsed(text));
  if (!read.success) return malformed(`${member} ${z.core.toDotPath(read.error.issues[0]?.path ?? [])}: ${read.error.issues[0]?.message ?? 'not JSON'}`);
  const body = read.data;
  const statuses = 'tcbLevels' in body ? [...body.tcbLevels, ...moduleLevels(body)].map(({ tcbStatus }) => tcbStatus) : [];
  return {
    member,
    id: body.id,
    fmspc: 'fmspc' in body ? body.fmspc : null,
    evaluation: 'tcbEvaluationDataNumber' in body ? body.tcbEvaluationDataNumber : null,
    issuedAt: parseInstant(body.issueDate),
    nextUpdate: parseInstant(body.nextUpdate),
    unknownStatus: statuses.find((status) => !tcbStatuses.some((one) => one === status)) ?? null,
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function moduleLevels(body: object): readonly { readonly tcbStatus: string }[] {
  const modules: unknown = 'tdxModuleIdentities' in body ? body.tdxModuleIdentities : undefined;
  return Array.isArray(modules) ? modules.flatMap((one: { tcbLevels: readonly { tcbStatus: string }[] }) => one.tcbLevels) : [];
}

/** The item's name: which TEE, which platform, which generation. */
export function intelName({ member, id, fmspc, evaluation }: IntelFields): string {
  if (member === 'tcbInfo') return `${id} TCB info ${fmspc} #${evaluation}`;
  return member === 'enclaveIdentity' ? `${id} identity #${evaluation}` : `${id} TCB evaluation numbers`;
}

/** PCS: r‖s of an ECDSA signature on P-256, hexadecimal. */
const SIGNATURE = /^[0-9a-fA-F]{128}$/;

/** Judges one of Intel's signed documents: signature over the exact text, signer, chain, dates, revocation, statuses that are known. */
export function judgeIntel(signed: SignedByIntel, scope: Scope): Finding {
  const kind = KINDS[signed.member];
  const fields = intelFieldsOf(signed);
  if ('verdict' in fields) return findingOf(kind, signed.member, null, [fields]);
  const name = intelName(fields);
  if (!SIGNATURE.test(signed.signature)) return findingOf(kind, name, fields.nextUpdate, [malformed('the signature is not 128 hexadecimal digits')]);
  const troubles: Trouble[] = [];
  if (fields.nextUpdate <= fields.issuedAt) troubles.push(malformed('nextUpdate is not after issueDate'));
  if (fields.unknownStatus !== null)
    troubles.push({ verdict: 'malformed', reason: 'TcbStatusUnknown', about: `tcbStatus ${fields.unknownStatus.slice(0, 60)}` });
  if (scope.at < fields.issuedAt) troubles.push({ verdict: 'expired', reason: 'CollateralNotYetValid', about: '' });
  if (scope.at > fields.nextUpdate) troubles.push({ verdict: 'expired', reason: 'CollateralExpired', about: '' });
  const { signer, until, found } = signerOf(signed, scope);
  troubles.push(...found);
  return findingOf(kind, name, signer !== null && until !== null && until < fields.nextUpdate ? until : fields.nextUpdate, troubles);
}

interface Signer {
  readonly signer: Certificate | null;
  readonly until: Instant | null;
  readonly found: readonly Trouble[];
}

function signerOf({ text, signature, chain }: SignedByIntel, scope: Scope): Signer {
  const none = (trouble: Trouble): Signer => ({ signer: null, until: null, found: [trouble] });
  const offered = (chain ?? scope.known).filter(({ commonName }) => commonName === TCB_SIGNING).slice(0, signersMax);
  if (offered.length === 0) return none({ verdict: 'untrusted', reason: 'SignerWrong', about: `the chain has no ${TCB_SIGNING}` });
  const bytes = Buffer.from(signature, 'hex');
  const signers = offered.filter(({ key }) => verify('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }, bytes));
  // One key under several certificates: the one that is in date, else the one that ends last.
  const judged = signers.map((signer): Signer => {
    const path = pathOf(signer, chain, ['intel'], scope);
    if ('verdict' in path) return { signer, until: signer.until, found: [path] };
    const stranger: readonly Trouble[] =
      path.certificates.length === 2 ? [] : [{ verdict: 'untrusted', reason: 'SignerWrong', about: 'not signed by the root itself' }];
    return { signer, until: path.until, found: [...stranger, ...troublesOf(path, scope)] };
  });
  const tampered = none({ verdict: 'tampered', reason: 'CollateralTampered', about: '' });
  const [first = tampered] = judged.sort((a, b) => a.found.length - b.found.length || ((a.until ?? '') < (b.until ?? '') ? 1 : -1));
  return first;
}
