/** The lab's kube-apiserver: paths, tokens, bodies, lists and watches over HTTPS. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { KeyedCertificate } from './certificates.ts';
import { evict } from './kubernetes-eviction.ts';
import type { ApiObject, Json, JsonMap } from './kubernetes-json.ts';
import { KINDS, type Kind, PODS } from './kubernetes-kinds.ts';
import { fieldSelector, labelSelector, type Selector } from './kubernetes-select.ts';
import { badRequest, expiredPage, forbidden, isRefusal, noSuchResource, refusal, unauthorized } from './kubernetes-status.ts';
import type { Store } from './kubernetes-store.ts';
import { type Outcome, openVerbs, type Place, type Verbs, writeOptions } from './kubernetes-verbs.ts';
import { openWatchers, type Watchers } from './kubernetes-watch.ts';

/** The real server's own limit for a request's body. Bytes. */
const BODY_MAX_BYTES = 3 * 1024 * 1024;

/** Snapshots kept for lists that come in pages. */
const PAGES_MAX = 200;

/** What the server is made of. */
export interface ServerOptions {
  readonly store: Store;
  readonly certificate: KeyedCertificate;
  /** Bearer token → user. Only `admin` may do anything; all others are known and forbidden everything. */
  readonly tokens: ReadonlyMap<string, string>;
  /** The lab's clock, as the API writes it. */
  readonly now: () => string;
  /** Called before each request is looked at: the clock is read anew. */
  readonly tick: () => Promise<void>;
  /** The log of a pod; null: no such pod. */
  readonly logOf: (namespace: string, name: string) => readonly string[] | null;
}

/** The server, listening. */
export interface ApiServer {
  readonly url: string;
  /** Forgets all history and ends every watch and page from before: the next look is answered with 410. */
  readonly expire: () => void;
  /** Writes an object as somebody at the keyboard would. Throws a refusal. */
  readonly verbs: Verbs;
  readonly close: () => Promise<void>;
}

/** What a request is handled with. */
interface Desk extends ServerOptions {
  readonly verbs: Verbs;
  readonly watchers: Watchers;
  /** By version and collection: what a list showed when its first page was asked for. */
  readonly pages: Map<string, readonly ApiObject[]>;
}

/** Listens on 127.0.0.1, on a port of its own. */
export async function openServer(options: ServerOptions): Promise<ApiServer> {
  const { store, certificate, now } = options;
  const desk: Desk = { ...options, verbs: openVerbs(store, now), watchers: openWatchers(store), pages: new Map() };
  const server: Server = createServer({ cert: certificate.certificatePem, key: certificate.keyPem }, (request, response) => {
    handle(desk, request, response).catch((error: unknown) => fail(response, error));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}`,
    verbs: desk.verbs,
    expire: () => {
      store.compact();
      desk.pages.clear();
      desk.watchers.end();
    },
    close: async () => {
      desk.watchers.end();
      const closed = new Promise((done) => server.close(done));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function handle(desk: Desk, request: IncomingMessage, response: ServerResponse): Promise<void> {
  await desk.tick();
  const url = new URL(request.url ?? '/', 'https://lab');
  if (['/healthz', '/livez', '/readyz'].includes(url.pathname)) return sendText(response, 'ok');
  if (url.pathname === '/version') return send(response, 200, { major: '1', minor: '36', gitVersion: 'v1.36.2-lab' }, []);
  const user = userOf(desk, request);
  const place = placeOf(url.pathname);
  const verb = verbOf(request.method ?? '', place, url.searchParams);
  if (user !== 'admin') {
    const where = place.namespace === '' ? ' at the cluster scope' : ` in the namespace "${place.namespace}"`;
    throw forbidden(place.kind, place.name, user, verb, where);
  }
  if (verb === 'watch') return watch(desk, place, url.searchParams, request, response);
  if (place.subresource === 'log' && verb === 'get') {
    const lines = desk.logOf(place.namespace, place.name);
    return lines === null ? send(response, ...answer(get(desk, place))) : sendText(response, lines.map((line) => `${line}\n`).join(''));
  }
  const outcome = await work(desk, verb, place, url.searchParams, request);
  send(response, outcome.code, shown(outcome.body, request.headers.accept ?? ''), outcome.warnings);
}

async function work(desk: Desk, verb: string, place: Place, query: URLSearchParams, request: IncomingMessage): Promise<Outcome> {
  const options = (): ReturnType<typeof writeOptions> => writeOptions(query, request.method ?? '', request.headers['user-agent'] ?? '');
  switch (verb) {
    case 'get':
      return get(desk, place);
    case 'list':
      return list(desk, place, query);
    case 'create':
      if (isEviction(place)) return evict(desk.verbs, place, await bodyOf(request), options().dryRun);
      return desk.verbs.create(place, await bodyOf(request), options());
    case 'update':
      return desk.verbs.update(place, await bodyOf(request), options());
    case 'patch': {
      const type = (request.headers['content-type'] ?? '').split(';')[0] ?? '';
      return desk.verbs.patch(place, type, await bodyOf(request, 'error decoding patch: unexpected end of JSON input'), options());
    }
    case 'delete': {
      const grace = query.get('gracePeriodSeconds');
      return desk.verbs.remove(place, await bodyOf(request), grace === null ? null : Number(grace), options().dryRun);
    }
    default:
      throw refusal(405, 'the server does not allow this method on the requested resource', 'MethodNotAllowed', {});
  }
}

function get({ store }: Desk, place: Place): Outcome {
  const found = store.get(place.kind.resource, place.namespace, place.name);
  if (found !== null) return { code: 200, body: found, warnings: [] };
  const { kind, name } = place;
  const subject = kind.group === '' ? kind.plural : `${kind.plural}.${kind.group}`;
  throw refusal(404, `${subject} "${name}" not found`, 'NotFound', { name, ...(kind.group === '' ? {} : { group: kind.group }), kind: kind.plural });
}

function list(desk: Desk, place: Place, query: URLSearchParams): Outcome {
  const selected = selectionOf(place, query);
  const limit = Number(query.get('limit') ?? 0);
  const token = query.get('continue') ?? '';
  if (token !== '' && query.has('resourceVersion')) throw badRequest('specifying resource version is not allowed when using continue');
  const version = query.get('resourceVersion') ?? '';
  if (!/^\d*$/.test(version)) {
    throw badRequest(`invalid resource version: resourceVersion: Invalid value: "${version}": strconv.ParseUint: parsing "${version}": invalid syntax`);
  }
  const from = token === '' ? { rv: desk.store.version(), start: '' } : tokenOf(token);
  const snapshot = `${from.rv} ${place.kind.resource} ${place.namespace}`;
  const all = token === '' ? desk.store.list(place.kind.resource, place.namespace) : desk.pages.get(snapshot);
  if (all === undefined) throw expiredPage();
  const items = all.filter((object) => selected(object));
  const rest = items.filter((object) => `/${object.metadata.name}` >= from.start);
  const page = limit > 0 ? rest.slice(0, limit) : rest;
  const last = page.at(-1);
  const more = last !== undefined && page.length < rest.length;
  if (more) keepPage(desk, snapshot, all);
  const selecting = query.has('labelSelector') || query.has('fieldSelector');
  const metadata = {
    resourceVersion: String(from.rv),
    ...(more ? { continue: tokenText(from.rv, last.metadata.name) } : {}),
    ...(more && !selecting ? { remainingItemCount: rest.length - page.length } : {}),
  };
  const bare = page.map(({ kind: _kind, apiVersion: _version, ...members }) => members as JsonMap);
  return { code: 200, body: { kind: `${place.kind.kind}List`, apiVersion: place.kind.apiVersion, metadata, items: bare }, warnings: [] };
}

function keepPage({ pages }: Desk, snapshot: string, objects: readonly ApiObject[]): void {
  pages.set(snapshot, objects);
  const oldest = pages.keys().next().value;
  if (pages.size > PAGES_MAX && oldest !== undefined) pages.delete(oldest);
}

/** As the real server writes it, byte for byte. */
function tokenText(version: number, name: string): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: version, start: `/${name}\u0000` })).toString('base64url');
}

function tokenOf(text: string): { readonly rv: number; readonly start: string } {
  try {
    const { rv, start } = JSON.parse(Buffer.from(text, 'base64url').toString()) as { rv: unknown; start: unknown };
    if (typeof rv === 'number' && typeof start === 'string') return { rv, start };
  } catch {
    // Said below, like every other token that is none.
  }
  throw badRequest('invalid continue token: continue key is not valid');
}

function selectionOf({ kind }: Place, query: URLSearchParams): Selector {
  const labels = labelSelector(query.get('labelSelector') ?? '');
  const fields = fieldSelector(query.get('fieldSelector') ?? '', kind.kind);
  return (object) => labels(object) && fields(object);
}

function watch(desk: Desk, place: Place, query: URLSearchParams, request: IncomingMessage, response: ServerResponse): void {
  const version = query.get('resourceVersion') ?? '';
  const selected = selectionOf(place, query);
  if (!/^\d*$/.test(version)) throw refusal(500, `resourceVersion: Invalid value: "${version}": strconv.ParseUint: parsing "${version}": invalid syntax`, null);
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
  response.flushHeaders();
  const accept = request.headers.accept ?? '';
  const order = {
    resource: place.kind.resource,
    namespace: place.namespace,
    from: Number(version),
    selected,
    bookmarks: query.get('allowWatchBookmarks') === 'true',
    timeoutSeconds: Number(query.get('timeoutSeconds') ?? 0),
    bookmark: (resourceVersion: string): JsonMap => ({ kind: place.kind.kind, apiVersion: place.kind.apiVersion, metadata: { resourceVersion } }),
  };
  const end = desk.watchers.open(
    order,
    (type, object) => response.write(`${JSON.stringify({ type, object: shown(object, accept) })}\n`),
    () => response.end(),
  );
  response.on('close', end);
}

/** The object, or only its metadata where the client asks for that. */
function shown(body: JsonMap | ApiObject, accept: string): JsonMap {
  if (!accept.includes('as=PartialObjectMetadata') || body.kind === 'Status') return body as JsonMap;
  const bare = { apiVersion: 'meta.k8s.io/v1', metadata: body.metadata as Json };
  if (!Array.isArray(body.items)) return { kind: 'PartialObjectMetadata', ...bare };
  return { kind: 'PartialObjectMetadataList', ...bare, items: body.items.map((item: JsonMap) => ({ metadata: item.metadata ?? {} })) };
}

function userOf({ tokens }: Desk, request: IncomingMessage): string {
  const [, token] = /^Bearer (.+)$/.exec(request.headers.authorization ?? '') ?? [];
  // Nobody in particular is let in, and forbidden everything.
  if (token === undefined) return 'system:anonymous';
  const user = tokens.get(token);
  if (user === undefined) throw unauthorized();
  return user;
}

function placeOf(pathname: string): Place {
  const parts = pathname.split('/').slice(1).map(decodeURIComponent);
  const core = parts[0] === 'api';
  const apiVersion = core ? parts[1] : `${parts[1]}/${parts[2]}`;
  const rest = parts.slice(core ? 2 : 3);
  const kindOf = (plural: string | undefined): Kind => {
    const kind = KINDS.find((each) => each.plural === plural && each.apiVersion === apiVersion);
    if (kind === undefined) throw noSuchResource();
    return kind;
  };
  if (!core && parts[0] !== 'apis') throw noSuchResource();
  const inside = rest[0] === 'namespaces' && rest.length > 2;
  const [plural, name = '', subresource = ''] = inside ? rest.slice(2) : rest;
  return { kind: kindOf(plural), namespace: inside ? (rest[1] ?? '') : '', name, subresource };
}

function verbOf(method: string, place: Place, query: URLSearchParams): string {
  if (method === 'GET') return place.name !== '' ? 'get' : ['true', '1'].includes(query.get('watch') ?? '') ? 'watch' : 'list';
  // Nothing else is created at the place of one object: bindings are not the lab's.
  if (method === 'POST' && place.name !== '' && !isEviction(place)) return 'post';
  return { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }[method] ?? method.toLowerCase();
}

function isEviction({ kind, name, subresource }: Place): boolean {
  return kind === PODS && name !== '' && subresource === 'eviction';
}

async function bodyOf(request: IncomingMessage, broken = 'the object provided is unrecognized'): Promise<Json> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > BODY_MAX_BYTES) throw refusal(413, `Request entity too large: limit is ${BODY_MAX_BYTES}`, 'RequestEntityTooLarge', {});
    chunks.push(chunk);
  }
  try {
    return sizeBytes === 0 ? {} : (JSON.parse(Buffer.concat(chunks).toString('utf8')) as Json);
  } catch {
    throw badRequest(broken);
  }
}

function answer(outcome: Outcome): [number, JsonMap, readonly string[]] {
  return [outcome.code, outcome.body as JsonMap, outcome.warnings];
}

function send(response: ServerResponse, code: number, body: JsonMap, warnings: readonly string[]): void {
  const headers: Record<string, string> = { 'content-type': 'application/json', 'cache-control': 'no-cache, private' };
  if (warnings.length > 0) headers.warning = warnings.map((text) => `299 - ${JSON.stringify(text)}`).join(', ');
  response.writeHead(code, headers).end(`${JSON.stringify(body)}\n`);
}

function sendText(response: ServerResponse, text: string): void {
  response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-cache, private' }).end(text);
}

function fail(response: ServerResponse, error: unknown): void {
  if (response.headersSent) return void response.destroy();
  const message = error instanceof Error ? error.message : 'unknown';
  const told = isRefusal(error) ? error : refusal(500, `lab: ${message}`, null);
  send(response, told.code, told.body, []);
}
