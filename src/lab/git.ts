/**
 * A Git server for the lab: one bare repository, served over smart HTTP with `git upload-pack
 * --stateless-rpc`. Reading only; commits are made by the lab itself, in the repository.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { createGunzip } from 'node:zlib';

/** The branch that it serves, and the one that commits go to. */
const BRANCH = 'main';
/** A request of a client that has a long history to tell: more is a mistake. */
const REQUEST_MAX_BYTES = 4 * 1024 * 1024;

/** A change to the tree: path → new content, null to delete. */
export type LabFiles = Readonly<Record<string, string | Buffer | null>>;

/** A running lab Git server. */
export interface LabGit {
  /** `http://127.0.0.1:<port>/releases.git`. */
  readonly url: string;
  /** Commits on top of the branch; answers the commit's id. */
  readonly commit: (files: LabFiles, message: string) => Promise<string>;
  /** Puts a commit of these files in place of everything after `onto` (null: a history of its own), as a force push does. */
  readonly rewrite: (onto: string | null, files: LabFiles, message: string) => Promise<string>;
  /** Runs git on the bare repository; answers its standard output. For odd trees that `commit` cannot make. */
  readonly git: (words: readonly string[], input?: string | Buffer) => Promise<string>;
  readonly close: () => Promise<void>;
}

/** Opens the server on 127.0.0.1, over `<folder>/releases.git`, which is made where it is not there. Needs `git` on the PATH. */
export async function openLabGit(options: { readonly folder: string; readonly port?: number }): Promise<LabGit> {
  const directory = join(options.folder, 'releases.git');
  await mkdir(directory, { recursive: true });
  await run(directory, ['init', '--quiet', '--bare', `--initial-branch=${BRANCH}`, '.']);
  await run(directory, ['config', 'uploadpack.allowFilter', 'false']);
  const children = new Set<ChildProcess>();
  const server = createServer((request, response) => {
    serve(directory, children, request, response).catch(() => response.destroy());
  });
  const port = await listen(server, options.port ?? 0);
  let last: Promise<unknown> = Promise.resolve();
  // One commit after the other: they share the branch.
  const queued = (work: () => Promise<string>): Promise<string> => {
    const next = last.then(work, work);
    last = next;
    return next;
  };
  return {
    url: `http://127.0.0.1:${port}/releases.git`,
    commit: (files, message) => queued(async () => commitOnto(directory, await tipOf(directory), files, message)),
    rewrite: (onto, files, message) => queued(() => commitOnto(directory, onto, files, message)),
    git: (words, input) => run(directory, words, input),
    close: () => close(server, children),
  };
}

async function tipOf(directory: string): Promise<string | null> {
  const tip = await run(directory, ['for-each-ref', '--format=%(objectname)', `refs/heads/${BRANCH}`]);
  return tip.trim() === '' ? null : tip.trim();
}

/** One `fast-import` a commit: nothing is checked out, and one process is started however many files change. */
async function commitOnto(directory: string, parent: string | null, files: LabFiles, message: string): Promise<string> {
  const parts: Buffer[] = [];
  const say = (text: string): number => parts.push(Buffer.from(text));
  const data = (bytes: Buffer): void => {
    say(`data ${bytes.length}\n`);
    parts.push(bytes);
    say('\n');
  };
  say(`commit refs/heads/${BRANCH}\nmark :1\ncommitter lab <lab@keyturn.invalid> now\n`);
  data(Buffer.from(message));
  if (parent !== null) say(`from ${parent}\n`);
  for (const [path, content] of Object.entries(files)) {
    if (content === null) say(`D ${path}\n`);
    else {
      say(`M 100644 inline ${path}\n`);
      data(Buffer.from(content));
    }
  }
  say('\nget-mark :1\ndone\n');
  return (await run(directory, ['fast-import', '--quiet', '--force', '--done', '--date-format=now'], Buffer.concat(parts))).trim();
}

/** Nothing of this machine's git configuration, and identities that name nobody. */
function environment(): NodeJS.ProcessEnv {
  const who = { GIT_AUTHOR_NAME: 'lab', GIT_AUTHOR_EMAIL: 'lab@keyturn.invalid', GIT_COMMITTER_NAME: 'lab', GIT_COMMITTER_EMAIL: 'lab@keyturn.invalid' };
  return {
    PATH: process.env.PATH,
    HOME: '/nonexistent',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    LC_ALL: 'C',
    ...who,
  };
}

async function run(directory: string, words: readonly string[], input: string | Buffer = ''): Promise<string> {
  const env = { ...environment(), GIT_DIR: directory };
  const child = spawn('git', words, { cwd: directory, env, stdio: ['pipe', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', () => reject(new Error('git cannot be started: the lab needs git on the PATH')));
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`git ${words[0] ?? ''} ended with ${code}: ${Buffer.concat(errors).toString().trim().slice(0, 400)}`);
  return Buffer.concat(output).toString();
}

async function serve(directory: string, children: Set<ChildProcess>, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://127.0.0.1');
  const protocol = request.headers['git-protocol'];
  const env = { ...environment(), ...(protocol === 'version=2' ? { GIT_PROTOCOL: 'version=2' } : {}) };
  if (request.method === 'GET' && url.pathname === '/releases.git/info/refs' && url.searchParams.get('service') === 'git-upload-pack') {
    response.writeHead(200, { 'content-type': 'application/x-git-upload-pack-advertisement', 'cache-control': 'no-cache' });
    // A client of protocol 2 takes the announcement too (gitprotocol-http).
    response.write('001e# service=git-upload-pack\n0000');
    return pipeGit(['upload-pack', '--stateless-rpc', '--advertise-refs', directory], env, Buffer.alloc(0), children, response);
  }
  if (request.method === 'POST' && url.pathname === '/releases.git/git-upload-pack') {
    const body = await bodyOf(request);
    response.writeHead(200, { 'content-type': 'application/x-git-upload-pack-result', 'cache-control': 'no-cache' });
    return pipeGit(['upload-pack', '--stateless-rpc', directory], env, body, children, response);
  }
  response.writeHead(404).end();
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const stream = request.headers['content-encoding'] === 'gzip' ? request.pipe(createGunzip()) : request;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > REQUEST_MAX_BYTES) throw new Error('the request is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function pipeGit(words: readonly string[], env: NodeJS.ProcessEnv, input: Buffer, children: Set<ChildProcess>, response: ServerResponse): Promise<void> {
  const child = spawn('git', words, { env, stdio: ['pipe', 'pipe', 'ignore'] });
  children.add(child);
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  child.stdout.pipe(response);
  response.once('close', () => child.kill());
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => {
      children.delete(child);
      resolve();
    });
  });
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      if (address === null || typeof address === 'string') reject(new Error('the lab Git server has no port'));
      else resolve(address.port);
    });
  });
}

function close(server: Server, children: Set<ChildProcess>): Promise<void> {
  for (const child of children) child.kill();
  server.closeAllConnections();
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}
