import type { Reason } from '#src/domain/reasons.ts';
import { Fault, isCertificateError, isFault, wireCode } from '#src/errors.ts';

/** One answer of the vault, as far as it is looked at. Never its body: that of an unwrapping holds a key. */
export interface Heard {
  readonly status: number;
  /** `x-ms-request-id`: Azure's own log has it too. */
  readonly requestId: string | undefined;
  /** The innermost code of its error; null where it names none. */
  readonly code: string | null;
  /** The id of the key that a cryptographic answer says it is of; null where it names none. */
  readonly kid: string | null;
}

/** Codes that mean something else than their status. */
const REASON_OF_CODE: Readonly<Record<string, Reason>> = {
  KeyDisabled: 'KeyDisabled',
  KeyNotFound: 'NotFound',
};

/** `error.code` and `innererror.code` as the service's documentation has them; the innermost says the most. */
export function codeIn(body: unknown): string | null {
  let code: string | null = null;
  let at = fieldOf(body, 'error');
  // Deeper than this nobody has seen one.
  for (let depth = 0; depth < 4 && at !== null; depth++) {
    const own = fieldOf(at, 'code');
    if (typeof own === 'string' && /^[A-Za-z0-9_.-]{1,100}$/.test(own)) code = own;
    at = fieldOf(at, 'innererror');
  }
  return code;
}

/** A field of something that may be an object; null where it is none. */
export function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (Reflect.get(value, name) ?? null) : null;
}

/** What the vault's refusal means. A 404 without its own code is somebody else's: a key is gone only where the vault says so. */
export function reasonOf({ status, code }: Heard): Reason {
  const named = code !== null && Object.hasOwn(REASON_OF_CODE, code) ? REASON_OF_CODE[code] : undefined;
  if (named !== undefined) return named;
  switch (status) {
    case 400:
    case 413:
    case 415:
      return 'InvalidRequest';
    case 401:
      return 'Unauthenticated';
    case 403:
      return 'PermissionDenied';
    case 409:
      return 'Conflict';
    case 429:
      return 'Throttled';
    default:
      return status === 408 || status >= 500 ? 'ServerError' : 'UnexpectedAnswer';
  }
}

/** A refusal of the vault as a Fault. The service's own text is left out: it may quote what it was sent. */
export function refusalFault(heard: Heard, doing: string): Fault {
  return new Fault(reasonOf(heard), [`${doing}:`, heard.status, heard.code].filter((word) => word !== null).join(' '));
}

/** Errors of @azure/identity, by name. */
const CREDENTIAL_ERRORS = ['AggregateAuthenticationError', 'AuthenticationError', 'AuthenticationRequiredError', 'CredentialUnavailableError'];

/**
 * What the SDK threw while we were `doing` something, though the vault did not refuse it (`heard`: the last answer that came, null: none
 * did). It reads an answer that is no Key Vault's with errors of any kind; a bug of ours stays what it is.
 */
export function asFault(thrown: unknown, doing: string, heard: Heard | null): unknown {
  if (isFault(thrown) || !(thrown instanceof Error)) return thrown;
  if (CREDENTIAL_ERRORS.includes(thrown.name)) return credentialFault(thrown, doing);
  if (isCertificateError(thrown)) return new Fault('CertificateRejected', `${doing}: ${wireCode(thrown)}`, { cause: thrown });
  if (isNetwork(thrown)) return new Fault('Unreachable', `${doing}: ${wireCode(thrown)}`, { cause: thrown });
  if (heard !== null) return new Fault('UnexpectedAnswer', `${doing}: ${heard.status}, and not what a key vault answers`, { cause: thrown });
  // The SDK takes no token anywhere but to the vault that a challenge is for.
  if (/challenge/.test(thrown.message)) return new Fault('UnexpectedAnswer', `${doing}: its challenge is not for this vault`, { cause: thrown });
  return thrown;
}

/** A broken token service is not a refused credential. */
function credentialFault(thrown: Error, doing: string): Fault {
  const status = fieldOf(thrown, 'statusCode');
  const reason = status === 429 ? 'Throttled' : typeof status === 'number' && status >= 500 ? 'ServerError' : 'Unauthenticated';
  return new Fault(reason, `${doing}: ${thrown.name}`, { cause: thrown });
}

/** A RestError without a status is one of the wire; a deadline of ours has no code but its name. */
function isNetwork(error: Error): boolean {
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return true;
  return error.name === 'RestError' && typeof fieldOf(error, 'statusCode') !== 'number';
}
