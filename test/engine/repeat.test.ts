import { queryObjects } from 'node:v8';
import { describe, expect, it } from 'vitest';
import { openHints, repeat } from '#src/engine/repeat.ts';

/** Longer than any test: only a hint or an abort ends the pause. */
const FOR_EVER_SECONDS = 100_000;

describe('a repeated task', () => {
  it('is done at once, and again for every hint, one at a time', async () => {
    const hints = openHints();
    const ending = new AbortController();
    let done = 0;
    let together = 0;
    await repeat(
      FOR_EVER_SECONDS,
      async () => {
        together += 1;
        expect(together).toBe(1);
        done += 1;
        if (done === 3) ending.abort();
        hints.give();
        await Promise.resolve();
        together -= 1;
      },
      ending.signal,
      hints,
    );
    expect(done).toBe(3);
  });

  it('ends while it pauses, when it is aborted', async () => {
    const ending = new AbortController();
    const ended = repeat(FOR_EVER_SECONDS, async () => void setImmediate(() => ending.abort()), ending.signal);
    await expect(ended).resolves.toBeUndefined();
  });

  it('keeps nothing of the turns that are over', async () => {
    const hints = openHints();
    const ending = new AbortController();
    const counts: number[] = [];
    let turns = 0;
    const task = async () => {
      turns += 1;
      if (turns % 1000 === 0) counts.push(queryObjects(Promise, { format: 'count' }));
      if (turns === 3000) ending.abort();
      setImmediate(hints.give);
    };
    await repeat(FOR_EVER_SECONDS, task, ending.signal, hints);
    expect((counts[2] ?? 0) - (counts[0] ?? 0), 'promises alive, 2000 turns apart').toBeLessThan(500);
  });
});
