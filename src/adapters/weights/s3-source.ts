import { GetObjectCommand } from '@aws-sdk/client-s3';
import type { ByteSource } from '#src/envelope/distant.ts';
import { Fault } from '#src/errors.ts';
import { type Bucket, call, type Found } from './s3-wire.ts';

/** An answer's body, as far as it is read. */
interface Body {
  readonly chunks: AsyncIterator<Uint8Array>;
  readonly destroy: () => void;
  /** What came and was not asked for yet. */
  rest: Buffer;
}

/** An object's bytes, from front to back; `isAbout` tells what was thrown by reading it. */
export interface S3Source {
  readonly from: ByteSource;
  readonly isAbout: (thrown: unknown) => boolean;
}

/**
 * Reads one object, the very one that was found: where another takes its place meanwhile, it is Fault `Conflict`. An answer that breaks
 * off is asked for again from where it broke, a few times in a row; one that stalls is Fault `TooSlow`.
 */
export function openSource(bucket: Bucket, key: string, found: Found): S3Source {
  const thrownHere = new WeakSet<Fault>();
  let body: Body | null = null;
  let at = 0;
  let broken = 0;
  let late = false;
  const close = (): void => {
    body?.destroy();
    body = null;
  };
  const fill = async (into: Buffer): Promise<void> => {
    for (let done = 0; done < into.length; ) {
      body ??= await openBody(bucket, key, found, at);
      const chunk = await nextOf(body);
      if (late) throw new Fault('TooSlow', `${bucket.title} GetObject ${key}: stalled at byte ${at}`);
      if (chunk === null) {
        close();
        broken += 1;
        if (broken >= bucket.patience.attempts) throw new Fault('Unreachable', `${bucket.title} GetObject ${key}: the answer broke off at byte ${at}`);
        continue;
      }
      const taken = chunk.copy(into, done);
      body.rest = chunk.subarray(taken);
      if (taken > 0) broken = 0;
      done += taken;
      at += taken;
    }
    // Read to its end, so that the connection can be used again.
    if (at === found.sizeBytes && body !== null && (await nextOf(body)) === null) body = null;
  };
  const read = async (from: number, into: Buffer): Promise<void> => {
    if (from !== at) close();
    [at, late] = [from, false];
    const deadline = setTimeout(() => {
      late = true;
      body?.destroy();
    }, bucket.patience.windowSeconds * 1000);
    try {
      await fill(into);
    } catch (error) {
      close();
      if (error instanceof Fault) thrownHere.add(error);
      throw error;
    } finally {
      clearTimeout(deadline);
    }
  };
  const from: ByteSource = { name: `${bucket.bucket}/${key}`, sizeBytes: found.sizeBytes, read, close };
  return { from, isAbout: (thrown) => thrown instanceof Fault && thrownHere.has(thrown) };
}

async function openBody(bucket: Bucket, key: string, found: Found, at: number): Promise<Body> {
  const range = `bytes=${at}-${found.sizeBytes - 1}`;
  const command = new GetObjectCommand({ Bucket: bucket.bucket, Key: key, Range: range, IfMatch: found.etag });
  // The deadline is for the answer to begin: a whole file takes as long as it takes.
  const begun = new AbortController();
  const deadline = setTimeout(() => begun.abort(), bucket.patience.windowSeconds * 1000);
  try {
    const answer = await call(bucket, `GetObject ${key}`, () => bucket.client.send(command, { abortSignal: begun.signal }));
    const stream = answer.Body;
    if (stream === undefined || !(Symbol.asyncIterator in stream) || !('destroy' in stream)) throw new TypeError('the SDK gave no stream of Node’s');
    const whole = `bytes ${at}-${found.sizeBytes - 1}/${found.sizeBytes}`;
    if (answer.ContentRange !== whole) {
      stream.destroy();
      throw new Fault('UnexpectedAnswer', `${bucket.title} GetObject ${key}: asked for ${range}, got ${answer.ContentRange ?? 'no range'}`);
    }
    return { chunks: stream[Symbol.asyncIterator](), destroy: () => void stream.destroy(), rest: Buffer.alloc(0) };
  } finally {
    clearTimeout(deadline);
  }
}

/** The next bytes of an answer; null where it ended, or broke off. */
async function nextOf(body: Body): Promise<Buffer | null> {
  if (body.rest.length > 0) return body.rest;
  try {
    const { done, value } = await body.chunks.next();
    return done === true ? null : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  } catch {
    return null;
  }
}
