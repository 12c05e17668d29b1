import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { failure } from './watch.ts';

/** An address of the pods' range. Linux routes the whole of 127/8 to loopback; macOS only 127.0.0.1. */
const POD_ADDRESS = '127.64.0.1';
const POLL_MILLISECONDS = 50;

/** Runs git in a folder, without this machine's own configuration. Throws where it fails, and where there is no git. */
export async function runGit(folder: string, words: readonly string[]): Promise<void> {
  const env = { PATH: process.env.PATH, GIT_CONFIG_NOSYSTEM: '1', GIT_CONFIG_GLOBAL: '/dev/null', GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' };
  const git = spawn('git', words, { cwd: folder, env, stdio: 'ignore' });
  const code = await new Promise<number | null>((resolve, reject) => {
    git.once('error', () => reject(failure('NotFound', 'the lab serves its repository with git, and there is no git on the PATH: install it')));
    git.once('close', resolve);
  });
  if (code !== 0) throw failure('ServerError', `git ${words[0]} ended with ${code}`);
}

/** Throws, in one line, where this machine cannot run the lab: without git, or without the pods' addresses. */
export async function checkHost(): Promise<void> {
  await runGit('/', ['--version']);
  const server = createServer();
  const isRouted = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(0, POD_ADDRESS, () => resolve(true));
  });
  if (!isRouted) throw failure('Unreachable', `the lab's pods live in 127.64.0.0/16, and this host does not route ${POD_ADDRESS} to loopback: use Linux`);
  await closed(server);
}

/** So many different ports of 127.0.0.1 that were free just now, for listeners of children that are told their ports. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map(closed));
  return ports;
}

async function closed(server: Server): Promise<void> {
  server.close();
  await once(server, 'close');
}

/** Resolves when something listens at `listen` (`host:port`). Rejects after `seconds`, and when the signal is aborted. */
export async function untilListening(listen: string, seconds: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  while (!(await isListening(listen))) {
    signal.throwIfAborted();
    if (performance.now() > deadline) throw failure('Unreachable', `nothing listens at ${listen} after ${seconds} s`);
    await pause(POLL_MILLISECONDS);
  }
}

/** Whether something listens at `listen` (`host:port`) now. */
export function isListening(listen: string): Promise<boolean> {
  const [host = '', port = ''] = listen.split(':');
  return new Promise((resolve) => {
    const socket = connect(Number(port), host);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
