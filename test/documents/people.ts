import { generateKeyPairSync } from 'node:crypto';
import { stringify } from 'yaml';
import { signBundle } from '#src/adapters/sigstore/index.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { bundlePath } from '#src/domain/documents/places.ts';

/** Somebody with a key. */
export interface Person {
  readonly id: string;
  readonly publicPem: string;
  readonly privatePem: string;
}

/** A person with a fresh key. */
export function makePerson(id: string, curve = 'P-256'): Person {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: curve });
  return {
    id,
    publicPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    privatePem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

/** Text as documents are written: the strict reader refuses anchors. */
export function yaml(document: object): string {
  return stringify(document, { aliasDuplicateObjects: false });
}

/** Files of the repository by their paths. */
export type Files = Record<string, string>;

/** A document's bundles by these people, beside it. */
export async function signedBy(path: string, text: string, people: readonly Person[]): Promise<Files> {
  const bundles = await Promise.all(
    people.map(async (person) => [bundlePath(path, person.id), await signBundle(Buffer.from(text), person.privatePem)] as const),
  );
  return { [path]: text, ...Object.fromEntries(bundles) };
}

/** A trust document: everybody in every role, two for everything but a revocation. */
export function trustText(people: readonly Person[], change: Record<string, unknown> = {}, roles: Record<string, unknown> = {}): string {
  const everybody = people.map(({ id }) => id);
  const two = { threshold: 2, people: everybody };
  return yaml({
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Trust',
    version: 1,
    expires: '2099-01-01T00:00:00Z',
    people: people.map(({ id, publicPem }) => ({ id, keys: [publicPem] })),
    roles: {
      approvers: [{ workloads: ['*'], ...two }],
      platformApprovers: two,
      revokers: { threshold: 1, people: everybody },
      recoverers: two,
      administrators: two,
      ...roles,
    },
    ...change,
  });
}

/** Init-data that nobody boots. */
export const INIT_DATA = 'version = "0.1.0"\nalgorithm = "sha256"\n';

/** A release for the lab's cluster. */
export function releaseText(workload: string, serial: number, previous: Digest | null, change: Record<string, unknown> = {}): string {
  return yaml({
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Release',
    workload,
    serial,
    previous,
    expires: '2090-01-01T00:00:00Z',
    artifact: {
      source: 'plaintext',
      from: null,
      address: 'file:///models/w',
      keyPath: null,
      plaintextManifest: `sha256:${'3'.repeat(64)}`,
      stores: ['models'],
      codec: 'tink-aes256-gcm-hkdf-1mb',
      format: 'safetensors',
    },
    images: { chat: `registry.example/chat@sha256:${'4'.repeat(64)}` },
    guests: {
      cpu: {
        tee: 'sample',
        runtimeClass: 'kata-lab-1',
        devices: { gpu: 0, switch: 0 },
        initData: { file: `guests/${workload}.toml`, digest: digestOf(INIT_DATA) },
        referenceValues: { svn: ['1'] },
        kbsResources: [],
      },
    },
    targets: [
      {
        cluster: 'lab',
        namespace: 'inference',
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        name: 'chat',
        guest: 'cpu',
        kbs: 'main',
        store: 'models',
        minimumAttested: 1,
        set: {},
      },
    ],
    key: { store: 'kms', rotateAfterDays: null, rotateBy: 'reencrypt', destroyAfterDays: null },
    rollout: { mode: 'patch', batch: 1, deadlineSeconds: 600, soakSeconds: 0, keepPreviousSeconds: 0, attestation: { source: 'proxy', maxAgeSeconds: 300 } },
    ...change,
  });
}

/** A revocation of this subject. */
export function revocationText(id: string, subject: Record<string, unknown>, change: Record<string, unknown> = {}): string {
  return yaml({
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Revocation',
    id,
    subject,
    reason: 'keyCompromise',
    why: 'a test',
    evict: false,
    destroy: false,
    recovery: 'none',
    ...change,
  });
}
