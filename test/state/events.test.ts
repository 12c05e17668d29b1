import { expect, it } from 'vitest';
import { type Db, transaction } from '#state/database.ts';
import { appendEvent, type EventTail, lastEvent, openEventTail } from '#state/events.ts';
import { withDatabase } from '../postgres.ts';

function say(tx: Db, event: string): Promise<void> {
  return appendEvent(tx, { event, run: null, workload: null, body: {} });
}

it('an event that commits after a later one is told all the same, once', async () => {
  await withDatabase(async (pool) => {
    const tail = openEventTail(pool, 0);
    const told: string[] = [];
    const read = async () => told.push(...(await tail.next(10)).map(({ event }) => event));
    await transaction(pool, async (tx) => {
      await say(tx, 'slow');
      await transaction(pool, (other) => say(other, 'quick'));
      await read();
    });
    await read();
    await read();
    expect(told).toEqual(['quick', 'slow']);
  });
});

it('whoever goes on after an event is told what was on its way before it, and nothing twice', async () => {
  await withDatabase(async (pool) => {
    await transaction(pool, (tx) => say(tx, 'before'));
    const rolledBack = transaction(pool, async (tx) => {
      await say(tx, 'never');
      throw new Error('rolled back');
    });
    await expect(rolledBack).rejects.toThrow();
    const told: string[] = [];
    const read = async (tail: EventTail) => told.push(...(await tail.next(10)).map(({ event }) => event));
    const tail = await transaction(pool, async (tx) => {
      await say(tx, 'slow');
      await transaction(pool, (other) => say(other, 'quick'));
      const opened = openEventTail(pool, await lastEvent(pool));
      await read(opened);
      return opened;
    });
    await read(tail);
    await transaction(pool, (tx) => say(tx, 'next'));
    await read(tail);
    await read(tail);
    expect(told).toEqual(['slow', 'next']);
  });
});

it('pages are read one after the other', async () => {
  await withDatabase(async (pool) => {
    for (let number = 1; number <= 5; number += 1) await transaction(pool, (tx) => say(tx, `n${number}`));
    const tail = openEventTail(pool, 1);
    expect((await tail.next(2)).map(({ event }) => event)).toEqual(['n2', 'n3']);
    expect((await tail.next(2)).map(({ event }) => event)).toEqual(['n4', 'n5']);
    expect(await tail.next(2)).toEqual([]);
  });
});
