import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { trusteeSchema, trusteeWarnings } from '#src/adapters/trustee/config.ts';
import type { Want } from '#src/domain/kbs.ts';
import { probePath } from '#src/domain/paths.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { keyBrokerContract, PROBER, permits, REFERENCE_VALUES, unwrap, wrapped } from '#test/contracts/key-broker.ts';
import { openTrusteeStand, type TrusteeStand } from './trustee-stand.ts';

const PATH = 'keyturn-eu/w/s1-v1-0-00000000';

function want(generation: number): Want {
  return {
    kbs: 'main',
    installation: 'eu',
    generation,
    grants: [],
    foreign: [],
    denied: { paths: [], initData: [], devices: [] },
    referenceValues: REFERENCE_VALUES,
  };
}

keyBrokerContract('the Trustee adapter on a lab KBS', async () => {
  const { broker, kbs, advance, close } = await openTrusteeStand();
  const faults = kbs[0]?.faults;
  return {
    broker,
    loseAnswer: (kind) => faults?.loseAnswer(kind),
    hold: (kind) => faults?.hold(kind),
    land: async () => void (await faults?.land()),
    advance: async (seconds) => advance(seconds),
    close,
  };
});

describe('the Trustee adapter', () => {
  let stand: TrusteeStand;
  beforeEach(async () => {
    stand = await openTrusteeStand();
  });
  afterEach(() => stand.close());

  it('waits token life, leeway, clock, handling and a second', () => {
    expect(stand.broker.lateWriteSeconds).toEqual({ policy: 10 + 60 + 5 + 40 + 1, resource: 116, referenceValue: 10 + 60 + 5 + 600 + 1 });
  });

  it('tells the signers that are trusted, one by one', () => {
    expect(stand.broker.attestationSigners.map((pem) => new X509Certificate(pem).subject)).toEqual(['CN=attestation']);
  });

  it('starts again, with a new token and a new look, where the look took as long as the token lives', async () => {
    const short = await stand.reopen({ tokenSeconds: 2 });
    const second = permits(want(4));
    let looks = 0;
    await short.publishPolicy(async () => {
      looks += 1;
      const permit = await second.read();
      // The first look lasts until its token has less than a second left.
      const end = performance.now() + (looks === 1 ? 1100 : 0);
      while (performance.now() < end) await new Promise((resolve) => setImmediate(resolve));
      return permit;
    });
    expect(looks).toBe(2);
    expect(second.answers).toMatchObject([null, { status: 200, type: null }]);
  });

  it('makes its token before it looks: a look that hangs makes no late write possible', async () => {
    const broker = await stand.reopen({ tokenSeconds: 300 });
    stand.kbs[0]?.faults.hold('policy');
    await expect(
      broker.publishPolicy(async () => {
        // The clock goes on while it looks. A token that was made after would outlive W, counted from before.
        stand.advance(200);
        return permits(want(4)).read();
      }),
    ).rejects.toMatchObject({ reason: 'Unreachable' });
    stand.advance(300 + 60 + 1 - 200);
    expect(await stand.kbs[0]?.faults.land()).toEqual([401]);
  });

  it('takes an ES256 key as well', async () => {
    const other = await openTrusteeStand(1, 'P-256');
    const { read, answers } = permits(want(3));
    await other.broker.publishPolicy(read);
    expect(answers).toMatchObject([{ status: 200, type: null }]);
    await other.close();
  });

  it('says that a key was refused, and that a role may not', async () => {
    const strange = join(stand.folder, 'strange.pem');
    await writeFile(strange, generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const stranger = await stand.reopen({ admin: { ...stand.config.admin, keys: [{ id: 'x', file: strange }] } });
    await expect(stranger.publishPolicy(permits(want(3)).read)).rejects.toMatchObject({ reason: 'Unauthenticated' });
    const roles = { ...stand.config.admin.roles, policy: 'keys' };
    const unfit = await stand.reopen({ admin: { ...stand.config.admin, roles } });
    const { read, answers } = permits(want(3));
    await expect(unfit.publishPolicy(read)).rejects.toMatchObject({ reason: 'PermissionDenied' });
    expect(answers).toMatchObject([{ status: 401, type: 'AdminAuthAccess' }]);
    await expect(unfit.referenceValue('svn')).resolves.toBeNull();
  });

  it.each(['rsa', 'missing', 'garbage'])('signs with no key that is %s', async (kind) => {
    const file = join(stand.folder, `${kind}.pem`);
    if (kind === 'rsa') await writeFile(file, generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }));
    if (kind === 'garbage') await writeFile(file, 'garbage');
    const broker = await stand.reopen({ admin: { ...stand.config.admin, keys: [{ id: 'x', file }] } });
    const { read, answers } = permits(want(3));
    await expect(broker.publishPolicy(read)).rejects.toMatchObject({ reason: 'Unauthenticated' });
    expect(answers).toEqual([]);
  });

  it('wipes the key’s bytes once they are sent', async () => {
    const bytes = Buffer.from('key bytes');
    const { Secret } = await import('#src/secret.ts');
    await stand.broker.putResource(permits(wrapped(PATH, 'x')).read, async () => new Secret(bytes));
    expect(stand.kbs[0]?.stored(PATH)?.toString()).toBe('key bytes');
    expect(bytes).toEqual(Buffer.alloc(bytes.length));
  });

  it.each(['keyturn/probe/g000000000001', 'two/segments', 'a/b/c/d', 'a/../c', 'a/b%2Fc/d'])('never writes to %s', async (path) => {
    await expect(stand.broker.putResource(permits(wrapped(path, 'x')).read, unwrap)).rejects.toMatchObject({ reason: 'InvalidRequest' });
    await expect(stand.broker.deleteResource(permits(path).read)).rejects.toMatchObject({ reason: 'InvalidRequest' });
  });

  it.each(['a/../svn', './svn', 'a/..'])('never asks for a reference value %s: a URL would make it another', async (id) => {
    await stand.broker.publishReferenceValues(permits(want(3)).read);
    await expect(stand.broker.referenceValue(id)).rejects.toMatchObject({ reason: 'InvalidRequest' });
  });

  it('repeats nothing by itself: an error of the server is told as it came', async () => {
    stand.kbs[0]?.faults.fail('policy');
    const { read, answers } = permits(want(3));
    await expect(stand.broker.publishPolicy(read)).rejects.toMatchObject({ reason: 'ServerError' });
    expect(answers).toMatchObject([{ status: 500, type: 'Http500' }]);
    expect(stand.kbs[0]?.policy()).not.toContain('keyturn');
  });

  it('tells its prober’s key before each handshake, and uses each key once', async () => {
    await stand.broker.publishPolicy(permits(want(3)).read);
    await stand.broker.ask(probePath(3), PROBER, 'broker');
    await stand.broker.ask(probePath(3), PROBER, 'proxy');
    expect(new Set(stand.proberKeys).size).toBe(2);
  });

  it('tells a broker that is down from one that refuses', async () => {
    await stand.kbs[0]?.close();
    await expect(stand.broker.ask(probePath(3), PROBER, 'broker')).rejects.toMatchObject({ reason: 'Unreachable' });
    await expect(stand.broker.referenceValue('svn')).rejects.toMatchObject({ reason: 'Unreachable' });
    stand = await openTrusteeStand();
  });

  it('finds a broker that lost its memory: no value, and another policy', async () => {
    await stand.broker.publishReferenceValues(permits(want(3)).read);
    await stand.broker.publishPolicy(permits(want(3)).read);
    stand.kbs[0]?.restart();
    expect(await stand.broker.referenceValue('keyturn.generation')).toBeNull();
    expect(await stand.broker.ask(probePath(3), PROBER, 'broker')).toMatchObject([{ type: 'PolicyDeny' }]);
  });
});

describe('the Trustee adapter on replicas', () => {
  let stand: TrusteeStand;
  beforeEach(async () => {
    stand = await openTrusteeStand(2);
  });
  afterEach(() => stand.close());

  it('writes to each under one permit, and asks each', async () => {
    const { read, answers } = permits(want(3));
    await stand.broker.publishPolicy(read);
    expect(answers).toHaveLength(1);
    expect(await stand.broker.ask(probePath(3), PROBER, 'broker')).toMatchObject([{ type: 'PluginInternalError' }, { type: 'PluginInternalError' }]);
    await stand.broker.putResource(permits(wrapped(PATH, 'x')).read, unwrap);
    expect(stand.kbs.map((kbs) => kbs.stored(PATH)?.toString())).toEqual(['x', 'x']);
  });

  it('answers with the failure of any, and not at all where one did not answer', async () => {
    stand.kbs[1]?.faults.fail('policy');
    const failed = permits(want(3));
    await expect(stand.broker.publishPolicy(failed.read)).rejects.toMatchObject({ reason: 'ServerError' });
    expect(failed.answers).toMatchObject([{ status: 500, detail: { replica: stand.kbs[1]?.url } }]);
    stand.kbs[1]?.faults.loseAnswer('policy');
    const lost = permits(want(4));
    await expect(stand.broker.publishPolicy(lost.read)).rejects.toMatchObject({ reason: 'Unreachable' });
    expect(lost.answers).toEqual([null]);
  });

  it('gives a value only where all hold it, and never hides one', async () => {
    await stand.broker.publishReferenceValues(permits(want(3)).read);
    expect(await stand.broker.referenceValue('svn')).toEqual(['1', '2']);
    stand.kbs[1]?.restart();
    expect(await stand.broker.referenceValue('svn')).toEqual({ replicas: [['1', '2'], null] });
  });
});

describe('a broker’s certificate', () => {
  it('is taken from the pinned authority alone', async () => {
    const stand = await openTrusteeStand();
    const authority = await makeAuthority('broker');
    const { certificatePem, keyPem } = await issue(authority, { commonName: 'kbs', names: ['127.0.0.1'] });
    const server = createServer({ cert: certificatePem, key: keyPem }, (_, response) => response.end('["a"]')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const url = `https://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
    const file = join(stand.folder, 'ca.pem');
    await writeFile(file, authority.certificatePem);
    const pinned = await stand.reopen({ url, certificateAuthority: { file } });
    expect(await pinned.referenceValue('x')).toEqual(['a']);
    await writeFile(file, (await makeAuthority('broker')).certificatePem);
    await expect(pinned.referenceValue('x')).rejects.toMatchObject({ reason: 'CertificateRejected' });
    await expect((await stand.reopen({ url })).referenceValue('x')).rejects.toMatchObject({ reason: 'CertificateRejected' });
    server.closeAllConnections();
    server.close();
    await stand.close();
  });
});

describe('the settings of a KBS', () => {
  const good = {
    url: 'https://kbs.example:8080',
    publicUrl: 'https://kbs.example',
    admin: { keys: [{ id: 'a', file: '/k' }], roles: { resource: 'r', policy: 'p', referenceValue: 'v' } },
    attestationSigners: { file: '/s' },
    repository: 'keyturn-eu',
    storage: 'postgres',
  };

  it('have defaults that need no thought', () => {
    expect(trusteeSchema.parse(good)).toMatchObject({
      replicas: [],
      tokenSeconds: 10,
      leewaySeconds: 60,
      clockBoundSeconds: 5,
      handlingBoundSeconds: { policy: 40, resource: 40, referenceValue: 600 },
    });
    expect(trusteeSchema.parse({ ...good, handlingBoundSeconds: { policy: 1 } }).handlingBoundSeconds).toMatchObject({ policy: 1, resource: 40 });
  });

  it('warn of local files', () => {
    expect(trusteeWarnings('main', trusteeSchema.parse(good))).toEqual([]);
    expect(trusteeWarnings('main', trusteeSchema.parse({ ...good, storage: 'local-fs' }))).toHaveLength(1);
  });

  it.each([
    ['local-json', { storage: 'local-json' }],
    ['keys in clear over a network', { url: 'http://kbs.example:8080' }],
    ['keys in clear to a replica', { replicas: ['http://10.0.0.1:8080'] }],
    ['the prober’s repository', { repository: 'keyturn' }],
    ['no admin key', { admin: { ...good.admin, keys: [] } }],
    ['a token shorter than its margin', { tokenSeconds: 1 }],
    ['an unknown field', { storageType: 'postgres' }],
  ])('are refused with %s', (_, change) => {
    expect(trusteeSchema.safeParse({ ...good, ...change }).success).toBe(false);
  });
});
