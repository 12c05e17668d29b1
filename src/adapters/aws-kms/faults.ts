import type { Answer } from '#src/domain/kbs.ts';
import type { Reason } from '#src/domain/reasons.ts';
import { Fault, isCertificateError, isFault, wireCode } from '#src/errors.ts';

/**
 * Error names of AWS KMS and of AWS's front end. Names, never HTTP statuses: the service answers 400 where the SDK's types say 409 or
 * 404. `DisabledException` has no meaning of its own here: it depends on the call (see `index.ts`).
 */
const REASON_OF_NAME: Readonly<Record<string, Reason>> = {
  AccessDenied: 'PermissionDenied',
  AccessDeniedException: 'PermissionDenied',
  OptInRequired: 'PermissionDenied',
  CredentialsProviderError: 'Unauthenticated',
  TokenProviderError: 'Unauthenticated',
  ExpiredTokenException: 'Unauthenticated',
  ExpiredToken: 'Unauthenticated',
  IDPCommunicationError: 'Unauthenticated',
  IDPCommunicationErrorException: 'Unauthenticated',
  IDPRejectedClaim: 'Unauthenticated',
  IDPRejectedClaimException: 'Unauthenticated',
  IncompleteSignature: 'Unauthenticated',
  InvalidClientTokenId: 'Unauthenticated',
  InvalidIdentityToken: 'Unauthenticated',
  InvalidIdentityTokenException: 'Unauthenticated',
  InvalidSignatureException: 'Unauthenticated',
  MissingAuthenticationTokenException: 'Unauthenticated',
  RequestExpired: 'Unauthenticated',
  SignatureDoesNotMatch: 'Unauthenticated',
  UnrecognizedClientException: 'Unauthenticated',
  RequestLimitExceeded: 'Throttled',
  Throttling: 'Throttled',
  ThrottlingException: 'Throttled',
  TooManyRequestsException: 'Throttled',
  // AWS means a quota of things by it, such as 100,000 keys; its SDK would retry it as throttling.
  LimitExceededException: 'LimitExceeded',
  DependencyTimeoutException: 'ServerError',
  InternalFailure: 'ServerError',
  KMSInternalException: 'ServerError',
  KeyUnavailableException: 'ServerError',
  ServiceUnavailable: 'ServerError',
  ServiceUnavailableException: 'ServerError',
  NotFoundException: 'NotFound',
  DisabledException: 'KeyDisabled',
  KMSInvalidStateException: 'KeyDisabled',
  ConflictException: 'Conflict',
  IncorrectKeyException: 'InvalidRequest',
  InvalidArnException: 'InvalidRequest',
  InvalidCiphertextException: 'InvalidRequest',
  InvalidKeyUsageException: 'InvalidRequest',
  InvalidMarkerException: 'InvalidRequest',
  MalformedPolicyDocumentException: 'InvalidRequest',
  SerializationException: 'InvalidRequest',
  TagException: 'InvalidRequest',
  UnknownOperationException: 'InvalidRequest',
  UnsupportedOperationException: 'InvalidRequest',
  ValidationException: 'InvalidRequest',
};

/** The SDK's own error, as far as it is looked at. */
interface SdkError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string };
  readonly $response?: { readonly statusCode?: number };
}

function statusOf(error: SdkError): number | null {
  return error.$metadata?.httpStatusCode ?? error.$response?.statusCode ?? null;
}

/** What the service said by an error; null where nothing came back, so that nobody knows what became of the call. */
export function answerOf(thrown: unknown, keyId: string | null): Answer | null {
  if (!(thrown instanceof Error)) return null;
  const error: SdkError = thrown;
  const status = statusOf(error);
  if (status === null) return null;
  return { status, type: error.name, detail: detailOf(keyId, error.$metadata?.requestId) };
}

/** What an answer tells beside: both are public, and CloudTrail finds the call by the request id. */
export function detailOf(keyId: string | null | undefined, requestId: string | undefined): Record<string, string> {
  const detail: Record<string, string> = {};
  if (typeof keyId === 'string') detail.keyId = keyId;
  if (requestId !== undefined) detail.requestId = requestId;
  return detail;
}

/** What the SDK threw while we were `doing` something, as a Fault; a bug stays what it is. The service's own text is left out: it may quote what it was sent. */
export function asFault(thrown: unknown, doing: string): unknown {
  if (isFault(thrown) || !(thrown instanceof Error)) return thrown;
  const error: SdkError = thrown;
  const status = statusOf(error);
  const reason = REASON_OF_NAME[error.name] ?? (status === null ? null : reasonOfStatus(status));
  if (reason !== null) return new Fault(reason, [`${doing}:`, status, error.name].filter((word) => word !== null).join(' '), { cause: thrown });
  if (isCertificateError(error)) return new Fault('CertificateRejected', `${doing}: ${wireCode(error)}`, { cause: thrown });
  // Sockets, name resolution and TLS put a code on their errors; a deadline of ours has no code but its name.
  const isNetwork = 'code' in error || error.name === 'TimeoutError' || error.name === 'AbortError';
  return isNetwork ? new Fault('Unreachable', `${doing}: ${wireCode(error)}`, { cause: thrown }) : thrown;
}

/** Whether something thrown is the Fault of a key that is not there. */
export function isNotFound(thrown: unknown): boolean {
  return isFault(thrown) ? thrown.reason === 'NotFound' : thrown instanceof Error && thrown.name === 'NotFoundException';
}

function reasonOfStatus(status: number): Reason {
  if (status === 429) return 'Throttled';
  return status >= 500 ? 'ServerError' : 'UnexpectedAnswer';
}
