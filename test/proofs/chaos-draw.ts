import { seeded } from './proof.ts';

/** How much of what happens. */
export interface Scale {
  readonly kills: number;
  readonly freezes: number;
  readonly restarts: number;
  /** Polite ends: SIGTERM. */
  readonly ends: number;
  /** Moves of the lab's clock, by which every key in service falls due. */
  readonly dues: number;
  readonly workloads: number;
  /** How long the database stays away, each time: drawn between these, but the first time as long as the second figure. Seconds. */
  readonly goneSeconds: readonly [number, number];
  /** The proof ends, whatever hangs. Seconds. */
  readonly limitSeconds: number;
}

/** What `npm run chaos` does: the bars of the design, and a database that is gone for a minute. Takes some nine minutes on two cores. */
export const FULL: Scale = { kills: 30, freezes: 10, restarts: 3, ends: 4, dues: 2, workloads: 4, goneSeconds: [2, 60], limitSeconds: 3600 };
/** For a machine that proves every commit. */
export const SHORT: Scale = { kills: 6, freezes: 2, restarts: 1, ends: 1, dues: 1, workloads: 3, goneSeconds: [3, 3], limitSeconds: 1200 };

/**
 * One thing that goes wrong, `pauseMilliseconds` after the one before. `replica` is the one that is preferred.
 *
 * - `kill`: SIGKILL; `aimed` at one that has a run in hand, or at whichever it is, whatever it does.
 * - `freeze`: SIGSTOP for so long, in the middle of whatever it does or (`between`) once the answer to a read of
 *   its that comes before an act has arrived behind the gate: it wakes with an old answer.
 * - `restart`: PostgreSQL crashes or is shut down, and stays away for so long.
 * - `end`: SIGTERM. `due`: the clock is moved on.
 */
export type Disturbance = { readonly pauseMilliseconds: number; readonly replica: number } & (
  | { readonly kind: 'kill'; readonly aimed: boolean }
  | { readonly kind: 'freeze'; readonly seconds: number; readonly between: 'nothing' | 'kms' | 'kubernetes' }
  | { readonly kind: 'restart'; readonly signal: 'SIGQUIT' | 'SIGINT'; readonly goneSeconds: number }
  | { readonly kind: 'end' }
  | { readonly kind: 'due' }
);

/** Controllers on one database. */
export const REPLICAS = 3;
const PAUSE_MAX_MILLISECONDS = 1500;
/** The rest are blind: they also hit what no row tells of, between a look's handing out and its claim, or after its rest. */
const AIMED = 0.7;
/** Longer than pg-boss's heartbeat of 10 s, after which others go on. Seconds. */
const FREEZE_SECONDS = [11.5, 16] as const;
/** Of the freezes, those between observe and act. */
const BETWEEN = 0.4;

/** Draws everything that goes wrong, and its order, from a seed. */
export function draw(seed: number, scale: Scale): readonly Disturbance[] {
  const chance = seeded(seed);
  const from = ([low, high]: readonly [number, number]): number => low + chance() * (high - low);
  const common = () => ({ pauseMilliseconds: Math.floor(chance() ** 2 * PAUSE_MAX_MILLISECONDS), replica: Math.floor(chance() * REPLICAS) });
  const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index));
  const all: Disturbance[] = [
    ...times(scale.kills, () => ({ ...common(), kind: 'kill' as const, aimed: chance() < AIMED })),
    ...times(scale.freezes, (index) => {
      const between = chance() < BETWEEN || index === 0 ? (chance() < 0.5 ? ('kms' as const) : ('kubernetes' as const)) : ('nothing' as const);
      return { ...common(), kind: 'freeze' as const, seconds: from(FREEZE_SECONDS), between };
    }),
    ...times(scale.restarts, (index) => {
      const signal = chance() < 0.5 ? ('SIGQUIT' as const) : ('SIGINT' as const);
      const [least, most] = scale.goneSeconds;
      return { ...common(), kind: 'restart' as const, signal, goneSeconds: index === 0 ? most : from([least, Math.min(most, 4 * least)]) };
    }),
    ...times(scale.ends, () => ({ ...common(), kind: 'end' as const })),
    ...times(scale.dues, () => ({ ...common(), kind: 'due' as const })),
  ];
  for (let last = all.length - 1; last > 0; last -= 1) {
    const other = Math.floor(chance() * (last + 1));
    const [one, two] = [all[last], all[other]];
    if (one === undefined || two === undefined) continue;
    all[last] = two;
    all[other] = one;
  }
  return all;
}
