/**
 * The watched branch, read over smart HTTP: the tip is asked first (`listServerRefs`), and fetched only
 * where it moved. The repository lives in memory, is never checked out, and is cloned anew at any doubt.
 */
import git, { type FsClient } from 'isomorphic-git';
import type { Git, Poll, Snapshot } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { Fault, isFault } from '#src/errors.ts';
import type { GitConfig } from './config.ts';
import { openWire, type Session } from './http.ts';
import { openMemoryFiles } from './memory-files.ts';
import { readCommit, type Store } from './objects.ts';
import { readNamed, readSnapshot } from './snapshot.ts';

/** From the first byte to the last of one poll. A clone of the largest repository that is taken lasts some 20 s. */
const POLL_SECONDS = 120;
/** A year of a merge every hour. A tip further off counts as rewritten: revocations are read all the same. */
const WALK_MAX_COMMITS = 10_000;
/** Every fetch adds a pack, and nothing repacks: then it is cloned anew. */
const FETCHES_MAX = 50;
const STORE_MAX_BYTES = 96 * 1024 * 1024;

/** What is kept between polls. */
interface State {
  store: (Store & { readonly sizeBytes: () => number }) | null;
  fetches: number;
  snapshot: Snapshot | null;
}

/** Opens the branch; nothing is asked yet. `pollSeconds` bounds one poll (for tests). */
export function openGit(config: Pick<GitConfig, 'url' | 'branch' | 'credentials'>, options: { readonly pollSeconds?: number } = {}): Git {
  const wire = openWire(config);
  const state: State = { store: null, fetches: 0, snapshot: null };
  let last: Promise<unknown> = Promise.resolve();
  // One at a time: polls share the store.
  const alone = <T>(work: (session: Session) => Promise<T>): Promise<T> => {
    const next = last.then(() => faulting(config, () => work(wire.session(options.pollSeconds ?? POLL_SECONDS))));
    last = next.catch(() => undefined);
    return next;
  };
  return {
    branch: config.branch,
    poll: (known) => alone((session) => poll(config, state, session, known)),
    tip: () => alone(async (session) => snapshotOf(config, state, session, await askTip(config, session))),
    read: (commit, paths) => alone((session) => readAt(config, state, session, commit, paths)),
    close: () => wire.close(),
  };
}

async function poll(config: Pick<GitConfig, 'url' | 'branch'>, state: State, session: Session, known: string | null): Promise<Poll> {
  const tip = await askTip(config, session);
  // Equality first: a commit is not its own descendant.
  if (tip === known) return { kind: 'unchanged', commit: tip };
  const snapshot = await snapshotOf(config, state, session, tip);
  const { commit } = snapshot;
  const descends = known === null || commit === known || (await whole(config, state, session, commit, (store) => isOnLine(store, commit, known)));
  return { kind: 'changed', commit, descends, snapshot };
}

/** Protocol 2 with the branch as prefix; the prefix also lists `main-2`, so the name is compared whole. */
async function askTip({ url, branch }: Pick<GitConfig, 'url' | 'branch'>, { client }: Session): Promise<string> {
  const refs = await git.listServerRefs({ http: client, url, prefix: `refs/heads/${branch}`, protocolVersion: 2 });
  const tip = refs.find(({ ref }) => ref === `refs/heads/${branch}`)?.oid;
  if (tip === undefined) throw new Fault('NotFound', `git ${url}: it has no branch ${branch}`);
  if (!/^[0-9a-f]{40}$/.test(tip)) throw new Fault('UnexpectedAnswer', `git ${url}: the tip of ${branch} is not a SHA-1 name`);
  return tip;
}

async function snapshotOf(config: Pick<GitConfig, 'url' | 'branch'>, state: State, session: Session, tip: string): Promise<Snapshot> {
  if (state.snapshot?.commit === tip) return state.snapshot;
  state.snapshot = await whole(config, state, session, tip, readSnapshot);
  return state.snapshot;
}

async function readAt(
  config: Pick<GitConfig, 'url' | 'branch'>,
  state: State,
  session: Session,
  commit: string,
  paths: readonly string[],
): Promise<readonly RepositoryFile[]> {
  return paths.length === 0 ? [] : whole(config, state, session, commit, (store) => readNamed(store, commit, paths));
}

/** Reads from the store, fetching first where the commit is not in it; where anything does not add up, once more from an empty store. */
async function whole<T>(
  config: Pick<GitConfig, 'url' | 'branch'>,
  state: State,
  session: Session,
  commit: string,
  read: (store: Store, commit: string) => Promise<T>,
): Promise<T> {
  try {
    return await read(await storeWith(config, state, session, commit), commit);
  } catch (cause) {
    // What the wire said is no doubt about the store's content.
    if (isFault(cause)) throw cause;
    state.store = null;
    return read(await storeWith(config, state, session, commit), commit);
  }
}

async function storeWith(config: Pick<GitConfig, 'url' | 'branch'>, state: State, session: Session, commit: string): Promise<Store> {
  if (state.store !== null && (state.fetches >= FETCHES_MAX || state.store.sizeBytes() > STORE_MAX_BYTES)) state.store = null;
  if (state.store !== null && (await has(state.store, commit))) return state.store;
  if (state.store === null) {
    const { fs, sizeBytes } = openMemoryFiles();
    const store = { fs: fs as FsClient, gitdir: '/repository', cache: {}, sizeBytes };
    await git.init({ fs: store.fs, dir: store.gitdir, gitdir: store.gitdir, bare: true, defaultBranch: config.branch });
    await git.addRemote({ fs: store.fs, gitdir: store.gitdir, remote: 'origin', url: config.url });
    state.store = store;
    state.fetches = 0;
  }
  await fetchInto(config, state.store, session);
  state.fetches += 1;
  if (await has(state.store, commit)) return state.store;
  const wasEmpty = state.fetches === 1;
  state.store = null;
  // A store that was used before may be at fault itself: `whole` tries an empty one.
  if (!wasEmpty) throw new Error(`${commit} is not in the store after a fetch`);
  throw new Fault('Conflict', `git ${config.url}: ${config.branch} moved while it was read, or its pack is broken`);
}

/**
 * Whole history, never `depth`: a shallow store answers wrongly who descends from whom. The full names of
 * both refs: by its short name a tag `main` would be taken for the branch, and the haves be lost.
 */
async function fetchInto({ url, branch }: Pick<GitConfig, 'url' | 'branch'>, { fs, gitdir, cache }: Store, { client }: Session): Promise<void> {
  const [ref, remoteRef] = [`refs/remotes/origin/${branch}`, `refs/heads/${branch}`];
  await git.fetch({ fs, gitdir, cache, http: client, url, remote: 'origin', ref, remoteRef, singleBranch: true, tags: false });
}

async function has(store: Store, commit: string): Promise<boolean> {
  return readCommit(store, commit).then(
    () => true,
    () => false,
  );
}

/** Whether `known` is on the first-parent line of `tip`: the line that merges approve; what comes in as a second parent is not on it. */
async function isOnLine(store: Store, tip: string, known: string): Promise<boolean> {
  let at: string | null = tip;
  for (let walked = 0; at !== null && walked < WALK_MAX_COMMITS; walked += 1) {
    if (at === known) return true;
    at = (await readCommit(store, at)).firstParent;
  }
  return false;
}

/** The library's own errors, as a Fault: what it cannot read is not what a Git server says. */
async function faulting<T>({ url }: Pick<GitConfig, 'url'>, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (isFault(cause)) throw cause;
    throw new Fault('UnexpectedAnswer', `git ${url}: ${cause instanceof Error ? cause.message.slice(0, 200) : 'no repository'}`, { cause });
  }
}
