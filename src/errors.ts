import type { Reason } from './domain/reasons.ts';

/**
 * An outside system failed or refused. Thrown by adapters only.
 *
 * The message says who was doing what to what, never a secret: `trustee POST resource: 401
 * PolicyDeny`. What happens next, and what a person can do, is the reason's (`domain/reasons.ts`).
 * Compare `reason`, never the message, and never `instanceof` across a boundary: use `isFault`.
 */
export class Fault extends Error {
  override readonly name = 'Fault';
  readonly reason: Reason;

  constructor(reason: Reason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** Whether something thrown is a Fault, whichever copy of the class made it. */
export function isFault(thrown: unknown): thrown is Fault {
  return thrown instanceof Error && thrown.name === 'Fault' && 'reason' in thrown;
}

/** How Node and OpenSSL name it (X509_V_ERR_…, without the prefix, and Node's own about the name). */
const CERTIFICATE_CODES = /^(?:CERT_|CRL_|DEPTH_ZERO_|ERR_TLS_CERT_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_|SELF_SIGNED_|UNABLE_TO_)/;

/** Whether a connection failed because the other side's certificate was not taken: somebody answered, and asking again does not help. */
export function isCertificateError(thrown: unknown): boolean {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' && CERTIFICATE_CODES.test(thrown.code);
}

/** A short name of what broke on the wire: a socket's, resolver's or TLS code; a deadline of ours says so. */
export function wireCode(thrown: unknown): string {
  if (!(thrown instanceof Error)) return 'no answer';
  if (thrown.name === 'TimeoutError' || thrown.name === 'AbortError') return 'no answer in time';
  return 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : 'no answer';
}
