import { createHash } from 'node:crypto';
import { compactVerify, importJWK, type JWK } from 'jose';
import { type Instant, instantOf, later } from '../../instant.ts';
import { appraise } from '../attestation-result.ts';
import { decodeToken, evidenceOf, type Members, memberOf, membersOf } from '../attestation-token.ts';
import type { Tee } from '../documents/fields.ts';
import type { Json } from '../json.ts';
import { type Certificate, certificateOf } from './certificate.ts';
import { type Family, nameOf, pathOf, type Scope, troublesOf } from './chain.ts';
import { type Finding, findingOf, malformed, type Trouble } from './finding.ts';

/** Keys that sign tokens (RFC 7517), with the chains that came with them. */
export interface KeySet {
  readonly keys: readonly Members[];
}

/** NVIDIA's set has 36 keys; more than this was made to keep somebody busy. */
export const KEYS_MAX = 256;
const CHAIN_MAX = 8;
/** Who may have signed keys: NVIDIA's service, or whom the operator names. */
const TOKEN_FAMILIES: readonly Family[] = ['nvidia-service', 'operator'];

/** Judges a key set: of each key its chain, and that the chain is this key's. A set is as good as its worst key. */
export function judgeKeys({ keys }: KeySet, scope: Scope): Finding {
  const judged = keys.map((key) => judgeKey(key, scope));
  const ends = judged.map(({ until }) => until).filter((until) => until !== null);
  const until = ends.length === 0 ? null : ends.reduce((a, b) => (b < a ? b : a));
  const troubles = keys.length === 0 ? [malformed('no key')] : judged.flatMap((one) => one.troubles);
  return findingOf('jwks', `${keys.length} token ${keys.length === 1 ? 'key' : 'keys'}`, until, troubles);
}

interface JudgedKey {
  readonly leaf: Certificate | null;
  readonly until: Instant | null;
  readonly troubles: readonly Trouble[];
}

function judgeKey(key: Members, scope: Scope): JudgedKey {
  const none = (trouble: Trouble): JudgedKey => ({ leaf: null, until: null, troubles: [trouble] });
  const x5c = memberOf(key, 'x5c');
  if (x5c === undefined) return none({ verdict: 'untrusted', reason: 'CollateralUnsigned', about: 'a key without a certificate' });
  const chain = chainOf(x5c);
  const [leaf] = chain ?? [];
  if (chain === null || leaf === undefined) return none(malformed('x5c is no chain'));
  const own = leaf.key.export({ format: 'jwk' });
  const same = (['kty', 'crv', 'x', 'y', 'n', 'e'] as const).every((name) => memberOf(key, name) === own[name]);
  // A genuine chain in front of somebody else's key is the trap here.
  if (!same) return none({ verdict: 'untrusted', reason: 'CollateralMismatch', about: `the key is not that of ${nameOf(leaf)}` });
  const path = pathOf(leaf, chain, TOKEN_FAMILIES, scope);
  const troubles = 'verdict' in path ? [path] : troublesOf(path, scope);
  return { leaf, until: 'verdict' in path ? leaf.until : path.until, troubles };
}

function chainOf(x5c: Json): readonly Certificate[] | null {
  if (!Array.isArray(x5c) || x5c.length === 0 || x5c.length > CHAIN_MAX) return null;
  try {
    return x5c.map((entry: Json) => certificateOf(Buffer.from(typeof entry === 'string' ? entry : '', 'base64')));
  } catch {
    return null;
  }
}

// ---------------------------------------------------------------- results of an attestation service

/** How far another's clock may stand before ours. */
const SKEW_SECONDS = 30;
/** Instants compare as text up to there. */
const YEAR_10000_SECONDS = 253_402_300_800;
/** Its own lifetime bounds it; this is the longest that any has. */
const AGE_MAX_SECONDS = 900;

/**
 * Judges an attestation result (an EAR of Trustee) for itself: algorithm, key, chain to whom the operator names, dates,
 * and by its own word whether it affirms, with collateral in date, and is bound to its evidence. What a
 * release demands of a guest (nonce, measurements, number of GPUs) is asked where there is a release.
 */
export async function judgeResult(token: string, scope: Scope): Promise<Finding> {
  const name = 'attestation result';
  const kind = 'attestation-result';
  const decoded = decodeToken(token);
  if (decoded === null) return findingOf(kind, name, null, [malformed('not a token')]);
  const { header, payload } = decoded;
  const until = secondsIn(payload, 'exp');
  const times = timesOf(payload, scope);
  if (memberOf(header, 'alg') !== 'ES256' || memberOf(header, 'crit') !== undefined)
    return findingOf(kind, name, until, [
      { verdict: 'untrusted', reason: 'AlgorithmRefused', about: `alg ${JSON.stringify(memberOf(header, 'alg') ?? null).slice(0, 40)}` },
    ]);
  const key = membersOf(memberOf(header, 'jwk'));
  if (key === null) return findingOf(kind, name, until, [{ verdict: 'untrusted', reason: 'SignerMissing', about: 'no key in its header' }, ...times]);
  const signer = judgeKey(key, { ...scope, trust: { ...scope.trust, roots: { ...scope.trust.roots, 'nvidia-service': [] } } });
  const signs = signer.leaf !== null && (await isSignedWith(token, signer.leaf.key, 'ES256'));
  const troubles = [...signer.troubles, ...times];
  if (signer.leaf !== null && !signs) troubles.push({ verdict: 'tampered', reason: 'CollateralTampered', about: '' });
  if (troubles.length === 0) troubles.push(...(await contentTroubles(token, payload, scope)));
  return findingOf(kind, name, until, troubles);
}

/** The house's own judgement of a result, asked only for what the result says of itself: it is measured by its own measurements. */
async function contentTroubles(token: string, payload: Members, scope: Scope): Promise<readonly Trouble[]> {
  const submods = membersOf(memberOf(payload, 'submods')) ?? {};
  const evidence = evidenceOf(memberOf(submods, 'cpu0'));
  const tees: readonly Tee[] = ['snp', 'tdx', 'az-snp-vtpm', 'az-tdx-vtpm', 'sample'];
  const tee = tees.find((one) => membersOf(memberOf(evidence ?? undefined, one)) !== null);
  const initData = memberOf(evidence ?? undefined, 'init_data');
  if (evidence === null || tee === undefined || typeof initData !== 'string')
    return [{ verdict: 'untrusted', reason: 'AttestationInvalid', about: 'no evidence of a TEE in it' }];
  const devices = { gpu: numbered(submods, 'gpu'), switch: numbered(submods, 'switch') };
  const signers = scope.trust.roots.operator.map(({ x509 }) => x509.toString());
  const judged = await appraise(token, scope.at, signers, { tee, devices, initData, claims: { init_data: [initData] }, maxAgeSeconds: AGE_MAX_SECONDS });
  return judged.kind === 'good' ? [] : [{ verdict: 'untrusted', reason: judged.reason, about: judged.about }];
}

function numbered(submods: Members, kind: string): number {
  return Object.keys(submods).filter((name) => new RegExp(`^${kind}\\d+$`).test(name)).length;
}

function secondsIn(payload: Members, name: string): Instant | null {
  const value = memberOf(payload, name);
  return typeof value === 'number' && value > 0 && value < YEAR_10000_SECONDS ? instantOf(value * 1000) : null;
}

function timesOf(payload: Members, scope: Scope): readonly Trouble[] {
  const [issued, before, until] = ['iat', 'nbf', 'exp'].map((name) => secondsIn(payload, name));
  if (issued === null || issued === undefined || until === null || until === undefined) return [malformed('no iat or exp')];
  const soon = later(scope.at, SKEW_SECONDS);
  if (issued > soon || (before ?? issued) > soon) return [{ verdict: 'expired', reason: 'CollateralNotYetValid', about: '' }];
  return scope.at >= until ? [{ verdict: 'expired', reason: 'CollateralExpired', about: '' }] : [];
}

async function isSignedWith(token: string, key: Parameters<typeof compactVerify>[1], algorithm: 'ES256' | 'ES384'): Promise<boolean> {
  return compactVerify(token, key as never, { algorithms: [algorithm] }).then(
    () => true,
    () => false,
  );
}

// ---------------------------------------------------------------- NVIDIA's remote attestation service

/** An answer of NRAS: a token over all, and one a device, of which the first holds the digests. */
export interface DeviceResult {
  readonly overall: string;
  readonly devices: Readonly<Record<string, string>>;
}

/** Its issuer, exactly: Trustee does not ask, and the staging service signs with the same sort of keys. */
const NRAS = 'https://nras.attestation.nvidia.com';

/** Judges an answer of NRAS: every token by a key of the sets that were given, issuer, dates, and that the devices' tokens are those that the first names. */
export async function judgeDeviceResult({ overall, devices }: DeviceResult, keySets: readonly KeySet[], scope: Scope): Promise<Finding> {
  const names = Object.keys(devices);
  const name = `device result of ${names.slice(0, 4).join(', ')}`;
  const decoded = [overall, ...Object.values(devices)].map((token) => ({ token, parts: decodeToken(token) }));
  const [first] = decoded;
  if (first?.parts == null || decoded.some(({ parts }) => parts === null)) return findingOf('device-result', name, null, [malformed('not tokens')]);
  const troubles = (await Promise.all(decoded.map(({ token, parts }) => tokenTroubles(token, parts, keySets, scope)))).flat();
  const submods = membersOf(memberOf(first.parts.payload, 'submods')) ?? {};
  const fits = Object.keys(submods).length === names.length && names.every((one) => digestNamed(submods[one]) === sha256(devices[one] ?? ''));
  if (!fits) troubles.push({ verdict: 'tampered', reason: 'CollateralTampered', about: 'a device’s token is not the one that is named' });
  return findingOf('device-result', name, secondsIn(first.parts.payload, 'exp'), troubles);
}

/** `["DIGEST", ["SHA-256", hex]]` (draft-ietf-rats-eat, detached submodules). */
function digestNamed(entry: Json | undefined): Json | undefined {
  const inner = Array.isArray(entry) && entry[0] === 'DIGEST' ? (entry[1] as Json) : undefined;
  return Array.isArray(inner) && inner[0] === 'SHA-256' ? (inner[1] as Json) : undefined;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

async function tokenTroubles(token: string, parts: ReturnType<typeof decodeToken>, keySets: readonly KeySet[], scope: Scope): Promise<readonly Trouble[]> {
  if (parts === null) return [malformed('not a token')];
  const { header, payload } = parts;
  const troubles = [...timesOf(payload, scope)];
  if (memberOf(header, 'alg') !== 'ES384') return [...troubles, { verdict: 'untrusted', reason: 'AlgorithmRefused', about: '' }];
  const wanted = memberOf(header, 'kid');
  const key = keySets.flatMap(({ keys }) => keys).find((one) => wanted !== undefined && memberOf(one, 'kid') === wanted);
  // Its keys are gone in two days: after that nobody can say who signed it.
  if (key === undefined) return [...troubles, { verdict: 'untrusted', reason: 'SignerMissing', about: 'its key is in no key set given' }];
  const judged = judgeKey(key, scope);
  const imported = await importJWK(key as JWK, 'ES384').catch(() => null);
  if (imported === null || !(await isSignedWith(token, imported as never, 'ES384')))
    troubles.push({ verdict: 'tampered', reason: 'CollateralTampered', about: '' });
  if (memberOf(payload, 'iss') !== NRAS) troubles.push({ verdict: 'untrusted', reason: 'SignerWrong', about: 'another issuer' });
  return [...troubles, ...judged.troubles];
}
