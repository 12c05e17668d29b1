import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';

/** A certificate request has 2 KiB, a log entry 3. */
const REQUEST_MAX_BYTES = 64 * 1024;

/** What one of the lab's Sigstore services was asked. */
export interface Asked {
  /** `POST /api/v1/log/entries`. */
  readonly route: string;
  readonly body: Buffer;
}

/** What it answers: JSON, or bytes of a type of their own. */
export interface Answer {
  readonly status: number;
  readonly type?: string;
  readonly body: object | Buffer;
}

/** A service on 127.0.0.1. */
export interface Service {
  readonly url: string;
  readonly close: () => Promise<void>;
}

/** Serves one service on a port of its own, one request a connection; what `answer` throws is a 400 with its message. */
export async function openService(answer: (asked: Asked, url: string) => Promise<Answer>): Promise<Service> {
  let url = '';
  const server = createServer((request, response) => {
    const answered = async (): Promise<Answer> => {
      const route = `${request.method} ${new URL(request.url ?? '/', url).pathname}`;
      return answer({ route, body: await bodyOf(request) }, url);
    };
    void answered()
      .catch((cause: unknown): Answer => ({ status: 400, body: { code: 400, message: cause instanceof Error ? cause.message : 'malformed' } }))
      .then(({ status, type = 'application/json', body }) => {
        response.writeHead(status, { 'content-type': type, connection: 'close' }).end(Buffer.isBuffer(body) ? body : JSON.stringify(body));
      });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
  return {
    url,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** What is at a route that nobody serves. */
export const NOT_FOUND: Answer = { status: 404, body: { code: 404, message: 'no such route' } };

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    sizeBytes += part.length;
    if (sizeBytes > REQUEST_MAX_BYTES) throw new Error('the request is too large');
    parts.push(part);
  }
  return Buffer.concat(parts);
}
