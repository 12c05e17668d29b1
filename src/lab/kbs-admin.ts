import { createPublicKey, type KeyObject } from 'node:crypto';
import { compactVerify, createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet } from 'jose';
import { failure, type LabAnswer } from './kbs-wire.ts';

/** Whose tokens are taken: a key, and what `iss` and `aud` must be where they are said. */
export interface LabIssuer {
  readonly publicKeyPem?: string;
  readonly keySet?: JSONWebKeySet;
  readonly issuer?: string;
  readonly audience?: string;
}

/** One rule of Trustee's `regex_acl`: the raw URI with its query, whatever the method. */
export interface LabRole {
  readonly role: string;
  readonly allowedEndpoints: RegExp;
}

/** `[admin]` of a KBS. */
export interface LabAdmin {
  readonly mode: 'authenticated' | 'deny-all' | 'insecure-allow-all';
  readonly issuers: readonly LabIssuer[];
  readonly roles: readonly LabRole[];
  readonly leewaySeconds: number;
}

/** Of a PEM key any algorithm of its kind is taken (`kbs/src/crypto/jwt.rs`). */
const ALGORITHMS: Readonly<Record<string, readonly string[]>> = {
  ed25519: ['EdDSA'],
  ec: ['ES256', 'ES384'],
  rsa: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
};

/**
 * Whether the caller may do this; null: yes. `built-in` verbs and plugins tell the same refusal under
 * two types, the second misnamed. Checked are signature, `exp`, `iss` and `aud` where configured, and
 * `role`; never `nbf`, `iat`, `crit` or `typ`.
 */
export async function refusedAdmin(
  admin: LabAdmin,
  request: { readonly authorization: string | null; readonly uri: string },
  verb: string | null,
  now: number,
): Promise<LabAnswer | null> {
  const no = (reason: string): LabAnswer =>
    verb === null
      ? failure('AdminAuthInitialization', `failed to initialize [admin] configuration: ${reason}`)
      : failure('AdminAuthAccess', `admin access denied for endpoint ${verb}: ${reason}`);
  if (admin.mode === 'insecure-allow-all') return null;
  if (admin.mode === 'deny-all') return no('Admin access denied: Admin access denied as DenyAll authorization_mode is enabled');
  const token = /^Bearer (.+)$/.exec(request.authorization ?? '')?.[1];
  if (token === undefined) return no('Failed to parse HTTP Auth Bearer header');
  const claims = await claimsOf(admin, token, now);
  if (claims === null) return no('Admin access denied: Cannot verify token with any of the issuers');
  const role = claims.role;
  if (typeof role !== 'string') {
    return no('Admin access denied: Failed to parse claims from token: AdminAccessDenied { reason: "Missing required `role` claim in JWT" }');
  }
  const allowed = admin.roles.some((rule) => rule.role === role && rule.allowedEndpoints.test(request.uri));
  return allowed ? null : no(`Admin access denied: Role ${role} not allowed for path ${request.uri}`);
}

async function claimsOf(admin: LabAdmin, token: string, now: number): Promise<Readonly<Record<string, unknown>> | null> {
  for (const issuer of admin.issuers) {
    const claims = await verified(issuer, token);
    if (claims !== null && holds(claims, issuer, admin.leewaySeconds, now)) return claims;
  }
  return null;
}

async function verified(issuer: LabIssuer, token: string): Promise<Readonly<Record<string, unknown>> | null> {
  try {
    const { payload } = await (issuer.keySet === undefined ? withPem(issuer, token) : withKeySet(issuer.keySet, token));
    const claims: unknown = JSON.parse(Buffer.from(payload).toString('utf8'));
    return typeof claims === 'object' && claims !== null ? (claims as Readonly<Record<string, unknown>>) : null;
  } catch {
    return null;
  }
}

function withPem(issuer: LabIssuer, token: string): ReturnType<typeof compactVerify> {
  const key: KeyObject = createPublicKey(issuer.publicKeyPem ?? '');
  return compactVerify(token, key, { algorithms: [...(ALGORITHMS[key.asymmetricKeyType ?? ''] ?? [])] });
}

/** A key of a set is found by `kid`, which must be there. */
function withKeySet(keySet: JSONWebKeySet, token: string): ReturnType<typeof compactVerify> {
  if (decodeProtectedHeader(token).kid === undefined) throw new Error('no kid');
  return compactVerify(token, createLocalJWKSet(keySet));
}

function holds(claims: Readonly<Record<string, unknown>>, issuer: LabIssuer, leewaySeconds: number, now: number): boolean {
  if (!inTime(claims.exp, leewaySeconds, now)) return false;
  if (issuer.issuer !== undefined && claims.iss !== issuer.issuer) return false;
  return issuer.audience === undefined || [claims.aud].flat().includes(issuer.audience);
}

/** `exp` as jsonwebtoken compares it: whole seconds on both sides, so a token lives up to a second longer than it says. */
export function inTime(exp: unknown, leewaySeconds: number, now: number): boolean {
  return typeof exp === 'number' && Number.isInteger(exp) && exp >= Math.floor(now / 1000) - leewaySeconds;
}
