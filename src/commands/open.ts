import type pg from 'pg';
import { openAwsKms } from '#src/adapters/aws-kms/index.ts';
import { openAwsKmsSigner } from '#src/adapters/aws-kms/signer.ts';
import { openEd25519Signer } from '#src/adapters/ed25519/index.ts';
import { openGit } from '#src/adapters/git/index.ts';
import { type Kubernetes, openKubernetes } from '#src/adapters/kubernetes/index.ts';
import { openTrustee } from '#src/adapters/trustee/index.ts';
import { openWeights } from '#src/adapters/weights/index.ts';
import type { Config } from '#src/config.ts';
import type { Git } from '#src/domain/repository.ts';
import { openDocuments } from '#src/engine/documents.ts';
import { Fault } from '#src/errors.ts';
import { readReference } from '#src/reference.ts';
import type { Clock, KeyBroker, KeyStore, Signer, World } from '#src/world.ts';
import { clockOf, openDatabase } from '#state/database.ts';
import { type DocumentLoaders, documentLoaders, type Verifying } from '#state/document-loaders.ts';
import { openLedger } from '#state/ledger.ts';
import { checkInstallation, migrate } from '#state/migrate.ts';
import { noteProber } from '#state/probers.ts';
import { verifyingOf } from './verifying.ts';

/** The database of a configuration, migrated already or not. */
export interface OpenedDatabase {
  readonly pool: pg.Pool;
  readonly url: string;
}

/** Opens the configured database. A session is made at the first query. Throws Error where its URL cannot be read. */
export async function openConfigured(config: Config, onError: (error: Error) => void): Promise<OpenedDatabase> {
  using secret = await readReference(config.database.url);
  const url = secret.reveal().toString('utf8').trim();
  return { url, pool: openDatabase({ url, poolSize: config.database.poolSize, onError }) };
}

/** Brings the database to this version's schema and checks that it is this installation's. Throws Error, Fault. */
export async function prepare(pool: pg.Pool, config: Config): Promise<void> {
  await migrate(pool);
  await checkInstallation(pool, { name: config.installation, mode: config.mode });
}

/** Opens the key that signs receipts. One in a key store is asked for its public half. */
export async function openSigner(config: Config): Promise<Signer> {
  const { signer } = config.receipts;
  if (signer.kind === 'ed25519') return openEd25519Signer(signer);
  const store = config.keyStores[signer.store];
  if (store?.kind === 'aws-kms') return openAwsKmsSigner(signer.store, store, signer.keyId);
  if (store?.kind === 'azure-key-vault') {
    const { openAzureKeyVaultSigner } = await import('#src/adapters/azure-key-vault/signer.ts');
    return openAzureKeyVaultSigner(signer.store, store, signer.keyId);
  }
  throw new Fault('NotSupportedYet', `receipts.signer.store: ${signer.store}, a key store of kind ${store?.kind ?? 'none'}`);
}

/** Everything that the engine acts through. */
export interface OpenedWorld {
  readonly world: World;
  readonly git: Git;
  readonly clusters: readonly Kubernetes[];
  readonly loaders: DocumentLoaders;
  readonly verifying: Verifying;
  readonly ledger: ReturnType<typeof openLedger>;
  readonly close: () => Promise<void>;
}

/** Opens every adapter of the configuration. Nothing outside is asked but a signer in a key store; files that it names are read. */
export async function openWorld(config: Config, pool: pg.Pool): Promise<OpenedWorld> {
  const clock = clockOf(pool);
  const { installation } = config;
  const signer = await openSigner(config);
  const verifying: Verifying = verifyingOf(config);
  const git = openGit(config.repository);
  const loaders = documentLoaders({ ...verifying, pool });
  const brokers = await openBrokers(config, pool, clock);
  const stores = await openKeyStores(config, clock);
  const clusters = new Map(Object.entries(config.clusters).map(([name, cluster]) => [name, openKubernetes(name, cluster)]));
  const world: World = {
    installation,
    signer,
    documents: openDocuments({ ...verifying, pool, git }),
    weights: openWeights(config.artifactStores),
    keyStore: named('keyStores', stores),
    broker: named('kbs', brokers),
    cluster: named('clusters', clusters),
  };
  const close = async (): Promise<void> => {
    await Promise.all([git.close(), ...[...clusters.values()].map((cluster) => cluster.close())]);
  };
  return { world, git, clusters: [...clusters.values()], loaders, verifying, ledger: openLedger({ pool, installation, signer, loaders }), close };
}

async function openBrokers(config: Config, pool: pg.Pool, clock: Clock): Promise<ReadonlyMap<string, KeyBroker>> {
  const proberKeySeen = (teeKey: string): Promise<void> => noteProber(pool, teeKey);
  const parts = { installation: config.installation, clock, proberKeySeen };
  const opened = Object.entries(config.kbs).map(async ([name, kbs]) => [name, await openTrustee(name, kbs, parts)] as const);
  return new Map(await Promise.all(opened));
}

async function openKeyStores({ installation, keyStores }: Config, clock: Clock): Promise<ReadonlyMap<string, KeyStore>> {
  const opened = new Map<string, KeyStore>();
  for (const [name, store] of Object.entries(keyStores)) {
    if (store.kind === 'aws-kms') opened.set(name, openAwsKms(name, store, { installation, clock }));
    // Loaded where it is configured: its SDK takes 40 MB of memory.
    if (store.kind === 'azure-key-vault') {
      const { openAzureKeyVault } = await import('#src/adapters/azure-key-vault/index.ts');
      opened.set(name, await openAzureKeyVault(name, store, { installation, clock }));
    }
  }
  return opened;
}

function named<T>(section: string, things: ReadonlyMap<string, T>): (name: string) => T {
  return (name) => {
    const thing = things.get(name);
    if (thing === undefined) throw new Fault('NotConfigured', `${section}.${name} is not in the configuration, or of a kind that this version cannot open`);
    return thing;
  };
}
