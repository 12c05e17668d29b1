import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
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

/** An object of a pack, as it is written there: its type by number, the size that its header says, a delta's base. */
export interface PackEntry {
  readonly type: number;
  readonly content: Buffer;
  readonly size?: number;
  readonly base?: Buffer;
}

/** A number of seven bits a byte, smallest first, as packs and deltas write it. */
export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** A pack of these, with a good checksum. */
export function packOf(entries: readonly PackEntry[]): Buffer {
  const header = Buffer.from('PACK\0\0\0\x02\0\0\0\0', 'latin1');
  header.writeUInt32BE(entries.length, 8);
  const parts = entries.flatMap(({ type, content, size = content.length, base = Buffer.alloc(0) }) => {
    const first = Buffer.from([(type << 4) | (size % 16) | (size >= 16 ? 128 : 0)]);
    return [first, size >= 16 ? varint(Math.floor(size / 16)) : Buffer.alloc(0), base, deflateSync(content)];
  });
  const body = Buffer.concat([header, ...parts]);
  return Buffer.concat([body, createHash('sha1').update(body).digest()]);
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
