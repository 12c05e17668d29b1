import { createWriteStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openClock } from './clock.ts';
import { KBS_REPOSITORY, KBS_ROLES, LAB_BUCKET } from './documents.ts';
import { type LabGit, openLabGit } from './git.ts';
import { openLabKbs } from './kbs.ts';
import { type KeysKind, type LabKeyStore, openLabKeyStore } from './key-store.ts';
import type { LabKeys } from './keys.ts';
import { openLabKubernetes } from './kubernetes.ts';
import { openPostgres } from './postgres.ts';
import { openLabS3 } from './s3.ts';
import { accessOf, createWorkload } from './workload.ts';

/** The other ends of the product's wires. Each is known by its address alone, so that a real one can stand in its place. */
export interface FarSides {
  readonly databaseUrl: string;
  readonly git: LabGit;
  /** The bare repository behind it: who may push to it does so by its path. */
  readonly gitFolder: string;
  readonly kmsUrl: string;
  /** What is configured for the key store at `kmsUrl`, or behind what stands in front of it. */
  readonly keyStoreAt: LabKeyStore['settingsAt'];
  readonly receiptsSigner: LabKeyStore['signer'];
  readonly kbsUrl: string;
  /** null: ciphertext lies in a folder. */
  readonly objectStoreUrl: string | null;
  /** Text: server, authority and credentials. */
  readonly kubeconfig: string;
}

/** Where the lab keeps ciphertext: in a folder, or in an S3 of its own. */
export type LabStore = 'file' | 's3';

/** Which of its kinds a far side is. */
export interface FarSideKinds {
  /** Which key store the lab plays. AWS's otherwise. */
  readonly keys?: KeysKind;
  /** Where ciphertext is kept; in a folder otherwise. */
  readonly store?: LabStore;
}

/** What each of Keyturn's roles may call, as `regex_acl` of a KBS has it: no more than its kind of write. */
const KBS_ACCESS = [
  { role: KBS_ROLES.resource, allowedEndpoints: `^/kbs/v0/resource/${KBS_REPOSITORY}/[^/]+/[^/]+$` },
  { role: KBS_ROLES.policy, allowedEndpoints: '^/kbs/v0/resource-policy$' },
  { role: KBS_ROLES.referenceValue, allowedEndpoints: '^/kbs/v0/reference-value(/.+)?$' },
];

/**
 * Opens PostgreSQL, Git, KMS, KBS and Kubernetes under `folder`, all on 127.0.0.1 and on the database's
 * clock, and creates the workload as its owner would. What is opened is closed by `stack`.
 */
export async function openFarSides(stack: AsyncDisposableStack, folder: string, keys: LabKeys, kinds: FarSideKinds): Promise<FarSides> {
  const { keys: keyStore = 'aws', store = 'file' } = kinds;
  const place = async (name: string) => {
    const own = join(folder, name);
    await mkdir(own, { recursive: true, mode: 0o700 });
    return own;
  };
  const closing = <T extends { readonly close: () => Promise<void> }>(opened: T): T => {
    stack.defer(opened.close);
    return opened;
  };
  const postgres = closing(await openPostgres({ folder: join(folder, 'postgres'), outlives: false }));
  const clock = closing(await openClock(postgres.url));
  const gitFolder = await place('git');
  const podLog = createWriteStream(join(folder, 'logs', 'pods.log'), { mode: 0o600 });
  stack.defer(() => new Promise((resolve) => void podLog.end(resolve)));
  const s3 = store === 's3' ? closing(await openLabS3({ folder: await place('s3'), bucket: LAB_BUCKET })) : null;
  const objectStoreUrl = s3?.url ?? null;
  const [git, kms, kbs, kubernetes] = await Promise.all([
    openLabGit({ folder: gitFolder }).then(closing),
    openLabKeyStore(keyStore, await place('kms'), clock.now).then(closing),
    openLabKbs({
      folder: await place('kbs'),
      clock: clock.now,
      tokenLeewaySeconds: 0,
      adminPublicKeys: [keys.kbsAdminPublicKeyPem],
      roles: KBS_ACCESS,
      tokenSigner: keys.tokenSigner,
    }).then(closing),
    openLabKubernetes({ clock: clock.now, objectStoreUrl, onLog: (pod, line) => void podLog.write(`${pod} ${line}\n`) }).then(closing),
  ]);
  if (kms.signer !== null) await writeFile(keys.receiptsPublicKeyFile, kms.signer.publicKeyPem);
  await createWorkload(accessOf(kubernetes.kubeconfig));
  return {
    databaseUrl: postgres.url,
    git,
    gitFolder: join(gitFolder, 'releases.git'),
    kmsUrl: kms.url,
    keyStoreAt: kms.settingsAt,
    receiptsSigner: kms.signer,
    kbsUrl: kbs.url,
    objectStoreUrl,
    kubeconfig: kubernetes.kubeconfig,
  };
}
