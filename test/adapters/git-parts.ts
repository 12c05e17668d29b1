import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openGit } from '#src/adapters/git/index.ts';
import type { Git, Poll } from '#src/domain/repository.ts';
import { isFault } from '#src/errors.ts';
import { type LabGit, openLabGit } from '#src/lab/git.ts';

/** A repository of its own, and a client of it. */
export async function withGit(fn: (lab: LabGit, git: Git, folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-git-'));
  const lab = await openLabGit({ folder });
  const git = openGit({ url: lab.url, branch: 'main' });
  try {
    await fn(lab, git, folder);
  } finally {
    await git.close();
    await lab.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A release's path. */
export const RELEASE = 'releases/w/1.yaml';

/** The change that a poll saw; throws where it saw none. */
export function changed(poll: Poll): Extract<Poll, { kind: 'changed' }> {
  if (poll.kind !== 'changed') throw new Error('expected a change');
  return poll;
}

/** The paths that a poll read. */
export function pathsOf(poll: Poll): readonly string[] {
  return changed(poll).snapshot.files.map(({ path }) => path);
}

/** The reason of the Fault that this throws; `none` where it throws nothing. */
export async function reasonOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (thrown: unknown) => (isFault(thrown) ? thrown.reason : `a bug: ${String(thrown)}`),
  );
}

/** The files of a repository in memory. */
export interface Files {
  readonly readdir: (path: string) => Promise<string[]>;
  readonly readFile: (path: string) => Promise<Buffer>;
  readonly writeFile: (path: string, bytes: Buffer) => Promise<void>;
}

/** Makes a pack's index (version 2) name two objects by each other's names, with a good checksum. */
export async function swapOffsets(files: Files, oids: readonly string[]): Promise<void> {
  const name = (await files.readdir('/r/objects/pack')).find((one) => one.endsWith('.idx')) ?? '';
  const index = Buffer.from(await files.readFile(`/r/objects/pack/${name}`));
  const count = index.readUInt32BE(8 + 255 * 4);
  const names = 8 + 256 * 4;
  const offsets = names + count * 24;
  const [a, b] = oids.map((oid) => offsets + 4 * ((index.indexOf(Buffer.from(oid, 'hex'), names) - names) / 20)) as [number, number];
  const [one, other] = [index.readUInt32BE(a), index.readUInt32BE(b)];
  index.writeUInt32BE(other, a);
  index.writeUInt32BE(one, b);
  createHash('sha1')
    .update(index.subarray(0, -20))
    .digest()
    .copy(index, index.length - 20);
  await files.writeFile(`/r/objects/pack/${name}`, index);
}

/** A server in front of the lab's, which may answer first. */
export async function withFront(
  lab: LabGit,
  answer: (
    url: string,
    body: Buffer,
    pass: (url?: string) => Promise<Buffer>,
  ) => Promise<{ status: number; headers?: Record<string, string>; body: Buffer } | 'silence'>,
  fn: (url: string, server: Server) => Promise<void>,
): Promise<void> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const headers = new Headers(
      Object.entries(request.headers).flatMap(([name, value]) =>
        name === 'host' || name === 'connection' || typeof value !== 'string' ? [] : [[name, value]],
      ),
    );
    let type = '';
    const pass = async (url = request.url ?? '/'): Promise<Buffer> => {
      const through = await fetch(new URL(url, lab.url), { method: request.method ?? 'GET', headers, ...(body.length > 0 ? { body } : {}) });
      type = through.headers.get('content-type') ?? '';
      return Buffer.from(await through.arrayBuffer());
    };
    const said = await answer(request.url ?? '/', body, pass);
    if (said !== 'silence') response.writeHead(said.status, { ...(type === '' ? {} : { 'content-type': type }), ...said.headers }).end(said.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  try {
    await fn(`http://127.0.0.1:${port}/releases.git`, server);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}
