import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openWorkers } from '#src/envelope/workers.ts';
import type { SealOrder } from '#src/world.ts';
import { againOf, always, flipped, makeOrder, NEXT_PREFIX, PREFIX, reasonOf, SHARD, seal } from '#test/contracts/artifact-store.ts';
import { openS3Stand } from './weights-s3-stand.ts';

const JWE = 'kserve-jwe';
const TINK = 'tink-aes256-gcm-hkdf-1mb';

const threads = openWorkers(2);
afterAll(() => threads.close());

let stand: Awaited<ReturnType<typeof openS3Stand>>;
beforeEach(async () => {
  stand = await openS3Stand(threads);
});
afterEach(() => stand.close());

async function orderOf(codec: SealOrder['codec'], stores: readonly string[] = ['one', 'two']): Promise<SealOrder> {
  return { ...(await makeOrder(stores)).order, codec };
}

describe('JWE in S3', () => {
  it('is the same in every bucket, opens for a guest, is told by its manifest’s name, and is removed', async () => {
    const { weights, labs } = stand;
    const order = await orderOf(JWE);
    using key = weights.newKey(JWE);
    await seal(weights, order, key);
    const found = await weights.inspect(order, 'one', key);
    expect(found).toMatchObject({ files: 5 });
    expect(await weights.inspect(order, 'two', key)).toEqual(found);
    expect(labs.one.store.objects.has(`${PREFIX}/keyturn.manifest.jwe`)).toBe(true);
    expect(labs.one.store.uploads.size).toBe(0);
    await weights.remove('one', PREFIX, always);
    expect([...labs.one.store.objects.keys()]).toEqual([]);
    expect(await weights.present('one', PREFIX)).toBe(false);
  });

  it.each([
    [JWE, JWE],
    [TINK, JWE],
    [JWE, TINK],
  ] as const)('is re-encrypted from %s to %s out of the bucket that has a file whole, begun anew after the one that has not', async (from, to) => {
    const { weights, labs } = stand;
    const order = await orderOf(from);
    using open = weights.newKey(from);
    using key = weights.newKey(to);
    await seal(weights, order, open);
    await labs.one.store.change(`${PREFIX}/${SHARD}.${from === JWE ? 'jwe' : 'sealed'}`, flipped);
    const next = { ...againOf(order), codec: to };
    await weights.seal(next, { seal: key, open }, always, async () => {});
    const found = await weights.inspect(next, 'one', key);
    expect(found).not.toBeNull();
    expect(await weights.inspect(next, 'two', key)).toEqual(found);
    expect([labs.one.store.uploads.size, labs.two.store.uploads.size]).toEqual([0, 0]);
  });

  it('is CiphertextTorn where no bucket has it whole, and nothing is seen under a name', async () => {
    const { weights, labs } = stand;
    const order = await orderOf(JWE, ['one']);
    using open = weights.newKey(JWE);
    using key = weights.newKey(JWE);
    await seal(weights, order, open);
    await labs.one.store.change(`${PREFIX}/${SHARD}.jwe`, (bytes) => bytes.subarray(0, bytes.length - 4));
    expect(await reasonOf(weights.seal(againOf(order), { seal: key, open }, always, async () => {}))).toBe('CiphertextTorn');
    expect([...labs.one.store.objects.keys()].filter((name) => name.startsWith(NEXT_PREFIX) && name.includes(SHARD))).toEqual([]);
    expect(labs.one.store.uploads.size).toBe(0);
  });
});
