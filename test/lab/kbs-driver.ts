import { createHash, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import canonicalize from 'canonicalize';
import { flattenedDecrypt } from 'jose';
import { Agent, request } from 'undici';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import type { LabKbsOptions } from '#src/lab/kbs.ts';

/** A request of a recording: what to make anew. */
export interface Template {
  readonly path: string;
  readonly method?: string;
  readonly admin?: string | AdminTemplate;
  readonly bearer?: string;
  readonly rawAuth?: string;
  readonly cookie?: string | { readonly value: string };
  readonly json?: unknown;
  readonly text?: string;
  readonly b64?: string;
  readonly rego?: string;
  readonly rv?: { readonly values: unknown; readonly version?: string; readonly type?: string };
  readonly attPolicy?: { readonly id: string; readonly rego: string };
  readonly auth?: { readonly version?: string; readonly tee?: string; readonly extraParams?: unknown };
  readonly attest?: AttestTemplate;
  readonly headers?: Readonly<Record<string, string>>;
  readonly save?: { readonly session?: string; readonly token?: string };
  readonly decryptWith?: string;
  readonly sameTokenAs?: string;
}

interface AdminTemplate {
  readonly key?: string;
  readonly role?: string;
  readonly alg?: string;
  readonly iss?: string;
  readonly aud?: unknown;
  readonly expIn?: number;
  readonly nbfIn?: number;
  readonly omit?: readonly string[];
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly header?: Readonly<Record<string, string | null>>;
}

interface AttestTemplate {
  readonly session: string;
  readonly key?: string;
  readonly svn?: string;
  readonly nonce?: string;
  readonly reportData?: string;
  readonly cookie?: false;
  readonly evidence?: unknown;
  readonly initData?: unknown;
  readonly extraJwk?: Readonly<Record<string, unknown>>;
  readonly device?: { readonly svn?: string; readonly reportData?: string };
  readonly additionalRaw?: string;
}

/** The keys that the recordings name, made anew. */
export interface DriverKeys {
  readonly admin: Readonly<Record<string, KeyObject>>;
  readonly tee: Readonly<Record<string, KeyObject>>;
  readonly options: Pick<LabKbsOptions, 'adminPublicKeys' | 'tokenSigner'>;
}

/** Makes every key of the recordings, and the KBS's settings that go with them. */
export async function makeKeys(): Promise<DriverKeys> {
  const p256 = (): { privateKey: KeyObject; publicKey: KeyObject } => generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pairs = { ed25519: generateKeyPairSync('ed25519'), es256: p256(), rs256: generateKeyPairSync('rsa', { modulusLength: 2048 }), jwks: p256() };
  const pem = (key: KeyObject): string => key.export({ type: 'spki', format: 'pem' }).toString();
  const authority = await makeAuthority('token test CA');
  const signer = await issue(authority, { commonName: 'token signer', names: [] });
  const own = { issuer: 'rotation-controller', audience: 'kbs' };
  const keySet = { keys: [{ ...pairs.jwks.publicKey.export({ format: 'jwk' }), kty: 'EC', kid: 'jwks-key-1', alg: 'ES256', use: 'sig' }] };
  return {
    admin: {
      ed25519: pairs.ed25519.privateKey,
      es256: pairs.es256.privateKey,
      rs256: pairs.rs256.privateKey,
      jwks: pairs.jwks.privateKey,
      unknown: generateKeyPairSync('ed25519').privateKey,
    },
    tee: { 'p256-a': p256().privateKey, 'p256-b': p256().privateKey, rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey },
    options: {
      adminPublicKeys: [
        ...[pairs.ed25519, pairs.es256, pairs.rs256].map(({ publicKey }) => ({ ...own, publicKeyPem: pem(publicKey) })),
        { issuer: 'jwks-issuer', audience: 'kbs', keySet },
      ],
      tokenSigner: { keyPem: signer.keyPem, chainPem: signer.certificatePem + authority.certificatePem },
    },
  };
}

/** What an answer is compared by: the same members as `expected` in the recordings. */
export interface Observed {
  readonly status: number;
  readonly contentType: string | null;
  readonly [member: string]: unknown;
}

/** Sends the requests of one recording, in order, and remembers its sessions and tokens. */
export function openDriver(url: string, keys: DriverKeys): (template: Template) => Promise<Observed> {
  const sessions = new Map<string, string>();
  const nonces = new Map<string, string>();
  const tokens = new Map<string, string>();
  // A connection each: those that are kept open do not outlive a restart.
  const agent = new Agent({ pipelining: 0 });
  return async (template) => {
    const { headers, body } = requestOf(template, keys, sessions, nonces, tokens);
    const method = (template.method ?? (body === null || template.text !== undefined ? 'GET' : 'POST')) as 'GET';
    const response = await request(`${url}${template.path}`, { method, headers, body, dispatcher: agent });
    const text = await response.body.text();
    const json = jsonOf(text);
    const { nonce, token } = isMembers(json) ? json : {};
    const cookie = [response.headers['set-cookie'] ?? []].flat()[0] ?? '';
    const session = /kbs-session-id=([0-9a-f]{32})/.exec(cookie)?.[1];
    const { save = {} } = template;
    if (save.session !== undefined && session !== undefined) sessions.set(save.session, session);
    if (save.session !== undefined && typeof nonce === 'string') nonces.set(save.session, nonce);
    if (save.token !== undefined && typeof token === 'string') tokens.set(save.token, token);
    const told = await toldBy(template, text, json, keys, tokens);
    const minutes = /Expires=(.+)$/.exec(cookie)?.[1];
    const life = minutes === undefined ? {} : { sessionMinutes: Math.round((Date.parse(minutes) - Date.now()) / 60_000) };
    return { status: response.statusCode, contentType: response.headers['content-type']?.toString() ?? null, ...told, ...life };
  };
}

function requestOf(
  template: Template,
  keys: DriverKeys,
  sessions: ReadonlyMap<string, string>,
  nonces: ReadonlyMap<string, string>,
  tokens: ReadonlyMap<string, string>,
): { readonly headers: Record<string, string>; readonly body: Buffer | null } {
  const headers: Record<string, string> = {};
  const { admin, bearer, rawAuth, cookie, attest, auth, rv } = template;
  if (admin !== undefined) headers.authorization = `Bearer ${adminToken(typeof admin === 'string' ? { role: admin } : admin, keys)}`;
  if (bearer !== undefined) headers.authorization = `Bearer ${tokens.get(bearer) ?? ''}`;
  if (rawAuth !== undefined) headers.authorization = rawAuth;
  const named = cookie ?? (attest === undefined || attest.cookie === false ? undefined : attest.session);
  if (named !== undefined) headers.cookie = `kbs-session-id=${typeof named === 'string' ? (sessions.get(named) ?? '') : named.value}`;
  const base64url = (text: string): string => Buffer.from(text).toString('base64url');
  let json = template.json;
  if (template.rego !== undefined) json = { policy: base64url(template.rego) };
  if (template.attPolicy !== undefined) json = { policy_id: template.attPolicy.id, policy: base64url(template.attPolicy.rego) };
  if (rv !== undefined) {
    json = { version: rv.version ?? '0.1.0', type: rv.type ?? 'sample', payload: Buffer.from(JSON.stringify(rv.values)).toString('base64') };
  }
  if (auth !== undefined) json = { version: auth.version ?? '0.4.0', tee: auth.tee ?? 'sample', 'extra-params': auth.extraParams ?? {} };
  if (attest !== undefined) json = attestation(attest, nonces.get(attest.session) ?? '', keys);
  if (json !== undefined) headers['content-type'] = 'application/json';
  Object.assign(headers, template.headers);
  if (json !== undefined) return { headers, body: Buffer.from(JSON.stringify(json)) };
  if (template.text !== undefined) return { headers, body: Buffer.from(template.text) };
  return { headers, body: template.b64 === undefined ? null : Buffer.from(template.b64, 'base64') };
}

function adminToken(spec: AdminTemplate, keys: DriverKeys): string {
  const name = spec.key ?? 'ed25519';
  const now = Math.floor(Date.now() / 1000);
  const claims: Record<string, unknown> = {
    role: spec.role ?? 'admin',
    iss: spec.iss ?? (name === 'jwks' ? 'jwks-issuer' : 'rotation-controller'),
    aud: spec.aud ?? 'kbs',
    sub: 'recorder',
    iat: now,
    exp: now + (spec.expIn ?? 300),
    ...(spec.nbfIn === undefined ? {} : { nbf: now + spec.nbfIn }),
    ...spec.claims,
  };
  for (const claim of spec.omit ?? []) delete claims[claim];
  const algorithms: Readonly<Record<string, string>> = { ed25519: 'EdDSA', unknown: 'EdDSA', es256: 'ES256', jwks: 'ES256', rs256: 'RS256' };
  const alg = spec.alg ?? algorithms[name] ?? 'none';
  const header = Object.entries({ alg, typ: 'JWT', ...(name === 'jwks' ? { kid: 'jwks-key-1' } : {}), ...spec.header }).filter(([, value]) => value !== null);
  const input = [Object.fromEntries(header), claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  const key = keys.admin[name];
  return `${input}.${key === undefined ? '' : signature(alg, key, input).toString('base64url')}`;
}

function signature(alg: string, key: KeyObject, input: string): Buffer {
  if (alg === 'none') return Buffer.alloc(0);
  if (alg === 'HS256') return createHmac('sha256', 'the public key').update(input).digest();
  if (alg === 'EdDSA') return sign(null, Buffer.from(input), key);
  const pss = alg.startsWith('PS') ? { padding: 6, saltLength: -1 } : {};
  return sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363', ...pss });
}

function attestation(spec: AttestTemplate, sessionNonce: string, keys: DriverKeys): unknown {
  const nonce = spec.nonce ?? sessionNonce;
  const jwk = keys.tee[spec.key ?? 'p256-a']?.export({ format: 'jwk' }) ?? {};
  const { kty, crv, x, y, n, e } = jwk;
  const teeKey = kty === 'RSA' ? { kty, alg: 'RSA-OAEP-256', n, e } : { kty, crv, alg: 'ECDH-ES+A256KW', x, y };
  const digest = (value: unknown): string =>
    createHash('sha384')
      .update(canonicalize(value) ?? '')
      .digest('base64');
  const bound = { nonce, 'tee-pubkey': teeKey };
  const device = spec.device && { sampledevice: { svn: spec.device.svn ?? '2', report_data: spec.device.reportData ?? digest(bound) } };
  const additional = spec.additionalRaw ?? (device === undefined ? '' : JSON.stringify(device));
  const reportData = spec.reportData ?? digest({ ...bound, 'additional-evidence': additional });
  return {
    'init-data': spec.initData ?? null,
    'runtime-data': { nonce, 'tee-pubkey': { ...teeKey, ...spec.extraJwk } },
    'tee-evidence': { primary_evidence: spec.evidence ?? { svn: spec.svn ?? '1', report_data: reportData }, additional_evidence: additional },
  };
}

type Members = Readonly<Record<string, unknown>>;

async function toldBy(template: Template, text: string, json: unknown, keys: DriverKeys, tokens: ReadonlyMap<string, string>): Promise<Members> {
  if (json === undefined) return { text };
  if (!isMembers(json)) return { json };
  if (typeof json.type === 'string' && 'detail' in json) return { type: json.type.split('/').at(-1), detail: json.detail };
  if (typeof json.token === 'string') {
    const same = template.sameTokenAs === undefined ? {} : { sameToken: tokens.get(template.sameTokenAs) === json.token };
    return { token: tokenOf(json.token), ...same };
  }
  if (typeof json.ciphertext === 'string') return { jwe: await opened(json as unknown as Jwe, keys.tee[template.decryptWith ?? 'p256-a']) };
  return 'nonce' in json ? {} : { json };
}

function isMembers(json: unknown): json is Members {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

function tokenOf(token: string): Members {
  const payload = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
    readonly iat: number;
    readonly exp: number;
    readonly submods: Readonly<Record<string, Members>>;
  };
  const submods = Object.entries(payload.submods).map(([name, { 'ear.veraison.annotated-evidence': all, ...rest }]) => {
    const { report_data: _, runtime_data_claims: __, ...evidence } = all as Members;
    return [name, { ...rest, evidence }];
  });
  return { life: payload.exp - payload.iat, members: Object.keys(payload).sort(), submods: Object.fromEntries(submods) };
}

type Jwe = Parameters<typeof flattenedDecrypt>[0];

async function opened(jwe: Jwe, key: KeyObject | undefined): Promise<Members> {
  const { alg } = JSON.parse(Buffer.from(jwe.protected ?? '', 'base64url').toString()) as { readonly alg: string };
  if (key === undefined) return { alg, plaintext: null };
  const { plaintext } = await flattenedDecrypt(jwe, key);
  return { alg, plaintext: Buffer.from(plaintext).toString('base64') };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
