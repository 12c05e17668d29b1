/** What other systems answer when they are broken, hostile, or somebody else: each ends in the right reason, and in nothing that a row cannot hold. */
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { awsKmsSchema } from '#src/adapters/aws-kms/config.ts';
import { openAwsKms } from '#src/adapters/aws-kms/index.ts';
import { type Kubernetes, openKubernetes } from '#src/adapters/kubernetes/index.ts';
import { instantOf } from '#src/instant.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { openLog } from '#src/log.ts';
import type { KeyStore, TargetRef } from '#src/world.ts';
import { permits, unwrap, wrapped } from '#test/contracts/key-broker.ts';
import { permit, reasonOf } from '#test/contracts/key-store.ts';
import { openTrusteeStand, type TrusteeStand } from './trustee-stand.ts';

const PATH = 'keyturn-eu/w/s1-v1-0-00000000';
const servers: Server[] = [];
let folder: string;
let authority: Awaited<ReturnType<typeof makeAuthority>>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nonsense-'));
  authority = await makeAuthority('stub');
});
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(() => {
  vi.unstubAllEnvs();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function urlOf(server: Server, scheme: string): Promise<string> {
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const serve = (listener: RequestListener): Promise<string> => urlOf(createServer(listener), 'http');

async function serveTls(listener: RequestListener): Promise<string> {
  const { certificatePem, keyPem } = await issue(authority, { commonName: 'stub', names: ['127.0.0.1'] });
  return urlOf(createTlsServer({ cert: certificatePem, key: keyPem }, listener), 'https');
}

describe('a KBS', () => {
  let stand: TrusteeStand;
  beforeEach(async () => {
    stand = await openTrusteeStand();
  });
  afterEach(() => stand.close());
  const brokerWith = async (status: number, body: string) =>
    stand.reopen({ url: await serve((call, response) => void call.resume().on('end', () => response.writeHead(status).end(body))) });

  it.each([502, 503, 504, 524])('whose gateway says %i has not answered: the write may still land', async (status) => {
    const broker = await brokerWith(status, '<html>');
    const put = permits(wrapped(PATH, 'x'));
    expect(await reasonOf(broker.putResource(put.read, unwrap))).toBe('ServerError');
    expect(put.answers).toEqual([null]);
  });

  it('that says 503 itself has answered', async () => {
    const broker = await brokerWith(503, JSON.stringify({ type: 'https://github.com/confidential-containers/kbs/errors/Busy', detail: 'x' }));
    const put = permits(wrapped(PATH, 'x'));
    expect(await reasonOf(broker.putResource(put.read, unwrap))).toBe('ServerError');
    expect(put.answers).toMatchObject([{ status: 503, type: 'Busy' }]);
  });

  it('whose error holds what no row can is told without it', async () => {
    const detail = `${'a'.repeat(999)}\u{1f511}\u0000\n`;
    const broker = await brokerWith(401, JSON.stringify({ type: 'errors/Odd\u0000Name', detail: `\u0000${detail}` }));
    const put = permits(wrapped(PATH, 'x'));
    expect(await reasonOf(broker.putResource(put.read, unwrap))).toBe('UnexpectedAnswer');
    const [answer] = put.answers;
    expect(answer).toMatchObject({ status: 401, type: 'Http401' });
    expect(answer?.detail.detail?.isWellFormed()).toBe(true);
    expect(JSON.stringify(answer)).not.toContain('\\u0000');
  });

  it('that never ends its answer is cut off, and not called down', async () => {
    const long = Buffer.alloc(5 * 1024 * 1024, '1');
    const broker = await stand.reopen({ url: await serve((_, response) => response.end(long)) });
    expect(await reasonOf(broker.referenceValue('svn'))).toBe('LimitExceeded');
  });
});

describe('a cluster', () => {
  const target: TargetRef = { cluster: 'stub', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name: 'chat' };
  const closing: Kubernetes[] = [];
  afterEach(async () => {
    for (const cluster of closing.splice(0)) await cluster.close();
  });
  const openWith = async (kubeconfig: string): Promise<Kubernetes> => {
    const file = join(folder, 'kubeconfig');
    await writeFile(file, kubeconfig);
    const cluster = openKubernetes('stub', { kubeconfig: { file }, clockBoundSeconds: 5, windows: [] });
    closing.push(cluster);
    return cluster;
  };
  const kubeconfigOf = (server: string, user: string, ca = authority.certificatePem): string =>
    JSON.stringify({
      clusters: [{ name: 'c', cluster: { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') } }],
      users: [{ name: 'u', user: JSON.parse(user) }],
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'c',
    });
  const container = { containerID: 'c1', restartCount: 0, state: { running: { startedAt: '2026-11-23T10:00:00Z' } } };

  it.each([
    ['a pod’s name', { metadata: { name: 'a\u0000', uid: 'a' } }],
    ['half a character in a pod’s uid', { metadata: { name: 'a', uid: '\ud83d' } }],
    ['an address', { status: { podIP: '10.0.0.1\u0000' } }],
    ['an image', { spec: { containers: [{ image: 'm\u0000' }] } }],
    ['a container’s id', { status: { containerStatuses: [{ ...container, containerID: 'c\u0000' }] } }],
    ...['0000-01-01T00:00:00.000Z', '2026-13-45T99:99:99.999Z', '9999-12-31T23:59:59-01:00'].map((startedAt): [string, object] => [
      `a start at ${startedAt}`,
      { status: { containerStatuses: [{ ...container, state: { running: { startedAt } } }] } },
    ]),
  ])('that lists %s that no row can hold gives an UnexpectedAnswer, and ends nobody', async (_, change) => {
    const object = { metadata: { uid: 'u', resourceVersion: '1', generation: 1 }, spec: { selector: { matchLabels: { app: 'chat' } } } };
    const pod = { metadata: { name: 'a', uid: 'a' }, spec: { containers: [] }, status: {}, ...change };
    const list = { metadata: { resourceVersion: '1' }, items: [pod] };
    const url = await serveTls((call, response) => response.end(JSON.stringify(call.url?.includes('/deployments/') === true ? object : list)));
    const cluster = await openWith(kubeconfigOf(url, '{"token":"t"}'));
    expect(await reasonOf(cluster.pods(target))).toBe('UnexpectedAnswer');
  });

  it('whose certificate another authority signed is not called down', async () => {
    const url = await serveTls((_, response) => response.end());
    const other = await makeAuthority('stub');
    const cluster = await openWith(kubeconfigOf(url, '{"token":"t"}', other.certificatePem));
    expect(await reasonOf(cluster.object(target))).toBe('CertificateRejected');
  });

  it('whose kubeconfig is broken, or whose plugin fails, lets no line of them into the log', async () => {
    const said: string[] = [];
    const log = openLog('info', { write: (line: string) => void said.push(line) });
    const broken = 'users:\n- name: me\n  user:\n    token: my-own-token\n     client-key-data: my-own-key\n';
    const plugin = (script: string): string =>
      kubeconfigOf('https://127.0.0.1:1', JSON.stringify({ exec: { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', script] } }));
    for (const kubeconfig of [broken, plugin('echo my-own-token >&2; exit 1'), plugin('echo "{my-own-token"')]) {
      const thrown = await (await openWith(kubeconfig)).object(target).catch((error: unknown) => error);
      expect(thrown).toMatchObject({ reason: 'Unauthenticated' });
      log.error({ error: thrown }, 'a fault');
    }
    expect(said).toHaveLength(3);
    expect(said.join()).not.toContain('my-own');
  });

  it('that refuses a plugin’s token is asked with a new one, though the old one has not expired', async () => {
    const url = await serveTls((_, response) => response.writeHead(401).end('{}'));
    const runs = join(folder, 'runs');
    const credential = JSON.stringify({ kind: 'ExecCredential', status: { token: 't' } });
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', `echo x >> ${runs}; echo '${credential}'`] };
    const cluster = await openWith(kubeconfigOf(url, JSON.stringify({ exec })));
    for (let turn = 0; turn < 2; turn++) expect(await reasonOf(cluster.object(target))).toBe('Unauthenticated');
    expect(await readFile(runs, 'utf8')).toBe('x\nx\n');
  });
});

describe('a key store', () => {
  beforeEach(() => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAEXAMPLEEXAMPLE00');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'not-a-secret');
  });
  const storeWith = async (listener: RequestListener): Promise<KeyStore> => {
    const endpoint = await serve((call, response) => void call.resume().on('end', () => listener(call, response)));
    const config = awsKmsSchema.parse({ kind: 'aws-kms', region: 'eu-central-1', endpoint });
    return openAwsKms('stub', config, { installation: 'test', clock: async () => instantOf(1_795_000_000_000) });
  };

  it.each([
    '{"KeyId":"k","Plaintext":5}',
    '{"KeyId":"k","Plaintext":"@@"}',
    '{"KeyId":"k"}',
    '{"KeyId":"other","Plaintext":"AAAA"}',
    'null',
    '[]',
    '{"KeyId":',
    '',
  ])('that decrypts to %s has said nothing that is known', async (body) => {
    const store = await storeWith((_, response) => response.writeHead(200, { 'content-type': 'application/x-amz-json-1.1' }).end(body));
    expect(await reasonOf(store.decrypt('k', Buffer.from('x'), {}))).toBe('UnexpectedAnswer');
  });

  it.each([
    ['InvalidIdentityToken', 'Unauthenticated'],
    ['ExpiredTokenException', 'Unauthenticated'],
    ['IDPRejectedClaim', 'Unauthenticated'],
    ['AccessDenied', 'PermissionDenied'],
  ])('whose token service says %s was refused us: %s', async (code, reason) => {
    const file = join(folder, 'web-identity');
    await writeFile(file, 'token');
    const xml = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>${code}</Code><Message>no</Message></Error></ErrorResponse>`;
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', undefined);
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    vi.stubEnv('AWS_CONFIG_FILE', '/nonexistent');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nonexistent');
    vi.stubEnv('AWS_REGION', 'eu-central-1');
    vi.stubEnv('AWS_WEB_IDENTITY_TOKEN_FILE', file);
    vi.stubEnv('AWS_ROLE_ARN', 'arn:aws:iam::000000000000:role/example');
    vi.stubEnv('AWS_ENDPOINT_URL_STS', await serve((call, response) => void call.resume().on('end', () => response.writeHead(403).end(xml))));
    const store = await storeWith((_, response) => response.writeHead(500).end());
    const { read, answers } = permit('r-0123456789abcdef');
    expect(await reasonOf(store.create(read))).toBe(reason);
    expect(answers).toEqual([]);
  });
});
