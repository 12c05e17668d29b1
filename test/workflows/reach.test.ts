import { expect, it } from 'vitest';
import { Fault } from '#src/errors.ts';
import type { Ledger } from '#src/ledger.ts';
import type { Cluster, World } from '#src/world.ts';
import { openLedger } from '#state/ledger.ts';
import { listening } from '#workflows/reach.ts';
import { withDatabase } from '../postgres.ts';
import { BASELINE, testRelease } from '../world/release.ts';
import { openTestWorld } from '../world.ts';

const [TARGET] = testRelease({ serial: 1 }).targets;

it('a cluster’s trouble is told as what it is, by whoever asks and by whoever waits for his turn', () =>
  withDatabase(async (pool) => {
    const test = await openTestWorld(pool);
    const loaders = { release: async () => testRelease({ serial: 1 }), baseline: async () => BASELINE, platforms: async () => [], stands: async () => true };
    const ledger: Ledger = openLedger({ pool, installation: 'test', signer: test.world.signer, loaders });
    const trouble = { fault: new Fault('ServerError', 'east GET: 500') };
    const broken: Cluster = { ...test.cluster, object: () => Promise.reject(trouble.fault) };
    const world: World = { ...test.world, cluster: () => broken };
    const silences: string[] = [];
    const ask = () => TARGET && listening({ world, ledger }, 'east', (since) => void silences.push(since)).object(TARGET);
    await expect(ask()).rejects.toMatchObject({ reason: 'ServerError' });
    await test.advance(120);
    await expect(ask()).rejects.toMatchObject({ reason: 'ServerError' });
    trouble.fault = new Fault('Unreachable', 'east GET: ECONNREFUSED');
    // Not his turn: he is told what the last one was told, and asks nobody.
    await expect(ask()).rejects.toMatchObject({ reason: 'ServerError' });
    await test.advance(11);
    await expect(ask()).rejects.toMatchObject({ reason: 'Unreachable' });
    await expect(ask()).rejects.toMatchObject({ reason: 'Unreachable' });
    expect(new Set(silences).size).toBe(1);
  }));
