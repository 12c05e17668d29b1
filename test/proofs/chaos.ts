/**
 * Three controllers on one database carry a stream of releases of several workloads, while they are killed,
 * frozen and told to end, PostgreSQL crashes and stays away, and keys fall due: nothing is done twice, nothing is
 * lost, and somebody always goes on. What happens is drawn from a seed that is printed.
 *
 * `node test/proofs/chaos.ts [--short] [--seed N] [--json]`
 */
import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { FarSides } from '#src/lab/far-sides.ts';
import type { Setting } from '#src/lab/setting.ts';
import { accessOf } from '#src/lab/workload.ts';
import { disturb, type Figures, noFigures } from './chaos-disturb.ts';
import { draw, FULL, REPLICAS, SHORT } from './chaos-draw.ts';
import { doubled, lost, settle } from './chaos-end.ts';
import { openHouse, type ReplicaGates, tellWaiting } from './chaos-house.ts';
import { openStream } from './chaos-stream.ts';
import { chainOf } from './end-world.ts';
import { type DatabaseGate, openDatabaseGate, openHttpGate, openKubernetesGate } from './gate.ts';
import { type Proof, prove, seeded } from './proof.ts';

const { values } = parseArgs({ options: { seed: { type: 'string' }, short: { type: 'boolean' }, json: { type: 'boolean' } } });
const seed = values.seed === undefined ? randomInt(1_000_000) : Number(values.seed);
const scale = values.short === true ? SHORT : FULL;

/** The bars of DESIGN §10, in milliseconds. A machine that does much else misses them; what they are measured for is printed beside them. */
const BARS = { takeoverMedian: 1000, takeoverMost: 3000, freezeMost: 15_000, handoverMost: 1000, exitMost: 3000 } as const;

interface Counts {
  readonly rotations: number;
  readonly waiting: number;
  readonly doubled: number;
  readonly lost: number;
  readonly chain: string;
}

/** The last line, also after a failure: what was not counted then is null. */
const ending: { figures: Figures; counts: Counts | null; kills: number; freezes: number; restarts: number } = {
  figures: noFigures(),
  counts: null,
  kills: 0,
  freezes: 0,
  restarts: 0,
};

function most(milliseconds: readonly number[]): number | null {
  return milliseconds.length === 0 ? null : Math.round(Math.max(...milliseconds));
}

function median(milliseconds: readonly number[]): number | null {
  const value = milliseconds.toSorted((a, b) => a - b)[Math.floor((milliseconds.length - 1) / 2)];
  return value === undefined ? null : Math.round(value);
}

/** Prints figures beside their bars. */
function tellFigures(proof: Proof, { takeovers, gaps, freezes, returns, handovers, exits, between }: Figures): void {
  const bar = (what: string, value: number | null, limit: number, count: number): void =>
    proof.note(`       ${what}: ${value === null ? '-' : `${value} ms of ${count}; bar ${limit} ms: ${value <= limit ? 'met' : 'MISSED'}`}`);
  bar('another goes on after SIGKILL, median', median(takeovers), BARS.takeoverMedian, takeovers.length);
  bar('another goes on after SIGKILL, most', most(takeovers), BARS.takeoverMost, takeovers.length);
  bar('the same for what was handed out and in nobody’s hand, most', most(gaps), BARS.takeoverMost, gaps.length);
  bar('another goes on after SIGSTOP, most', most(freezes), BARS.freezeMost, freezes.length);
  bar('a run is let go of after SIGTERM, most', most(handovers), BARS.handoverMost, handovers.length);
  bar('the process has ended after SIGTERM, most', most(exits), BARS.exitMost, exits.length);
  proof.note(`       a run that was in hand when the database went away is looked at ${most(returns) ?? '-'} ms after its return, most of ${returns.length}`);
  proof.note(`       ${between} of the freezes fell between a read and its act`);
}

/** Everything goes wrong in its turn. */
async function suffer(proof: Proof, setting: Setting, gates: readonly ReplicaGates[], database: DatabaseGate, stack: AsyncDisposableStack): Promise<void> {
  const house = openHouse(proof, setting, gates, database);
  stack.defer(house.close);
  await house.untilServing(REPLICAS);
  const stream = await openStream(house, seed, scale.workloads);
  const clockMoves: { at: number; seconds: number }[] = [{ at: 0, seconds: 0 }];
  const disturbing = { house, figures: ending.figures, chance: seeded(seed + 1000), stack, stream };
  for (const disturbance of draw(seed, scale)) {
    await house.untilServing(2);
    await pause(disturbance.pauseMilliseconds, null, { signal: proof.signal });
    proof.note(`       ${await disturb(disturbing, disturbance)}`);
    if (disturbance.kind === 'due') clockMoves.push({ at: Date.now(), seconds: stream.moved.seconds });
    if (disturbance.kind === 'kill') ending.kills += 1;
    if (disturbance.kind === 'freeze') ending.freezes += 1;
    if (disturbance.kind === 'restart') ending.restarts += 1;
  }
  await house.untilServing(REPLICAS);
  await stream.end();
  const waiting = await settle(house);
  const [rows] = await house.query<{ count: number }>('select count(*)::int from revisions');
  const twice = await doubled(house, clockMoves);
  const missing = await lost(house, stream.merged(), waiting);
  const rotations = rows?.count ?? 0;
  proof.fact(`${rotations} rotations, each finished${waiting.length === 0 ? '' : ` but ${waiting.length} that say what they wait for`}`, rotations > 0);
  for (const run of waiting) proof.note(tellWaiting(run));
  proof.fact('nothing was done twice', twice.length === 0, twice);
  proof.fact('nothing was lost', missing.length === 0, missing);
  const { codes } = ending.figures;
  proof.fact(
    'who is told to end ends with exit code 0',
    codes.every((code) => code === 0),
    codes,
  );
  await setting.endChildren();
  const { chain, receipts } = await chainOf(setting);
  proof.fact(`the export verifies: ${receipts} receipts`, chain === 'ok', chain);
  ending.counts = { rotations, waiting: waiting.length, doubled: twice.length, lost: missing.length, chain };
  tellFigures(proof, ending.figures);
}

async function openReplicaGates(farSides: FarSides): Promise<{ readonly gates: ReplicaGates; readonly gated: FarSides }> {
  const [kms, kbs, { gate: kubernetes, kubeconfig }] = await Promise.all([
    openHttpGate(farSides.kmsUrl),
    openHttpGate(farSides.kbsUrl),
    openKubernetesGate(accessOf(farSides.kubeconfig), farSides.kubeconfig),
  ]);
  return { gates: { kms, kbs, kubernetes }, gated: { ...farSides, kmsUrl: kms.url, kbsUrl: kbs.url, kubeconfig } };
}

const work = async (proof: Proof): Promise<void> => {
  proof.note(`seed ${seed}: node test/proofs/chaos.ts${values.short === true ? ' --short' : ''} --seed ${seed}`);
  await using stack = new AsyncDisposableStack();
  const gates: ReplicaGates[] = [];
  const opened: { database: DatabaseGate | null } = { database: null };
  const between = async (farSides: FarSides): Promise<FarSides> => {
    const database = await openDatabaseGate(farSides.databaseUrl);
    stack.defer(database.close);
    opened.database = database;
    return { ...farSides, databaseUrl: database.url };
  };
  const betweenReplica = async (farSides: FarSides, replica: number): Promise<FarSides> => {
    const own = await openReplicaGates(farSides);
    for (const gate of Object.values(own.gates)) stack.defer(gate.close);
    gates[replica] = own.gates;
    return own.gated;
  };
  await proof.stage(
    async ({ setting }) => {
      const { database } = opened;
      if (database === null) throw new Error('no gate in front of the database');
      await suffer(proof, setting, gates, database, stack);
    },
    { between, betweenReplica, replicas: REPLICAS },
  );
};

await prove(scale.limitSeconds, work, values.json === true ? process.stderr : process.stdout);
if (values.json === true) {
  const { figures, counts, ...done } = ending;
  const { takeovers, freezes } = figures;
  const milliseconds = { takeoverMedian: median(takeovers), takeoverMost: most(takeovers), freezeMost: most(freezes) };
  const last = {
    event: 'chaos-finished',
    seed,
    ...done,
    ...(counts ?? { rotations: null, waiting: null, doubled: null, lost: null, chain: null }),
    milliseconds,
  };
  process.stdout.write(`${JSON.stringify(last)}\n`);
}
