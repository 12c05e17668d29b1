import { expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '#src/config.ts';
import { digestOf } from '#src/digest.ts';
import { configurationText } from '#src/lab/configuration.ts';
import { openLabKeyStore } from '#src/lab/key-store.ts';
import { testFolder } from '#test/envelope/folder.ts';

const places = {
  databaseUrlFile: '/lab/database-url',
  repositoryUrl: 'http://127.0.0.1:4001/releases.git',
  webhookSecretFile: '/lab/keys/webhook-secret',
  trustDigest: digestOf('trust'),
  kubeconfigFile: '/lab/kubeconfig',
  kbsUrl: 'http://127.0.0.1:4002',
  kbsAdminKeyFile: '/lab/keys/kbs-admin.pem',
  attestationSignersFile: '/lab/keys/attestation-signers.pem',
  keyStore: { kind: 'aws-kms', region: 'eu-central-1', endpoint: 'http://127.0.0.1:4003', disabledProofSeconds: 0 },
  ciphertextFolder: '/lab/ciphertext',
  webhookListen: '127.0.0.1:4004',
  dashboardListen: '127.0.0.1:4005',
  metricsListen: '127.0.0.1:4006',
  proxyListen: '127.0.0.1:4007',
  receiptsSigner: { kind: 'ed25519', key: { file: '/lab/keys/receipts.pem' } },
  objectStoreUrl: null,
};
const text = configurationText(places);

test('the lab’s configuration is one, and says that it is a lab’s', () => {
  const config = parseConfig('keyturn.yaml', text, {});
  expect(config.mode).toBe('lab');
  expect(config.kbs.main?.publicUrl).toBe('http://127.0.0.1:4007');
});

test('production takes no configuration that is the lab’s but for its mode', () => {
  expect(() => parseConfig('keyturn.yaml', text.replace('mode: lab', 'mode: production'), {})).toThrow();
});

test('an old write can land for no longer than 4 s', () => {
  const { tokenSeconds, leewaySeconds, clockBoundSeconds, handlingBoundSeconds } = parseConfig('keyturn.yaml', text, {}).kbs.main ?? {};
  const bounds = Object.values(handlingBoundSeconds ?? {});
  expect(bounds).toHaveLength(3);
  for (const bound of bounds) expect((tokenSeconds ?? 60) + (leewaySeconds ?? 60) + (clockBoundSeconds ?? 60) + bound + 1).toBeLessThanOrEqual(4);
});

test.each(['aws', 'azure'] as const)('what the lab’s %s key store says of itself is a configuration', async (kind) => {
  const store = await openLabKeyStore(kind, testFolder(), async () => 1_795_000_000_000);
  onTestFinished(store.close);
  const receiptsSigner = store.signer === null ? places.receiptsSigner : { kind: 'key-store', store: 'provider-kms', keyId: store.signer.keyId };
  const config = parseConfig('keyturn.yaml', configurationText({ ...places, keyStore: store.settingsAt(store.url), receiptsSigner }), {});
  expect(config.keyStores['provider-kms']?.kind).toBe(kind === 'aws' ? 'aws-kms' : 'azure-key-vault');
});

test('its ciphertext lies in a folder, or in its own S3', () => {
  const storeOf = (objectStoreUrl: string | null) => parseConfig('keyturn.yaml', configurationText({ ...places, objectStoreUrl }), {}).artifactStores.models;
  expect(storeOf(null)).toMatchObject({ kind: 'file', guestAddress: 'file:///lab/ciphertext' });
  expect(storeOf('http://127.0.0.1:4008')).toMatchObject({ kind: 's3', endpoint: 'http://127.0.0.1:4008', guestAddress: 's3://models' });
});
