import { request } from 'undici';
import type { Reason } from '#src/domain/reasons.ts';
import { Fault, isCertificateError, isFault, wireCode } from '#src/errors.ts';

/** A certificate is issued, logged or stamped in a second or two; a log that waits for its next checkpoint takes ten. */
const CALL_SECONDS = 30;
/** A chain of certificates, a log entry with its proof: some 10 KiB. */
const ANSWER_MAX_BYTES = 256 * 1024;

/** What a service is sent. */
export interface Posted {
  /** What an error calls it. */
  readonly service: string;
  readonly url: URL;
  readonly type: string;
  readonly body: Buffer;
}

/**
 * Posts once and returns the answer's bytes. Redirects are not followed, and nothing of what was sent or
 * answered is ever in an error: a body holds an identity token. Throws Fault.
 */
export async function post({ service, url, type, body }: Posted): Promise<Buffer> {
  const about = `${service} at ${url.origin}`;
  try {
    const signal = AbortSignal.timeout(CALL_SECONDS * 1000);
    const answer = await request(url, { method: 'POST', headers: { 'content-type': type }, body, signal, reset: true });
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > ANSWER_MAX_BYTES) throw new Fault('LimitExceeded', `${about}: the answer is longer than ${ANSWER_MAX_BYTES} bytes`);
      chunks.push(chunk);
    }
    if (answer.statusCode !== 200 && answer.statusCode !== 201) throw new Fault(reasonOf(answer.statusCode), `${about}: ${answer.statusCode}`);
    return Buffer.concat(chunks);
  } catch (thrown) {
    if (isFault(thrown)) throw thrown;
    // Without its cause: a library may quote the request.
    throw new Fault(isCertificateError(thrown) ? 'CertificateRejected' : 'Unreachable', `${about}: ${wireCode(thrown)}`);
  }
}

function reasonOf(status: number): Reason {
  if (status >= 300 && status <= 399) return 'RedirectRefused';
  if (status === 401) return 'Unauthenticated';
  if (status === 403) return 'PermissionDenied';
  if (status === 404) return 'NotFound';
  if (status === 409) return 'Conflict';
  if (status === 429) return 'Throttled';
  return status >= 500 ? 'ServerError' : 'InvalidRequest';
}
