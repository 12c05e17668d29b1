/** The world that the workflows are tested against keeps the same contracts as the adapters. */
import type pg from 'pg';
import { afterAll } from 'vitest';
import { evictionContract } from './contracts/eviction.ts';
import { keyBrokerContract } from './contracts/key-broker.ts';
import { keyStoreContract } from './contracts/key-store.ts';
import { withDatabase } from './postgres.ts';
import { openTestWorld, type TestWorld } from './world.ts';

/** Listings and disablings lag by this much. Seconds. */
const LAG_SECONDS = 5;

/** One database for all of them: a contract stores nothing in it. */
const opened = Promise.withResolvers<pg.Pool>();
const closing = Promise.withResolvers<void>();
const ended = withDatabase(async (pool) => {
  opened.resolve(pool);
  await closing.promise;
});
ended.catch((thrown: unknown) => opened.reject(thrown));
afterAll(async () => {
  closing.resolve();
  await ended;
});

async function open(): Promise<TestWorld> {
  return openTestWorld(await opened.promise, { listingLagSeconds: LAG_SECONDS, disableLagSeconds: LAG_SECONDS });
}

async function close(): Promise<void> {}

keyStoreContract('the test world’s key store', async () => {
  const test = await open();
  return {
    store: test.kms,
    elsewhere: null,
    settle: () => test.advance(LAG_SECONDS + 1),
    loseNextAnswer: () => test.network.befall(/^kms/, 'answer-lost'),
    passDays: (days) => test.advance(days * 86_400),
    destructionWindowDays: 7,
    callBack: async (keyId) => test.kms.callBack(keyId),
    close,
  };
});

keyBrokerContract('the test world’s KBS', async () => {
  const test = await open();
  return {
    broker: test.kbs,
    loseAnswer: (kind) => test.network.befall(new RegExp(`^main ${kind} `), 'answer-lost'),
    hold: (kind) => test.network.befall(new RegExp(`^main ${kind} `), 'late'),
    land: async () => {
      await test.network.land();
    },
    advance: test.advance,
    close,
  };
});

evictionContract('the test world’s cluster', async () => {
  const { cluster } = await open();
  cluster.add({ name: 'evicted', replicas: 2 });
  const target = { cluster: cluster.name, namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name: 'evicted' } as const;
  return { cluster, target, tick: cluster.tick, close };
});
