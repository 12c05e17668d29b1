/** HTTP to a KBS: one request at a time on a connection of its own, with deadlines and limits, and nothing sent twice. */
import { getCACertificates } from 'node:tls';
import { Agent, request } from 'undici';
import { z } from 'zod';
import type { Answer } from '#src/domain/kbs.ts';
import type { Reason } from '#src/domain/reasons.ts';
import { Fault, isCertificateError, isFault } from '#src/errors.ts';
import { type Reference, readReference } from '#src/reference.ts';

/** A KBS answers in milliseconds; a registration may wait for one evaluation that calls a vendor (60 s at most). */
const REQUEST_TIMEOUT_SECONDS = 60;
/** A name that does not resolve, or a host that does not accept within this, is down. */
const CONNECT_TIMEOUT_SECONDS = 5;
/** Keys are small and tokens of eight GPUs a few hundred kilobytes; the KBS itself takes bodies of 2 MiB. */
const ANSWER_MAX_BYTES = 4 * 1024 * 1024;
/** The KBS's own limit (`payload_request_size`, 2 MiB by default). */
const BODY_MAX_BYTES = 2 * 1024 * 1024;
/** Of an error's text, kept in a row for people. */
const DETAIL_MAX_CHARACTERS = 1000;

/** One request. */
export interface Call {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Under `/kbs/v0/`, as it goes over the wire. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | null;
}

/** One answer, whole. */
export interface Reply {
  readonly status: number;
  readonly cookies: readonly string[];
  readonly body: Buffer;
}

/** The way to one address of a KBS. */
export interface Line {
  readonly base: string;
  /** Sends once. Throws Fault('Unreachable') where no whole answer came, Fault('CertificateRejected'), Fault('LimitExceeded') for too long a body or answer. */
  readonly send: (call: Call) => Promise<Reply>;
  readonly close: () => Promise<void>;
}

/**
 * Opens the way to an address. A CA that is given is the only one trusted, unless `alsoSystem`. Every
 * request gets a fresh connection: one that the server had closed meanwhile would leave a write
 * without an answer, and everybody waiting W for it. Throws Fault('NotConfigured') for a CA that
 * cannot be read.
 */
export async function openLine(name: string, base: string, authority: Reference | null, alsoSystem: boolean): Promise<Line> {
  const ca = authority === null ? null : await pemOf(name, authority);
  const trusted = ca === null ? {} : { ca: alsoSystem ? [ca, ...getCACertificates('default')] : [ca] };
  const agent = new Agent({
    pipelining: 0,
    connect: { ...trusted, timeout: CONNECT_TIMEOUT_SECONDS * 1000 },
    headersTimeout: REQUEST_TIMEOUT_SECONDS * 1000,
    bodyTimeout: REQUEST_TIMEOUT_SECONDS * 1000,
  });
  return { base, send: (call) => send(name, agent, base, call), close: () => agent.destroy() };
}

async function send(name: string, agent: Agent, base: string, call: Call): Promise<Reply> {
  const about = `trustee ${name} at ${base}: ${call.method} ${call.path}`;
  if ((call.body?.length ?? 0) > BODY_MAX_BYTES) throw new Fault('LimitExceeded', `${about}: a body of more than ${BODY_MAX_BYTES} bytes is refused there`);
  const signal = AbortSignal.timeout(REQUEST_TIMEOUT_SECONDS * 1000);
  try {
    const url = `${base.replace(/\/+$/, '')}/kbs/v0/${call.path}`;
    const response = await request(url, { dispatcher: agent, method: call.method, headers: call.headers, body: call.body, signal });
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > ANSWER_MAX_BYTES) throw new Fault('LimitExceeded', `${about}: the answer is longer than ${ANSWER_MAX_BYTES} bytes`);
      chunks.push(chunk);
    }
    return { status: response.statusCode, cookies: [response.headers['set-cookie'] ?? []].flat(), body: Buffer.concat(chunks) };
  } catch (cause) {
    if (isFault(cause)) throw cause;
    throw new Fault(isCertificateError(cause) ? 'CertificateRejected' : 'Unreachable', `${about}: ${cause instanceof Error ? cause.message : 'no answer'}`, {
      cause,
    });
  }
}

async function pemOf(name: string, from: Reference): Promise<string> {
  try {
    using pem = await readReference(from);
    return pem.reveal().toString('utf8');
  } catch (cause) {
    throw new Fault('NotConfigured', `trustee ${name}: its certificate authority cannot be read`, { cause });
  }
}

/** The shape of every error of a KBS: `type` is a URL whose last segment is the error's name. */
const errorBody = z.object({ type: z.string().max(1000), detail: z.string().optional() });

/** What an error of a KBS is called; anything else is no name, and would have to be stored and shown. */
const ERROR_NAME = /^[A-Za-z0-9]{1,60}$/;

/** What the KBS said. Anything but 200 is an error with a name: its own, or `Http<status>`. */
export function answerOf(reply: Reply, more: Readonly<Record<string, string>> = {}): Answer {
  if (reply.status === 200) return { status: 200, type: null, detail: more };
  const error = errorBody.safeParse(jsonOf(reply.body));
  const type = error.success ? (error.data.type.split('/').at(-1) ?? '') : '';
  const text = error.success
    ? plain(error.data.detail ?? '')
        .slice(0, DETAIL_MAX_CHARACTERS)
        .toWellFormed()
    : '';
  return { status: reply.status, type: ERROR_NAME.test(type) ? type : `Http${reply.status}`, detail: text === '' ? more : { ...more, detail: text } };
}

/**
 * Whether the KBS itself may have said it. A gateway in front of it that lost patience (502, 503, 504 …,
 * not in the KBS's form) does not know what becomes of the write behind it: it may still land.
 */
export function isItsOwn(answer: Answer): boolean {
  return answer.status <= 501 || answer.type !== `Http${answer.status}`;
}

/** Without control characters: PostgreSQL stores no U+0000, and a log line is one line. */
function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what is taken out
  return text.replaceAll(/[\u0000-\u001f\u007f]+/g, ' ');
}

/** The body as JSON; undefined where it is none. */
export function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}

/**
 * The reason for an answer that is a failure. A KBS answers 401 for nearly everything: its error's name
 * counts, and the text only tells a role that may not from a token that was not taken.
 */
export function reasonOf(answer: Answer): Reason {
  switch (answer.type) {
    case 'AdminAuthAccess':
    case 'AdminAuthInitialization':
      return /not allowed for path|DenyAll/.test(answer.detail.detail ?? '') ? 'PermissionDenied' : 'Unauthenticated';
    case 'PolicyEngineError':
    case 'ParsePolicyError':
      return 'InvalidRequest';
    case 'PluginInternalError':
    case 'RvpsError':
      return 'ServerError';
    case 'Http413':
      return 'LimitExceeded';
    case 'Http429':
      return 'Throttled';
    default:
      return answer.status >= 500 ? 'ServerError' : 'UnexpectedAnswer';
  }
}
