import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventOf, type Keyturn, keepRunning, type LabEvent, runCommand } from '#src/lab/children.ts';
import { openGuard } from '#src/lab/guard.ts';
import { openWatch } from '#src/lab/watch.ts';

/** Stands in for the command line: says its arguments as an event, and then does what the first of them says. */
const PROGRAM = `
const [word, value] = process.argv.slice(2);
process.stdout.write(JSON.stringify({ event: 'started', at: '2026-11-23T10:00:00.000Z', pid: process.pid }) + '\\n');
if (word === 'exit') process.exitCode = Number(value);
if (word === 'stay') setInterval(() => {}, 1000);
if (word === 'deaf') { process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); }
if (word === 'fall') { process.stderr.write('because it was told to\\n'); process.exitCode = 1; }
`;

let folder: string;
let keyturn: Keyturn;
const unguarded = { add: () => undefined, remove: () => undefined, release: () => Promise.resolve() };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-children-'));
  await writeFile(join(folder, 'program.mjs'), PROGRAM);
  keyturn = { mainFile: join(folder, 'program.mjs'), environment: {}, folder, guard: unguarded };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function service(name: string, onEvent: (event: LabEvent) => void) {
  return { name, words: () => [name], logFile: join(folder, `${name}.log`), onEvent };
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function until(claim: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await claim())) {
    if (performance.now() > deadline) throw new Error('it did not come about');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('a command’s exit code and output are its own', async () => {
  const { code, output } = await runCommand(keyturn, ['exit', '3'], 20);
  expect({ code, event: eventOf(output)?.event }).toEqual({ code: 3, event: 'started' });
});

test('a command that does not end in time is ended, and has no code', async () => {
  expect((await runCommand(keyturn, ['stay'], 0.5)).code).toBeNull();
});

test('a child that exits is started again, and its last words are kept', async () => {
  const events: LabEvent[] = [];
  const child = keepRunning(
    keyturn,
    service('fall', (event) => events.push(event)),
  );
  await until(() => events.length >= 2);
  await child.stop();
  expect(child.restarts()).toBeGreaterThanOrEqual(1);
  expect(child.lastWords()).toContain('because it was told to');
  await until(async () => (await readFile(join(folder, 'fall.log'), 'utf8')).includes('because'));
});

test('a stopped child is gone and is not started again', async () => {
  const pids: number[] = [];
  const child = keepRunning(
    keyturn,
    service('stay', (event) => pids.push(Number(event.pid))),
  );
  await until(() => pids.length === 1);
  await child.stop();
  expect(pids.map(isAlive)).toEqual([false]);
});

test('a child that is killed is started again as another process, and soon, for it had told that it was well', async () => {
  const pids: number[] = [];
  const startedAt = performance.now();
  const child = keepRunning(
    keyturn,
    service('stay', (event) => pids.push(Number(event.pid))),
  );
  for (const kills of [1, 2, 3, 4, 5]) {
    await until(() => pids.length === kills);
    const pid = child.pid();
    expect(pid).toBe(pids.at(-1));
    if (pid !== null) process.kill(pid, 'SIGKILL');
    await until(() => child.pid() !== pid);
  }
  await until(() => pids.length === 6);
  // Pauses that double would take 7.75 s alone.
  expect(performance.now() - startedAt).toBeLessThan(7000);
  await child.stop();
  expect(new Set(pids).size).toBe(6);
  expect(child.pid()).toBeNull();
});

test('a child that does not hear SIGTERM is killed', { timeout: 20_000 }, async () => {
  const pids: number[] = [];
  const child = keepRunning(
    keyturn,
    service('deaf', (event) => pids.push(Number(event.pid))),
  );
  await until(() => pids.length === 1);
  await child.stop();
  expect(pids.map(isAlive)).toEqual([false]);
});

test('the guard ends what the lab started, and removes its folder, when the lab is killed', { timeout: 30_000 }, async () => {
  const own = await mkdtemp(join(tmpdir(), 'keyturn-guard-'));
  // A lab that starts one child under guard and tells its number.
  const lab = `
    import { openGuard } from ${JSON.stringify(import.meta.resolve('#src/lab/guard.ts'))};
    import { spawn } from 'node:child_process';
    const guard = openGuard(${JSON.stringify(own)});
    const child = spawn(process.execPath, [${JSON.stringify(keyturn.mainFile)}, 'stay'], { detached: true, stdio: 'ignore' });
    guard.add(child.pid);
    process.stdout.write(String(child.pid));
    setInterval(() => {}, 1000);
  `;
  const killed = spawn(process.execPath, ['--input-type=module', '-e', lab], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [chunk] = await once(killed.stdout, 'data');
  const pid = Number(String(chunk));
  expect(isAlive(pid)).toBe(true);
  killed.kill('SIGKILL');
  await until(() => !isAlive(pid));
  await until(() =>
    stat(own).then(
      () => false,
      () => true,
    ),
  );
});

test('a released guard touches nothing', async () => {
  const own = await mkdtemp(join(tmpdir(), 'keyturn-guard-'));
  const stay = spawn(process.execPath, [keyturn.mainFile, 'stay'], { stdio: 'ignore' });
  const guard = openGuard(own);
  guard.add(stay.pid ?? 0);
  await guard.release();
  expect(isAlive(stay.pid ?? 0)).toBe(true);
  expect((await stat(own)).isDirectory()).toBe(true);
  stay.kill('SIGKILL');
  await rm(own, { recursive: true });
});

test('who waits for an event gets the next that fits, and DeadlinePassed where none comes', async () => {
  const watch = openWatch();
  const { signal } = new AbortController();
  const fits = watch.next((event) => event.serial === 2, 20, signal);
  watch.hear({ event: 'rotation-finished', at: '', serial: 1 });
  watch.hear({ event: 'rotation-finished', at: '', serial: 2 });
  expect((await fits).serial).toBe(2);
  await expect(watch.next(() => false, 0.01, signal)).rejects.toMatchObject({ name: 'DeadlinePassed' });
});

test('a line that is no event is none', () => {
  expect([eventOf('hello'), eventOf('null'), eventOf('{"event":1}'), eventOf('[]')]).toEqual([null, null, null, null]);
});
