import { expect, it } from 'vitest';
import { noteAnswer, noteSilence, silentSince, turnToAsk } from '#state/outages.ts';
import { withDatabase } from '#test/postgres.ts';

it('an outage lasts from the first failure to the next answer, whoever asks, and says what the last one said', () =>
  withDatabase(async (pool) => {
    const advance = (seconds: number) => pool.query(`update installation set clock_offset = clock_offset + $1 * interval '1 second'`, [seconds]);
    expect(await turnToAsk(pool, 'west')).toBeNull();
    const first = await noteSilence(pool, 'west', 'Unreachable', 'connection refused');
    await advance(1800);
    expect(await noteSilence(pool, 'west', 'ServerError', '500')).toEqual({ since: first.since, reason: 'ServerError', about: '500' });
    expect(await silentSince(pool, 'west')).toBe(first.since);
    expect(await silentSince(pool, 'east')).toBeNull();
    await noteAnswer(pool, 'west');
    expect(await silentSince(pool, 'west')).toBeNull();
    expect((await noteSilence(pool, 'west', 'Unreachable', 'again')).since > first.since).toBe(true);
  }));

it('a cluster that is silent for long is asked by one look at a time; one that only just fell silent, by all', () =>
  withDatabase(async (pool) => {
    const advance = (seconds: number) => pool.query(`update installation set clock_offset = clock_offset + $1 * interval '1 second'`, [seconds]);
    const { since } = await noteSilence(pool, 'west', 'Unreachable', 'no answer');
    expect(await turnToAsk(pool, 'west')).toMatchObject({ since, mine: true });
    await advance(120);
    const turns = await Promise.all([1, 2, 3, 4].map(() => turnToAsk(pool, 'west')));
    expect(turns.map((turn) => turn?.mine).sort()).toEqual([false, false, false, true]);
    expect(turns.every((turn) => turn?.since === since)).toBe(true);
  }));

it('hours in which nobody asked are no part of an outage', () =>
  withDatabase(async (pool) => {
    const { since } = await noteSilence(pool, 'west', 'Unreachable', 'no answer');
    await pool.query(`update installation set clock_offset = interval '2 hours'`);
    const turn = await turnToAsk(pool, 'west');
    expect(turn?.mine).toBe(true);
    expect((turn?.since ?? since) > since).toBe(true);
  }));
