/** An error as S3 answers it. */
export interface S3Failure extends Error {
  /** S3's code of it: what clients switch on. */
  readonly code: string;
  readonly status: number;
}

/** Makes one. */
export function s3Failure(status: number, code: string, message = ''): S3Failure {
  return Object.assign(new Error(message), { name: 'S3Failure', code, status });
}

/** Whether something thrown is meant for the client. */
export function isS3Failure(thrown: unknown): thrown is S3Failure {
  return thrown instanceof Error && thrown.name === 'S3Failure';
}
