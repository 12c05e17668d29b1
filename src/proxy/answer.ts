import type { ServerResponse } from 'node:http';

/** A whole answer, from the KBS or made here. */
export interface Answer {
  readonly status: number;
  /** Only those that a guest needs; empty for the KBS's own errors, which carry none. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body: Buffer;
}

/**
 * Why the proxy itself said no. It stands in `fetches.type`, in the metric and in the log. On the wire
 * the denials look as the KBS's own; the others have the KBS's shape and a name that it does not have.
 */
export type OwnRefusal = 'DenyList' | 'DenyListStale' | 'Reserved' | 'NotRecorded' | 'BrokerUnreachable' | 'TooManyRequests';

/** Every error of a KBS names itself by a URL that ends in it. */
const ERROR_PREFIX = 'https://github.com/confidential-containers/kbs/errors/';

/** An error as the KBS writes them: JSON, and no content type. */
export function kbsError(status: number, type: string, detail: string): Answer {
  return { status, headers: {}, body: Buffer.from(JSON.stringify({ type: ERROR_PREFIX + type, detail })) };
}

/** Last segment of the error's URL; null where the body is no error of a KBS. */
export function errorTypeOf(body: Buffer): string | null {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value !== 'object' || value === null || !('type' in value) || typeof value.type !== 'string') return null;
    const type = value.type.slice(value.type.lastIndexOf('/') + 1);
    return /^[A-Za-z]{1,60}$/.test(type) ? type : null;
  } catch {
    return null;
  }
}

/** What a guest is told when the proxy itself says no. 404, not 401, for what is denied: a 401 makes stock guests attest four times more. */
export function refusalAnswer(refusal: OwnRefusal): Answer {
  switch (refusal) {
    case 'DenyList':
    case 'Reserved':
      return kbsError(404, 'PolicyDeny', 'Access denied by policy');
    case 'DenyListStale':
      return kbsError(503, refusal, 'Key release is closed: the list of denied keys could not be confirmed');
    case 'NotRecorded':
      return kbsError(503, refusal, 'The exchange could not be recorded, and so was not answered');
    case 'BrokerUnreachable':
      return kbsError(502, refusal, 'The key broker did not answer');
    case 'TooManyRequests':
      return kbsError(503, refusal, 'Too many requests are open');
  }
}

/** What Trustee says of a path that it does not have: its own error under `/kbs/v0/`, nothing elsewhere. */
export function nowhereAnswer(plugin: string | null): Answer {
  return plugin === null ? { status: 404, headers: {}, body: Buffer.alloc(0) } : kbsError(404, 'PluginNotFound', `Plugin ${plugin} not found`);
}

/** Sends it, whole. */
export function send(response: ServerResponse, answer: Answer): void {
  response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length });
  response.end(answer.body);
}
