import { z } from 'zod';
import type { Reason } from '#src/domain/reasons.ts';
import { Fault } from '#src/errors.ts';

/** An answer of the API, read whole. */
export interface Reply {
  readonly status: number;
  readonly text: string;
}

/** The API's own error object; errors of its flow control are plain text instead. */
const statusSchema = z.object({
  kind: z.literal('Status'),
  message: z.string().default(''),
  reason: z.string().default(''),
  details: z.object({ name: z.string().default('') }).default({ name: '' }),
});

type Status = z.infer<typeof statusSchema>;

/** Cut here in messages: enough for a person, too little for a page of somebody's manifest. Characters. */
const TEXT_MAX = 300;

/** What the API server says when an operation of a JSON patch cannot be carried out, a failed `test` among them. */
const PATCH_NOT_APPLICABLE = 'the server rejected our request due to an error in our request';

/** Refusals that are an admission's opinion of the object, though their code says "forbidden". */
const ADMISSION = /ValidatingAdmissionPolicy '|admission webhook "|violates PodSecurity "|exceeded quota: |pod rejected: /;

/** The Status in an answer; null where it carries none. */
export function statusOf(reply: Reply): Status | null {
  try {
    return statusSchema.parse(JSON.parse(reply.text));
  } catch {
    return null;
  }
}

/** Whether the answer says that this very object is missing, and not its namespace's API or its kind. */
export function saysMissing(reply: Reply, name: string): boolean {
  const status = statusOf(reply);
  return reply.status === 404 && status?.reason === 'NotFound' && status.details.name === name;
}

/** Whether a JSON patch found the object other than it was read: the API tells no more than that it could not be applied. */
export function saysNotApplicable(reply: Reply): boolean {
  return reply.status === 422 && statusOf(reply)?.message === PATCH_NOT_APPLICABLE;
}

/** The Fault for an answer that is not a success. `what` names the call: `kubernetes gpu-east GET deployments/chat`. */
export function faultOf(reply: Reply, what: string): Fault {
  const status = statusOf(reply);
  return new Fault(reasonOf(reply.status, status), `${what}: ${reply.status} ${told(status?.message ?? reply.text)}`.trimEnd());
}

function reasonOf(code: number, status: Status | null): Reason {
  const message = status?.message ?? '';
  if (code === 401) return 'Unauthenticated';
  if (code === 403 && ADMISSION.test(message)) return 'InvalidRequest';
  // Without a token the API takes us for nobody in particular, and says 403.
  if (code === 403) return message.includes('User "system:anonymous"') ? 'Unauthenticated' : 'PermissionDenied';
  if (code === 404) return 'NotFound';
  if (code === 409 || code === 410) return 'Conflict';
  if (code === 413) return 'LimitExceeded';
  if (code === 429) return 'Throttled';
  if (code >= 400 && code < 500) return 'InvalidRequest';
  return code >= 500 ? 'ServerError' : 'UnexpectedAnswer';
}

/** The API's text without the object that it quotes: environment variables may hold what nobody should read in a log. */
function told(text: string): string {
  const quoted = text.indexOf('Invalid value: "{');
  const rest = text.lastIndexOf('}": ');
  const kept = quoted < 0 ? text : `${text.slice(0, quoted)}Invalid value: ${rest > quoted ? text.slice(rest + 4) : ''}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what is taken out
  const line = kept.replaceAll(/[\u0000-\u001f\u007f]+/g, ' ');
  return line.slice(0, TEXT_MAX).toWellFormed();
}
