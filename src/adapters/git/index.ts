/**
 * The watched branch, read over smart HTTP: the tip is asked first, and fetched only where it moved. The
 * repository lives in memory, is never checked out, and is cloned anew at any doubt.
 */
import type { Git, Poll, Snapshot } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { Fault, isFault } from '#src/errors.ts';
import type { GitConfig } from './config.ts';
import { openWire, type Session } from './http.ts';
import { afresh, EMPTY_STORE, has, read, readCommit, type Store, sizeBytesOf, withPack } from './objects.ts';
import { openBreath } from './pack.ts';
import { discover, fetchPack, type Host, tipOf } from './protocol.ts';
import { FILE_MAX_BYTES, type Folders, movedFolders, readNamed, readSnapshot } from './snapshot.ts';

/** From the first byte to the last of one poll. A clone of the largest repository that is taken lasts some 20 s. */
const POLL_SECONDS = 120;
/** A year of a merge every hour. A tip further off counts as rewritten: revocations are read all the same. */
const WALK_MAX_COMMITS = 10_000;
/** Every fetch adds a pack, and nothing repacks: then it is cloned anew. */
const PACKS_MAX = 50;
const STORE_MAX_BYTES = 96 * 1024 * 1024;

/** The branch that is read. */
interface Branch extends Pick<GitConfig, 'url' | 'branch'> {
  /** Its full name, or that of another ref that is read in its place. */
  readonly ref: string;
}

/** What is kept between polls. */
interface State {
  store: Store;
  /** Tips that were fetched whole. */
  haves: readonly string[];
  /** The last one, and what it is made of. */
  last: { readonly snapshot: Snapshot; readonly folders: Folders } | null;
}

/** One poll's conversation. */
interface Talk {
  readonly session: Session;
  host: Promise<Host> | null;
}

/**
 * Opens the branch; nothing is asked yet. `ref`: the full name of another ref to be read in its place
 * (`refs/pull/7/head`), for whoever only looks. `pollSeconds` bounds one poll (for tests).
 */
export function openGit(given: Pick<GitConfig, 'url' | 'branch' | 'credentials'>, options: { readonly pollSeconds?: number; readonly ref?: string } = {}): Git {
  const config = { ...given, ref: options.ref ?? `refs/heads/${given.branch}` };
  const wire = openWire(config);
  const state: State = { store: EMPTY_STORE, haves: [], last: null };
  let last: Promise<unknown> = Promise.resolve();
  // One at a time: polls share the store.
  const alone = <T>(work: (talk: Talk) => Promise<T>): Promise<T> => {
    const next = last.then(() => faulting(config, () => work({ session: wire.session(options.pollSeconds ?? POLL_SECONDS), host: null })));
    last = next.catch(() => undefined);
    return next;
  };
  return {
    branch: config.branch,
    poll: (known) => alone((talk) => poll(config, state, talk, known)),
    tip: () => alone(async (talk) => snapshotOf(config, state, talk, await askTip(config, talk))),
    follows: (tip, commit) => alone(async (talk) => tip === commit || descends(config, state, talk, tip, commit)),
    read: (commit, paths) => alone((talk) => readAt(config, state, talk, commit, paths)),
    close: () => wire.close(),
  };
}

async function poll(config: Branch, state: State, talk: Talk, known: string | null): Promise<Poll> {
  const tip = await askTip(config, talk);
  // Equality first: a commit is not its own descendant.
  if (tip === known) return { kind: 'unchanged', commit: tip };
  const snapshot = await snapshotOf(config, state, talk, tip);
  const { commit } = snapshot;
  const line = known === null || (await descends(config, state, talk, commit, known));
  return { kind: 'changed', commit, descends: line, snapshot, moved: movedFolders(afresh(state.store), commit, known) };
}

/** A line that cannot be followed to its end, because a commit on it is not there or is none, does not lead to the known one. */
async function descends(config: Branch, state: State, talk: Talk, tip: string, known: string): Promise<boolean> {
  try {
    return await whole(config, state, talk, tip, (store) => isOnLine(store, tip, known));
  } catch (cause) {
    if (isFault(cause)) throw cause;
    return false;
  }
}

function hostOf({ url }: Branch, talk: Talk): Promise<Host> {
  talk.host ??= discover(talk.session, url);
  return talk.host;
}

async function askTip(config: Branch, talk: Talk): Promise<string> {
  const tip = await tipOf(talk.session, await hostOf(config, talk), config.ref);
  const name = config.ref.replace(/^refs\/heads\//, '');
  if (tip === null) throw new Fault('NotFound', `git ${config.url}: it has no ${name === config.ref ? 'ref' : 'branch'} ${name}`);
  return tip;
}

async function snapshotOf(config: Branch, state: State, talk: Talk, tip: string): Promise<Snapshot> {
  if (state.last?.snapshot.commit === tip) return state.last.snapshot;
  const before = state.last?.folders ?? new Map();
  state.last = await whole(config, state, talk, tip, (store, commit) => readSnapshot(store, commit, before));
  return state.last.snapshot;
}

async function readAt(config: Branch, state: State, talk: Talk, commit: string, paths: readonly string[]): Promise<readonly RepositoryFile[]> {
  return paths.length === 0 ? [] : whole(config, state, talk, commit, (store) => readNamed(store, commit, paths));
}

/** Reads from the store, fetching first where the commit is not in it; where anything does not add up, once more from an empty store. */
async function whole<T>(config: Branch, state: State, talk: Talk, commit: string, reading: (store: Store, commit: string) => Promise<T>): Promise<T> {
  try {
    return await reading(await storeWith(config, state, talk, commit), commit);
  } catch (cause) {
    // What the wire said is no doubt about the store's content.
    if (isFault(cause)) throw cause;
    forget(state);
    return reading(await storeWith(config, state, talk, commit), commit);
  }
}

function forget(state: State): void {
  state.store = EMPTY_STORE;
  state.haves = [];
}

async function storeWith(config: Branch, state: State, talk: Talk, commit: string): Promise<Store> {
  if (state.store.packs.length >= PACKS_MAX || sizeBytesOf(state.store) > STORE_MAX_BYTES) forget(state);
  if (!has(state.store, commit)) {
    const { pack, filtered } = await fetchPack(talk.session, await hostOf(config, talk), { tip: commit, haves: state.haves, fileMaxBytes: FILE_MAX_BYTES });
    state.store = await withPack(state.store, pack, filtered);
  }
  const store = afresh(state.store);
  const found = read(store, commit, 'commit');
  if (found.kind === 'other')
    throw new Fault('UnexpectedAnswer', `git ${config.url}: ${config.ref.replace(/^refs\/heads\//, '')} points at a ${found.found}, expected a commit`);
  if (found.kind !== 'read') throw new Error(`commit ${commit} is not in what was fetched`);
  state.haves = [commit];
  return store;
}

/** Whether `known` is on the first-parent line of `tip`: the line that merges approve; what comes in as a second parent is not on it. */
async function isOnLine(store: Store, tip: string, known: string): Promise<boolean> {
  let at: string | null = tip;
  const breathe = openBreath();
  for (let walked = 0; at !== null && walked < WALK_MAX_COMMITS; walked += 1) {
    if (at === known) return true;
    at = readCommit(store, at).firstParent;
    await breathe();
  }
  return false;
}

/** What does not add up, as a Fault: it is not what a Git host says. */
async function faulting<T>({ url }: Branch, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (isFault(cause)) throw cause;
    throw new Fault('UnexpectedAnswer', `git ${url}: ${cause instanceof Error ? cause.message.slice(0, 200) : 'no repository'}`, { cause });
  }
}
