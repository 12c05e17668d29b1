import { once } from 'node:events';
import { request } from 'node:http';
import { serve } from '@hono/node-server';
import type pg from 'pg';
import { openDashboard } from '#src/dashboard/index.ts';
import { digestOf } from '#src/digest.ts';
import type { Reason } from '#src/domain/reasons.ts';
import { type Log, silentLog } from '#src/log.ts';
import { emergencies, workflows } from '#workflows/index.ts';
import { type Element, parseHtml } from './html.ts';

/** What a page answered. */
export interface Page {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly text: string;
  /** Parsed strictly; null where it is no HTML, or nothing. */
  readonly root: Element;
}

/** A dashboard that listens. */
export interface Stand {
  readonly url: string;
  readonly get: (path: string, more?: { readonly method?: string; readonly headers?: Readonly<Record<string, string>> }) => Promise<Page>;
}

/** What a test says of a dashboard. */
export interface StandOptions {
  readonly mode?: 'production' | 'lab';
  readonly listen?: string;
  readonly log?: Log;
}

/** Runs `fn` with a dashboard over this database, on loopback. */
export async function withDashboard<T>(pool: pg.Pool, fn: (stand: Stand) => Promise<T>, options: StandOptions = {}): Promise<T> {
  const { mode = 'lab', listen = '127.0.0.1:0', log = silentLog } = options;
  const app = openDashboard({ installation: 'test', mode, pool, workflows: [...workflows, ...emergencies], pollSeconds: 30, listen, log });
  const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  try {
    return await fn({ url, get: (path, more) => ask(`${url}${path}`, more) });
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

async function ask(url: string, { method = 'GET', headers = {} }: { method?: string; headers?: Readonly<Record<string, string>> } = {}): Promise<Page> {
  const sent = request(url, { method, headers, agent: false });
  sent.end();
  const [response] = await once(sent, 'response');
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  const isHtml = String(response.headers['content-type']).startsWith('text/html') && text !== '';
  return { status: response.statusCode, headers: response.headers, text, root: isHtml ? parseHtml(text) : { name: '', attributes: {}, children: [] } };
}

/** A document's row, as intake writes it. */
export interface DocumentRow {
  readonly path: string;
  readonly kind?: string;
  readonly verdict?: 'waiting' | 'accepted' | 'refused';
  readonly reason?: Reason | null;
  readonly about?: string | null;
  readonly approvedBy?: readonly string[];
}

/** Writes a document's row. */
export async function addDocument(pool: pg.Pool, row: DocumentRow): Promise<void> {
  const { path, kind = 'Release', verdict = 'refused', reason = null, about = null, approvedBy = [] } = row;
  await pool.query(
    `insert into documents (path, digest, kind, bytes, commit_id, verdict, reason, about, approved_by) values ($1, $2, $3, '', 'commit', $4, $5, $6, $7)`,
    [path, digestOf(path), kind, verdict, reason, about, approvedBy],
  );
}
