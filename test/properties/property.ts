import fc from 'fast-check';
import type pg from 'pg';
import { type Action, told } from './actions.ts';
import type { Copy } from './copy.ts';
import { begin, play, settle } from './play.ts';
import { openStage } from './stage.ts';

/** What a search found. */
export interface Found {
  readonly runs: number;
  /** null: no violation. */
  readonly violation: {
    readonly what: string;
    readonly story: readonly string[];
    readonly seed: number;
    readonly path: string;
    readonly shrinks: number;
  } | null;
}

/** How a search goes about. */
export interface Search {
  readonly runs: number;
  readonly seed: number;
  /** Repeats one story that was found, with its seed. */
  readonly path?: string;
  /** No story is begun so long after the first violation, so that shortening ends. Seconds. */
  readonly shortenSeconds?: number;
  /** The first story that is found is not made shorter. */
  readonly asFound?: boolean;
}

/** Plays one story from its beginning to its end. Throws a violation of an invariant. */
export async function tellStory(pool: pg.Pool, copy: Copy, story: readonly Action[]): Promise<void> {
  const stage = await openStage(pool, copy);
  // The jitter of a retry: the same story has to take the same way.
  const { random } = Math;
  Math.random = () => 0.5;
  try {
    await begin(stage);
    for (const action of story) await play(stage, action);
    await settle(stage);
  } finally {
    Math.random = random;
    // Whoever still sleeps would hold a session of the pool when it is woken too late.
    for (const { sleep, done } of stage.sleepers) {
      sleep.wake();
      await done.catch(() => undefined);
    }
  }
}

/** Looks for a story that violates an invariant, and for a short one like it. Throws what is no violation. */
export async function search(pool: pg.Pool, copy: Copy, stories: fc.Arbitrary<readonly Action[]>, search: Search): Promise<Found> {
  const bugs: unknown[] = [];
  let ends = Number.POSITIVE_INFINITY;
  const count = { told: 0 };
  const property = fc.asyncProperty(stories, async (story) => {
    // Not fast-check's own limit: it leaves a story behind that is still being told on the one database.
    if (performance.now() > ends) return;
    count.told += 1;
    try {
      await tellStory(pool, copy, story);
    } catch (thrown) {
      ends = Math.min(ends, performance.now() + (search.shortenSeconds ?? Number.POSITIVE_INFINITY) * 1000);
      if (!(thrown instanceof Error && thrown.name === 'Violation')) bugs.push(thrown);
      throw thrown;
    }
  });
  const { runs: numRuns, seed, path, asFound = path !== undefined } = search;
  const details = await fc.check(property, {
    numRuns,
    seed,
    endOnFailure: asFound,
    ...(path === undefined ? {} : { path }),
  });
  if (!details.failed) return { runs: count.told, violation: null };
  const [story = []] = details.counterexample ?? [];
  const { errorInstance: error } = details;
  const what = error instanceof Error && !bugs.includes(error) ? error.message : String(error instanceof Error ? error.stack : error);
  return {
    runs: details.numRuns,
    violation: { what, story: story.map(told), seed: details.seed, path: details.counterexamplePath ?? '', shrinks: details.numShrinks },
  };
}
