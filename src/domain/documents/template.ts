/** What stands where a person has to fill something in. It fits no field: a template that was forgotten half-way is refused. */
export const FILL_IN = 'FILL-IN';

/** What a first release is called by. */
export interface TemplateNames {
  readonly workload: string;
  /** Names of its images; one at least. */
  readonly images: readonly string[];
  /** Names of its guests; one at least. */
  readonly guests: readonly string[];
}

/** A workload's first release, with a remark at every field. What is told apart by nothing yet is FILL_IN. */
export function releaseTemplate({ workload, images, guests }: TemplateNames): string {
  return `# What should run, and under what conditions. Approving it is signing these bytes: \`keyturn sign\`. A file never changes once it was merged:
# what comes after is the next serial (\`keyturn release new ${workload}\`), drafted from this one.
apiVersion: keyturn.dev/v1alpha1
kind: Release
workload: ${workload}
serial: 1                        # above every serial ever accepted for this workload
previous: null                   # the digest of the release before; null for the first
expires: ${FILL_IN}                 # must be accepted before; says nothing about how long it may run

artifact:
  source: plaintext              # plaintext: sealed under a new key · reencrypt: the ciphertext of \`from\`, sealed anew under a new key ·
                                 # keep: key and ciphertext of \`from\` stay (a new image, guest, target or setting only)
  from: null                     # keep, reencrypt: a serial; null is the last accepted
  address: ${FILL_IN}               # where the plaintext lies, as the controller sees it: file:///…
  keyPath: null
  plaintextManifest: ${FILL_IN}     # SHA-256 over the lines \`<sha256>  <path>\` of every file, sorted by path (\`--weights\` fills it in)
  stores: [${FILL_IN}]              # artifactStores of keyturn.yaml that get the ciphertext
  codec: tink-aes256-gcm-hkdf-1mb   # or kserve-jwe: what KServe's storage initializer opens, from 0.20 on (a reencrypt may change it)
  format: safetensors            # told to people and to guests; not interpreted
images:                          # every container of the pod, init containers and sidecars too, each by digest
${images.map((name) => `  ${name}: ${FILL_IN}\n`).join('')}
guests:                          # the confidential machines that may have the key; targets name one
${guests.map(guestTemplate).join('')}
targets:                         # the objects that serve it; nothing of an old release is retired before all of them moved
  - cluster: ${FILL_IN}             # a name of keyturn.yaml's clusters
    namespace: ${FILL_IN}
    apiVersion: apps/v1
    kind: Deployment
    name: ${workload}
    guest: ${guests[0] ?? FILL_IN}
    kbs: ${FILL_IN}                 # a name of keyturn.yaml's kbs
    store: ${FILL_IN}               # one of artifact.stores: where these guests read the ciphertext
    minimumAttested: 1           # pods that must have answered for themselves; zero prove nothing
    set:                         # JSON Pointers into the object: what changes with a release. An element of a list is name=<its name>
      /spec/template/metadata/annotations/io.katacontainers.config.hypervisor.cc_init_data: \${initData}
${images.map((name) => `      /spec/template/spec/containers/name=${name}/image: \${images.${name}}\n`).join('')}\
      /spec/template/spec/containers/name=${images[0] ?? workload}/env/name=KEY_URI/value: kbs:///\${keyPath}
      /spec/template/spec/containers/name=${images[0] ?? workload}/env/name=ARTIFACT/value: \${artifact}

key:
  store: ${FILL_IN}                 # keyturn.yaml's keyStores: where the key that wraps the data key lives
  rotateAfterDays: 90            # a new key of the same release after this long; null: never by schedule
  rotateBy: reencrypt
  destroyAfterDays: 30           # after retirement; null: never by schedule
rollout:
  mode: patch
  batch: 1                       # pods at a time
  deadlineSeconds: 14400         # from the patch to serving: later it is named; nothing is undone by itself
  soakSeconds: 600               # then serving is looked at again
  keepPreviousSeconds: 86400     # after that, before the old one is closed: until then a withdrawal falls back at once
  attestation: { source: proxy, maxAgeSeconds: 300 }
`;
}

function guestTemplate(name: string): string {
  return `  ${name}:
    tee: ${FILL_IN}                 # snp | tdx
    runtimeClass: ${FILL_IN}
    devices: { gpu: 0, switch: 0 }       # exactly this many must be attested and affirming
    # The TOML that the machine is started with: it names the KBS and admits exactly the images above (\`--init-data\` copies it and fills this in)
    initData: { file: ${FILL_IN}, digest: ${FILL_IN} }
    referenceValues: {}          # measurements that are good, by the verifier's own names; snp: snp_launch_measurement, tdx: mr_td
    kbsResources: []             # further KBS paths that these guests may fetch
`;
}
