/** What the clock alone makes due: each tick once, whoever looks, and only what rows and documents say. */
import fc from 'fast-check';
import { createTask } from 'node-cron';
import type pg from 'pg';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { fireDue, lastTick, type Schedule } from '#src/engine/cron.ts';
import { schedules, startDueRotations } from '#src/engine/schedule.ts';
import { Fault } from '#src/errors.ts';
import { type Instant, instantOf, later, millisecondsOf } from '#src/instant.ts';
import { openMetrics } from '#src/metrics.ts';
import { readStatus } from '#state/status.ts';
import { testRelease } from '../world/release.ts';
import { type Story, tell, testRevocation } from '../world/story.ts';

const DAY_SECONDS = 86_400;
const MINUTE_MILLISECONDS = 60_000;
const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
const AGES = { ...QUICK, rotateAfterDays: 30 };

describe('a tick', () => {
  const metrics = openMetrics();
  const counting = () => {
    const fired: string[] = [];
    const daily: Schedule = { name: 'daily', cron: '30 3 * * *', task: async ({ owner }) => void fired.push(owner) };
    return { fired, daily };
  };
  const ask = ({ engine }: Story, owner: string, schedule: Schedule) => fireDue({ ...engine.engine, owner }, [schedule], metrics);

  it('is fired once, however many replicas look at the same moment, and again by the next', async () => {
    await tell({}, async (story) => {
      const { fired, daily } = counting();
      const replicas = Array.from({ length: 12 }, (_, index) => `replica ${index}`);
      for (const day of [1, 2, 3]) {
        await Promise.all(replicas.map((owner) => ask(story, owner, daily)));
        expect(fired).toHaveLength(day);
        await story.test.advance(DAY_SECONDS);
      }
    });
  });

  it('that was missed by days fires once, not once a day', async () => {
    await tell({}, async (story) => {
      const { fired, daily } = counting();
      await ask(story, 'one', daily);
      await story.test.advance(9 * DAY_SECONDS);
      await ask(story, 'one', daily);
      await ask(story, 'two', daily);
      expect(fired).toEqual(['one', 'one']);
    });
  });

  it('is the database’s: a replica whose own clock is years ahead fires nothing more', async () => {
    await tell({}, async (story) => {
      const { fired, daily } = counting();
      await ask(story, 'one', daily);
      onTestFinished(() => void vi.useRealTimers());
      vi.useFakeTimers({ toFake: ['Date'], now: Date.parse('2100-01-01T00:00:00Z') });
      await ask(story, 'ahead', daily);
      expect(fired).toEqual(['one']);
    });
  });

  it('whose work could not be done is given back, and taken by whoever looks next', async () => {
    await tell({}, async (story) => {
      const { fired, daily } = counting();
      const failing: Schedule = {
        ...daily,
        task: async () => {
          throw new Fault('Unreachable', 'a far side');
        },
      };
      await expect(ask(story, 'one', failing)).rejects.toMatchObject({ reason: 'Unreachable' });
      await ask(story, 'two', daily);
      await ask(story, 'three', daily);
      expect(fired).toEqual(['two']);
    });
  });

  it('of one schedule comes although the work of another fails', async () => {
    await tell({}, async (story) => {
      const { fired, daily } = counting();
      const failing: Schedule = {
        name: 'failing',
        cron: '* * * * *',
        task: async () => {
          throw new Fault('Unreachable', 'a far side');
        },
      };
      await expect(fireDue({ ...story.engine.engine, owner: 'one' }, [failing, daily], metrics)).rejects.toMatchObject({ reason: 'Unreachable' });
      expect(fired).toEqual(['one']);
    });
  });
});

describe('the last tick of a cron expression', () => {
  const at = (text: string): Instant => instantOf(Date.parse(text));

  it.each([
    ['*/5 * * * *', '2026-11-23T10:07:59.999Z', '2026-11-23T10:05:00.000Z'],
    ['*/5 * * * *', '2026-11-23T10:05:00.000Z', '2026-11-23T10:05:00.000Z'],
    ['30 3 * * *', '2026-11-23T03:29:59.999Z', '2026-11-22T03:30:00.000Z'],
    ['0 0 1 * *', '2026-11-23T00:00:00.000Z', '2026-11-01T00:00:00.000Z'],
    ['15 9 * * 1', '2026-11-22T12:00:00.000Z', '2026-11-16T09:15:00.000Z'],
    ['0 0 29 2 *', '2026-11-23T00:00:00.000Z', '2024-02-29T00:00:00.000Z'],
    ['45 8,20 * * *', '2026-11-23T20:44:00.000Z', '2026-11-23T08:45:00.000Z'],
  ])('%s at %s is %s', (cron, now, tick) => {
    expect(lastTick(cron, at(now))).toBe(tick);
  });

  it('is none for a day that hardly ever comes', () => {
    expect(lastTick('0 0 29 2 1', at('2026-11-23T00:00:00Z')), 'a leap day that was a Monday').toBeNull();
  });

  it('is a minute that node-cron names, with none between it and now', () => {
    const crons = ['*/5 * * * *', '7,31 * * * *', '0 */3 * * *', '30 3 * * *', '0 12 * * 1-5', '1 0 * * 0,6'];
    const tasks = new Map(crons.map((cron) => [cron, createTask(cron, () => undefined, { timezone: 'UTC' })]));
    const minute = fc.integer({ min: Date.parse('2020-01-01T00:00:00Z'), max: Date.parse('2040-01-01T00:00:00Z') });
    fc.assert(
      fc.property(fc.constantFrom(...crons), minute, (cron, now) => {
        const tick = lastTick(cron, instantOf(now));
        const names = (milliseconds: number) => tasks.get(cron)?.match(new Date(milliseconds)) === true;
        if (tick === null || millisecondsOf(tick) > now || !names(millisecondsOf(tick))) return false;
        for (let next = millisecondsOf(tick) + MINUTE_MILLISECONDS; next <= now; next += MINUTE_MILLISECONDS) if (names(next)) return false;
        return true;
      }),
      { numRuns: 60 },
    );
  });

  it('is known for every schedule of ours', () => {
    for (const { cron } of schedules) expect(lastTick(cron, at('2026-11-23T10:00:00Z'))).not.toBeNull();
  });
});

/** `s<serial>-v<epoch>` of every revision, with the epoch that its weights are re-encrypted from. */
async function revisionsOf(pool: pg.Pool): Promise<readonly string[]> {
  const { rows } = await pool.query<{ name: string; source: number | null }>(
    `select 's' || r.serial || '-v' || s.epoch as name, o.epoch as source from revisions r join sealings s on s.id = r.sealing
     left join sealings o on o.id = s.source order by r.id`,
  );
  return rows.map(({ name, source }) => (source === null ? name : `${name} from v${source}`));
}

async function eventsOf(pool: pg.Pool, event: string): Promise<readonly Record<string, unknown>[]> {
  const { rows } = await pool.query<{ body: Record<string, unknown>; run: string | null }>('select body, run from events where event = $1 order by id', [
    event,
  ]);
  return rows.map(({ body, run }) => ({ ...body, run }));
}

describe('a key that serves for longer than its release allows', () => {
  it('goes on under the next epoch of the same release, re-encrypted, once', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      await engine.accept(testRelease({ serial: 1, ...AGES }));
      await engine.drive();
      const { createdAt } = (await engine.known(1)).sealing;
      await test.advance(29 * DAY_SECONDS);
      await startDueRotations(engine.engine);
      expect(await revisionsOf(pool)).toEqual(['s1-v1']);
      await test.advance(DAY_SECONDS);
      await Promise.all([1, 2, 3].map(() => startDueRotations(engine.engine)));
      expect(await revisionsOf(pool)).toEqual(['s1-v1', 's1-v2 from v1']);
      const { rows } = await pool.query<{ id: string }>(`select id from runs where workflow = 'adopt-revision' and ended_at is null`);
      const dueAt = createdAt === null ? null : later(createdAt, 30 * DAY_SECONDS);
      expect(await eventsOf(pool, 'rotation-due')).toEqual([{ serial: 1, epoch: 1, dueAt, run: rows[0]?.id }]);
    });
  });

  it('counts from the creation of its key, and not from the roll', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      await engine.accept(testRelease({ serial: 1, ...AGES }));
      await engine.driveTo(1, 'create-key');
      await test.advance(30 * DAY_SECONDS);
      await startDueRotations(engine.engine);
      expect(await revisionsOf(pool), 'while it does not serve').toEqual(['s1-v1']);
      await engine.drive();
      await startDueRotations(engine.engine);
      expect(await revisionsOf(pool)).toEqual(['s1-v1', 's1-v2 from v1']);
    });
  });

  it('rests where its release names no age, where its workload is held, and where another release is on its way', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      test.cluster.add({ name: 'eternal' });
      test.cluster.add({ name: 'held' });
      await engine.accept(testRelease({ workload: 'eternal', serial: 1, ...QUICK }));
      await engine.accept(testRelease({ workload: 'held', serial: 2, ...AGES }));
      await engine.accept(testRelease({ serial: 3, ...AGES }));
      await engine.drive();
      await engine.accept(testRelease({ serial: 4, ...AGES }));
      const before = await revisionsOf(pool);
      await test.advance(400 * DAY_SECONDS);
      const held = async () => new Map([['held', { reason: 'DocumentChanged', about: 'releases/held/2.yaml' } as const]]);
      await startDueRotations({ ...engine.engine, held });
      expect(await revisionsOf(pool)).toEqual(before);
      await startDueRotations(engine.engine);
      expect(await revisionsOf(pool), 'no longer held').toEqual([...before, 's2-v2 from v1']);
    });
  });

  it('is not rotated into where it was revoked', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      await engine.accept(testRelease({ serial: 1, ...AGES }));
      await engine.drive();
      await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 1 }));
      await test.advance(30 * DAY_SECONDS);
      await startDueRotations(engine.engine);
      expect(await revisionsOf(pool)).toEqual(['s1-v1']);
    });
  });

  it('is started for one workload although another’s document cannot be read', async () => {
    await tell({}, async ({ pool, test, engine }) => {
      test.cluster.add({ name: 'alpha' });
      const broken = testRelease({ workload: 'alpha', serial: 1, ...AGES });
      await engine.accept(broken);
      await engine.accept(testRelease({ serial: 2, ...AGES }));
      await engine.drive();
      await test.advance(30 * DAY_SECONDS);
      const { loaders } = engine.engine;
      const release: typeof loaders.release = async (digest) => {
        if (digest === broken.digest) throw new Fault('Tampered', digest);
        return loaders.release(digest);
      };
      await startDueRotations({ ...engine.engine, loaders: { ...loaders, release } });
      expect(await revisionsOf(pool)).toEqual(['s1-v1', 's2-v1', 's2-v2 from v1']);
    });
  });
});

it('status says when a key falls due', async () => {
  await tell({}, async ({ pool, engine }) => {
    const release = testRelease({ serial: 1, ...AGES });
    await engine.accept(release);
    await engine.drive();
    const { createdAt } = (await engine.known(1)).sealing;
    const { digest: _, path: __, approvedBy: ___, signatures: ____, trustVersion: _____, initData: ______, ...document } = release;
    await pool.query('update documents set bytes = $2 where digest = $1', [release.digest, JSON.stringify(document)]);
    const [workload] = (await readStatus(pool)).workloads;
    expect(createdAt).not.toBeNull();
    expect(workload?.key).toEqual({ createdAt, rotationDueAt: createdAt === null ? null : later(createdAt, 30 * DAY_SECONDS) });
  });
});
