/**
 * The controller as it runs: from a webhook to a plan that people see, from a revocation's push to its
 * refusal by the proxy's rows, and what an idle one holds in memory. In the lab, with the product's own processes.
 *
 *   node test/bench/controller.ts [--json]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { LabEvent } from '#src/lab/children.ts';
import { openSetting, type Setting } from '#src/lab/setting.ts';
import { hint } from '#src/lab/story.ts';
import { type Bar, tellBars } from './bar.ts';
import { releaseFiles } from './documents.ts';
import { quantile } from './quantile.ts';

/** Releases of as many workloads, one after the other: enough for a p95. */
const RELEASES = 40;
/** A webhook that nobody hears of within this was lost, and the poll brings it. Seconds. */
const SEEN_SECONDS = 30;
/** Long enough for what a start allocates to be collected. Seconds. */
const IDLE_SECONDS = 30;

interface Watched {
  readonly setting: Setting;
  readonly events: readonly (LabEvent & { readonly heardAt: number })[];
}

/** The bars of the controller, measured in a lab of its own. */
export async function benchController(): Promise<readonly Bar[]> {
  const events: (LabEvent & { heardAt: number })[] = [];
  const setting = await openSetting({
    mainFile: resolve(import.meta.dirname, '../../src/main.ts'),
    model: null,
    signal: AbortSignal.timeout(600_000),
    onEvent: (event) => void events.push({ ...event, heardAt: performance.now() }),
  });
  try {
    const idle = await idleMebibytes(setting);
    const plans = await planned({ setting, events });
    const p95 = quantile(plans, 0.95);
    return [
      { bar: 'webhook → plan visible, p95', value: p95, unit: 's', target: '≤ 1.5', peer: 'p50 of the same', peerValue: quantile(plans, 0.5), met: p95 <= 1.5 },
      {
        bar: 'memory, idle controller',
        value: idle,
        unit: 'MB RSS',
        target: '≤ 260',
        peer: 'an empty Node process',
        peerValue: await emptyMegabytes(),
        met: idle <= 260,
      },
    ];
  } finally {
    await setting.close();
  }
}

async function idleMebibytes(setting: Setting): Promise<number> {
  await pause(IDLE_SECONDS * 1000);
  const pid = setting.pid('serve');
  if (pid === null) throw new Error('the controller does not run');
  return residentMegabytes(pid);
}

async function emptyMegabytes(): Promise<number> {
  const child = spawn(process.execPath, ['--eval', 'process.stdin.resume(); process.stdout.write("up")'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const megabytes = residentMegabytes(child.pid ?? 0);
  child.stdin.end();
  await once(child, 'exit');
  return megabytes;
}

function residentMegabytes(pid: number): number {
  const kibibytes = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? Number.NaN);
  return (kibibytes * 1024) / 1e6;
}

/** Seconds from each webhook to the event that tells of the release, as whoever watches the controller's output hears it. */
async function planned({ setting, events }: Watched): Promise<readonly number[]> {
  const seconds: number[] = [];
  for (let number = 0; number < RELEASES; number += 1) {
    const workload = `w${number}`;
    await setting.farSides.git.commit(await releaseFiles(setting, workload), `Release 1 of ${workload}`);
    const began = performance.now();
    await hint(setting);
    const heard = await heardOf(() => events.find(({ event, workload: of }) => event === 'release-accepted' && of === workload));
    seconds.push((heard.heardAt - began) / 1000);
  }
  return seconds;
}

async function heardOf<T>(look: () => T | undefined): Promise<T> {
  const deadline = performance.now() + SEEN_SECONDS * 1000;
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error('a release was not heard of');
    await pause(2);
  }
}

if (import.meta.main) tellBars(await benchController(), process.argv.includes('--json'));
