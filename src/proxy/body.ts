import type { IncomingMessage } from 'node:http';
import { type Answer, refusalAnswer } from './answer.ts';
import { openRoom } from './room.ts';

/** Evidence of eight GPUs is some MiB; a KBS takes 2 unless told otherwise. Bytes. */
const BODY_MAX_BYTES = 16 * 1024 * 1024;
/** Of all bodies that are held at once: fifty eight-GPU hosts, or a thousand others, that attest in the same moment. Bytes. */
const HELD_MAX_BYTES = 256 * 1024 * 1024;

/** A request's body, or why there is none. */
export type Body =
  | { readonly kind: 'whole'; readonly bytes: Buffer /** Gives its room back: call it once it is sent. */; readonly release: () => void }
  | { readonly kind: 'refused'; readonly answer: Answer }
  /** The guest went, or was too slow for the server: nobody is left to answer. */
  | { readonly kind: 'gone' };

/** Reads bodies whole, before the KBS is asked: a guest that dribbles holds none of the KBS's connections, and one that goes is not the KBS's fault. */
export type ReadBody = (request: IncomingMessage, address: string) => Promise<Body>;

/** Opens a reader whose bodies share one limit. How long a body may take is the server's to say. */
export function openBodies(): ReadBody {
  const room = openRoom(HELD_MAX_BYTES);
  return async (request, address) => {
    const length = Number(request.headers['content-length'] ?? Number.NaN);
    if (!Number.isInteger(length)) return { kind: 'refused', answer: { status: 411, headers: {}, body: Buffer.alloc(0) } };
    if (length > BODY_MAX_BYTES) return { kind: 'refused', answer: tooLong() };
    const chunks: Buffer[] = [];
    let held = 0;
    const release = (): void => {
      room.give(address, held);
      held = 0;
    };
    try {
      // What is there counts, not what was announced: else a few bytes could reserve it all.
      for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        if (!room.take(address, chunk.length)) {
          release();
          return { kind: 'refused', answer: refusalAnswer('TooManyRequests') };
        }
        held += chunk.length;
        chunks.push(chunk);
      }
    } catch {
      release();
      return { kind: 'gone' };
    }
    return { kind: 'whole', bytes: Buffer.concat(chunks), release };
  };
}

/** As the KBS's own server says it. */
function tooLong(): Answer {
  return { status: 413, headers: { 'content-type': 'text/plain' }, body: Buffer.from('payload reached size limit') };
}
