import { type Context, Hono } from 'hono';
import type pg from 'pg';
import { isDigest } from '#src/digest.ts';
import { reasons } from '#src/domain/reasons.ts';
import { Fault, isFault } from '#src/errors.ts';
import type { Log } from '#src/log.ts';
import { readBoard, readHistory, reading } from '#state/dashboard.ts';
import { readRevocationView, revocationNamed } from '#state/dashboard-revocation.ts';
import { readRevocations } from '#state/dashboard-revocations.ts';
import { readRotation, rotationOfRun } from '#state/dashboard-rotation.ts';
import type { Db } from '#state/database.ts';
import { readStatus } from '#state/status.ts';
import { historyPath, revocationPath, revocationsPath, rotationPath } from './attention.ts';
import { boardView } from './board.ts';
import { documentsMain } from './documents.ts';
import { historyMain } from './history.ts';
import { isOwnName } from './host-name.ts';
import type { WorkflowShape } from './ladder.ts';
import { html } from './markup.ts';
import { CONTENT_SECURITY_POLICY, type House, type Page, pageText, REFRESH_SECONDS } from './page.ts';
import { isRevocationOpen, revocationMain } from './revocation.ts';
import { revocationsMain } from './revocations.ts';
import { rotationMain } from './rotation.ts';
import { why } from './said.ts';

/** What the dashboard is opened with. */
export interface DashboardParts extends House {
  /** Of its own and small: a page that is slow must not take a session from the engine. */
  readonly pool: pg.Pool;
  /** The product's workflows: their names, gates and steps are shown. */
  readonly workflows: readonly WorkflowShape[];
  /** How often the branch is to be read. Seconds. */
  readonly pollSeconds: number;
  /** `host:port`, as configured: at a loopback address only names of this machine are answered. */
  readonly listen: string;
  readonly log: Log;
}

/** Pages being made at once, most of them waiting for one of the pool's sessions: more are one reader's mistake. */
const PAGES_MAX = 20;

const HEADERS: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};

/** A key, half turned. */
const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0b4f8a"/><g fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"><circle cx="12" cy="20" r="5"/><path d="M15.6 16.4 25 7m-3 3 3 3m-6 0 2.5 2.5"/></g></svg>`;

/** What a page is made of, or that it is another's, or nobody's. */
type Answer = (Omit<Page, 'refresh'> & { readonly open: boolean }) | { readonly elsewhere: string } | null;
type Show = (context: Context, read: (tx: Db) => Promise<Answer>) => Promise<Response>;

/**
 * The dashboard: pages of HTML over rows, for GET and HEAD alone. It changes nothing, sets no cookie, runs no script and
 * asks no other system. A page that cannot be read says so (503), and never ends the process.
 */
export function openDashboard(parts: DashboardParts): Hono {
  const { workflows } = parts;
  const show = showing(parts);
  const app = new Hono();
  app.use(async (context, next) => {
    for (const [name, value] of Object.entries(HEADERS)) context.header(name, value);
    if (context.req.method !== 'GET' && context.req.method !== 'HEAD') return context.text('only GET and HEAD\n', 405, { allow: 'GET, HEAD' });
    if (!isOwnName(context.req.header('host') ?? '', parts.listen)) return context.text('not a name of this listener: see the README of src/dashboard\n', 421);
    return next();
  });
  app.get('/icon.svg', (context) => context.body(ICON, 200, { 'content-type': 'image/svg+xml' }));
  app.get('/', (context) => show(context, (tx) => boardPage(tx, parts)));
  app.get('/documents', (context) => show(context, documentsPage));
  app.get('/rotations/:run', (context) => show(context, (tx) => rotationPage(tx, context.req.param('run'), workflows)));
  app.get('/revocations', (context) => show(context, (tx) => revocationsPage(tx, context.req.query('page') ?? '1')));
  app.get('/revocations/:id', (context) => show(context, (tx) => revocationPage(tx, context.req.param('id'), context.req.query('digest') ?? null, workflows)));
  app.get('/workloads/:workload', (context) => show(context, (tx) => historyPage(tx, context.req.param('workload'))));
  app.notFound((context) => context.html(pageText(parts, { ...MISSING, path: '' }), 404));
  app.onError((thrown, context) => failed(parts, thrown, context));
  return app;
}

function showing(parts: DashboardParts): Show {
  let making = 0;
  return async (context, read) => {
    if (making >= PAGES_MAX) throw new Fault('Throttled', `dashboard: ${PAGES_MAX} pages are being made`);
    making += 1;
    try {
      const answer = await reading(parts.pool, read);
      if (answer === null) return context.notFound();
      if ('elsewhere' in answer) return context.redirect(answer.elsewhere);
      const refresh = !answer.open ? 'none' : context.req.query('refresh') === 'off' ? 'paused' : 'going';
      return context.html(pageText(parts, { ...answer, refresh }));
    } finally {
      making -= 1;
    }
  };
}

// ---------------------------------------------------------------- the pages

async function boardPage(tx: Db, parts: DashboardParts): Promise<Answer> {
  const board = await readBoard(tx);
  return { ...boardView(board, parts), path: '/', at: board.status.at };
}

async function documentsPage(tx: Db): Promise<Answer> {
  const status = await readStatus(tx);
  const open = status.documents.some(({ verdict }) => verdict === 'waiting');
  return { title: 'Documents', path: '/documents', main: documentsMain(status), at: status.at, open };
}

async function rotationPage(tx: Db, run: string, workflows: readonly WorkflowShape[]): Promise<Answer> {
  if (!/^r-[0-9a-f]{16}$/.test(run)) return null;
  const rotation = await rotationOfRun(tx, run);
  if (rotation === null) {
    const revocation = await revocationNamed(tx, run);
    return revocation === null ? null : { elsewhere: `${revocationPath(revocation)}#run-${run}` };
  }
  if (rotation !== run) return { elsewhere: `${rotationPath(rotation)}#run-${run}` };
  const view = await readRotation(tx, rotation);
  if (view === null) return null;
  const { workload, serial, epoch } = view.rotation;
  const open = view.runs.some(({ endedAt }) => endedAt === null);
  return { title: `${workload} s${serial}-v${epoch}`, path: rotationPath(rotation), main: rotationMain(view, workflows), at: view.at, open };
}

async function revocationsPage(tx: Db, page: string): Promise<Answer> {
  if (!/^[1-9]\d{0,5}$/.test(page)) return null;
  const list = await readRevocations(tx, Number(page));
  return { title: 'Revocations', path: revocationsPath(list.page), main: revocationsMain(list), at: list.at, open: list.open + list.waiting > 0 };
}

async function revocationPage(tx: Db, id: string, digest: string | null, workflows: readonly WorkflowShape[]): Promise<Answer> {
  if (!/^[a-z0-9-]{1,60}$/.test(id) || (digest !== null && !isDigest(digest))) return null;
  const view = await readRevocationView(tx, id, digest);
  if (view === null) return null;
  return { title: `Revocation ${id}`, path: revocationPath(id, digest), main: revocationMain(view, workflows), at: view.at, open: isRevocationOpen(view) };
}

async function historyPage(tx: Db, workload: string): Promise<Answer> {
  if (!/^[a-z0-9-]{1,60}$/.test(workload)) return null;
  const history = await readHistory(tx, workload);
  if (history === null) return null;
  const open = history.rotations.some(({ endedAt }) => endedAt === null);
  return { title: workload, path: historyPath(workload), main: historyMain(workload, history), at: history.at, open };
}

const MISSING = {
  title: 'Not found',
  refresh: 'none',
  at: null,
  main: html`<h1>Nothing is here</h1>
<p>No page, rotation or workload has this address. Begin at <a href="/">the workloads</a>.</p>`,
} as const;

/** Nothing that was read before is shown again: what is old must not pass for what is. */
function failed(parts: DashboardParts, thrown: unknown, context: Context): Response {
  const { path } = context.req;
  if (!isFault(thrown)) {
    parts.log.error({ error: thrown }, 'a page of the dashboard could not be made');
    const main = html`<h1 class="urgent">This page could not be made</h1><p>A mistake of ours; the log tells which. <code>keyturn status</code> says the same things.</p>`;
    return context.html(pageText(parts, { title: 'A mistake', path, refresh: 'none', at: null, main }), 500);
  }
  const main = html`<h1 class="urgent">Nothing can be read now</h1>${why(thrown.reason, 'the database', reasons[thrown.reason].help)}
<p>What runs, keeps running, and every rotation goes on where it stands. This page asks again every ${REFRESH_SECONDS} seconds.</p>`;
  return context.html(pageText(parts, { title: 'Not readable', path, refresh: 'going', at: null, main }), 503, { 'retry-after': String(REFRESH_SECONDS) });
}
