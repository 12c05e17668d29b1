import { stringify } from 'yaml';
import type { Digest } from '../digest.ts';
import { KBS_REPOSITORY, KBS_ROLES, KEY_STORE, LAB_BUCKET } from './documents.ts';

/** Everything that the configuration names: URLs, `host:port` to listen on, absolute paths of files. */
export interface Places {
  readonly databaseUrlFile: string;
  readonly repositoryUrl: string;
  readonly webhookSecretFile: string;
  readonly trustDigest: Digest;
  readonly kubeconfigFile: string;
  readonly kbsUrl: string;
  readonly kbsAdminKeyFile: string;
  readonly attestationSignersFile: string;
  /** The entry of the key store. */
  readonly keyStore: Readonly<Record<string, unknown>>;
  readonly ciphertextFolder: string;
  /** An S3, in place of the folder; null: the folder. */
  readonly objectStoreUrl: string | null;
  readonly webhookListen: string;
  readonly dashboardListen: string;
  readonly metricsListen: string;
  readonly proxyListen: string;
  readonly receiptsSigner: Readonly<Record<string, unknown>>;
}

function artifactStore({ objectStoreUrl, ciphertextFolder }: Places): object {
  if (objectStoreUrl === null) return { kind: 'file', path: ciphertextFolder, guestAddress: `file://${ciphertextFolder}` };
  return { kind: 's3', bucket: LAB_BUCKET, region: 'eu-central-1', endpoint: objectStoreUrl, guestAddress: `s3://${LAB_BUCKET}` };
}

/**
 * `keyturn.yaml`. Tokens live 2 s and the lab's KBS allows nothing beyond, so that W, the time after
 * which no old write can land, is 3 s, and 4 s for reference values. A proxy that was killed is waited
 * for 10 s.
 */
export function configurationText(places: Places): string {
  const { kbsAdminKeyFile, webhookSecretFile } = places;
  return stringify({
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Configuration',
    mode: 'lab',
    installation: 'lab',
    runtime: 'outside',
    database: { url: { file: places.databaseUrlFile } },
    repository: { url: places.repositoryUrl, branch: 'main', pollSeconds: 5, webhook: { secret: { file: webhookSecretFile } } },
    trust: { initialDigest: places.trustDigest, unsignedRevocations: 'ignore' },
    clusters: { lab: { kubeconfig: { file: places.kubeconfigFile }, clockBoundSeconds: 1, windows: [] } },
    kbs: {
      main: {
        url: places.kbsUrl,
        publicUrl: `http://${places.proxyListen}`,
        replicas: [],
        admin: { keys: [{ id: 'admin-1', file: kbsAdminKeyFile }], roles: KBS_ROLES },
        attestationSigners: { file: places.attestationSignersFile },
        repository: KBS_REPOSITORY,
        storage: 'postgres',
        tokenSeconds: 2,
        leewaySeconds: 0,
        clockBoundSeconds: 0,
        handlingBoundSeconds: { policy: 0, resource: 0, referenceValue: 1 },
      },
    },
    keyStores: { [KEY_STORE]: places.keyStore },
    artifactStores: { models: artifactStore(places) },
    serve: {
      webhook: { listen: places.webhookListen },
      dashboard: { listen: places.dashboardListen },
      metrics: { listen: places.metricsListen },
    },
    proxy: { listen: places.proxyListen, kbs: 'main', proxyProtocol: { from: [] }, denyListStaleSeconds: 10 },
    receipts: { signer: places.receiptsSigner },
  });
}
