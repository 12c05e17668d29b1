/** The attestation service of a KBS, for the `sample` verifier and its `sampledevice`, and the shipped appraisal policies for both. */
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { parse } from 'smol-toml';
import type { LabSession } from './kbs-store.ts';
import { isObject, type Json, member, parsed } from './kbs-wire.ts';

const EAT_PROFILE = 'tag:github.com,2024:confidential-containers/Trustee';
/** No annotation of a pod carries more. */
const INIT_DATA_MAX_BYTES = 1024 * 1024;

/** Looks a reference value up; null: there is none. */
export type LabReference = (name: string) => Json;

/** One piece of evidence that its verifier took. */
interface Piece {
  readonly submod: string;
  readonly tee: 'sample' | 'sampledevice';
  readonly claims: Json;
  readonly runtimeData: Json;
  readonly reportData: string;
  readonly initData: { readonly digest: string; readonly claims: Json } | null;
}

/** Whether it names this session: anything else fails before a verifier is asked. */
export function answersChallenge(body: Buffer, session: LabSession): boolean {
  return member(member(parsed(body), 'runtime-data'), 'nonce') === session.nonce;
}

/** The claims of the EAR for an attestation message, without a signature. Throws for evidence that its verifier does not take. */
export function appraise(body: Buffer, session: LabSession, reference: LabReference, issuedAt: number, lifeSeconds: number): Json {
  const submods: Record<string, Json> = {};
  for (const piece of piecesOf(body, session)) submods[piece.submod] = appraisalOf(piece, reference);
  return {
    eat_profile: EAT_PROFILE,
    iat: issuedAt,
    'ear.verifier-id': { developer: 'https://confidentialcontainers.org', build: 'attestation-service 0.1.0' },
    submods,
    exp: issuedAt + lifeSeconds,
    iss: 'CoCo-Attestation-Service',
  };
}

function piecesOf(body: Buffer, session: LabSession): readonly Piece[] {
  const message = parsed(body);
  const evidence = member(message, 'tee-evidence');
  const additional = member(evidence, 'additional_evidence');
  if (session.tee !== 'sample' || typeof additional !== 'string') throw new Error('no verifier for it');
  const bound = { nonce: session.nonce, 'tee-pubkey': teeKeyOf(message) };
  const initData = initDataOf(member(message, 'init-data'));
  const runtimeData = { 'additional-evidence': additional, ...bound };
  const { svn, reportData } = evidenceOf(member(evidence, 'primary_evidence'), runtimeData);
  const claims = { debug: false, launch_digest: 'abcde', platform_version: { major: 1, minor: 4 }, svn };
  const primary: Piece = { submod: 'cpu0', tee: 'sample', claims, runtimeData, reportData, initData };
  if (additional === '') return [primary];
  const devices = parsed(Buffer.from(additional));
  if (!isObject(devices) || Object.keys(devices).some((tee) => tee !== 'sampledevice')) throw new Error('no verifier for a device');
  const device = evidenceOf(member(devices, 'sampledevice'), bound);
  return [primary, { submod: 'gpu0', tee: 'sampledevice', claims: { svn: device.svn }, runtimeData: bound, reportData: device.reportData, initData: null }];
}

/** The evidence holds the SHA-384 of the JCS of what it is bound to; that is all that a sample verifier looks at. */
function evidenceOf(evidence: Json | undefined, runtimeData: Json): { readonly svn: string; readonly reportData: string } {
  const svn = member(evidence, 'svn');
  const reportData = member(evidence, 'report_data');
  const expected = createHash('sha384')
    .update(canonicalize(runtimeData) ?? '')
    .digest('base64');
  if (typeof svn !== 'string' || reportData !== expected) throw new Error('REPORT_DATA is different from that in Sample Quote');
  return { svn, reportData: expected };
}

/** Only the members that a KBS knows are hashed and passed on. */
function teeKeyOf(message: Json | undefined): Json {
  const jwk = member(member(message, 'runtime-data'), 'tee-pubkey');
  const names = member(jwk, 'kty') === 'RSA' ? ['alg', 'e', 'kty', 'n'] : ['alg', 'crv', 'kty', 'x', 'y'];
  return Object.fromEntries(
    names.map((name) => {
      const value = member(jwk, name);
      if (typeof value !== 'string') throw new Error(`tee-pubkey has no ${name}`);
      return [name, value];
    }),
  );
}

function initDataOf(message: Json | undefined): Piece['initData'] {
  if (message === undefined || message === null) return null;
  const body = member(message, 'body');
  if (member(message, 'format') !== 'toml' || typeof body !== 'string' || body.length > INIT_DATA_MAX_BYTES) throw new Error('init-data is no TOML');
  const { algorithm, data } = parse(body);
  if (algorithm !== 'sha256' && algorithm !== 'sha384' && algorithm !== 'sha512') throw new Error('init-data names no algorithm');
  const claims: Record<string, Json> = {};
  for (const [name, value] of Object.entries(data as Record<string, unknown>)) {
    if (typeof value !== 'string') throw new Error('init-data holds no text');
    const agent = name === 'policy.rego' ? agentClaimsOf(value) : null;
    if (agent === null) claims[name] = name === 'cdh.toml' || name === 'aa.toml' ? tomlOr(value) : value;
    else claims.agent_policy_claims = agent;
  }
  return { digest: createHash(algorithm).update(body).digest('base64'), claims };
}

/** A file of TOML becomes claims; one that does not parse stays text. */
function tomlOr(text: string): Json {
  try {
    return JSON.parse(JSON.stringify(parse(text))) as Json;
  } catch {
    return text;
  }
}

/** `policy_data := {…}` at the end of an agent policy. */
function agentClaimsOf(rego: string): Json | null {
  const start = rego.indexOf('policy_data := {');
  if (start < 0) return null;
  return parsed(Buffer.from(rego.slice(start + 'policy_data := '.length))) ?? null;
}

function appraisalOf(piece: Piece, reference: LabReference): Json {
  const vector = {
    'instance-identity': 0,
    configuration: piece.tee === 'sample' ? 2 : 36,
    executables: piece.tee === 'sample' && holdsValue(reference('launch_digest'), 'abcde') ? 3 : 33,
    'file-system': 0,
    hardware: piece.tee === 'sample' && hardwareIsGood(piece, reference) ? 2 : 97,
    'runtime-opaque': 0,
    'storage-opaque': 0,
    'sourced-data': 0,
  };
  const initData = piece.initData === null ? {} : { init_data: piece.initData.digest, init_data_claims: piece.initData.claims };
  return {
    'ear.status': statusOf(Object.values(vector)),
    'ear.trustworthiness-vector': vector,
    'ear.appraisal-policy-id': 'default',
    'ear.veraison.annotated-evidence': { ...initData, report_data: piece.reportData, runtime_data_claims: piece.runtimeData, [piece.tee]: piece.claims },
    ...(piece.tee === 'sample' ? { 'ear.trustee.identifiers': { validated: identifiersOf(piece) } } : {}),
  };
}

function hardwareIsGood(piece: Piece, reference: LabReference): boolean {
  const minimum = reference('minimum_minor_version');
  // Rego orders null and booleans below every number, and texts and lists above: a missing minimum lets every minor version pass.
  const minorIsGood = minimum === null || typeof minimum === 'boolean' || (typeof minimum === 'number' && 4 >= minimum);
  return holdsValue(reference('svn'), member(piece.claims, 'svn') ?? null) && reference('major_version') === 1 && minorIsGood;
}

/** Rego's `in`: an element of a list, or a value of an object; nothing is in a scalar. */
function holdsValue(collection: Json, value: Json): boolean {
  const values = Array.isArray(collection) ? (collection as readonly Json[]) : isObject(collection) ? Object.values(collection) : [];
  return values.includes(value);
}

/** The tier of the worst claim (AR4SI; `rust-ear`, `trust/tier.rs`). */
function statusOf(values: readonly number[]): string {
  if (values.some((value) => value >= 96)) return 'contraindicated';
  if (values.some((value) => value >= 32)) return 'warning';
  return values.some((value) => value >= 2) ? 'affirming' : 'none';
}

/** Trustee's extension: the images and users that the agent policy names. */
function identifiersOf(piece: Piece): Json {
  const containers = member(member(piece.initData?.claims, 'agent_policy_claims'), 'containers');
  const list = Array.isArray(containers) ? (containers as readonly Json[]) : [];
  const images = list.map((one) => member(member(member(one, 'OCI'), 'Annotations'), 'io.kubernetes.cri.image-name')).filter((image) => image !== undefined);
  const users = list.map((one) => member(member(member(member(one, 'OCI'), 'Process'), 'User'), 'UID')).filter((user) => user !== undefined);
  return { ...(images.length === 0 ? {} : { container_images: images }), ...(users.length === 0 ? {} : { container_uids: users }) };
}
