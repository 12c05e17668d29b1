/** An error as AWS KMS answers it. */
export interface KmsFailure extends Error {
  /** AWS's name of it: what clients switch on. */
  readonly type: string;
  readonly status: 400 | 500;
}

/** Makes one. The real service answers nearly everything with 400. */
export function kmsFailure(type: string, message = '', status: 400 | 500 = 400): KmsFailure {
  return Object.assign(new Error(message), { name: 'KmsFailure', type, status });
}

/** Whether something thrown is meant for the client. */
export function isKmsFailure(thrown: unknown): thrown is KmsFailure {
  return thrown instanceof Error && thrown.name === 'KmsFailure';
}
