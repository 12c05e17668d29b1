import { digestOf } from '#src/digest.ts';
import type { BaselineDocument } from '#src/domain/documents/release.ts';
import type { Release } from '#src/domain/release.ts';

/** What a test says of a release; the rest is the same in all. */
export interface ReleaseOptions {
  readonly workload?: string;
  readonly serial: number;
  /** The guests' measurement; the serial where it is not said. */
  readonly svn?: string;
  readonly soakSeconds?: number;
  readonly keepPreviousSeconds?: number;
  readonly minimumAttested?: number;
  readonly image?: string;
  readonly initData?: string;
  /** Keeps or re-encrypts the sealing of an older serial; null: of the last one. */
  readonly keep?: number | null;
  readonly reencrypt?: number | null;
  readonly rotateAfterDays?: number;
  readonly destroyAfterDays?: number;
  /** A second target, of the same name in the other cluster; `kbs`: where its guests fetch. */
  readonly west?: { readonly kbs: 'main' | 'west-kbs'; readonly svn?: string; readonly retireWithoutSeconds?: number | null };
}

/** The name that guests use for the test world's KBS. */
export const PUBLIC_URL = 'https://kbs.test:8443';

/** The same of the other KBS, for stories of two. */
export const WEST_URL = 'https://kbs.west.test:8443';

/** An image that exists nowhere. */
export function imageOf(serial: number): string {
  return `registry.test/chat@${digestOf(`image ${serial}`)}`;
}

/** Init-data that names the KBS and admits exactly this image. */
export function initDataFor(image: string, url = PUBLIC_URL): string {
  const policy = { default: [{ type: 'reject' }], transports: { docker: { [image]: [{ type: 'insecureAcceptAnything' }] } } };
  const hub = [`[kbc]`, `name = "cc_kbc"`, `url = "${url}"`, `[image]`, `image_security_policy = '${JSON.stringify(policy)}'`].join('\n');
  return [`version = "0.1.0"`, `algorithm = "sha256"`, `[data]`, `"cdh.toml" = """`, hub, `"""`, ''].join('\n');
}

/** A release of one Deployment, valid in every field. */
export function testRelease(options: ReleaseOptions): Release {
  const { workload = 'chat', serial, svn = String(serial) } = options;
  const image = options.image ?? imageOf(serial);
  const initData = options.initData ?? initDataFor(image);
  const { west } = options;
  const westData = initDataFor(image, west?.kbs === 'west-kbs' ? WEST_URL : PUBLIC_URL);
  const document = {
    apiVersion: 'keyturn.dev/v1alpha1' as const,
    kind: 'Release' as const,
    workload,
    serial,
    previous: null,
    expires: '2099-01-01T00:00:00Z',
    artifact: artifactOf(workload, options),
    images: { chat: image },
    guests: { sample: guestOf(serial, svn, initData), ...(west === undefined ? {} : { west: guestOf(serial, west.svn ?? svn, westData) }) },
    targets: [targetOf(workload, svn, options.minimumAttested ?? 3), ...(west === undefined ? [] : [westOf(workload, west, west.svn ?? svn)])],
    key: { store: 'kms', rotateAfterDays: options.rotateAfterDays ?? null, rotateBy: 'reencrypt' as const, destroyAfterDays: options.destroyAfterDays ?? null },
    rollout: {
      mode: 'patch' as const,
      batch: 1,
      deadlineSeconds: 14_400,
      soakSeconds: options.soakSeconds ?? 10,
      keepPreviousSeconds: options.keepPreviousSeconds ?? 20,
      attestation: { source: 'proxy' as const, maxAgeSeconds: 300 },
    },
  };
  const digest = digestOf(JSON.stringify(document));
  return {
    ...document,
    digest,
    path: `releases/${workload}/${serial}.yaml`,
    approvedBy: ['ada', 'bo'],
    signatures: [],
    trustVersion: 1,
    initData: { sample: initData, ...(west === undefined ? {} : { west: westData }) },
  };
}

function artifactOf(workload: string, { serial, keep, reencrypt }: ReleaseOptions): Release['artifact'] {
  const same = { keyPath: null, stores: ['models'], codec: 'tink-aes256-gcm-hkdf-1mb' as const, format: 'safetensors' };
  if (keep !== undefined) return { ...same, source: 'keep', from: keep, address: null, plaintextManifest: null };
  if (reencrypt !== undefined) return { ...same, source: 'reencrypt', from: reencrypt, address: null, plaintextManifest: null };
  const plaintextManifest = digestOf(`manifest ${workload} ${serial}`);
  return { ...same, source: 'plaintext', from: null, address: `file:///plaintext/${workload}/${serial}`, plaintextManifest };
}

function guestOf(serial: number, svn: string, initData: string): Release['guests'][string] {
  return {
    tee: 'sample',
    runtimeClass: `kata-lab-${svn}`,
    devices: { gpu: 0, switch: 0 },
    initData: { file: `guests/chat/${serial}.toml`, digest: digestOf(initData) },
    referenceValues: { svn: [svn] },
    kbsResources: [],
  };
}

function targetOf(workload: string, svn: string, minimumAttested: number): Release['targets'][number] {
  return {
    cluster: 'east',
    namespace: 'inference',
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    name: workload,
    guest: 'sample',
    kbs: 'main',
    store: 'models',
    minimumAttested,
    set: {
      '/spec/template/metadata/annotations/io.katacontainers.config.hypervisor.cc_init_data': `\${initData}`,
      '/spec/template/spec/runtimeClassName': `kata-lab-${svn}`,
      '/spec/template/spec/containers/name=chat/image': `\${images.chat}`,
      '/spec/template/spec/containers/name=chat/env/name=KEY_URI/value': `kbs:///\${keyPath}`,
      '/spec/template/spec/containers/name=chat/env/name=ARTIFACT/value': `\${artifact}`,
    },
  };
}

function westOf(workload: string, west: NonNullable<ReleaseOptions['west']>, svn: string): Release['targets'][number] {
  const { kbs, retireWithoutSeconds } = west;
  return { ...targetOf(workload, svn, 1), cluster: 'west', guest: 'west', kbs, ...(retireWithoutSeconds === undefined ? {} : { retireWithoutSeconds }) };
}

/** The baseline that lets Keyturn write to the test world's KBS. */
export const BASELINE: BaselineDocument = {
  apiVersion: 'keyturn.dev/v1alpha1',
  kind: 'Baseline',
  kbs: 'main',
  version: 1,
  takeover: true,
  referenceValues: { launch_digest: ['abcde'] },
  attestationPolicies: {},
  grants: [],
};
