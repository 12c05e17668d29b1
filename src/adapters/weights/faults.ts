import type { Reason } from '#src/domain/reasons.ts';
import { type EnvelopeErrorKind, isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { Fault, isFault } from '#src/errors.ts';

/** What the operating system's errors mean for whoever has to act. */
const REASON_OF_CODE: Readonly<Record<string, Reason>> = {
  ENOSPC: 'DiskFull',
  EDQUOT: 'DiskFull',
  EACCES: 'PermissionDenied',
  EPERM: 'PermissionDenied',
  EROFS: 'PermissionDenied',
  ENOENT: 'NotFound',
  ENOTDIR: 'NotFound',
  EFBIG: 'LimitExceeded',
  ENAMETOOLONG: 'LimitExceeded',
  EMFILE: 'LimitExceeded',
  ENFILE: 'LimitExceeded',
  EIO: 'DiskFailing',
  ESTALE: 'Unreachable',
  ETIMEDOUT: 'Unreachable',
};

const REASON_OF_KIND: Readonly<Record<EnvelopeErrorKind, Reason>> = {
  'not-authentic': 'UnexpectedAnswer',
  truncated: 'WeightsChanged',
  malformed: 'UnexpectedAnswer',
  changed: 'WeightsChanged',
  'unsafe-path': 'InvalidRequest',
  'too-large': 'LimitExceeded',
  unfit: 'UnfitForCodec',
};

/** The operating system's error code, or null. */
export function codeOf(thrown: unknown): string | null {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : null;
}

/** The file that the operating system's error is about, or null. */
export function pathOf(thrown: unknown): string | null {
  return thrown instanceof Error && 'path' in thrown && typeof thrown.path === 'string' ? thrown.path : null;
}

/** What was thrown while we were `doing` something, as a Fault. A bug stays what it is. */
export function asFault(thrown: unknown, doing: string): unknown {
  if (isFault(thrown)) return thrown;
  if (isEnvelopeError(thrown)) return new Fault(REASON_OF_KIND[thrown.kind], `weights ${doing}: ${thrown.message}`, { cause: thrown });
  const code = codeOf(thrown);
  if (code === null) return thrown;
  return new Fault(REASON_OF_CODE[code] ?? 'ServerError', `weights ${doing}: ${code}`, { cause: thrown });
}
