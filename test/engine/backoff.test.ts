import { describe, expect, it } from 'vitest';
import { backoffSeconds } from '#src/engine/backoff.ts';

describe('the backoff', () => {
  it('grows with every look that gives the same answer, up to a limit', () => {
    const pauses = [1, 2, 3, 10, 50, 5000].map((failures) => backoffSeconds('Unreachable', failures, 0.5));
    expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
    expect(pauses.at(-1)).toBe(30);
  });

  it('looks slowly at what needs a person, so that it takes nothing from what does not', () => {
    expect(backoffSeconds('ImageNotBound', 100, 0.5)).toBe(300);
    expect(backoffSeconds('PodNotReady', 100, 0.5)).toBe(15);
  });

  it('spreads by a fifth to either side and never beyond', () => {
    const [low, high] = [backoffSeconds('Unreachable', 100, 0), backoffSeconds('Unreachable', 100, 1)];
    expect(low).toBeCloseTo(24);
    expect(high).toBeCloseTo(36);
  });
});
