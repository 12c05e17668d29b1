import { stringify } from 'yaml';
import { type Codec, DEFAULT_CODEC } from '#src/envelope/codec.ts';
import { type Digest, digestOf } from '../digest.ts';

/** The story's one workload, and the object that serves it. */
export const WORKLOAD = 'chat';
/** Where that object lives in the lab's cluster. */
export const NAMESPACE = 'inference';
/** Pods of the story: enough that a roll by one leaves a majority serving. */
export const REPLICAS = 3;
/** How the configuration calls the lab's key store. */
export const KEY_STORE = 'provider-kms';
/** The one bucket of the lab's S3. */
export const LAB_BUCKET = 'models';
/** First segment of every KBS path that the lab's Keyturn writes. */
export const KBS_REPOSITORY = 'keyturn-lab';
/** The roles of the three kinds of admin token; the lab's KBS and the configuration must agree on them. */
export const KBS_ROLES = { resource: 'keyturn-resource', policy: 'keyturn-policy', referenceValue: 'keyturn-reference-value' } as const;

/** The story's keys serve no longer than this. Days. */
export const ROTATE_AFTER_DAYS = 30;
/** And are destroyed this long after they were disabled: before the next one falls due, so that one move of the clock shows both. Days. */
const DESTROY_AFTER_DAYS = 7;

const API_VERSION = 'keyturn.dev/v1alpha1';
const INIT_DATA_ANNOTATION = 'io.katacontainers.config.hypervisor.cc_init_data';

/** Someone who may sign: an id of `[a-z0-9-]`, and a PEM SubjectPublicKeyInfo on P-256. */
export interface Person {
  readonly id: string;
  readonly publicKeyPem: string;
}

/** As documents are written: no anchors (the strict parser refuses them), no folded lines. */
function yamlOf(document: object): string {
  return stringify(document, { aliasDuplicateObjects: false, lineWidth: 0 });
}

/** RFC 3339 in whole seconds, so many days after `now` (milliseconds since 1970): what `expires` wants. */
export function daysAfter(now: number, days: number): string {
  return `${new Date(now + days * 86_400_000).toISOString().slice(0, 19)}Z`;
}

/** The image of a serial. Nothing pulls it: the digest is of its name, and obviously no registry has it. */
export function imageOf(serial: number, workload = WORKLOAD): string {
  return `registry.example/${workload}@${digestOf(`lab image of ${workload} ${serial}`)}`;
}

/** `trust/1.yaml`: everybody holds every role, and two of them approve. */
export function trustText(people: readonly Person[], expires: string): string {
  const ids = people.map((person) => person.id);
  const two = { threshold: 2, people: ids };
  return yamlOf({
    apiVersion: API_VERSION,
    kind: 'Trust',
    version: 1,
    expires,
    people: people.map((person) => ({ id: person.id, keys: [person.publicKeyPem], identities: [] })),
    roles: {
      approvers: [{ workloads: ['*'], ...two }],
      platformApprovers: two,
      revokers: { threshold: 1, people: ids },
      recoverers: two,
      administrators: two,
    },
    trustedRoot: null,
    history: null,
  });
}

/**
 * `baseline/main/1.yaml`: Keyturn may write this KBS, and what Trustee's shipped policy asks of sample
 * evidence beside the measurement: the sample verifier reports these same three values for everybody.
 */
export function baselineText(): string {
  return yamlOf({
    apiVersion: API_VERSION,
    kind: 'Baseline',
    kbs: 'main',
    version: 1,
    takeover: true,
    referenceValues: { launch_digest: ['abcde'], major_version: 1, minimum_minor_version: 1 },
    attestationPolicies: {},
    grants: [],
  });
}

/**
 * A guest's init-data (TOML): where its key broker is, the one image that it may run, and an agent
 * policy that lets nobody in by exec. `kbsUrl` is the proxy's public address.
 */
export function initDataText(options: { readonly kbsUrl: string; readonly image: string }): string {
  const policy = {
    default: [{ type: 'reject' }],
    transports: { docker: { [options.image]: [{ type: 'insecureAcceptAnything' }] } },
  };
  // A literal string of TOML (single quotes) holds the JSON as it is: neither an image nor a URL has a single quote in it.
  return `version = "0.1.0"
algorithm = "sha256"

[data]
"aa.toml" = '''
[token_configs.kbs]
url = "${options.kbsUrl}"
'''

"cdh.toml" = '''
[kbc]
name = "cc_kbc"
url = "${options.kbsUrl}"

[image]
image_security_policy = '${JSON.stringify(policy)}'
'''

"policy.rego" = '''
package agent_policy

default AllowRequestsFailingPolicy := false
default CreateContainerRequest := true
default ExecProcessRequest := false
'''
`;
}

/** What differs from one release of the story to the next. */
export interface ReleasePlan {
  /** The story's own otherwise. */
  readonly workload?: string;
  readonly serial: number;
  /** Digest of the release before it; null for the first. */
  readonly previous: Digest | null;
  readonly expires: string;
  /** Absolute path of the folder with the plaintext weights. */
  readonly modelFolder: string;
  readonly manifestDigest: string;
  readonly initData: { readonly file: string; readonly digest: Digest };
  readonly soakSeconds: number;
  /** Tink's otherwise. */
  readonly codec?: Codec;
}

/**
 * `releases/<workload>/<serial>.yaml`. The serial is also the guest's security version, which is the one
 * measurement that sample evidence has, and the number of the lab's runtime class.
 */
export function releaseText(plan: ReleasePlan): string {
  const { workload = WORKLOAD } = plan;
  const runtimeClass = `kata-lab-${plan.serial}`;
  return yamlOf({
    apiVersion: API_VERSION,
    kind: 'Release',
    workload,
    serial: plan.serial,
    previous: plan.previous,
    expires: plan.expires,
    artifact: {
      source: 'plaintext',
      from: null,
      address: `file://${plan.modelFolder}`,
      keyPath: null,
      plaintextManifest: plan.manifestDigest,
      stores: ['models'],
      codec: plan.codec ?? DEFAULT_CODEC,
      format: 'safetensors',
    },
    images: { [workload]: imageOf(plan.serial, workload) },
    guests: {
      sample: {
        tee: 'sample',
        runtimeClass,
        devices: { gpu: 0, switch: 0 },
        initData: plan.initData,
        referenceValues: { svn: [String(plan.serial)] },
        kbsResources: [],
      },
    },
    targets: [targetOf(runtimeClass, workload)],
    key: { store: KEY_STORE, rotateAfterDays: ROTATE_AFTER_DAYS, rotateBy: 'reencrypt', destroyAfterDays: DESTROY_AFTER_DAYS },
    rollout: {
      mode: 'patch',
      batch: 1,
      deadlineSeconds: 600,
      soakSeconds: plan.soakSeconds,
      keepPreviousSeconds: 0,
      attestation: { source: 'proxy', maxAgeSeconds: 300 },
    },
  });
}

/** The one Deployment of a workload, with the fields that a release sets in it. */
function targetOf(runtimeClass: string, workload: string): object {
  const container = `/spec/template/spec/containers/name=${workload}`;
  return {
    cluster: 'lab',
    namespace: NAMESPACE,
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    name: workload,
    guest: 'sample',
    kbs: 'main',
    store: 'models',
    minimumAttested: REPLICAS,
    retireWithoutSeconds: null,
    set: {
      [`/spec/template/metadata/annotations/${INIT_DATA_ANNOTATION}`]: `\${initData}`,
      '/spec/template/spec/runtimeClassName': runtimeClass,
      [`${container}/image`]: `\${images.${workload}}`,
      [`${container}/env/name=KEY_URI/value`]: `kbs:///\${keyPath}`,
      [`${container}/env/name=ARTIFACT/value`]: `\${artifact}`,
    },
  };
}

/** `revocations/<id>.yaml` of the key that this epoch of the story's workload was sealed under: for a person to sign and commit. */
export function revocationText(id: string, epoch: number): string {
  return yamlOf({
    apiVersion: API_VERSION,
    kind: 'Revocation',
    id,
    subject: { kind: 'key', workload: WORKLOAD, epoch },
    reason: 'keyCompromise',
    why: 'the data key was found in a log',
    evict: false,
    destroy: false,
    recovery: 'a new release under a new key, approved by the approvers',
  });
}

/** A workload as its owner made it: three replicas whose template names no key yet, so that none of them gets ready. */
export function deploymentOf(workload = WORKLOAD): object {
  const labels = { app: workload };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: workload, namespace: NAMESPACE, labels },
    spec: {
      replicas: REPLICAS,
      selector: { matchLabels: labels },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
      template: {
        metadata: { labels, annotations: { [INIT_DATA_ANNOTATION]: '' } },
        spec: {
          runtimeClassName: 'kata-lab-1',
          containers: [
            {
              name: workload,
              image: imageOf(0, workload),
              env: [
                { name: 'KEY_URI', value: '' },
                { name: 'ARTIFACT', value: '' },
              ],
            },
          ],
        },
      },
    },
  };
}
