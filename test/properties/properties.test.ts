/**
 * The protocol as properties (facts of the model: I1 to I7 and L): random stories over the production
 * engine, state and workflows, on PostgreSQL. `run.ts` tells as many as one likes; here are a few.
 */
import { expect, it } from 'vitest';
import { withDatabase } from '../postgres.ts';
import { stories, storiesNear } from './actions.ts';
import { FAITHFUL } from './copy.ts';
import { search } from './property.ts';
import { RULES } from './rules.ts';

const FIXED_SEED = 7;
const FIXED_RUNS = 10;

it('no story of a fixed seed violates an invariant, and each comes to its end', { timeout: 300_000 }, async () => {
  await withDatabase(async (pool) => {
    expect(await search(pool, FAITHFUL, stories, { runs: FIXED_RUNS, seed: FIXED_SEED })).toEqual({ runs: FIXED_RUNS, violation: null });
  });
});

it('nor does one that is drawn now', { timeout: 300_000 }, async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  await withDatabase(async (pool) => {
    const { violation } = await search(pool, FAITHFUL, stories, { runs: 1, seed });
    expect(violation, `seed ${seed}`).toBeNull();
  });
});

it('a rule that is switched off is found: with a stale text allowed to land after *published*, a pod cannot start', { timeout: 300_000 }, async () => {
  const rule = RULES.find(({ id }) => id === 'R4');
  if (rule === undefined) throw new Error('there is no rule R4');
  await withDatabase(async (pool) => {
    const { violation } = await search(pool, rule.off, storiesNear(rule.script), { runs: 10, seed: FIXED_SEED, asFound: true });
    expect(violation?.what).toMatch(/^I2: /);
  });
});
