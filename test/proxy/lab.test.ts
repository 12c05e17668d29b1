import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { trusteeSchema } from '#src/adapters/trustee/config.ts';
import { openTrustee } from '#src/adapters/trustee/index.ts';
import { appraise } from '#src/domain/attestation-result.ts';
import type { Json } from '#src/domain/json.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { openLabKbs } from '#src/lab/kbs.ts';
import { clockOf, transaction } from '#state/database.ts';
import { denyPaths } from '#state/deny-list.ts';
import { fetchesOf } from '#state/fetches.ts';
import { noteProber } from '#state/probers.ts';
import { proxiesBehind } from '#state/proxies.ts';
import { withDatabase } from '#test/postgres.ts';
import { openTestProxy, until } from './stand.ts';

const PATH = 'eu/chat/s1-v1-0-00000000';

/** A KBS whose administration is open, and that a configuration of ours names. */
async function labBroker(folder: string): ReturnType<typeof openLabKbs> {
  const authority = await makeAuthority('token CA');
  const signer = await issue(authority, { commonName: 'token signer', names: ['as.example'] });
  await writeFile(join(folder, 'as.pem'), authority.certificatePem);
  await writeFile(join(folder, 'admin.pem'), generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const tokenSigner = { keyPem: signer.keyPem, chainPem: signer.certificatePem };
  const kbs = await openLabKbs({
    folder: null,
    clock: async () => Date.now(),
    tokenLeewaySeconds: 0,
    adminPublicKeys: [],
    roles: [],
    adminMode: 'insecure-allow-all',
    tokenSigner,
  });
  const post = async (path: string, body: Json | string): Promise<void> => {
    const { status } = await fetch(`${kbs.url}/kbs/v0/${path}`, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) });
    expect([path, status]).toEqual([path, 200]);
  };
  await post('resource-policy', { policy: Buffer.from('package policy\n\ndefault allow = true\n').toString('base64url') });
  await post(`resource/${PATH}`, 'the key');
  const values = { launch_digest: ['abcde'], svn: ['7'], major_version: 1, minimum_minor_version: 1 };
  await post('reference-value', { version: '0.1.0', type: 'sample', payload: Buffer.from(JSON.stringify(values)).toString('base64') });
  return kbs;
}

test('the production prober passes through the proxy to the lab’s KBS until the path is denied, and what the proxy recorded is judged good', async () => {
  await withDatabase(async (pool) => {
    const folder = await mkdtemp(join(tmpdir(), 'keyturn-proxy-'));
    const kbs = await labBroker(folder);
    const proxy = await openTestProxy(pool, kbs);
    const config = trusteeSchema.parse({
      url: kbs.url,
      publicUrl: proxy.url,
      admin: { keys: [{ id: 'a', file: join(folder, 'admin.pem') }], roles: { resource: 'r', policy: 'p', referenceValue: 'v' } },
      attestationSigners: { file: join(folder, 'as.pem') },
      repository: 'eu',
      storage: 'postgres',
    });
    let seen = async (_: string): Promise<void> => undefined;
    const broker = await openTrustee('main', config, { installation: 'test', clock: clockOf(pool), proberKeySeen: (key) => seen(key) });
    const initData = 'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n';
    const evidence = { tee: 'sample', svn: '7', initData } as const;
    expect(await broker.ask(PATH, evidence, 'proxy')).toMatchObject([{ status: 200, type: null }]);
    const [fetched] = await fetchesOf(pool, 'main', PATH, null);
    const token = fetched?.handshake?.token ?? '';
    const payload = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
      submods: Record<string, Record<string, Record<string, string>>>;
    };
    const expected = {
      tee: 'sample',
      devices: { gpu: 0, switch: 0 },
      initData: payload.submods.cpu0?.['ear.veraison.annotated-evidence']?.init_data ?? '',
      claims: { 'sample.svn': ['7'] },
      maxAgeSeconds: 60,
    } as const;
    expect(fetched).toMatchObject({ decision: 'released', address: '127.0.0.1' });
    const at = fetched?.at ?? (await clockOf(pool)());
    expect(await appraise(token, at, broker.attestationSigners, expected)).toMatchObject({ kind: 'good', teeKey: fetched?.handshake?.teeKey });
    expect(await appraise(token, at, broker.attestationSigners, { ...expected, claims: { 'sample.svn': ['8'] } })).toMatchObject({ kind: 'bad' });

    seen = (key) => noteProber(pool, key);
    await transaction(pool, (tx) => denyPaths(tx, 'main', [PATH], 'retired'));
    await until(async () => (await proxiesBehind(pool, 'main', PATH)).length === 0);
    expect(await broker.ask(PATH, evidence, 'proxy')).toMatchObject([{ status: 404, type: 'PolicyDeny' }]);
    expect(await broker.ask(PATH, evidence, 'broker')).toMatchObject([{ status: 200, type: null }]);
    await until(async () => (await pool.query(`select 1 from fetches where type = 'DenyList'`)).rowCount === 1);
    expect(await fetchesOf(pool, 'main', PATH, null)).toHaveLength(1);
    await proxy.close();
    await kbs.close();
    await rm(folder, { recursive: true });
  });
});
