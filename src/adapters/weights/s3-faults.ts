import type { Reason } from '#src/domain/reasons.ts';
import { Fault, isCertificateError, isFault, wireCode } from '#src/errors.ts';

/** Error codes of S3, and of those who speak its protocol. The SDK names its errors after them; where an answer has no body, after its status. */
const REASON_OF_NAME: Readonly<Record<string, Reason>> = {
  AccessDenied: 'PermissionDenied',
  AccountProblem: 'PermissionDenied',
  AllAccessDisabled: 'PermissionDenied',
  Forbidden: 'PermissionDenied',
  MethodNotAllowed: 'PermissionDenied',
  AuthorizationHeaderMalformed: 'Unauthenticated',
  CredentialsProviderError: 'Unauthenticated',
  ExpiredToken: 'Unauthenticated',
  InvalidAccessKeyId: 'Unauthenticated',
  InvalidToken: 'Unauthenticated',
  RequestTimeTooSkewed: 'Unauthenticated',
  SignatureDoesNotMatch: 'Unauthenticated',
  TokenProviderError: 'Unauthenticated',
  NoSuchBucket: 'NotFound',
  NoSuchKey: 'NotFound',
  NotFound: 'NotFound',
  // Somebody ended the upload, or was faster: the next look finds out.
  NoSuchUpload: 'Conflict',
  ConditionalRequestConflict: 'Conflict',
  InvalidPart: 'Conflict',
  InvalidPartOrder: 'Conflict',
  OperationAborted: 'Conflict',
  PreconditionFailed: 'Conflict',
  BadDigest: 'ChecksumMismatch',
  InvalidDigest: 'ChecksumMismatch',
  XAmzContentChecksumMismatch: 'ChecksumMismatch',
  XAmzContentSHA256Mismatch: 'ChecksumMismatch',
  SlowDown: 'Throttled',
  ServiceUnavailable: 'Throttled',
  Throttling: 'Throttled',
  ThrottlingException: 'Throttled',
  TooManyRequests: 'Throttled',
  RequestTimeout: 'TooSlow',
  InternalError: 'ServerError',
  EntityTooLarge: 'LimitExceeded',
  KeyTooLongError: 'LimitExceeded',
  TooManyBuckets: 'LimitExceeded',
  QuotaExceeded: 'DiskFull',
  StorageFull: 'DiskFull',
  XMinioStorageFull: 'DiskFull',
  PermanentRedirect: 'RedirectRefused',
  TemporaryRedirect: 'RedirectRefused',
  InvalidArgument: 'InvalidRequest',
  InvalidBucketName: 'InvalidRequest',
  InvalidRequest: 'InvalidRequest',
};

/** The SDK's own error, as far as it is looked at. */
interface SdkError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly statusCode?: number };
}

/** The SDK's name of what went wrong; '' for what is no error. */
export function errorNameOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.name : '';
}

/** What the SDK threw while we were `doing` something, as a Fault; a bug stays what it is. The store's own text is left out: it may quote what it was sent. */
export function asS3Fault(thrown: unknown, doing: string): unknown {
  if (isFault(thrown) || !(thrown instanceof Error)) return thrown;
  const error: SdkError = thrown;
  const status = error.$metadata?.httpStatusCode ?? error.$response?.statusCode ?? null;
  const reason = Object.hasOwn(REASON_OF_NAME, error.name) ? REASON_OF_NAME[error.name] : status === null ? undefined : reasonOfStatus(status);
  if (reason !== undefined) return new Fault(reason, [`${doing}:`, status, error.name].filter((word) => word !== null).join(' '), { cause: thrown });
  if (isCertificateError(error)) return new Fault('CertificateRejected', `${doing}: ${wireCode(error)}`, { cause: thrown });
  // Sockets, name resolution and TLS put a code on their errors; a deadline of ours has no code but its name.
  const isNetwork = 'code' in error || error.name === 'TimeoutError' || error.name === 'AbortError';
  return isNetwork ? new Fault('Unreachable', `${doing}: ${wireCode(error)}`, { cause: thrown }) : thrown;
}

/** Where the answer has no code that is known, as to a HEAD. */
function reasonOfStatus(status: number): Reason {
  if (status === 429 || status === 503) return 'Throttled';
  if (status === 401) return 'Unauthenticated';
  if (status === 403) return 'PermissionDenied';
  if (status === 404) return 'NotFound';
  if (status === 409 || status === 412) return 'Conflict';
  if (status >= 300 && status < 400) return 'RedirectRefused';
  return status >= 500 ? 'ServerError' : 'UnexpectedAnswer';
}
