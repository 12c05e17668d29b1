/**
 * A Kubernetes cluster on loopback: an API server with list and watch, the controllers behind a Deployment, and a node whose pods
 * are real clients of the KBS that their init-data names. Written from exchanges recorded with a kube-apiserver v1.36.2.
 */
import { randomBytes } from 'node:crypto';
import { openWorkers } from '#src/envelope/workers.ts';
import { issue, makeAuthority } from './certificates.ts';
import { openControllers } from './kubernetes-controllers.ts';
import type { Json } from './kubernetes-json.ts';
import { KINDS, NAMESPACES, RUNTIME_CLASSES } from './kubernetes-kinds.ts';
import { openKubelet } from './kubernetes-kubelet.ts';
import { type ApiServer, openServer } from './kubernetes-server.ts';
import { openStore } from './kubernetes-store.ts';

/** A story moves the clock: it is asked again when its answer is this old. */
const CLOCK_MAX_AGE_MILLISECONDS = 250;
/** One a release: a story has two, a proof some dozens. */
const CLASSES = 99;

/** What a lab cluster is made of; all but the clock has a default. */
export interface LabKubernetesOptions {
  /** Milliseconds since 1970: the lab's clock. This machine's otherwise. */
  readonly clock?: () => Promise<number>;
  /** Names of the runtime classes that exist: `kata-lab-1` to `kata-lab-99` otherwise. */
  readonly runtimeClasses?: readonly string[];
  /** From a pod's creation to its containers' start, and from its deletion to its end. Seconds. */
  readonly startSeconds?: number;
  readonly stopSeconds?: number;
  /** Between a guest's handshakes that failed; 1 s in the stock client. Seconds. */
  readonly guestPauseSeconds?: number;
  /** Where guests find what `s3://` names; nowhere otherwise. */
  readonly objectStoreUrl?: string | null;
  /** Hears every line of every pod's log; `pod` is `namespace/name`. */
  readonly onLog?: (pod: string, line: string) => void;
  /** Further bearer tokens: `admin` may do anything, every other user is known and forbidden everything. */
  readonly tokens?: Readonly<Record<string, string>>;
  /** false: pods stay as they were created, and nothing rolls; for tests of the API alone. */
  readonly controllers?: boolean;
}

/** A lab cluster, running. */
export interface LabKubernetes {
  readonly url: string;
  /** A kubeconfig's text, with the cluster's authority and an administrator's token in it. */
  readonly kubeconfig: string;
  readonly token: string;
  readonly certificateAuthorityPem: string;
  /** Creates an object as somebody at the keyboard would, and its namespace where it is missing. Throws Error with the API's text. */
  readonly create: (object: object) => void;
  /** The log of a pod; null: there is none of that name. */
  readonly logOf: (namespace: string, name: string) => readonly string[] | null;
  /** Makes all containers of a pod crash and start again. false: there is no such pod. */
  readonly restart: (namespace: string, name: string) => boolean;
  /** Ends all watches, and forgets the history that they could go on from: the next look is answered with 410. */
  readonly expire: () => void;
  readonly close: () => Promise<void>;
}

/** Starts a cluster on 127.0.0.1, with a namespace `default` and the runtime classes. */
export async function openLabKubernetes(options: LabKubernetesOptions = {}): Promise<LabKubernetes> {
  await using stack = new AsyncDisposableStack();
  const clock = await openClock(options.clock ?? (async () => Date.now()));
  stack.defer(clock.close);
  const authority = await makeAuthority('keyturn lab kubernetes');
  const certificate = await issue(authority, { commonName: 'kube-apiserver', names: ['127.0.0.1', 'localhost'] });
  const token = randomBytes(24).toString('base64url');
  const store = openStore();
  let logOf: LabKubernetes['logOf'] = () => null;
  let restart: LabKubernetes['restart'] = () => false;
  const server = await openServer({
    store,
    certificate,
    tokens: new Map([...Object.entries(options.tokens ?? {}), [token, 'admin']]),
    now: clock.now,
    tick: clock.tick,
    logOf: (namespace, name) => logOf(namespace, name),
  });
  stack.defer(server.close);
  const create = creator(server);
  create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } });
  const classes = options.runtimeClasses ?? Array.from({ length: CLASSES }, (_, index) => `kata-lab-${index + 1}`);
  for (const name of classes) create({ apiVersion: RUNTIME_CLASSES.apiVersion, kind: 'RuntimeClass', metadata: { name }, handler: name });
  if (options.controllers !== false) {
    const workers = openWorkers();
    stack.defer(workers.close);
    const ground = { store, verbs: server.verbs, now: clock.now };
    const { startSeconds = 0.1, stopSeconds = 0.1, guestPauseSeconds = 1, objectStoreUrl = null, onLog = () => undefined } = options;
    const kubelet = openKubelet(ground, { workers, startSeconds, stopSeconds, pauseSeconds: guestPauseSeconds, objectStoreUrl, onLog });
    stack.defer(kubelet.close);
    ({ logOf, restart } = kubelet);
    const controllers = openControllers(ground);
    stack.defer(controllers.close);
  }
  const standing = stack.move();
  const { url } = server;
  return {
    url,
    token,
    certificateAuthorityPem: authority.certificatePem,
    kubeconfig: kubeconfigText(url, authority.certificatePem, token),
    create,
    logOf: (namespace, name) => logOf(namespace, name),
    restart: (namespace, name) => restart(namespace, name),
    expire: server.expire,
    close: () => standing.disposeAsync(),
  };
}

interface LabClock {
  readonly now: () => string;
  readonly tick: () => Promise<void>;
  readonly close: () => void;
}

/** The lab's clock for what cannot wait for it: what it said last, and how long ago that was. */
async function openClock(clock: () => Promise<number>): Promise<LabClock> {
  let said = await clock();
  let saidAt = performance.now();
  const tick = async (): Promise<void> => {
    if (performance.now() - saidAt < CLOCK_MAX_AGE_MILLISECONDS) return;
    said = await clock();
    saidAt = performance.now();
  };
  const timer = setInterval(() => void tick().catch(() => undefined), 2 * CLOCK_MAX_AGE_MILLISECONDS);
  timer.unref();
  return { tick, now: () => `${new Date(said + performance.now() - saidAt).toISOString().slice(0, 19)}Z`, close: () => clearInterval(timer) };
}

function creator({ verbs }: ApiServer): (object: object) => void {
  const options = { dryRun: false, fieldValidation: 'Strict', manager: 'lab', force: false };
  return (object) => {
    const { apiVersion, kind: kindName, metadata } = object as { apiVersion?: string; kind?: string; metadata?: { namespace?: string } };
    const kind = KINDS.find((each) => each.apiVersion === apiVersion && each.kind === kindName);
    if (kind === undefined) throw new Error(`the lab serves no ${apiVersion} ${kindName}`);
    const namespace = kind.namespaced ? (metadata?.namespace ?? 'default') : '';
    try {
      if (kind.namespaced) verbs.create({ kind: NAMESPACES, namespace: '', name: '', subresource: '' }, { metadata: { name: namespace } }, options);
    } catch {
      // It is there already.
    }
    verbs.create({ kind, namespace, name: '', subresource: '' }, object as Json, options);
  };
}

function kubeconfigText(server: string, authorityPem: string, token: string): string {
  const authority = Buffer.from(authorityPem).toString('base64');
  return `apiVersion: v1
kind: Config
clusters:
  - name: lab
    cluster: { server: "${server}", certificate-authority-data: ${authority} }
users:
  - name: lab
    user: { token: "${token}" }
contexts:
  - name: lab
    context: { cluster: lab, user: lab }
current-context: lab
`;
}
