/** Where a request goes. Only the first three ever reach the KBS. */
export type Route =
  | { readonly kind: 'auth' | 'attest' }
  /** `path` is `repository/type/tag`, exactly as Trustee will read it. */
  | { readonly kind: 'resource'; readonly path: string }
  /** Nothing that guests may ask; `plugin` is what Trustee would have looked for, null outside `/kbs/v0/`. */
  | { readonly kind: 'nowhere'; readonly plugin: string | null };

/** A segment as Trustee's `ResourceDesc` takes it (`[\w-]+[\w.-]*`), written so that it matches in one way alone: its own form backtracks for seconds. */
const SEGMENT = '[A-Za-z0-9_-][A-Za-z0-9_.-]*';
const RESOURCE = new RegExp(`^/kbs/v0/resource/(${SEGMENT}/${SEGMENT}/${SEGMENT})$`);
/** `/kbs/v0/resource/` and the longest path that a document may name (512). Characters. */
const URL_MAX_CHARACTERS = 512 + '/kbs/v0/resource/'.length;
/** A plugin's name is repeated in the answer as Trustee does; anything longer or stranger is not. */
const PLUGIN = /^\/kbs\/v0\/([A-Za-z0-9_-]{0,64})(?:[/?]|$)/;

/**
 * Reads a request as Trustee will. It decodes percent signs before it routes, ignores what follows a
 * built-in verb, and parses a query; so what is written in more than one way is refused instead of
 * guessed at: no `%`, no query, no doubled or trailing slash, no absolute form. What passes here is
 * its own decoding, and means to Trustee what it means to the deny-list.
 */
export function routeOf(method: string, url: string): Route {
  if (method === 'POST' && url === '/kbs/v0/auth') return { kind: 'auth' };
  if (method === 'POST' && url === '/kbs/v0/attest') return { kind: 'attest' };
  const path = method === 'GET' && url.length <= URL_MAX_CHARACTERS ? RESOURCE.exec(url)?.[1] : undefined;
  if (path !== undefined) return { kind: 'resource', path };
  return { kind: 'nowhere', plugin: url.startsWith('/kbs/v0/') ? (PLUGIN.exec(url)?.[1] ?? '') : null };
}

/** The prober's own repository: what the controller asks at the broker's own address is nothing for guests. */
export function isReserved(path: string): boolean {
  return path.startsWith('keyturn/');
}
