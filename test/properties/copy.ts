import type pg from 'pg';
import type { World } from '#src/world.ts';
import type { Revoked, Workflow } from '#workflows/step.ts';
import type { TestWorld } from '../world.ts';
import type { Tokens } from './sleep.ts';

/** A statement of ours that reads differently in a copy of the world. */
export interface Rewrite {
  readonly from: string;
  readonly to: string;
  /** `acceptance`: what takes releases, withdrawals and revocations in. `looks`: the engine and its ledger. */
  readonly in: 'acceptance' | 'looks' | 'both';
}

/** What differs from production in the test's own copy: how a rule is switched off. Nothing: all rules are on. */
export interface Copy {
  readonly rewrites?: readonly Rewrite[];
  readonly workflows?: (workflows: readonly Workflow[]) => readonly Workflow[];
  readonly emergencies?: (workflows: readonly Workflow<Revoked>[]) => readonly Workflow<Revoked>[];
  readonly world?: (world: World, test: TestWorld) => World;
  readonly prepare?: (test: TestWorld) => void;
  readonly tokens?: Tokens;
  /** Whether the sweeper runs. */
  readonly sweeps?: false;
  /** A withdrawal is taken in without asking what would be left. */
  readonly unaskedWithdrawals?: true;
}

/** Everything as it is. */
export const FAITHFUL: Copy = {};

type Query = (...given: readonly unknown[]) => unknown;

/** The pool, whose statements read as a copy says. */
export function rewritten(pool: pg.Pool, copy: Copy, where: 'acceptance' | 'looks'): pg.Pool {
  const rewrites = (copy.rewrites ?? []).filter((one) => one.in === where || one.in === 'both');
  if (rewrites.length === 0) return pool;
  const text = (given: unknown): unknown =>
    typeof given === 'string' ? rewrites.reduce((statement, { from, to }) => statement.replace(from, to), given.replaceAll(/\s+/g, ' ')) : given;
  const through =
    (query: Query): Query =>
    (first, ...rest) =>
      query(text(first), ...rest);
  const connect = async (): Promise<pg.PoolClient> => {
    const client = await pool.connect();
    return new Proxy(client, { get: (target, name) => (name === 'query' ? through(bound(target, name) as Query) : bound(target, name)) });
  };
  return new Proxy(pool, {
    get: (target, name) => (name === 'connect' ? connect : name === 'query' ? through(bound(target, name) as Query) : bound(target, name)),
  });
}

function bound(target: object, name: string | symbol): unknown {
  const value: unknown = Reflect.get(target, name);
  return typeof value === 'function' ? value.bind(target) : value;
}
