import { createHmac, timingSafeEqual } from 'node:crypto';
import { Hono, type HonoRequest } from 'hono';
import type { Log } from '#src/log.ts';
import { type Reference, readReference } from '#src/reference.ts';

/** A push event of a large merge has some 100 KiB; hosts cut theirs far below 25 MiB, and the body says nothing that is used. */
const BODY_MAX_BYTES = 1024 * 1024;
/** Deliveries that are looked at: so many at once, and so many a second after that. Any repository of releases pushes far less. */
const BURST = 50;
const PER_SECOND = 10;

/**
 * Where hosts put HMAC-SHA-256 over the raw body, in hexadecimal: GitHub (and Forgejo, Gitea in its
 * manner), Gitea's own, and a name for anything else that can sign.
 */
const HEADERS = ['x-hub-signature-256', 'x-gitea-signature', 'x-signature-256'] as const;

/** What the webhook needs. */
export interface WebhookParts {
  /** `repository.webhook.secret`: read anew for every delivery. */
  readonly secret: Reference;
  /** Called after a delivery whose signature is good: look at the branch soon. It must not throw, and is not waited for. */
  readonly onHint: () => void;
  readonly log: Log;
}

/**
 * `POST /webhook`: a signed delivery is a hint to poll, and nothing else in it counts. 202 where it was
 * taken, 401 without a good signature, 413 beyond 1 MiB, 429 where too many came: the next poll sees
 * the same.
 */
export function openWebhook({ secret, onHint, log }: WebhookParts): Hono {
  const take = openBucket();
  const app = new Hono();
  app.post('/webhook', async (context) => {
    if (!take()) return context.text('too many deliveries\n', 429);
    const claimed = claimedBy(context.req);
    if (claimed === null) return context.text('not signed\n', 401);
    const body = await bodyOf(context.req.raw.body);
    if (body === null) return context.text('too large\n', 413);
    if (!(await isSigned(secret, body, claimed))) {
      log.warn({}, 'a webhook delivery carried a wrong signature');
      return context.text('wrong signature\n', 401);
    }
    onHint();
    return context.text('will look\n', 202);
  });
  return app;
}

/** The signature that the delivery carries; null: none that could be one. */
function claimedBy(request: HonoRequest): Buffer | null {
  for (const name of HEADERS) {
    const hex = /^(?:sha256=)?([0-9a-f]{64})$/i.exec(request.header(name) ?? '')?.[1];
    if (hex !== undefined) return Buffer.from(hex, 'hex');
  }
  return null;
}

/** The raw body, read no further than its limit; null: it is longer. */
async function bodyOf(stream: ReadableStream<Uint8Array> | null): Promise<Buffer | null> {
  if (stream === null) return Buffer.alloc(0);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > BODY_MAX_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function isSigned(secret: Reference, body: Buffer, claimed: Buffer): Promise<boolean> {
  using key = await readReference(secret);
  // A file that an editor wrote ends in a newline that nobody meant.
  const bytes = key.reveal();
  let end = bytes.length;
  while (end > 0 && (bytes[end - 1] === 0x0a || bytes[end - 1] === 0x0d)) end -= 1;
  if (end === 0) return false;
  return timingSafeEqual(createHmac('sha256', bytes.subarray(0, end)).update(body).digest(), claimed);
}

/** A token bucket, on this process's own monotonic clock: nothing is decided by it but how many deliveries are looked at. */
function openBucket(): () => boolean {
  let tokens = BURST;
  let at = performance.now();
  return () => {
    const now = performance.now();
    tokens = Math.min(BURST, tokens + ((now - at) / 1000) * PER_SECOND);
    at = now;
    if (tokens < 1) return false;
    tokens -= 1;
    return true;
  };
}
