import { releaseSchema } from '#src/domain/documents/release.ts';
import type { Known } from '#src/domain/release.ts';
import type { WantParts } from '#src/domain/want.ts';

/** Init-data of a sample guest; a comment is all that makes it another one's. */
export function initDataOf(comment: string, algorithm = 'sha256'): string {
  return `version = "0.1.0"\nalgorithm = "${algorithm}"\n# ${comment}\n\n[data]\n"cdh.toml" = '''\n[kbc]\nname = "cc_kbc"\nurl = "https://kbs.example:8443"\n'''\n`;
}

const DIGEST = `sha256:${'0'.repeat(64)}` as const;

interface GuestChange {
  readonly tee?: 'snp' | 'tdx' | 'sample' | 'az-snp-vtpm';
  readonly platform?: string;
  readonly devices?: { readonly gpu: number; readonly switch: number };
  readonly referenceValues?: Readonly<Record<string, readonly (string | number | boolean)[]>>;
  readonly kbsResources?: readonly string[];
}

/** A wanted revision of workload `w` with one guest and one target on KBS `main`, unless it is changed. */
export function revision(serial: number, guest: GuestChange = {}, workload = 'w', kbs = 'main'): Known {
  const document = releaseSchema.parse({
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Release',
    workload,
    serial,
    previous: null,
    expires: '2027-01-01T00:00:00Z',
    artifact: {
      source: 'plaintext',
      from: null,
      address: 'file:///w',
      keyPath: null,
      plaintextManifest: DIGEST,
      stores: ['models'],
      codec: 'tink-aes256-gcm-hkdf-1mb',
      format: 'safetensors',
    },
    images: { chat: `registry.example/chat@${DIGEST}` },
    guests: {
      g: {
        tee: 'sample',
        runtimeClass: 'kata-lab-1',
        devices: { gpu: 0, switch: 0 },
        initData: { file: 'guests/g.toml', digest: DIGEST },
        referenceValues: { svn: [String(serial)] },
        kbsResources: [],
        ...guest,
      },
    },
    targets: [
      { cluster: 'c', namespace: 'n', apiVersion: 'apps/v1', kind: 'Deployment', name: 'd', guest: 'g', kbs, store: 'models', minimumAttested: 1, set: {} },
    ],
    key: { store: 'kms', rotateAfterDays: null, rotateBy: 'reencrypt', destroyAfterDays: null },
    rollout: {
      mode: 'patch',
      batch: 1,
      deadlineSeconds: 60,
      soakSeconds: 0,
      keepPreviousSeconds: 0,
      attestation: { source: 'proxy', maxAgeSeconds: 300 },
    },
  });
  const rotation = `r-${String(serial).padStart(16, '0')}`;
  return {
    id: serial,
    rotation,
    release: {
      ...document,
      digest: DIGEST,
      path: `releases/${workload}/${serial}.yaml`,
      approvedBy: ['ann'],
      signatures: [],
      trustVersion: 1,
      initData: { g: initDataOf(`${workload} ${serial}`) },
    },
    sealing: { id: serial, workload, epoch: serial, rotation, taken: false, facts: {}, createdAt: null, source: null },
    serials: [serial],
    madeBy: DIGEST,
    pathNumber: 0,
    state: 'live',
    withdrawn: false,
    revoked: false,
    facts: {},
    at: {},
  };
}

/** Parts of a Want without anything in them. */
export function parts(change: Partial<WantParts> = {}): WantParts {
  const none = { revisions: [], baseline: null, platforms: [], namesSent: [], denied: { paths: [], initData: [], devices: [] }, revoked: [] };
  return { installation: 'eu', kbs: 'main', repository: 'keyturn-eu', generation: 7, ...none, ...change };
}

/** A baseline that takes over and says nothing, unless it is changed. */
export function baseline(change: Partial<NonNullable<WantParts['baseline']>>): NonNullable<WantParts['baseline']> {
  return { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Baseline', kbs: 'main', version: 1, takeover: true, referenceValues: {}, grants: [], ...change };
}

/** The reason of what a function throws; null where it throws nothing. */
export function reasonOf(act: () => unknown): unknown {
  try {
    act();
    return null;
  } catch (thrown) {
    return thrown instanceof Error && 'reason' in thrown ? thrown.reason : thrown;
  }
}
