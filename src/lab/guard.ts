import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

/** How long an orphan may take to end after SIGTERM before it is killed. Seconds. A controller writes its last checkpoint in far less. */
const ORPHAN_GRACE_SECONDS = 5;
/** How long the folder is left for PostgreSQL, which notices by itself that the lab is gone. Seconds. */
const FOLDER_GRACE_SECONDS = 10;
const POLL_MILLISECONDS = 100;

/** A process beside the lab that outlives a SIGKILL of the lab, and then ends what the lab started. */
export interface Guard {
  /** Takes a child into its care. */
  readonly add: (pid: number) => void;
  /** The child has ended: its number may soon be somebody else's. */
  readonly remove: (pid: number) => void;
  /** All is closed: the guard ends and touches nothing. Resolves when it has ended. */
  readonly release: () => Promise<void>;
}

/**
 * Starts the guard over `folder`, which it removes if it ever has to act. It learns of the lab's end
 * from the end of its own standard input, which the kernel closes however the lab ends.
 */
export function openGuard(folder: string): Guard {
  const child = spawn(process.execPath, [import.meta.filename, folder], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  child.unref();
  const { stdin } = child;
  // A guard that is gone guards nothing; the lab itself goes on, and closes its children as ever.
  stdin.on('error', () => undefined);
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  return {
    add: (pid) => void stdin.write(`+${pid}\n`),
    remove: (pid) => void stdin.write(`-${pid}\n`),
    release: () => {
      stdin.end('release\n');
      child.ref();
      return ended;
    },
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // it had ended
  }
}

async function endOrphans(pids: ReadonlySet<number>): Promise<void> {
  for (const pid of pids) signal(pid, 'SIGTERM');
  for (let waited = 0; waited < ORPHAN_GRACE_SECONDS * 1000 && [...pids].some(isAlive); waited += POLL_MILLISECONDS) await pause(POLL_MILLISECONDS);
  for (const pid of pids) signal(pid, 'SIGKILL');
}

async function removeFolder(folder: string): Promise<void> {
  for (let waited = 0; waited < FOLDER_GRACE_SECONDS; waited += 1) {
    await pause(1000);
    // While PostgreSQL still writes there, removing may fail: a folder is found full again.
    const isGone = await rm(folder, { recursive: true, force: true }).then(
      () => true,
      () => false,
    );
    if (isGone) return;
  }
}

async function guard(folder: string): Promise<void> {
  const pids = new Set<number>();
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'release') return;
    const pid = Number(line.slice(1));
    if (!Number.isSafeInteger(pid) || pid < 2) continue;
    if (line.startsWith('+')) pids.add(pid);
    else pids.delete(pid);
  }
  await endOrphans(pids);
  await removeFolder(folder);
}

const [, script, folder] = process.argv;
if (script === import.meta.filename && folder !== undefined) await guard(folder);
