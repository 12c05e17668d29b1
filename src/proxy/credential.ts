import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

/** What a guest shows: a session of its handshake, or the token itself. Neither value is ever kept or logged. */
export interface Credential {
  readonly kind: 'session' | 'token';
  /** As the KBS shall see it: one header, and no other credential. */
  readonly header: Readonly<Record<string, string>>;
  readonly value: string;
  /** SHA-256 of the value, hexadecimal: what is recorded. */
  readonly digest: string;
}

const SESSION_COOKIE = 'kbs-session-id';
/** Trustee's ids are 32 hexadecimal digits; nothing that needs quoting is passed on. */
const SESSION_ID = /^[A-Za-z0-9_-]{1,128}$/;
/** RFC 6750 §2.1. */
const BEARER = /^Bearer ([A-Za-z0-9._~+/-]+=*)$/;

/** SHA-256 in hexadecimal. */
export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/**
 * The one credential that is forwarded; null: none.
 *
 * Trustee tries a session first and then a token. Which one a release rested on would be a guess, so
 * only one goes on: the token where there is one (stock guests send one or the other), and a session
 * only where the cookies name exactly one.
 */
export function credentialOf(headers: IncomingHttpHeaders): Credential | null {
  const { authorization = '' } = headers;
  const token = BEARER.exec(authorization)?.[1];
  if (token !== undefined) return { kind: 'token', header: { authorization }, value: token, digest: sha256(token) };
  return sessionOf(headers);
}

/** The session alone, as `attest` needs it. */
export function sessionOf(headers: IncomingHttpHeaders): Credential | null {
  const sessions = sessionsIn(headers.cookie ?? '');
  const [value] = sessions;
  if (value === undefined || sessions.length > 1) return null;
  return { kind: 'session', header: { cookie: `${SESSION_COOKIE}=${value}` }, value, digest: sha256(value) };
}

function sessionsIn(cookie: string): readonly string[] {
  return cookie.split(';').flatMap((pair) => {
    const [name, value] = pair.trim().split('=', 2);
    return name === SESSION_COOKIE && value !== undefined && SESSION_ID.test(value) ? [value] : [];
  });
}
