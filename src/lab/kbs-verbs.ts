/** What a KBS does for each of its verbs, byte for byte as the recordings of a real one show. */
import { randomBytes } from 'node:crypto';
import { type LabAdmin, refusedAdmin } from './kbs-admin.ts';
import { answersChallenge, appraise } from './kbs-attest.ts';
import type { LabMetrics } from './kbs-metrics.ts';
import { readPolicy } from './kbs-policy.ts';
import type { LabSession, LabStore } from './kbs-store.ts';
import { encryptTo, type LabTokens } from './kbs-token.ts';
import { empty, failure, isObject, type Json, json, type LabAnswer, type LabRequest, member, parsed } from './kbs-wire.ts';

const TEES = ['az-snp-vtpm', 'az-tdx-vtpm', 'nvidia', 'sgx', 'snp', 'tdx', 'cca', 'csv', 'se', 'hygondcu', 'tpm', 'sample', 'sampledevice'];
const SEGMENT = /^[A-Za-z0-9_-][A-Za-z0-9_.-]*$/;
/** `is_valid_key` of Trustee's storages: a reference value under any other name is not stored. */
const STORED_NAME = /^[A-Za-z0-9_./-]+$/;
/** Limits of regorus, the policy engine. */
const POLICY_MAX_BYTES = 1024 * 1024;
const POLICY_MAX_LINES = 20_000;

/** A running KBS, as its verbs see it. */
export interface LabBroker {
  readonly admin: LabAdmin;
  readonly store: LabStore;
  readonly tokens: LabTokens;
  readonly metrics: LabMetrics;
  readonly sessionMinutes: number;
  readonly tokenMinutes: number;
}

/** Answers a request under `/kbs/v0/`. `now`: milliseconds since 1970. */
export async function perform(broker: LabBroker, request: LabRequest, now: number): Promise<LabAnswer> {
  broker.metrics.count('kbs_http_requests_total');
  const verb = request.segments[0] ?? '';
  switch (`${request.method} ${verb}`) {
    case 'POST auth':
      return auth(broker, request, now);
    case 'POST attest':
      return attest(broker, request, now);
    case 'POST attestation-policy':
    case 'GET reference-value':
    case 'POST reference-value':
    case 'GET resource-policy':
    case 'POST resource-policy':
      return (await refusedAdmin(broker.admin, request, verb, now)) ?? builtIn(broker, request, `${request.method} ${verb}`);
    default:
      if (verb !== 'resource') return failure('PluginNotFound', `Plugin ${verb} not found`, 404);
      if (request.method === 'POST' || request.method === 'DELETE') return (await refusedAdmin(broker.admin, request, null, now)) ?? write(broker, request);
      return fetchResource(broker, request, now);
  }
}

function auth(broker: LabBroker, request: LabRequest, now: number): LabAnswer {
  broker.metrics.count('kbs_auth_requests_total');
  const no = (cause: string): LabAnswer => {
    broker.metrics.count('kbs_auth_errors_total');
    return failure('AttestationError', `Attestation error: RCAR handshake Auth failed: ${cause}`);
  };
  const message = parsed(request.body);
  const version = member(message, 'version');
  const tee = member(message, 'tee');
  if (typeof version !== 'string' || typeof tee !== 'string' || !TEES.includes(tee) || member(message, 'extra-params') === undefined)
    return no('deserialize Request');
  if (!/^\d+\.\d+\.\d+/.test(version)) return no('failed to parse KBS version');
  if (version !== '0.4.0') return no(`KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is ${version}`);
  const { sessions, save } = broker.store;
  for (const [id, session] of sessions) if (session.endsAt < now) sessions.delete(id);
  const id = randomBytes(16).toString('hex');
  const session: LabSession = { tee, nonce: randomBytes(32).toString('base64'), endsAt: now + broker.sessionMinutes * 60_000, token: null };
  sessions.set(id, session);
  save();
  broker.metrics.count('kbs_auth_successes_total');
  return json({ nonce: session.nonce, 'extra-params': '' }, cookieOf(id, session));
}

async function attest(broker: LabBroker, request: LabRequest, now: number): Promise<LabAnswer> {
  const { store, metrics } = broker;
  metrics.count('kbs_attestation_requests_total');
  const no = failure('AttestationError', 'Attestation error: RCAR handshake Attest failed');
  const id = request.session ?? '';
  const session = store.sessions.get(id);
  if (session === undefined || session.endsAt < now || !isObject(parsed(request.body))) return no;
  // An attested session gives its token again, whatever is sent.
  if (session.token !== null) return json({ token: session.token }, cookieOf(id, session));
  if (!answersChallenge(request.body, session)) return no;
  let claims: Json;
  try {
    const reference = (name: string): Json => store.referenceValues.get(name) ?? null;
    claims = appraise(request.body, session, reference, Math.floor(now / 1000), broker.tokenMinutes * 60);
  } catch {
    metrics.count('kbs_attestation_failures_total', `tee_type="${session.tee}"`);
    return no;
  }
  const token = await broker.tokens.sign(claims);
  store.sessions.set(id, { ...session, token });
  store.save();
  metrics.count('kbs_attestation_successes_total', `tee_type="${session.tee}"`);
  return json({ token }, cookieOf(id, session));
}

/** The minutes are counted from `auth`; the cookie has no attribute but its end. */
function cookieOf(id: string, session: LabSession): Readonly<Record<string, string>> {
  return { 'set-cookie': `kbs-session-id=${id}; Expires=${new Date(session.endsAt).toUTCString()}` };
}

function builtIn(broker: LabBroker, request: LabRequest, verb: string): LabAnswer {
  switch (verb) {
    case 'GET resource-policy':
      return json(['resource-policy']);
    case 'POST resource-policy':
      return setPolicy(broker, request.body);
    case 'GET reference-value':
      return getReferenceValue(broker, request.segments.slice(1).join('/'));
    case 'POST reference-value':
      return setReferenceValues(broker, request.body);
    default:
      return setAttestationPolicy(request.body);
  }
}

function setPolicy(broker: LabBroker, body: Buffer): LabAnswer {
  const no = (cause: string): LabAnswer => failure('ParsePolicyError', `Failed to parse policy: ${cause}`);
  const message = parsed(body);
  if (message === undefined) return no('Illegal SetPolicy Request Json');
  const policy = member(message, 'policy');
  if (policy === undefined) return no('No `policy` field inside SetPolicy Request Json');
  if (typeof policy !== 'string') return no('`policy` field is not a string in SetPolicy Request Json');
  const wrong = base64UrlMistake(policy);
  if (wrong !== null) return no(`Failed to decode policy: ${wrong}`);
  const text = Buffer.from(policy, 'base64url').toString('utf8');
  const engine = (cause: string): LabAnswer => failure('PolicyEngineError', `Policy engine error: Failed to load policy:  exceeds maximum allowed ${cause}`);
  if (Buffer.byteLength(text) > POLICY_MAX_BYTES) return engine(`policy file size ${POLICY_MAX_BYTES} bytes`);
  if (text.split('\n').length > POLICY_MAX_LINES) return engine(`line count ${POLICY_MAX_LINES}`);
  if (readPolicy(text) === null) return unreadable();
  broker.store.policy.text = text;
  broker.store.save();
  return empty(200);
}

/** Aloud, and unlike anything that a KBS says: a lab that guessed would prove nothing. */
function unreadable(): LabAnswer {
  return failure('LabCannotEvaluate', 'lab kbs cannot evaluate this Rego', 400);
}

/** As the base64 crate says it. */
function base64UrlMistake(text: string): string | null {
  const offset = text.search(/[^A-Za-z0-9_-]/);
  if (offset >= 0 && text[offset] === '=') return 'Invalid padding';
  if (offset >= 0) return `Invalid symbol ${text.charCodeAt(offset)}, offset ${offset}.`;
  return text.length % 4 === 1 ? `Invalid input length: ${text.length}` : null;
}

function getReferenceValue({ store }: LabBroker, name: string): LabAnswer {
  const no = (cause: string): LabAnswer => failure('RvpsError', `RVPS configuration failed: Failed to get reference_values: ${cause}`);
  if (name === '') return no('query reference values');
  const value = store.referenceValues.get(name);
  return value === undefined ? no(`No reference value found for the given id: ${name}`) : json(value);
}

/** Each named value is replaced, the others stay. Those before a name that the storage refuses are stored: in the message's order here, in a random one there. Why one is refused is never told. */
function setReferenceValues({ store }: LabBroker, body: Buffer): LabAnswer {
  const message = parsed(body);
  const version = member(message, 'version') ?? '0.1.0';
  const payload = member(message, 'payload');
  const isBase64 = typeof payload === 'string' && payload.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(payload);
  const values = isBase64 ? parsed(Buffer.from(payload, 'base64')) : undefined;
  const no = failure('RvpsError', 'RVPS configuration failed: Failed to register reference value: register reference value');
  if (version !== '0.1.0' || member(message, 'type') !== 'sample' || !isObject(values)) return no;
  const names = Object.keys(values);
  const refused = names.findIndex((name) => !STORED_NAME.test(name));
  for (const name of refused < 0 ? names : names.slice(0, refused)) store.referenceValues.set(name, values[name] ?? null);
  store.save();
  return refused < 0 ? empty(200, 'application/json') : no;
}

/** The appraisal policies are the shipped ones and stay so; an id that is never evaluated is taken, as it is there. */
function setAttestationPolicy(body: Buffer): LabAnswer {
  const message = parsed(body);
  const id = member(message, 'policy_id');
  const policy = member(message, 'policy');
  if (typeof id !== 'string' || typeof policy !== 'string' || base64UrlMistake(policy) !== null) {
    return failure('AttestationError', 'Attestation error: Set Attestation Policy failed');
  }
  return id.startsWith('default_') ? unreadable() : empty(200);
}

function write({ store, metrics }: LabBroker, request: LabRequest): LabAnswer {
  const path = resourcePath(request);
  if (path === null) return failure('PluginInternalError', 'Plugin internal error');
  const isDelete = request.method === 'DELETE';
  metrics.count(isDelete ? 'kbs_resource_deletes_total' : 'kbs_resource_writes_total', `resource_path="${path}"`);
  if (isDelete && !store.resources.has(path)) return failure('PluginInternalError', 'Plugin internal error');
  if (isDelete) store.resources.delete(path);
  else store.resources.set(path, request.body);
  store.save();
  return empty(200, 'text/xml');
}

/** Token, policy, then the store: a refusal hides whether anything is there. */
async function fetchResource(broker: LabBroker, request: LabRequest, now: number): Promise<LabAnswer> {
  const { store, metrics } = broker;
  const session = store.sessions.get(request.session ?? '');
  const ofSession = session !== undefined && session.endsAt >= now ? session.token : null;
  const token = ofSession ?? /^Bearer (.+)$/.exec(request.authorization ?? '')?.[1] ?? null;
  if (token === null) return failure('TokenNotFound', 'Attestation Token not found');
  const claims = await broker.tokens.verify(token, now);
  if (claims === null) return failure('TokenVerifierError', 'Token Verifier error');
  metrics.count('kbs_policy_evaluations_total');
  const allows = readPolicy(store.policy.text)?.({ plugin: 'resource', path: request.segments.slice(1), claims }) ?? false;
  metrics.count(allows ? 'kbs_policy_approvals_total' : 'kbs_policy_violations_total');
  if (!allows) return failure('PolicyDeny', 'Access denied by policy');
  const path = resourcePath(request);
  if (path !== null && request.method === 'GET') metrics.count('kbs_resource_reads_total', `resource_path="${path}"`);
  const bytes = path === null || request.method !== 'GET' ? undefined : store.resources.get(path);
  if (bytes === undefined) return failure('PluginInternalError', 'Plugin internal error');
  const jwe = await encryptTo(claims, bytes);
  return jwe === null ? failure('TokenVerifierError', 'Token Verifier error') : json(jwe);
}

function resourcePath(request: LabRequest): string | null {
  const path = request.segments.slice(1);
  return path.length === 3 && path.every((segment) => SEGMENT.test(segment)) ? path.join('/') : null;
}
