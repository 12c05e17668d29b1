/** One look, on workflows of the test's own. */
import { expect, it } from 'vitest';
import { lookAt } from '#src/engine/run.ts';
import { transaction } from '#state/database.ts';
import { fenceWorkload } from '#state/runs.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { type Effect, notYet, type Seen, seen, type Workflow } from '#workflows/step.ts';
import { hasReceipt } from '../world/engine.ts';
import { testRelease } from '../world/release.ts';
import { tell } from '../world/story.ts';

/** The production workflow with one effect in front, which has come about once it was acted on. */
function withFirst(effect: Effect): readonly Workflow[] {
  return [{ ...adoptRevision, steps: [effect, ...adoptRevision.steps] }];
}

it('what was fenced after its observation does not act', async () => {
  const outside = { writes: 0 };
  const fence: { now: (() => Promise<void>) | null } = { now: null };
  const there = (): Seen | ReturnType<typeof notYet> => (outside.writes > 0 ? seen(null) : notYet('KeyMissing', 'the test'));
  const effect: Effect = {
    kind: 'effect',
    name: 'write-once',
    observe: async () => {
      await fence.now?.();
      return there();
    },
    act: async () => {
      outside.writes += 1;
    },
  };
  await tell({ parts: () => ({ workflows: withFirst(effect) }) }, async ({ pool, engine }) => {
    await engine.accept(testRelease({ serial: 1 }));
    const { rotation } = await engine.known(1);
    fence.now = async () => {
      fence.now = null;
      await transaction(pool, (tx) => fenceWorkload(tx, 'chat'));
    };
    expect(await lookAt(engine.engine, rotation)).toEqual({ kind: 'fenced' });
    expect(outside.writes).toBe(0);
    await lookAt(engine.engine, rotation);
    expect(outside.writes).toBe(1);
    expect(await hasReceipt(pool, 1, 'adopt-revision', 'write-once')).toBe(true);
  });
});

it('what is there already is not acted on', async () => {
  const outside = { writes: 0 };
  const effect: Effect = {
    kind: 'effect',
    name: 'write-once',
    observe: async () => seen(null),
    act: async () => {
      outside.writes += 1;
    },
  };
  await tell({ parts: () => ({ workflows: withFirst(effect) }) }, async ({ pool, engine }) => {
    await engine.accept(testRelease({ serial: 1 }));
    await lookAt(engine.engine, (await engine.known(1)).rotation);
    expect(outside.writes).toBe(0);
    expect(await hasReceipt(pool, 1, 'adopt-revision', 'write-once')).toBe(true);
  });
});
