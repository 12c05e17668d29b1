import { createHmac } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Hono } from 'hono';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openWebhook } from '#src/engine/webhook.ts';
import { openLog } from '#src/log.ts';
import { openDatabase } from '#state/database.ts';
import { refusedDeliveries } from '#state/deliveries.ts';
import { withDatabase } from '#test/postgres.ts';

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-webhook-'));
  file = join(folder, 'secret');
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const BODY = JSON.stringify({ ref: 'refs/heads/main' });

function sign(body: string, secret = 'shared'): string {
  return createHmac('sha256', secret).update(body).digest('hex');
}

type Deliver = (headers: Record<string, string>, body?: string | ReadableStream<Uint8Array>) => Promise<number>;

async function withWebhook(fn: (deliver: Deliver, hints: () => number, app: Hono, pool: pg.Pool) => Promise<void>, at?: string): Promise<void> {
  await writeFile(file, 'shared\n');
  await withDatabase(async (own) => {
    const pool = at === undefined ? own : openDatabase({ url: at, poolSize: 1 });
    let hints = 0;
    const app = openWebhook({
      secret: { file },
      pool,
      log: openLog('silent'),
      onHint: () => {
        hints += 1;
      },
    });
    const deliver: Deliver = async (headers, body = BODY) =>
      (await app.request('/webhook', { method: 'POST', headers, body, ...(typeof body === 'string' ? {} : { duplex: 'half' }) })).status;
    await fn(deliver, () => hints, app, pool);
    if (pool !== own) await pool.end();
  });
}

/** A body that no delivery had before. */
const bodyOf = (number: number): string => JSON.stringify({ ref: 'refs/heads/main', after: number });

it('a delivery that is signed over its raw body is a hint', () =>
  withWebhook(async (deliver, hints) => {
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign(BODY)}` })).toBe(202);
    expect(await deliver({ 'x-gitea-signature': sign(bodyOf(2)) }, bodyOf(2))).toBe(202);
    expect(await deliver({ 'x-signature-256': `sha256=${sign('')}` }, '')).toBe(202);
    expect(hints()).toBe(3);
  }));

it('one without a good signature is nothing', () =>
  withWebhook(async (deliver, hints, _, pool) => {
    expect(await deliver({})).toBe(401);
    expect(await deliver({ 'x-hub-signature-256': '' })).toBe(401);
    expect(await deliver({ 'x-hub-signature-256': `sha1=${sign(BODY)}` })).toBe(401);
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign(BODY, 'other')}` })).toBe(401);
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign(BODY, '')}` })).toBe(401);
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign(`${BODY} `)}` })).toBe(401);
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign(BODY).slice(1)}` })).toBe(401);
    expect(hints()).toBe(0);
    const told = (await refusedDeliveries(pool)).map(({ reason, times }) => `${reason} ${times}`).sort();
    expect(told).toEqual(['DeliveryForged 3', 'DeliveryUnsigned 4']);
  }));

it('one that was taken before is nothing, under whatever header, and whoever took it', () =>
  withWebhook(async (deliver, hints, _, pool) => {
    const signature = `sha256=${sign(BODY)}`;
    expect(await deliver({ 'x-hub-signature-256': signature })).toBe(202);
    expect(await deliver({ 'x-hub-signature-256': signature })).toBe(409);
    expect(await deliver({ 'x-signature-256': signature.toUpperCase().replace('SHA256', 'sha256') })).toBe(409);
    const other = openWebhook({ secret: { file }, pool, log: openLog('silent'), onHint: () => undefined });
    expect((await other.request('/webhook', { method: 'POST', headers: { 'x-hub-signature-256': signature }, body: BODY })).status).toBe(409);
    expect(hints()).toBe(1);
    expect((await refusedDeliveries(pool)).map(({ reason, times }) => `${reason} ${times}`)).toEqual(['DeliveryReplayed 3']);
  }));

it('without its database it still takes hints, and none that is not signed', () =>
  withWebhook(async (deliver, hints) => {
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign(BODY)}` })).toBe(202);
    expect(await deliver({})).toBe(401);
    expect(hints()).toBe(1);
  }, 'postgres://nobody@127.0.0.1:1/none'));

it('the secret is read anew: a replaced one counts at once', () =>
  withWebhook(async (deliver) => {
    await writeFile(file, 'next');
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign(BODY)}` })).toBe(401);
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign(BODY, 'next')}` })).toBe(202);
  }));

it('a body is read no further than 1 MiB, however long it says to be', () =>
  withWebhook(async (deliver, hints) => {
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        pulled += 1;
        controller.enqueue(new Uint8Array(64 * 1024));
      },
    });
    expect(await deliver({ 'x-hub-signature-256': `sha256=${sign('')}` }, endless)).toBe(413);
    expect(pulled).toBeLessThan(32);
    expect(hints()).toBe(0);
  }));

it('too many deliveries are not looked at, and other methods and paths are not there', () =>
  withWebhook(async (deliver, hints, app) => {
    const answers: Promise<number>[] = [];
    for (let count = 0; count < 80; count += 1) {
      answers.push(deliver({ 'x-hub-signature-256': `sha256=${sign(bodyOf(count))}` }, bodyOf(count)));
    }
    expect(await Promise.all(answers)).toContain(429);
    expect(hints()).toBeGreaterThanOrEqual(50);
    expect(hints()).toBeLessThan(80);
    expect((await app.request('/webhook')).status).toBe(404);
    expect((await app.request('/', { method: 'POST' })).status).toBe(404);
  }));
