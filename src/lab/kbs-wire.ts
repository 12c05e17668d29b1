import type { IncomingMessage, ServerResponse } from 'node:http';

/** A value of RFC 8259. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** `payload_request_size` of a KBS, its default. */
const BODY_MAX_BYTES = 2 * 1024 * 1024;

const ERRORS = 'https://github.com/confidential-containers/kbs/errors';

/** One answer, before it is sent. */
export interface LabAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** A request, read whole. */
export interface LabRequest {
  readonly method: string;
  /** Path and query as they came: what the access list is matched with. */
  readonly uri: string;
  /** The path's segments after `/kbs/v0/`, percent-decoded before they are split, as a KBS does. */
  readonly segments: readonly string[];
  readonly authorization: string | null;
  /** The value of the cookie `kbs-session-id`. */
  readonly session: string | null;
  readonly body: Buffer;
}

/** 200 with a body of JSON. */
export function json(value: Json, headers: Readonly<Record<string, string>> = {}): LabAnswer {
  return { status: 200, headers: { ...headers, 'content-type': 'application/json' }, body: Buffer.from(JSON.stringify(value)) };
}

/** No body; `type` where the KBS names a content type all the same. */
export function empty(status: number, type: string | null = null): LabAnswer {
  return { status, headers: type === null ? {} : { 'content-type': type }, body: Buffer.alloc(0) };
}

/** An error as a KBS writes it: JSON without a content type, 401 for nearly everything. */
export function failure(type: string, detail: string, status = 401): LabAnswer {
  return { status, headers: {}, body: Buffer.from(JSON.stringify({ type: `${ERRORS}/${type}`, detail })) };
}

/** The answer to a body that is too large: before anything else is looked at. */
export const TOO_LARGE: LabAnswer = {
  status: 413,
  headers: { 'content-type': 'text/plain; charset=utf-8', connection: 'close' },
  body: Buffer.from('payload reached size limit'),
};

/** Reads a body; null where it is larger than a KBS takes. The rest is read and forgotten, so that the client hears the answer. */
export async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes <= BODY_MAX_BYTES) chunks.push(chunk);
  }
  return sizeBytes > BODY_MAX_BYTES ? null : Buffer.concat(chunks);
}

/** The value of the session's cookie. */
export function sessionOf(cookies: string | undefined): string | null {
  return /(?:^|;\s*)kbs-session-id=([^;\s]+)/.exec(cookies ?? '')?.[1] ?? null;
}

/** Sends an answer. */
export function reply(response: ServerResponse, answer: LabAnswer): void {
  response.writeHead(answer.status, { ...answer.headers, 'content-length': String(answer.body.length) });
  response.end(answer.body);
}

/** The body as JSON; undefined where it is none. */
export function parsed(body: Buffer): Json | undefined {
  try {
    return JSON.parse(body.toString('utf8')) as Json;
  } catch {
    return undefined;
  }
}

/** An object's member; undefined where there is no object or no member. */
export function member(value: Json | undefined, name: string): Json | undefined {
  return isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

/** Whether it is an object, and no list. */
export function isObject(value: Json | undefined): value is { readonly [name: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
