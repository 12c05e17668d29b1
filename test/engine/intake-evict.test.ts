/** Whose word a revocation takes for more than refusing. */
import { expect, it } from 'vitest';
import { documentLoaders } from '#state/document-loaders.ts';
import { type Files, type Person, revocationText, signedBy } from '../documents/people.ts';
import { ann, bob, cid, digestAt, release, revocation, START, verdicts, withBench } from './intake-parts.ts';

function eviction(id: string, people: readonly Person[]): Promise<Files> {
  return signedBy(`revocations/${id}.yaml`, revocationText(id, { kind: 'all' }, { reason: 'certificateHold', evict: true }), people);
}

it('whoever was revoked as a signer may refuse, and does not count for an eviction beyond one workload', () =>
  withBench(async ({ pool, push, intake }) => {
    await push({ ...START, ...(await release(1, null)) });
    const before = await eviction('before', [ann, bob]);
    await push(before);
    await push(await revocation('stolen', { kind: 'signer', person: 'bob' }));
    const [by, without] = [await eviction('with-the-thief', [ann, bob]), await eviction('without', [ann, cid])];
    await push({ ...by, ...without });
    await push(await revocation('alone', { kind: 'workload', workload: 'other' }, [bob]));
    expect(await verdicts(pool)).toMatchObject({
      'revocations/with-the-thief.yaml': 'accepted',
      'revocations/without.yaml': 'accepted',
      'revocations/alone.yaml': 'accepted',
    });
    const { revocation: load } = documentLoaders({ ...intake, pool });
    const evicts = async (files: Files, id: string) => (await load(digestAt(files, `revocations/${id}.yaml`))).evict;
    expect(await evicts(by, 'with-the-thief')).toBe(false);
    expect(await evicts(without, 'without')).toBe(true);
    expect(await evicts(before, 'before'), 'what was accepted before stands').toBe(true);
  }));
