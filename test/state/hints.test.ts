import type pg from 'pg';
import { expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { FOLDERS } from '#src/domain/documents/places.ts';
import { transaction } from '#state/database.ts';
import { takeDelivery } from '#state/deliveries.ts';
import { storeSnapshot } from '#state/snapshots.ts';
import { withDatabase } from '../postgres.ts';

/** Stores a document as a pass over the branch does; when it says that a webhook hinted at it. */
async function seen(pool: pg.Pool, path: string): Promise<string | null> {
  const files = [{ path, bytes: Buffer.from(path) }];
  await transaction(pool, (tx) => storeSnapshot(tx, { commit: 'c', files }, FOLDERS));
  const { rows } = await pool.query<{ at: string | null }>('select hinted_at as at from documents where path = $1', [path]);
  return rows[0]?.at ?? null;
}

it('a document is put down to the newest webhook before it, within a minute; what a poll finds later has none', async () => {
  await withDatabase(async (pool) => {
    expect(await seen(pool, 'revocations/a.yaml')).toBeNull();
    await takeDelivery(pool, digestOf('1'));
    await takeDelivery(pool, digestOf('2'));
    await pool.query(`update deliveries set at = instant() - interval '50 seconds' where digest = $1`, [digestOf('1')]);
    const { rows } = await pool.query<{ at: string }>('select at from deliveries where digest = $1', [digestOf('2')]);
    expect(await seen(pool, 'revocations/b.yaml')).toBe(rows[0]?.at);
    await pool.query(`update deliveries set at = instant() - interval '61 seconds'`);
    expect(await seen(pool, 'revocations/c.yaml')).toBeNull();
    // A signature that comes later has its own.
    await takeDelivery(pool, digestOf('4'));
    const { rows: last } = await pool.query<{ at: string }>('select at from deliveries where digest = $1', [digestOf('4')]);
    const files = [{ path: 'revocations/c.ann.sigstore.json', bytes: Buffer.from('{}') }];
    await transaction(pool, (tx) => storeSnapshot(tx, { commit: 'c', files }, FOLDERS));
    expect((await pool.query('select hinted_at as at from bundles')).rows).toEqual([{ at: last[0]?.at }]);
    // What was seen before stays as it was.
    await takeDelivery(pool, digestOf('3'));
    expect(await seen(pool, 'revocations/a.yaml')).toBeNull();
  });
});
