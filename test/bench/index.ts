/**
 * `npm run bench`: every bar, beside its target and a peer's figure of the same run, with the commit and
 * the machine. Ends with 0 whatever is missed: a bar that is missed is printed as missed.
 *
 *   npm run bench [-- --json]
 */
import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus } from 'node:os';
import { type Bar, tellBars } from './bar.ts';
import { benchCollateral } from './collateral.ts';
import { benchController } from './controller.ts';
import { benchEngine } from './engine.ts';
import { benchEnvelope } from './envelope.ts';
import { benchProxy } from './proxy.ts';
import { benchRevocation } from './revocation.ts';
import { benchTakeover } from './takeover.ts';

const BENCHES: readonly (() => Promise<readonly Bar[]>)[] = [
  benchEnvelope,
  benchCollateral,
  benchProxy,
  benchController,
  benchRevocation,
  benchEngine,
  benchTakeover,
];

const json = process.argv.includes('--json');
const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
const machine = { commit, node: process.version, cores: availableParallelism(), processor: cpus()[0]?.model ?? 'unknown' };
process.stdout.write(json ? `${JSON.stringify(machine)}\n` : `${commit}, Node ${machine.node}, ${machine.cores} cores (${machine.processor})\n`);
for (const bench of BENCHES) tellBars(await bench(), json);
