import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type KubernetesConfig, kubernetesSchema } from '#src/adapters/kubernetes/config.ts';
import { type Kubernetes, openKubernetes } from '#src/adapters/kubernetes/index.ts';
import { isFault } from '#src/errors.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { type LabKubernetes, openLabKubernetes } from '#src/lab/kubernetes.ts';
import type { TargetRef } from '#src/world.ts';
import { clusterContract, deployment } from '#test/contracts/cluster.ts';
import { evictionContract } from '#test/contracts/eviction.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kubernetes-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const settings = (change: Partial<KubernetesConfig>): KubernetesConfig => ({ clockBoundSeconds: 5, windows: [], ...change });

let files = 0;
async function configFor(kubeconfig: string): Promise<KubernetesConfig> {
  files += 1;
  const file = join(folder, `kubeconfig-${files}`);
  await writeFile(file, kubeconfig);
  return settings({ kubeconfig: { file } });
}

clusterContract('the adapter on the lab API', async () => {
  const lab = await openLabKubernetes();
  const cluster = openKubernetes('lab', await configFor(lab.kubeconfig));
  return {
    cluster,
    create: async (object) => lab.create(object),
    meddle: (target, patch, manager) => meddle(lab, target, patch, manager),
    makesPods: true,
    close: async () => {
      await cluster.close();
      await lab.close();
    },
  };
});

evictionContract('the adapter on the lab API', async () => {
  const lab = await openLabKubernetes();
  const cluster = openKubernetes('lab', await configFor(lab.kubeconfig));
  await lab.create(deployment(target.name, target.namespace, 2));
  return {
    cluster,
    target,
    tick: async () => undefined,
    close: async () => {
      await cluster.close();
      await lab.close();
    },
  };
});

async function meddle(lab: LabKubernetes, target: TargetRef, patch: object, manager: string): Promise<void> {
  const agent = new Agent({ connect: { ca: lab.certificateAuthorityPem } });
  const path = `/apis/apps/v1/namespaces/${target.namespace}/deployments/${target.name}?fieldManager=${manager}`;
  const headers = { authorization: `Bearer ${lab.token}`, 'content-type': 'application/merge-patch+json' };
  const { statusCode, body } = await request(`${lab.url}${path}`, { method: 'PATCH', headers, body: JSON.stringify(patch), dispatcher: agent });
  expect({ statusCode, body: await body.text() }).toMatchObject({ statusCode: 200 });
  await agent.destroy();
}

const target: TargetRef = { cluster: 'lab', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name: 'chat' };

describe('the adapter watches', () => {
  let lab: LabKubernetes;
  let cluster: Kubernetes;
  beforeAll(async () => {
    lab = await openLabKubernetes({ controllers: false });
    lab.create(deployment('chat', 'inference', 0));
    cluster = openKubernetes('lab', await configFor(lab.kubeconfig));
  });
  afterAll(async () => {
    await cluster.close();
    await lab.close();
  });

  it('hints after a change in a namespace that was asked about, and again after the server forgot its history', async () => {
    let hints = 0;
    const watching = cluster.watch(() => {
      hints += 1;
    });
    await cluster.object(target);
    await expect.poll(() => hints).toBeGreaterThan(0);
    const changed = async (): Promise<void> => {
      const before = hints;
      await meddle(lab, target, { metadata: { labels: { touched: String(Math.random()) } } }, 'somebody');
      await expect.poll(() => hints, { timeout: 5000 }).toBeGreaterThan(before);
    };
    await changed();
    lab.expire();
    await changed();
    await changed();
    await watching.close();
    const after = hints;
    await meddle(lab, target, { metadata: { labels: { touched: 'late' } } }, 'somebody');
    await cluster.object(target);
    expect(hints).toBe(after);
  });
});

/** An API server that says what it is told to, over TLS that a kubeconfig trusts. */
async function stub(
  answer: (path: string) => { readonly status: number; readonly text: string },
): Promise<{ readonly kubeconfig: string; readonly close: () => Promise<void> }> {
  const authority = await makeAuthority('stub');
  const { certificatePem, keyPem } = await issue(authority, { commonName: 'stub', names: ['127.0.0.1'] });
  const server: Server = createServer({ cert: certificatePem, key: keyPem }, (incoming, response) => {
    const { status, text } = answer(incoming.url ?? '');
    response.writeHead(status).end(text);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  return {
    kubeconfig: kubeconfigOf(`https://127.0.0.1:${port}`, `certificate-authority-data: ${Buffer.from(authority.certificatePem).toString('base64')}`),
    close: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

function kubeconfigOf(server: string, trust: string): string {
  return `apiVersion: v1
kind: Config
clusters: [{ name: c, cluster: { server: "${server}", ${trust} } }]
users: [{ name: u, user: { token: "a-secret-token" } }]
contexts: [{ name: c, context: { cluster: c, user: u } }]
current-context: c
`;
}

async function faultOf(work: Promise<unknown>): Promise<{ readonly reason: string; readonly message: string }> {
  return work.then(
    () => ({ reason: 'none', message: '' }),
    (error: unknown) => (isFault(error) ? error : { reason: 'not a fault', message: String(error) }),
  );
}

const status = (code: number, reason: string, message: string, details: object = {}): { readonly status: number; readonly text: string } => ({
  status: code,
  text: JSON.stringify({ kind: 'Status', status: 'Failure', message, reason, details, code }),
});

describe('the adapter tells what went wrong', () => {
  const closing: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0)) await close();
  });
  const open = async (answer: Parameters<typeof stub>[0]): Promise<Kubernetes> => {
    const server = await stub(answer);
    const cluster = openKubernetes('stub', await configFor(server.kubeconfig));
    closing.push(cluster.close, server.close);
    return cluster;
  };

  it.each([
    ['Unauthenticated', status(401, 'Unauthorized', 'Unauthorized')],
    [
      'Unauthenticated',
      status(
        403,
        'Forbidden',
        'deployments.apps "chat" is forbidden: User "system:anonymous" cannot get resource "deployments" in API group "apps" in the namespace "x"',
      ),
    ],
    [
      'PermissionDenied',
      status(403, 'Forbidden', 'deployments.apps "chat" is forbidden: User "ops" cannot get resource "deployments" in API group "apps" in the namespace "x"'),
    ],
    ['NotFound', status(404, 'NotFound', 'the server could not find the requested resource')],
    ['Throttled', { status: 429, text: 'Too many requests, please try again later.' }],
    ['ServerError', status(500, '', 'etcdserver: request timed out')],
    ['ServerError', { status: 503, text: '<html>' }],
    ['UnexpectedAnswer', { status: 200, text: '<html>' }],
    ['UnexpectedAnswer', { status: 200, text: '{"kind":"Deployment"}' }],
    ['UnexpectedAnswer', { status: 302, text: '' }],
  ])('%s', async (reason, answer) => {
    const cluster = await open(() => answer);
    expect(await faultOf(cluster.object(target))).toMatchObject({ reason });
  });

  it('an eviction that a budget forbids now, and one at a path that nobody serves, are no evictions', async () => {
    const budget = "Cannot evict pod as it would violate the pod's disruption budget.";
    let answer = status(429, 'TooManyRequests', budget, {
      causes: [{ reason: 'DisruptionBudget', message: 'The disruption budget b needs 2 healthy pods and has 2 currently' }],
    });
    const cluster = await open(() => answer);
    const evicting = () => faultOf(cluster.evict(target, { name: 'chat-1', uid: 'a' }, async () => true));
    expect((await evicting()).reason).toBe('Throttled');
    answer = status(404, 'NotFound', 'the server could not find the requested resource');
    expect((await evicting()).reason).toBe('NotFound');
    answer = status(404, 'NotFound', 'pods "chat-1" not found', { name: 'chat-1', kind: 'pods' });
    expect((await evicting()).reason).toBe('none');
  });

  it('never lets the token or a quoted object into a message', async () => {
    const quoted = JSON.stringify({ spec: { template: { spec: { containers: [{ env: [{ name: 'PASSWORD', value: 'hunter2' }] }] } } } });
    const text = ` "" is invalid: patch: Invalid value: ${JSON.stringify(quoted)}: strict decoding error: unknown field "spec.replica"`;
    const cluster = await open(() => status(422, 'Invalid', text));
    const { reason, message } = await faultOf(cluster.object(target));
    expect(reason).toBe('InvalidRequest');
    expect(message).toContain('spec.replica');
    expect(message).not.toContain('hunter2');
    expect(message).not.toContain('a-secret-token');
  });

  it('starts a listing anew whose pages expired, and gives up when that goes on', async () => {
    const object = { metadata: { uid: 'u', resourceVersion: '1', generation: 1 }, spec: { selector: { matchLabels: { app: 'chat' } } } };
    const pod = (name: string): object => ({ metadata: { name, uid: name }, spec: { containers: [] }, status: {} });
    let expiries = 1;
    const cluster = await open((path) => {
      if (path.includes('/deployments/')) return { status: 200, text: JSON.stringify(object) };
      if (!path.includes('continue='))
        return { status: 200, text: JSON.stringify({ metadata: { resourceVersion: '1', continue: 'more' }, items: [pod('a')] }) };
      expiries -= 1;
      if (expiries >= 0) return status(410, 'Expired', 'The provided continue parameter is too old');
      return { status: 200, text: JSON.stringify({ metadata: { resourceVersion: '1' }, items: [pod('b')] }) };
    });
    expect((await cluster.pods(target)).map(({ name }) => name)).toEqual(['a', 'b']);
    expiries = 100;
    expect(await faultOf(cluster.pods(target))).toMatchObject({ reason: 'Conflict' });
  });

  it.each([
    ['Unreachable', 'https://127.0.0.1:1', 'certificate-authority-data: ""'],
    ['NotSupportedYet', 'https://127.0.0.1:1', 'insecure-skip-tls-verify: true'],
    ['NotConfigured', 'http://127.0.0.1:1', 'certificate-authority-data: ""'],
  ])('%s where the kubeconfig says %s with %s', async (reason, server, trust) => {
    const cluster = openKubernetes('stub', await configFor(kubeconfigOf(server, trust)));
    closing.push(cluster.close);
    expect(await faultOf(cluster.object(target))).toMatchObject({ reason });
  });

  it('does not speak to a server whose certificate another authority signed', async () => {
    const [real, other] = [await stub(() => status(401, 'Unauthorized', '')), await stub(() => status(401, 'Unauthorized', ''))];
    closing.push(real.close, other.close);
    const address = /server: "([^"]+)"/.exec(real.kubeconfig)?.[1] ?? '';
    const cluster = openKubernetes('stub', await configFor(other.kubeconfig.replace(/server: "[^"]+"/, `server: "${address}"`)));
    closing.push(cluster.close);
    expect(await faultOf(cluster.object(target))).toMatchObject({ reason: 'CertificateRejected' });
  });

  it('says so where the kubeconfig is missing', async () => {
    const cluster = openKubernetes('stub', settings({ kubeconfig: { file: join(folder, 'absent') } }));
    expect(await faultOf(cluster.object(target))).toMatchObject({ reason: 'Unauthenticated' });
  });
});

describe('a boot is told from a pod’s status', () => {
  const object = { metadata: { uid: 'u', resourceVersion: '1', generation: 1 }, spec: { selector: { matchLabels: { app: 'chat' } } } };
  const running = (id: string, startedAt: string, restartCount = 0): object => ({ containerID: id, restartCount, state: { running: { startedAt } } });
  it.each([
    ['nothing started', { containerStatuses: [{ containerID: '', restartCount: 0, state: { waiting: {} } }] }, null, null],
    ['one started', { containerStatuses: [running('c1', '2026-11-23T10:00:00Z')] }, 'c1', '2026-11-23T10:00:00.000Z'],
    [
      'an init container ended before the others started',
      {
        initContainerStatuses: [{ containerID: 'i1', restartCount: 0, state: { terminated: { startedAt: '2026-11-23T10:00:00Z' } } }],
        containerStatuses: [running('c1', '2026-11-23T10:00:05Z')],
      },
      'c1',
      '2026-11-23T10:00:00.000Z',
    ],
    [
      'two started in the same second',
      { initContainerStatuses: [running('i1', '2026-11-23T10:00:00Z')], containerStatuses: [running('c1', '2026-11-23T10:00:00Z')] },
      'c1',
      '2026-11-23T10:00:00.000Z',
    ],
    [
      'one was restarted',
      { containerStatuses: [running('c1', '2026-11-23T11:00:00Z', 2), running('c2', '2026-11-23T10:00:00Z')] },
      'c1',
      '2026-11-23T11:00:00.000Z',
    ],
    [
      'one crashed and waits',
      {
        containerStatuses: [
          { containerID: 'c1', restartCount: 1, state: { waiting: {} }, lastState: { terminated: { containerID: 'c1', startedAt: '2026-11-23T10:30:00Z' } } },
        ],
      },
      'c1',
      '2026-11-23T10:30:00.000Z',
    ],
  ])('%s', async (_, containers, containerId, startedAt) => {
    const pod = {
      metadata: { name: 'a', uid: 'a', deletionTimestamp: '2026-11-23T12:00:00Z' },
      spec: { containers: [{ image: 'm' }], initContainers: [{ image: 'i' }] },
      status: { phase: 'Running', podIP: '127.64.0.1', conditions: [{ type: 'Ready', status: 'True' }], ...containers },
    };
    const server = await stub((path) => ({
      status: 200,
      text: JSON.stringify(path.includes('/deployments/') ? object : { metadata: { resourceVersion: '1' }, items: [pod] }),
    }));
    const cluster = openKubernetes('stub', await configFor(server.kubeconfig));
    expect(await cluster.pods(target)).toEqual([
      {
        uid: 'a',
        name: 'a',
        phase: 'Running',
        terminating: true,
        ready: true,
        hostNetwork: false,
        address: '127.64.0.1',
        annotations: {},
        containerId,
        startedAt,
        images: ['i', 'm'],
      },
    ]);
    await cluster.close();
    await server.close();
  });
});

describe('the settings of a cluster', () => {
  it('take a kubeconfig or the pod’s own account, and not both', () => {
    expect(kubernetesSchema.parse({ kubeconfig: { file: '/run/secrets/k' } })).toEqual({
      kubeconfig: { file: '/run/secrets/k' },
      clockBoundSeconds: 5,
      windows: [],
    });
    expect(kubernetesSchema.safeParse({ inCluster: true }).success).toBe(true);
    expect(kubernetesSchema.safeParse({}).success).toBe(false);
    expect(kubernetesSchema.safeParse({ kubeconfig: { env: 'K' }, inCluster: true }).success).toBe(false);
  });
});
