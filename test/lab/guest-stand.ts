import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { request } from 'undici';
import { digestOf } from '#src/digest.ts';
import { keysetOf } from '#src/envelope/keyset.ts';
import { associatedDataOf, SEALED_MANIFEST_NAME, sealedPath, sealManifest } from '#src/envelope/layout.ts';
import { manifestFrom } from '#src/envelope/manifest.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { INIT_DATA_ANNOTATION } from '#src/lab/guest.ts';
import { openLabKbs } from '#src/lab/kbs.ts';
import { Secret } from '#src/secret.ts';

/** A call as the KBS's doorman saw it. */
export interface SeenCall {
  readonly address: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
}

/** A lab KBS with one key in it, sealed weights that it opens, and a doorman who writes down who came. */
export interface GuestStand {
  /** Where guests are sent. */
  readonly kbsUrl: string;
  readonly calls: SeenCall[];
  /** `file:///…/` with the sealed files, and where the key for them is. */
  readonly artifact: string;
  readonly folder: string;
  readonly keyUri: string;
  readonly image: string;
  /** The annotation's text. */
  readonly initData: string;
  readonly setPolicy: (rego: string) => Promise<void>;
  readonly putKey: (path: string, bytes: Buffer) => Promise<void>;
  readonly close: () => Promise<void>;
}

export const ALLOW = 'package policy\n\ndefault allow = true\n';
export const DENY = 'package policy\n\ndefault allow = false\n';

/** Opens the stand; `images` are those that the init-data admits. */
export async function openGuestStand(): Promise<GuestStand> {
  const folder = await mkdtemp(join(tmpdir(), 'guest-'));
  const authority = await makeAuthority('token authority');
  const signer = await issue(authority, { commonName: 'token signer', names: [] });
  const tokenSigner = { keyPem: signer.keyPem, chainPem: `${signer.certificatePem}${authority.certificatePem}` };
  const kbs = await openLabKbs({
    folder: null,
    clock: async () => Date.now(),
    tokenLeewaySeconds: 0,
    adminPublicKeys: [],
    roles: [],
    tokenSigner,
    adminMode: 'insecure-allow-all',
  });
  const calls: SeenCall[] = [];
  const doorman = await openDoorman(kbs.url, calls);
  const post = async (path: string, body: string | Buffer): Promise<void> => {
    const { statusCode, body: answer } = await request(`${kbs.url}/kbs/v0/${path}`, { method: 'POST', body });
    if (statusCode !== 200) throw new Error(`${path}: ${statusCode} ${await answer.text()}`);
    await answer.dump();
  };
  const key = Buffer.alloc(32, 7);
  await seal(join(folder, 'sealed'), key);
  using keyset = keysetOf(new Secret(Buffer.from(key)));
  await post('resource/keyturn/w/s1', Buffer.from(keyset.reveal()));
  const image = `registry.example/chat@sha256:${'2'.repeat(64)}`;
  return {
    kbsUrl: doorman.url,
    calls,
    artifact: `file://${join(folder, 'sealed')}/`,
    folder,
    keyUri: 'kbs:///keyturn/w/s1',
    image,
    initData: initData(doorman.url, image),
    setPolicy: (rego) => post('resource-policy', JSON.stringify({ policy: Buffer.from(rego).toString('base64url') })),
    putKey: (path, bytes) => post(`resource/${path}`, bytes),
    close: async () => {
      await doorman.close();
      await kbs.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Init-data as an annotation. */
export function initData(kbsUrl: string, image: string): string {
  const policy = { default: [{ type: 'reject' }], transports: { docker: { [image]: [{ type: 'insecureAcceptAnything' }] } } };
  const cdh = `[kbc]\nname = "cc_kbc"\nurl = "${kbsUrl}"\n\n[image]\nimage_security_policy = '${JSON.stringify(policy)}'\n`;
  return gzipSync(`version = "0.1.0"\nalgorithm = "sha256"\n\n[data]\n"cdh.toml" = '''\n${cdh}'''\n`).toString('base64');
}

/** A Deployment whose pods open the stand's weights, three of them, one missing at a time. */
export function workload(stand: GuestStand, change: { readonly keyUri?: string; readonly image?: string; readonly runtimeClass?: string } = {}): object {
  const image = change.image ?? stand.image;
  const env = [
    { name: 'KEY_URI', value: change.keyUri ?? stand.keyUri },
    { name: 'ARTIFACT', value: stand.artifact },
  ];
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'chat', namespace: 'inference' },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: 'chat' } },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
      template: {
        metadata: { labels: { app: 'chat' }, annotations: { [INIT_DATA_ANNOTATION]: stand.initData } },
        spec: { runtimeClassName: change.runtimeClass ?? 'kata-lab-1', containers: [{ name: 'chat', image, env }] },
      },
    },
  };
}

async function seal(folder: string, key: Buffer): Promise<void> {
  const plain = join(folder, '..', 'plain');
  const workers = openWorkers(1);
  await mkdir(plain, { recursive: true });
  await mkdir(folder, { recursive: true });
  const files = { 'config.json': Buffer.from('{"layers":1}'), 'model.safetensors': Buffer.alloc(3 * 1024 * 1024 + 5, 'w') };
  const manifest = manifestFrom(Object.entries(files).map(([path, bytes]) => ({ path, digest: digestOf(bytes) })));
  for (const [path, bytes] of Object.entries(files)) {
    await writeFile(join(plain, path), bytes);
    using sealWith = new Secret(Buffer.from(key));
    await workers.pass({
      from: join(plain, path),
      to: join(folder, sealedPath(path)),
      openWith: null,
      sealWith,
      associatedData: associatedDataOf(manifest.digest, path),
      hash: 'neither',
    });
  }
  using manifestKey = new Secret(Buffer.from(key));
  await writeFile(join(folder, SEALED_MANIFEST_NAME), sealManifest(manifest, manifestKey));
  await workers.close();
}

async function openDoorman(upstream: string, calls: SeenCall[]): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const server: Server = createServer(async (incoming, response) => {
    const { cookie, authorization, 'content-type': type } = incoming.headers;
    const headers = Object.fromEntries(
      Object.entries({ cookie, authorization, 'content-type': type }).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>));
    const answer = await request(`${upstream}${incoming.url}`, { method: incoming.method as 'GET', headers, body: body.length > 0 ? body : null });
    calls.push({ address: incoming.socket.remoteAddress ?? '', method: incoming.method ?? '', path: incoming.url ?? '', status: answer.statusCode });
    const cookies = answer.headers['set-cookie'];
    response.writeHead(answer.statusCode, cookies === undefined ? {} : { 'set-cookie': cookies }).end(Buffer.from(await answer.body.arrayBuffer()));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}
