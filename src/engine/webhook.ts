import { createHmac, timingSafeEqual } from 'node:crypto';
import { Hono, type HonoRequest } from 'hono';
import type pg from 'pg';
import { digestOf } from '#src/digest.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Instant } from '#src/instant.ts';
import type { Log } from '#src/log.ts';
import { type Reference, readReference } from '#src/reference.ts';
import { noteRefusedDelivery, takeDelivery } from '#state/deliveries.ts';

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

/** Refusals that are written down: so many at once, and so many a second after that. Anybody who reaches the listener can make one. */
const NOTED_BURST = 10;
const NOTED_PER_SECOND = 1;

/** What the webhook needs. */
export interface WebhookParts {
  /** `repository.webhook.secret`: read anew for every delivery. */
  readonly secret: Reference;
  /** Called after a delivery whose signature is good: look at the branch soon. It must not throw, and is not waited for. */
  readonly onHint: () => void;
  /** Where deliveries are remembered, so that a replayed one is known by every replica, and refusals are shown. */
  readonly pool: pg.Pool;
  readonly log: Log;
}

/**
 * `POST /webhook`: a signed delivery is a hint to poll, and nothing else in it counts. 202 where it was
 * taken, 401 without a good signature, 409 for one that was taken before, 413 beyond 1 MiB, 429 where too
 * many came: the next poll sees the same. Refusals are shown by `keyturn status`.
 */
export function openWebhook(parts: WebhookParts): Hono {
  const { secret, onHint, log } = parts;
  const take = openBucket(BURST, PER_SECOND);
  const note = openNotes(parts);
  const app = new Hono();
  app.post('/webhook', async (context) => {
    const claimed = claimedBy(context.req);
    if (claimed === null) {
      await note('DeliveryUnsigned', `POST /webhook: expected HMAC-SHA-256 of the body in ${HEADERS.join(', ')}`);
      return context.text('not signed\n', 401);
    }
    if (!take()) {
      await note('Throttled', `POST /webhook: more than ${PER_SECOND} deliveries a second`);
      return context.text('too many deliveries\n', 429);
    }
    const body = await bodyOf(context.req.raw.body);
    if (body === null) {
      await note('LimitExceeded', `POST /webhook: a body of more than ${BODY_MAX_BYTES} bytes`);
      return context.text('too large\n', 413);
    }
    if (!(await isSigned(secret, body, claimed.signature))) {
      await note('DeliveryForged', `POST /webhook: ${claimed.name} is not the body’s HMAC-SHA-256 under repository.webhook.secret`);
      return context.text('wrong signature\n', 401);
    }
    const before = await takenBefore(parts, claimed.signature);
    if (before !== null) {
      await note('DeliveryReplayed', `POST /webhook: the delivery of ${before} came again`);
      return context.text('taken before\n', 409);
    }
    onHint();
    log.debug({}, 'a webhook delivery was taken');
    return context.text('will look\n', 202);
  });
  return app;
}

/** Writes refusals down, as many as do no harm. The database may be away: a hint needs no row. */
function openNotes({ pool, log }: WebhookParts): (reason: Reason, about: string) => Promise<void> {
  const take = openBucket(NOTED_BURST, NOTED_PER_SECOND);
  return async (reason, about) => {
    if (!take()) return;
    log.warn({ reason, about }, 'a webhook delivery was refused');
    await noteRefusedDelivery(pool, reason, about).catch((error: unknown) => log.warn({ error }, 'a refused delivery could not be noted'));
  };
}

/** The same body always has the same signature, and a host puts the commit into it: what came before says nothing new. Null: it did not, or nobody knows. */
async function takenBefore({ pool, log }: WebhookParts, signature: Buffer): Promise<Instant | null> {
  return takeDelivery(pool, digestOf(signature)).catch((error: unknown) => {
    log.warn({ error }, 'a delivery could not be remembered');
    return null;
  });
}

/** The signature that the delivery carries; null: none that could be one. */
function claimedBy(request: HonoRequest): { readonly name: string; readonly signature: Buffer } | null {
  for (const name of HEADERS) {
    const hex = /^(?:sha256=)?([0-9a-f]{64})$/i.exec(request.header(name) ?? '')?.[1];
    if (hex !== undefined) return { name, signature: Buffer.from(hex, 'hex') };
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

/** A token bucket, on this process's own monotonic clock: nothing is decided by it but how many deliveries are looked at, or told of. */
function openBucket(burst: number, perSecond: number): () => boolean {
  let tokens = burst;
  let at = performance.now();
  return () => {
    const now = performance.now();
    tokens = Math.min(burst, tokens + ((now - at) / 1000) * perSecond);
    at = now;
    if (tokens < 1) return false;
    tokens -= 1;
    return true;
  };
}
