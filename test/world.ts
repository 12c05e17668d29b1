import { generateKeyPairSync, sign, verify } from 'node:crypto';
import type pg from 'pg';
import type { Reason } from '#src/domain/reasons.ts';
import type { Release, Revocation } from '#src/domain/release.ts';
import { Fault } from '#src/errors.ts';
import type { Clock, Signer, World } from '#src/world.ts';
import { clockOf } from '#state/database.ts';
import { openVerifier } from './world/attestation.ts';
import { openTestBroker, type TestBroker, WEST_BROKER } from './world/broker.ts';
import { openTestCluster, type TestCluster } from './world/cluster.ts';
import { type Network, openNetwork } from './world/hazards.ts';
import { type KeyStoreOptions, openTestKeyStore, type TestKeyStore } from './world/key-store.ts';
import { openTestWeights, type TestWeights } from './world/weights.ts';

/** How hostile the world is beside the hazards that a test arms. */
export interface TestWorldOptions extends Partial<KeyStoreOptions> {
  /** Whether there is a second KBS, `west-kbs`. */
  readonly west?: true;
}

/** Every outside system, in memory, as hostile as the real ones: it loses answers, lands writes late, lists late, and logs what arrived. */
export interface TestWorld {
  readonly world: World;
  readonly network: Network;
  readonly clock: Clock;
  /** Moves the database's clock on. Seconds. */
  readonly advance: (seconds: number) => Promise<void>;
  readonly kms: TestKeyStore;
  readonly kbs: TestBroker;
  readonly weights: TestWeights;
  readonly cluster: TestCluster;
  /** Another cluster, which no release names unless it is told to, and its KBS; it is ours only where the options say so. */
  readonly west: { readonly cluster: TestCluster; readonly kbs: TestBroker };
  /** Every KBS that is ours. */
  readonly brokers: readonly TestBroker[];
  /** What Git says: releases whose signatures no longer hold (by digest), and the revocations at the tip. */
  readonly git: { unsigned: Map<string, { reason: Reason; about: string }>; revocations: Revocation[]; unreachable: boolean };
}

/** Opens a world whose systems follow the database's clock and whose guests write the proxy's rows. */
export async function openTestWorld(pool: pg.Pool, options: TestWorldOptions = {}): Promise<TestWorld> {
  const clock = clockOf(pool);
  const network = openNetwork(clock);
  const verifier = await openVerifier();
  const kms = openTestKeyStore('kms', network, clock, {
    listingLagSeconds: 0,
    disableLagSeconds: 0,
    disabledProofSeconds: 0,
    destructionWindowDays: 7,
    ...options,
  });
  const kbs = openTestBroker(pool, network, clock, verifier);
  const weights = openTestWeights(network);
  const westKbs = openTestBroker(pool, network, clock, verifier, WEST_BROKER);
  const brokers = options.west === true ? [kbs, westKbs] : [kbs];
  const cluster = openTestCluster({ network, clock, brokers, weights, name: 'east', network16: '127.64' });
  const westCluster = openTestCluster({ network, clock, brokers, weights, name: 'west', network16: '127.65' });
  const git: TestWorld['git'] = { unsigned: new Map(), revocations: [], unreachable: false };
  const world: World = {
    installation: 'test',
    signer: testSigner(),
    documents: documentsOf(pool, git),
    weights,
    keyStore: (name) => named(name, kms),
    broker: (name) => named(name, ...brokers),
    cluster: (name) => named(name, cluster, westCluster),
  };
  const advance = async (seconds: number): Promise<void> => {
    await pool.query(`update installation set clock_offset = clock_offset + $1 * interval '1 second'`, [seconds]);
  };
  return { world, network, clock, advance, kms, kbs, weights, cluster, west: { cluster: westCluster, kbs: westKbs }, brokers, git };
}

function named<T extends { readonly name: string }>(name: string, ...systems: readonly T[]): T {
  const system = systems.find((one) => one.name === name);
  if (system === undefined) throw new Fault('NotConfigured', name);
  return system;
}

function documentsOf(pool: pg.Pool, git: TestWorld['git']): World['documents'] {
  return {
    signedStill: async (release: Release) => git.unsigned.get(release.digest) ?? null,
    revocations: async () => {
      if (git.unreachable) throw new Fault('Unreachable', 'git');
      const { rows } = await pool.query<{ digest: string }>('select digest from documents where lifted_by is not null');
      return git.revocations.filter(({ digest }) => !rows.some((row) => row.digest === digest));
    },
    isTakenIn: async (digest) => (await pool.query(`select 1 from documents where digest = $1 and verdict = 'accepted'`, [digest])).rowCount !== 0,
  };
}

function testSigner(): Signer {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return {
    publicKeyPem: publicKey.export({ format: 'pem', type: 'spki' }).toString(),
    sign: async (bytes) => sign(null, bytes, privateKey).toString('base64'),
    verify: (bytes, signature) => verify(null, bytes, publicKey, Buffer.from(signature, 'base64')),
  };
}
