/** When a cluster's windows are open (the wall time of a zone, and the two nights a year on which it jumps). */
import { describe, expect, it } from 'vitest';
import { windowMistake, windowsAt } from '#src/domain/windows.ts';
import { parseInstant } from '#src/instant.ts';

const NIGHT = { cron: '0 22 * * 1-5', minutes: 240, timeZone: 'Europe/Berlin' };
const HALF_PAST_TWO = { cron: '30 2 * * *', minutes: 60, timeZone: 'Europe/Berlin' };

const at = (text: string, ...windows: readonly Parameters<typeof windowMistake>[0][]) => windowsAt(windows, parseInstant(text));

describe('windows', () => {
  it('are open at any time where none is set', () => {
    expect(at('2026-11-23T12:00:00Z')).toEqual({ kind: 'open', until: null });
  });

  it('open at the moment that cron names, in their own zone, and close at the end of their last minute', () => {
    expect(at('2026-11-23T20:59:59.999Z', NIGHT)).toEqual({ kind: 'closed', opensAt: '2026-11-23T21:00:00.000Z' });
    expect(at('2026-11-23T21:00:00.000Z', NIGHT)).toEqual({ kind: 'open', until: '2026-11-24T01:00:00.000Z' });
    expect(at('2026-11-24T00:59:59.999Z', NIGHT)).toEqual({ kind: 'open', until: '2026-11-24T01:00:00.000Z' });
    expect(at('2026-11-24T01:00:00.000Z', NIGHT)).toEqual({ kind: 'closed', opensAt: '2026-11-24T21:00:00.000Z' });
  });

  it('stay shut over the days that they leave out', () => {
    expect(at('2026-11-28T12:00:00Z', NIGHT)).toEqual({ kind: 'closed', opensAt: '2026-11-30T21:00:00.000Z' });
  });

  it('of several the one that closes last, or opens first, counts', () => {
    const short = { cron: '30 21 * * *', minutes: 31, timeZone: 'Europe/Berlin' };
    expect(at('2026-11-23T21:00:30Z', NIGHT, short)).toEqual({ kind: 'open', until: '2026-11-24T01:00:00.000Z' });
    expect(at('2026-11-23T20:00:00Z', NIGHT, short)).toEqual({ kind: 'closed', opensAt: '2026-11-23T20:30:00.000Z' });
  });

  it('that are longer than their period never close', () => {
    const always = { cron: '0 * * * *', minutes: 90, timeZone: 'UTC' };
    for (const minute of ['00', '29', '30', '31', '59']) expect(at(`2026-11-23T12:${minute}:59.500Z`, always).kind).toBe('open');
  });

  it('open at the change where summer time leaves their moment out', () => {
    expect(at('2026-03-29T00:30:00Z', HALF_PAST_TWO)).toEqual({ kind: 'closed', opensAt: '2026-03-29T01:00:00.000Z' });
    expect(at('2026-03-29T01:00:00Z', HALF_PAST_TWO)).toEqual({ kind: 'open', until: '2026-03-29T02:00:00.000Z' });
    expect(at('2026-03-29T02:00:00Z', HALF_PAST_TWO)).toEqual({ kind: 'closed', opensAt: '2026-03-30T00:30:00.000Z' });
  });

  it('open once, the first time, where a moment comes twice', () => {
    expect(at('2026-10-25T00:30:00Z', HALF_PAST_TWO)).toEqual({ kind: 'open', until: '2026-10-25T01:30:00.000Z' });
    expect(at('2026-10-25T01:30:00Z', HALF_PAST_TWO)).toEqual({ kind: 'closed', opensAt: '2026-10-26T01:30:00.000Z' });
  });

  it('last as many minutes across a change of the clocks as on any other night', () => {
    const overnight = { cron: '0 22 * * *', minutes: 480, timeZone: 'Europe/Berlin' };
    expect(at('2026-10-24T20:00:00Z', overnight)).toEqual({ kind: 'open', until: '2026-10-25T04:00:00.000Z' });
    expect(at('2026-03-28T21:00:00Z', overnight)).toEqual({ kind: 'open', until: '2026-03-29T05:00:00.000Z' });
  });

  it.each([
    ['four fields', { cron: '22 * * 1-5' }, 'cron'],
    ['seconds', { cron: '0 0 22 * * 1-5' }, 'cron'],
    ['a name', { cron: '@annually' }, 'cron'],
    ['an hour that no day has', { cron: '0 24 * * *' }, 'cron'],
    ['a day that no year has', { cron: '0 22 30 2 *' }, 'cron'],
    ['a zone that is none', { timeZone: 'Europe/Nowhere' }, 'timeZone'],
  ])('with %s are a mistake in that field', (_, change, field) => {
    expect(windowMistake({ ...NIGHT, ...change })?.field).toBe(field);
  });

  it('without a mistake are none', () => {
    for (const cron of [NIGHT.cron, '*/15 0-6 * * *', '0 3 29 2 *', '0 22 * * SAT,SUN', '0 0 L * *']) expect(windowMistake({ ...NIGHT, cron })).toBeNull();
  });
});
