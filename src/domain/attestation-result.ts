import { digestOf } from '../digest.ts';
import { type Instant, millisecondsOf, parseInstant } from '../instant.ts';
import { decodeToken, evidenceOf, isBound, type Members, memberOf, membersOf, thumbprintOf, verifyToken } from './attestation-token.ts';
import { tierOf } from './attestation-vector.ts';
import type { Tee } from './documents/fields.ts';
import { canonicalJson, type Json } from './json.ts';
import type { Reason } from './reasons.ts';

/** What a guest must be, for its attestation to count. */
export interface Expectation {
  readonly tee: Tee;
  /** Exactly this many device submods must be there, each affirming. */
  readonly devices: { readonly gpu: number; readonly switch: number };
  /** Init-data's digest as that TEE's verifier writes it into the token. */
  readonly initData: string;
  /** Pointer into `cpu0`'s annotated evidence, written with dots (`sample.svn`) → the values that are good. Empty: nothing is good. */
  readonly claims: Readonly<Record<string, readonly Json[]>>;
  /** How old the token may be at the moment of judging. Seconds. */
  readonly maxAgeSeconds: number;
}

/** What was found. `teeKey` is the RFC 7638 thumbprint of the guest's TEE key; `evidence` goes into a receipt and holds no secret. */
export type Appraisal =
  | { readonly kind: 'good'; readonly teeKey: string; readonly evidence: Json }
  | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string };

/** What Trustee's attestation service writes; another profile has other rules. */
const PROFILE = 'tag:github.com,2024:confidential-containers/Trustee';
/** How far the attestation service's clock may stand before ours. */
const SKEW_SECONDS = 30;
/** Trustee's default is 300; a token that lives longer than this was not meant for a key release. */
const LIFETIME_MAX_SECONDS = 900;
/** AR4SI trust claims that a guest cannot do without: the chip, what was launched, how it is configured. */
const REQUIRED_CLAIMS = ['hardware', 'executables', 'configuration'];

/** The TEE key that a KBS encrypts to, of a token that nobody has verified: for recording, never for deciding. null: there is none. */
export function teeKeyOf(token: string): string | null {
  const evidence = evidenceOf(memberOf(memberOf(decodeToken(token)?.payload, 'submods'), 'cpu0'));
  return thumbprintOf(memberOf(memberOf(evidence ?? undefined, 'runtime_data_claims'), 'tee-pubkey'));
}

type Bad = Extract<Appraisal, { kind: 'bad' }>;

function bad(reason: Reason, about: string): Bad {
  return { kind: 'bad', reason, about };
}

/**
 * Judges an EAR of Trustee (draft-ietf-rats-ear) as it stood at `at`, which for a key is the moment of
 * its fetch. In this order: algorithm, key and chain to one of the `signers` (PEM of CAs; none: bad),
 * age, profile, exactly the expected submods, each tier as recomputed from its vector, what the token
 * tells of collateral, init-data, measurements, and the binding of the TEE key to the evidence.
 *
 * A token has no identity beyond its TEE key: that one guest's token stands for another pod is caught
 * by counting each key once, which is the caller's. `build` and issuer are recorded, not judged.
 */
export async function appraise(token: string, at: Instant, signers: readonly string[], expected: Expectation): Promise<Appraisal> {
  const decoded = decodeToken(token);
  if (decoded === null) return bad('AttestationInvalid', 'the attestation result is not a token');
  const { header, payload } = decoded;
  const signer = await verifyToken(token, header, at, signers);
  if ('wrong' in signer) return bad('AttestationInvalid', signer.wrong);
  const submods = membersOf(memberOf(payload, 'submods')) ?? {};
  const found =
    checkAge(payload, at, expected.maxAgeSeconds) ??
    checkSubmods(submods, expected.devices) ??
    checkCollateral(submods, expected.tee, at) ??
    checkGuest(submods, expected) ??
    checkBinding(submods);
  if (found !== null) return found;
  const teeKey = thumbprintOf(memberOf(memberOf(evidenceOf(submods.cpu0) ?? undefined, 'runtime_data_claims'), 'tee-pubkey'));
  if (teeKey === null) return bad('AttestationInvalid', 'cpu0 has no TEE key');
  return { kind: 'good', teeKey, evidence: evidenceFor(token, payload, submods, expected, { ...signer }) };
}

function checkAge(payload: Members, at: Instant, maxAgeSeconds: number): Bad | null {
  if (memberOf(payload, 'eat_profile') !== PROFILE) return bad('AttestationInvalid', 'eat_profile is not Trustee’s');
  const issued = memberOf(payload, 'iat');
  const expires = memberOf(payload, 'exp');
  const before = memberOf(payload, 'nbf') ?? issued;
  if (!isSeconds(issued) || !isSeconds(expires) || !isSeconds(before)) return bad('AttestationInvalid', 'iat, exp or nbf is not a number of seconds');
  const now = millisecondsOf(at) / 1000;
  if (Math.max(issued, before) > now + SKEW_SECONDS) return bad('AttestationInvalid', 'the token is from the future');
  if (expires - issued > LIFETIME_MAX_SECONDS) return bad('AttestationInvalid', `the token lives longer than ${LIFETIME_MAX_SECONDS} s`);
  if (now >= expires) return bad('PodNotAttested', 'the token had expired');
  if (now - issued > maxAgeSeconds) return bad('PodNotAttested', `the attestation was older than ${maxAgeSeconds} s`);
  return null;
}

function isSeconds(value: Json | undefined): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value > 0;
}

/** A guest that sends no GPU evidence has no `gpu0`: so the set must be exact. `ppcie0` is the verifier's own word on eight GPUs and their switches. */
function checkSubmods(submods: Members, devices: Expectation['devices']): Bad | null {
  const wanted = ['cpu0', ...numbered('gpu', devices.gpu), ...numbered('switch', devices.switch)];
  const there = Object.keys(submods);
  const missing = wanted.filter((name) => !there.includes(name));
  if (missing.length > 0) return bad('MeasurementMismatch', `no submod ${missing.join(', ')}`);
  const more = there.filter((name) => !wanted.includes(name) && !(name === 'ppcie0' && devices.switch > 0));
  if (more.length > 0) return bad('MeasurementMismatch', `a submod that the release does not expect: ${more.slice(0, 4).join(', ')}`);
  for (const name of there) {
    const { tier, worst } = tierOf(memberOf(submods[name], 'ear.trustworthiness-vector'), REQUIRED_CLAIMS);
    if (tier !== 'affirming') return bad('MeasurementMismatch', `${name} is ${tier}: ${worst}`);
    if (memberOf(submods[name], 'ear.status') !== 'affirming') return bad('MeasurementMismatch', `${name} says another status than its vector`);
  }
  return null;
}

function numbered(kind: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `${kind}${index}`);
}

/** TDX alone tells which collateral it was appraised with; a policy that forgot to look must not make stale collateral good. */
function checkCollateral(submods: Members, tee: Tee, at: Instant): Bad | null {
  const claims = memberOf(evidenceOf(submods.cpu0) ?? undefined, tee);
  const expired = memberOf(claims, 'collateral_expiration_status');
  if (expired !== undefined && String(expired) !== '0') return bad('MeasurementMismatch', 'cpu0 was appraised with collateral that had expired');
  if (memberOf(claims, 'tcb_status') === 'Revoked') return bad('MeasurementMismatch', 'cpu0 has a revoked TCB');
  const until = memberOf(claims, 'earliest_expiration_date');
  if (until === undefined) return null;
  if (typeof until !== 'string' || !isBefore(at, until)) return bad('MeasurementMismatch', 'cpu0’s collateral was not valid any more');
  return null;
}

function isBefore(at: Instant, text: string): boolean {
  try {
    return at < parseInstant(text);
  } catch {
    return false;
  }
}

function checkGuest(submods: Members, expected: Expectation): Bad | null {
  const evidence = evidenceOf(submods.cpu0);
  if (evidence === null || membersOf(memberOf(evidence, expected.tee)) === null) return bad('MeasurementMismatch', `cpu0 is no ${expected.tee}`);
  if (memberOf(evidence, 'init_data') !== expected.initData) return bad('MeasurementMismatch', 'cpu0 init_data is not the release’s');
  const names = Object.keys(expected.claims);
  if (names.length === 0) return bad('MeasurementMismatch', 'the release names no measurement that a token carries');
  for (const name of names) {
    const value = claimAt(evidence, name);
    const good = expected.claims[name] ?? [];
    if (value === undefined || !good.some((one) => canonicalJson(one) === canonicalJson(value)))
      return bad('MeasurementMismatch', `cpu0 ${name} is not the release’s`);
  }
  return null;
}

function claimAt(evidence: Members, name: string): Json | undefined {
  let value: Json | undefined = evidence;
  for (const part of name.split('.')) value = memberOf(value, part);
  return value;
}

/** Every submod's report data must be over the same nonce and TEE key. A token without `additional-evidence` (verbose_token = false) cannot be recomputed. */
function checkBinding(submods: Members): Bad | null {
  const runtime = membersOf(memberOf(evidenceOf(submods.cpu0) ?? undefined, 'runtime_data_claims'));
  if (runtime === null) return bad('AttestationInvalid', 'cpu0 has no runtime_data_claims');
  for (const name of Object.keys(submods)) {
    const evidence = evidenceOf(submods[name]) ?? undefined;
    const own = membersOf(memberOf(evidence, 'runtime_data_claims'));
    if (own === null) continue;
    if (!isSame(own, runtime, 'nonce') || !isSame(own, runtime, 'tee-pubkey')) return bad('AttestationInvalid', `${name} answers another handshake than cpu0`);
    const reportData = memberOf(evidence, 'report_data');
    const kind = name === 'cpu0' ? 'cpu' : 'device';
    if (!isRecomputable(own, reportData, kind)) continue;
    if (!isBound(reportData, own, kind)) return bad('AttestationInvalid', `${name} report_data is not bound to its runtime data`);
  }
  return null;
}

function isRecomputable(runtime: Members, reportData: Json | undefined, kind: 'cpu' | 'device'): reportData is string {
  return typeof reportData === 'string' && (kind === 'device' || memberOf(runtime, 'additional-evidence') !== undefined);
}

function isSame(one: Members, other: Members, name: string): boolean {
  const value = memberOf(one, name);
  const same = memberOf(other, name);
  return value !== undefined && same !== undefined && canonicalJson(value) === canonicalJson(same);
}

function evidenceFor(token: string, payload: Members, submods: Members, expected: Expectation, signer: Members): Json {
  const cpu = evidenceOf(submods.cpu0) ?? {};
  const runtime = membersOf(memberOf(cpu, 'runtime_data_claims')) ?? {};
  return {
    token: digestOf(token),
    signer,
    issuer: memberOf(payload, 'iss') ?? null,
    verifier: memberOf(payload, 'ear.verifier-id') ?? null,
    issuedAt: memberOf(payload, 'iat') ?? null,
    tee: expected.tee,
    submods: Object.fromEntries(Object.keys(submods).map((name) => [name, memberOf(submods[name], 'ear.appraisal-policy-id') ?? null])),
    initData: expected.initData,
    claims: Object.fromEntries(Object.keys(expected.claims).map((name) => [name, claimAt(cpu, name) ?? null])),
    bound: isRecomputable(runtime, memberOf(cpu, 'report_data'), 'cpu') ? 'recomputed' : 'as the verifier says',
  };
}
