/**
 * How soon another replica goes on after a kill and after a freeze: the chaos run, as a program of its own, and its
 * figures beside their bars. Takes some seven minutes.
 *
 *   node test/bench/takeover.ts [--json]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { type Bar, tellBars } from './bar.ts';

/** The last line of `chaos.ts --json`. */
interface Chaos {
  readonly kills: number;
  readonly freezes: number;
  readonly doubled: number | null;
  readonly lost: number | null;
  readonly milliseconds: { readonly takeoverMedian: number | null; readonly takeoverMost: number | null; readonly freezeMost: number | null };
}

const PROOF = resolve(import.meta.dirname, '../proofs/chaos.ts');
/** What was not measured missed its bar. */
const NOT_MEASURED = Number.POSITIVE_INFINITY;

/** The bars of a change of hands, measured. */
export async function benchTakeover(): Promise<readonly Bar[]> {
  const child = spawn(process.execPath, [PROOF, '--json'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [said] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  const { kills, freezes, doubled, lost, milliseconds } = JSON.parse(said.trim().split('\n').at(-1) ?? '') as Chaos;
  const seconds = (value: number | null): number => (value ?? NOT_MEASURED * 1000) / 1000;
  const [median, most, frozen] = [seconds(milliseconds.takeoverMedian), seconds(milliseconds.takeoverMost), seconds(milliseconds.freezeMost)];
  const wrong = (doubled ?? NOT_MEASURED) + (lost ?? NOT_MEASURED);
  const killed = `another replica goes on, ${kills} kills`;
  const heartbeat = { peer: 'pg-boss’s least heartbeat', peerValue: 10 };
  return [
    { bar: `${killed}: median`, value: median, unit: 's', target: '≤ 1', ...heartbeat, met: median <= 1 },
    { bar: `${killed}: most`, value: most, unit: 's', target: '≤ 3', ...heartbeat, met: most <= 3 },
    { bar: `another replica goes on, ${freezes} freezes: most`, value: frozen, unit: 's', target: '≤ 15', ...heartbeat, met: frozen <= 15 },
    { bar: 'lost or doubled in the same run', value: wrong, unit: 'effects', target: '0', peer: 'what may be', peerValue: 0, met: wrong === 0 },
  ];
}

if (import.meta.main) tellBars(await benchTakeover(), process.argv.includes('--json'));
